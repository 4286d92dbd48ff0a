"""assistant: listens, thinks and answers, all on this machine.

Run it with ``talkpath run assistant``, or under Pipecat's runner with
``python -m talkpath.bots.assistant``.
"""

from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.runner.types import RunnerArguments

from talkpath.agent.runtime import runtime
from talkpath.bots.session import (
    greet,
    make_worker,
    prepare_speech,
    run_under_pipecat,
    run_worker,
)
from talkpath.bots.stages import (
    conversation,
    hearing,
    prepare_speaking,
    prepare_thinking,
    speaking,
    thinking,
)
from talkpath.transports.factory import create_transport

__all__ = ["GREETING", "MODELS", "bot", "prepare"]

MODELS = ("whisper", "reply", "voice")
GREETING = "Hello, what can I do for you?"


async def prepare() -> None:
    """Load the models before the first caller is let in."""
    await prepare_speech()
    await runtime().smart_turn()
    await prepare_thinking()
    await prepare_speaking()


async def bot(runner_args: RunnerArguments) -> None:
    """One session."""
    transport = await create_transport(runner_args)
    context = await conversation(LLMContext())
    worker = make_worker(
        runner_args,
        transport,
        [
            transport.input(),
            *await hearing(),
            context.user(),
            *await thinking(),
            await speaking(),
            transport.output(),
            context.assistant(),
        ],
    )

    greet(transport, worker, GREETING)
    await run_worker(runner_args, worker)


if __name__ == "__main__":
    run_under_pipecat(prepare)
