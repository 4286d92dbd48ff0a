"""captions: writes down what it hears, while it is being said. It never answers.

Run it with ``talkpath run captions``, or under Pipecat's runner with
``python -m talkpath.bots.captions``.
"""

from pipecat.runner.types import RunnerArguments

from talkpath.bots.session import (
    make_worker,
    prepare_speech,
    run_under_pipecat,
    run_worker,
)
from talkpath.bots.stages import hearing
from talkpath.transports.factory import create_transport

__all__ = ["bot", "prepare"]


async def prepare() -> None:
    """Load the models before the first caller is let in."""
    await prepare_speech()


async def bot(runner_args: RunnerArguments) -> None:
    """One session."""
    transport = await create_transport(runner_args, audio_out=False)
    worker = make_worker(
        runner_args,
        transport,
        [
            transport.input(),
            *await hearing(audio_passthrough=False),
            transport.output(),
        ],
    )
    await run_worker(runner_args, worker)


if __name__ == "__main__":
    run_under_pipecat(prepare)
