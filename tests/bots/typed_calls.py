"""Calls whose caller types and whose bot speaks without a sound: the words and their times alone.

Everything between ears and mouth is the bot's own: turns, the reply, tools, idle prompts. What is
left out is the detector, Whisper and the synthesis, most of what a call costs.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from pipecat.frames.frames import (
    TranscriptionFrame,
    TTSTextFrame,
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.observers.base_observer import BaseObserver, FramePushed
from pipecat.processors.frame_processor import FrameProcessor
from pipecat.runner.types import RunnerArguments
from pipecat.transports.base_output import BaseOutputTransport
from pipecat.utils.time import time_now_iso8601

from talkpath.agent.voice import SpokenSentence, SpokenWord
from talkpath.bots.testing import Caller, call
from talkpath.processors.frames import NothingHeardFrame
from talkpath.processors.piper_voice import PiperVoice

__all__ = ["Keyboard", "QuietVoice", "TypedCall", "WordsPlayed", "typed_call", "without_sound"]

_WORD_S = 0.25
_SPEAKING_S = 0.6


class Keyboard(FrameProcessor):
    """Stands where the bot's ears would."""

    async def type(self, text: str) -> None:
        await self.broadcast_frame(VADUserStartedSpeakingFrame)
        await asyncio.sleep(_SPEAKING_S)
        await self.broadcast_frame(VADUserStoppedSpeakingFrame, stop_secs=0.2)
        await self.push_frame(TranscriptionFrame(text, "", time_now_iso8601(), finalized=True))

    async def cough(self) -> None:
        """A sound like speech, in which there are no words."""
        await self.broadcast_frame(VADUserStartedSpeakingFrame)
        await asyncio.sleep(_SPEAKING_S)
        await self.broadcast_frame(VADUserStoppedSpeakingFrame, stop_secs=0.2)
        await self.push_frame(NothingHeardFrame())

    async def process_frame(self, frame: Any, direction: Any) -> None:
        await super().process_frame(frame, direction)
        await self.push_frame(frame, direction)


class QuietVoice:
    """A voice that takes its time, with a hum in it, for no work."""

    async def say(self, text: str, rate_hz: int = 24_000) -> SpokenSentence:
        count = int(_WORD_S * rate_hz)
        spoken = text.split()
        hum = np.full(count * len(spoken), 300, np.int16)
        ends = tuple(SpokenWord(word, count * i) for i, word in enumerate(spoken, 1))
        return SpokenSentence(hum.tobytes(), rate_hz, ends)

    async def pieces(self, text: str, rate_hz: int = 24_000) -> AsyncIterator[SpokenSentence]:
        yield await self.say(text, rate_hz)


class WordsPlayed(BaseObserver):
    """What was played."""

    def __init__(self) -> None:
        super().__init__()
        self.text = ""

    async def on_push_frame(self, data: FramePushed) -> None:
        if isinstance(data.frame, TTSTextFrame) and isinstance(data.source, BaseOutputTransport):
            self.text += f"{data.frame.text} "


class TypedCall:
    """A ``Caller`` whose ``says`` types."""

    def __init__(self, caller: Caller, keyboard: Keyboard) -> None:
        self._caller = caller
        self._keyboard = keyboard

    async def coughs(self) -> None:
        await self._keyboard.cough()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._caller, name)

    async def says(self, text: str, *, over_bot: bool = False) -> None:
        await self._caller.plays(np.zeros(160, np.float32), over_bot=over_bot)
        await self._keyboard.type(text)


_keyboards: dict[Any, Keyboard] = {}


def without_sound(bot: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a bot's module make typed calls, beside others."""
    hearing, speaking = bot.hearing, bot.speaking

    async def either_hearing(**options: Any) -> Any:
        keyboard = _keyboards.get(asyncio.current_task())
        return [keyboard] if keyboard is not None else await hearing(**options)

    async def either_speaking() -> Any:
        if asyncio.current_task() in _keyboards:
            return PiperVoice(QuietVoice())  # type: ignore[arg-type]
        return await speaking()

    monkeypatch.setattr(bot, "hearing", either_hearing)
    monkeypatch.setattr(bot, "speaking", either_speaking)


@contextlib.asynccontextmanager
async def typed_call(bot: ModuleType, settings: Mapping[str, Any]) -> AsyncIterator[TypedCall]:
    """Call a bot that `without_sound` has prepared."""
    keyboard = Keyboard()

    async def run(runner_args: RunnerArguments) -> None:
        task = asyncio.current_task()
        _keyboards[task] = keyboard
        try:
            await bot.bot(runner_args)
        finally:
            del _keyboards[task]

    async with call(run, settings=settings) as caller:
        yield TypedCall(caller, keyboard)
