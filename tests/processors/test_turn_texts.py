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

from talkpath.processors.frames import NothingHeardFrame
from talkpath.processors.turn_texts import TurnWords


def said(text: str) -> TranscriptionFrame:
    return TranscriptionFrame(text, "caller", "now")


BEGINS, ENDS = UserStartedSpeakingFrame(), UserStoppedSpeakingFrame()
SPEAKS, SILENT = BotStartedSpeakingFrame(), BotStoppedSpeakingFrame()
MHM = UserBackchannelFrame("Mhm.", "caller", "now")


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
def test_turns(frames: list[Frame], turns: list[str]) -> None:
    words = TurnWords()
    assert [text for frame in frames if (text := words.take(frame))] == turns
