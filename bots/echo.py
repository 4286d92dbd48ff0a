"""echo: says back what it heard, in the caller's own voice, and shows the words.

The quickest way to find out what a microphone and a line do to speech. Run it with
``talkpath run echo``, or under Pipecat's runner with ``python -m talkpath.bots.echo``.
"""

from pipecat.runner.types import RunnerArguments

from talkpath.agent.runtime import runtime
from talkpath.bots.session import (
    make_worker,
    prepare_speech,
    run_under_pipecat,
    run_worker,
)
from talkpath.bots.stages import hearing, user_turns
from talkpath.processors.echo import Echo
from talkpath.transports.factory import create_transport

__all__ = ["bot", "prepare"]


async def prepare() -> None:
    """Load the models before the first caller is let in."""
    await prepare_speech()
    await runtime().smart_turn()


async def bot(runner_args: RunnerArguments) -> None:
    """One session."""
    transport = await create_transport(runner_args)
    worker = make_worker(
        runner_args,
        transport,
        [
            transport.input(),
            *await hearing(),
            await user_turns(),
            Echo(),
            transport.output(),
        ],
    )
    await run_worker(runner_args, worker)


if __name__ == "__main__":
    run_under_pipecat(prepare)
