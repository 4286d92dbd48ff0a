"""A listener is told what a caller does, and the words of a turn once, whatever comes first."""

import functools

import pytest
from pipecat.audio.dtmf.types import KeypadEntry
from pipecat.frames.frames import (
    BotStartedSpeakingFrame,
    Frame,
    InputDTMFFrame,
    InterruptionFrame,
    TranscriptionFrame,
    UserBackchannelFrame,
    UserStartedSpeakingFrame,
    UserStoppedSpeakingFrame,
    VADUserStartedSpeakingFrame,
)

from talkpath.processors.frames import EagerEndOfTurnFrame, EarlyPauseFrame, SpeechResumedFrame
from talkpath.processors.listener import Listener
from tests.processors.caller import Call, call


class Diary(Listener):
    def __init__(self) -> None:
        super().__init__()
        self.entries: list[str] = []

    async def on_speech_started(self) -> None:
        self.entries.append("speech")

    async def on_early_pause(self, silence_s: float) -> None:
        self.entries.append(f"pause of {silence_s}")

    async def on_speech_resumed(self) -> None:
        self.entries.append("resumed")

    async def on_eager_end_of_turn(self, completeness: float) -> None:
        self.entries.append(f"over at {completeness}")

    async def on_end_of_turn(self, text: str) -> None:
        self.entries.append(text)

    async def on_key(self, key: str) -> None:
        self.entries.append(f"key {key}")


def words(text: str) -> TranscriptionFrame:
    return TranscriptionFrame(text, "", "")


def passed(line: Call, frame: Frame) -> bool:
    return any(seen is frame for seen in line.frames(Frame))


BEGINS, ENDS = UserStartedSpeakingFrame(), UserStoppedSpeakingFrame()
BREAK, MHM = InterruptionFrame(), UserBackchannelFrame("mhm", "", "")


@pytest.mark.parametrize(
    ("frames", "entries"),
    [
        ([VADUserStartedSpeakingFrame()], ["speech"]),
        ([EarlyPauseFrame(0.03), SpeechResumedFrame()], ["pause of 0.03", "resumed"]),
        ([EagerEndOfTurnFrame(0.9)], ["over at 0.9"]),
        ([InputDTMFFrame(button=KeypadEntry.POUND)], ["key #"]),
        ([BEGINS, words("One"), words("two."), ENDS], ["One two."]),
        ([BEGINS, ENDS, words("late")], ["late"]),
        ([BEGINS, ENDS], []),
        ([BotStartedSpeakingFrame(), words("mhm"), MHM, BEGINS, words("no"), ENDS], ["no"]),
        ([BotStartedSpeakingFrame(), BREAK, BEGINS, ENDS, words("no")], ["no"]),
    ],
)
async def test_each_thing_a_caller_does_is_told_once(
    frames: list[Frame], entries: list[str]
) -> None:
    diary = Diary()
    async with call([diary]) as line:
        for frame in frames:
            await line.send(frame)
            await line.until(functools.partial(passed, line, frame))
    assert diary.entries == entries
