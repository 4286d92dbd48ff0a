"""Frames through a processor, in virtual time.

A ``SleepFrame`` between two frames ends when all that can happen before has happened, on a machine
however busy, and costs nothing.
"""

from collections.abc import Sequence
from typing import Any

from pipecat.frames.frames import Frame
from pipecat.processors.frame_processor import FrameProcessor
from pipecat.tests import utils
from pipecat.tests.utils import SleepFrame

from talkpath.bots.testing.clock import virtual_time

__all__ = ["SleepFrame", "run_test"]


async def run_test(
    processor: FrameProcessor, **options: Any
) -> tuple[Sequence[Frame], Sequence[Frame]]:
    """Pipecat's own ``run_test``; gives the frames that came out downstream and upstream."""
    with virtual_time().used(lambda: False, lambda: None, __name__):
        return await utils.run_test(processor, start_timeout=60.0, **options)
