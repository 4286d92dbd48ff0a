"""A speakerphone: what the bot says comes back into its microphone."""

import asyncio
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from pipecat.frames.frames import (
    BotStartedSpeakingFrame,
    BotStoppedSpeakingFrame,
    Frame,
    InputAudioRawFrame,
    VADUserStartedSpeakingFrame,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor

from talkpath.agent.audio import pcm16_to_float
from talkpath.processors.half_duplex import MuteWhileSpeaking
from talkpath.processors.speech_detector import SpeechDetector
from tests.agent.whisper.helpers import vad
from tests.processors.caller import Call, call
from tests.speech import clip, silence

Audio = NDArray[np.float32]
BOT = clip("librivox-0870").samples()[: 3 * 16_000]
CALLER = clip("cards-005").samples()
# The room: 0.2 s there and back, and half as loud.
ECHO_S = 0.2
ECHO = np.float32(0.5) * np.concatenate([silence(ECHO_S), BOT])


class End(FrameProcessor):
    """Stands at one end of the line and notes what comes through to it."""

    def __init__(self) -> None:
        super().__init__()
        self.audio: list[Audio] = []
        self.told: list[Frame] = []
        self._news = asyncio.Event()

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, InputAudioRawFrame):
            self.audio.append(pcm16_to_float(frame.audio))
        elif isinstance(frame, (BotStartedSpeakingFrame, BotStoppedSpeakingFrame)):
            self.told.append(frame)
        self._news.set()
        await self.push_frame(frame, direction)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not condition():
                self._news.clear()
                await self._news.wait()

    @property
    def samples(self) -> int:
        return sum(map(len, self.audio))


async def talk(line: Call, microphone: End, speaker: End) -> None:
    """The bot speaks, and after it the caller; each step once the one before is through."""

    async def tell(frame: Frame) -> None:
        await speaker.push_frame(frame, FrameDirection.UPSTREAM)
        await microphone.until(lambda: frame in microphone.told)

    async def say(*parts: Audio) -> None:
        audio = np.concatenate(parts)
        wanted = speaker.samples + len(audio)
        await line.say(audio, pace_s=0)
        await speaker.until(lambda: speaker.samples == wanted)

    await tell(BotStartedSpeakingFrame())
    await say(ECHO[: len(BOT)])
    await tell(BotStoppedSpeakingFrame())
    await say(ECHO[len(BOT) :], silence(0.5))
    await say(CALLER, silence(0.5))


@pytest.mark.parametrize("muted", [True, False])
async def test_the_bots_own_voice_makes_no_turn(muted: bool) -> None:
    microphone, speaker = End(), End()
    mute = [MuteWhileSpeaking()] if muted else []
    async with call([microphone, *mute, SpeechDetector(vad()), speaker]) as line:
        await talk(line, microphone, speaker)
    heard = np.concatenate(speaker.audio)
    said_at = len(ECHO) + 8_000
    assert bool(np.any(heard[: len(ECHO)])) is not muted
    # The caller is heard whole afterwards, and makes a turn, either way.
    assert np.allclose(heard[said_at : said_at + len(CALLER)], CALLER, atol=1e-4)
    starts = len(line.frames(VADUserStartedSpeakingFrame))
    assert starts == 1 if muted else starts > 1


async def test_without_a_bot_nothing_is_muted() -> None:
    speaker = End()
    async with call([MuteWhileSpeaking(), speaker]) as line:
        await line.say(CALLER, pace_s=0)
    assert np.allclose(np.concatenate(speaker.audio), CALLER, atol=1e-4)
