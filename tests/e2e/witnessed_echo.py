"""The echo bot with a witness, who writes down what the bot heard and when: a JSON object a line.

The lines go to ``witness.jsonl`` in the folder of the captions: ``at`` (Unix time), ``kind``
(``start`` and ``stop`` of speech, ``end`` of a turn, ``words``) and ``text``.
"""

import json
import time
from pathlib import Path

from pipecat.frames.frames import (
    Frame,
    TranscriptionFrame,
    UserStoppedSpeakingFrame,
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.runner.types import RunnerArguments

from talkpath.agent.runtime import runtime
from talkpath.bots.echo import prepare
from talkpath.bots.session import make_worker, run_worker
from talkpath.bots.stages import hearing, user_turns
from talkpath.processors.echo import Echo
from talkpath.transports.factory import create_transport

__all__ = ["FILE", "bot", "prepare"]

FILE = "witness.jsonl"

_KINDS = {
    VADUserStartedSpeakingFrame: "start",
    VADUserStoppedSpeakingFrame: "stop",
    UserStoppedSpeakingFrame: "end",
    TranscriptionFrame: "words",
}


class _Witness(FrameProcessor):
    """Writes down what comes by."""

    def __init__(self, path: Path) -> None:
        super().__init__(enable_direct_mode=True)
        self._path = path

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        kind = _KINDS.get(type(frame))
        if kind is not None and direction is FrameDirection.DOWNSTREAM:
            line = {"at": time.time(), "kind": kind, "text": getattr(frame, "text", "")}
            with self._path.open("a") as file:
                file.write(json.dumps(line) + "\n")
        await self.push_frame(frame, direction)


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
            _Witness(Path(runtime().config.captions.folder) / FILE),
            Echo(),
            transport.output(),
        ],
    )
    await run_worker(runner_args, worker)
