"""captions: writes down what it hears, while it is being said, turn by turn. It never answers.

Run it with ``talkpath run captions``, or under Pipecat's runner with
``python -m talkpath.bots.captions``. The page saves the captions as text, SubRip, WebVTT or
JSON; ``--captions-folder`` has a file written for each call. A session has one speaker: the
transports mix what comes over one connection.
"""

from pathlib import Path

from pipecat.processors.frame_processor import FrameProcessor
from pipecat.runner.types import RunnerArguments

from talkpath.agent.notes import CaptionsFile
from talkpath.agent.runtime import runtime
from talkpath.bots.session import (
    make_worker,
    prepare_speech,
    run_under_pipecat,
    run_worker,
)
from talkpath.bots.stages import hearing, user_turns
from talkpath.processors.recorder import Recorder
from talkpath.transports.factory import create_transport

__all__ = ["bot", "prepare"]


async def prepare() -> None:
    """Load the models before the first caller is let in."""
    await prepare_speech()
    await runtime().smart_turn()


async def bot(runner_args: RunnerArguments) -> None:
    """One session."""
    transport = await create_transport(runner_args, audio_out=False)
    worker = make_worker(
        runner_args,
        transport,
        [
            transport.input(),
            *await hearing(words=True, everybody=True, profile="patient"),
            await user_turns(profile="patient", answers=False),
            transport.output(),
            *_file(),
        ],
        finish=True,
    )
    await run_worker(runner_args, worker)


def _file() -> list[FrameProcessor]:
    """What writes the captions down, if they are to be."""
    captions = runtime().config.captions
    if not captions.folder:
        return []
    file = CaptionsFile(Path(captions.folder).expanduser(), captions.format)
    return [Recorder(file, audio=False, caller="")]


if __name__ == "__main__":
    run_under_pipecat(prepare)
