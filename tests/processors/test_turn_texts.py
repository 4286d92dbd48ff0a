"""The words of whole turns, in whatever order their frames come."""

import pytest
from pipecat.frames.frames import (
    BotStartedSpeakingFrame,
    BotStoppedSpeakingFrame,
    Frame,
    TranscriptionFrame,
    UserBackchannelFrame,
    UserStartedSpeakingFrame,
    UserStoppedSpeakingFrame,
)
from pipecat.processors.frame_processor import FrameCallback, FrameDirection, FrameProcessor

from talkpath.processors.frames import NothingHeardFrame
from talkpath.processors.turn_texts import TurnWords


def said(text: str) -> TranscriptionFrame:
    return TranscriptionFrame(text, "caller", "now")


BEGINS, ENDS = UserStartedSpeakingFrame(), UserStoppedSpeakingFrame()
SPEAKS, SILENT = BotStartedSpeakingFrame(), BotStoppedSpeakingFrame()
MHM = UserBackchannelFrame("Mhm.", "caller", "now")


class Queueing(FrameProcessor):
    """A processor that is not running: what is queued there waits."""

    def __init__(self) -> None:
        super().__init__()
        self._own: list[Frame] = []

    async def queue_frame(
        self,
        frame: Frame,
        direction: FrameDirection = FrameDirection.DOWNSTREAM,
        callback: FrameCallback | None = None,
    ) -> None:
        self._own.append(frame)

    def take(self) -> list[Frame]:
        own, self._own = self._own, []
        return own


@pytest.mark.parametrize(
    ("frames", "turns"),
    [
        ([BEGINS, said("Hello"), said("there."), ENDS], ["Hello there."]),
        ([BEGINS, ENDS], []),
        ([BEGINS, ENDS, said("Late.")], ["Late."]),
        # Over the bot it takes words to take the turn, so the transcript comes first.
        ([SPEAKS, said("Seven."), BEGINS, SILENT, ENDS], ["Seven."]),
        ([SPEAKS, said("Mhm."), MHM, SILENT], []),
        ([SPEAKS, said("Mhm."), MHM, SILENT, BEGINS, said("Go on."), ENDS], ["Go on."]),
        ([SPEAKS, said("Yes."), SILENT, BEGINS, ENDS], ["Yes."]),
        # The frames of turns overtake words; a turn without any says so.
        ([SPEAKS, BEGINS, ENDS, said("Stop."), SILENT], ["Stop."]),
        ([BEGINS, ENDS, NothingHeardFrame(), SPEAKS, said("Mhm."), MHM], []),
        # While the bot thinks, too.
        ([BEGINS, said("Hello."), ENDS, said("Mhm."), MHM], ["Hello."]),
    ],
)
async def test_turns(frames: list[Frame], turns: list[str]) -> None:
    processor, words = Queueing(), TurnWords()
    texts = []
    for frame in frames:
        texts.append(await words.take(frame, processor))
        texts += [await words.take(own, processor) for own in processor.take()]
    assert [text for text in texts if text] == turns


async def test_words_that_a_turns_end_has_overtaken_belong_to_it() -> None:
    processor, words = Queueing(), TurnWords()
    for frame in (BEGINS, said("Milk."), ENDS, said("That is all.")):
        assert await words.take(frame, processor) is None
    (over,) = processor.take()
    assert await words.take(over, processor) == "Milk. That is all."
