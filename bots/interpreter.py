"""interpreter: says in English what it heard in any language that Whisper knows.

It detects the language of each sentence and needs no language model: Whisper itself translates.
Run it with ``talkpath run interpreter``, or under Pipecat's runner with
``python -m talkpath.bots.interpreter``. The larger the model, the better the translation
(``--model small``). The words of the original are not written down: they would take a second
decode of everything, and the page shows which language it was.
"""

from pipecat.runner.types import RunnerArguments

from talkpath.agent.errors import ConfigError
from talkpath.agent.runtime import runtime
from talkpath.bots.session import (
    make_worker,
    prepare_speech,
    run_under_pipecat,
    run_worker,
)
from talkpath.bots.stages import hearing, prepare_speaking, speaking, user_turns
from talkpath.processors.turn_texts import TurnTexts
from talkpath.transports.factory import create_transport

__all__ = ["MODELS", "bot", "prepare"]

MODELS = ("whisper", "voice")


async def prepare() -> None:
    """Load the models before the first caller is let in.

    Raises:
        ConfigError: the model knows English alone.
    """
    await prepare_speech()
    shared = runtime()
    if not shared.config.whisper.servers and len((await shared.whisper()).languages) < 2:
        raise ConfigError(
            f"the interpreter cannot translate with {shared.config.whisper.model}, which knows "
            "English only; take base, small or a larger model without .en"
        )
    await shared.smart_turn()
    await prepare_speaking()


async def bot(runner_args: RunnerArguments) -> None:
    """One session."""
    transport = await create_transport(runner_args)
    worker = make_worker(
        runner_args,
        transport,
        [
            transport.input(),
            *await hearing(task="translate"),
            await user_turns(),
            TurnTexts(_as_it_is),
            await speaking(),
            transport.output(),
        ],
    )
    await run_worker(runner_args, worker)


async def _as_it_is(english: str) -> str:
    return english


if __name__ == "__main__":
    run_under_pipecat(prepare)
