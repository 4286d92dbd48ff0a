"""The echo in a real pipeline: it says back what was said."""

import numpy as np
import pytest
from numpy.typing import NDArray
from pipecat.frames.frames import (
    InputAudioRawFrame,
    SpeechOutputAudioRawFrame,
    UserStartedSpeakingFrame,
    UserStoppedSpeakingFrame,
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.processors.frame_processor import FrameProcessor

from talkpath.processors.echo import Echo
from talkpath.processors.speech_detector import SpeechDetector
from tests.agent.whisper.helpers import engine, vad
from tests.processors.caller import Call, call
from tests.speech import clip, join, resample, silence, word_error_rate


def played(caller: Call) -> NDArray[np.float32]:
    frames = caller.frames(SpeechOutputAudioRawFrame)
    assert all((frame.sample_rate, frame.num_channels) == (24_000, 1) for frame in frames)
    pcm = b"".join(frame.audio for frame in frames)
    return np.frombuffer(pcm, "<i2").astype(np.float32) / np.float32(32_768)


def path() -> list[FrameProcessor]:
    return [SpeechDetector(vad()), Echo()]


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 48_000])
async def test_it_says_back_the_words_without_the_silence_around_them(rate_hz: int) -> None:
    speech = clip("librivox-0930")
    async with call(path(), rate_hz=rate_hz) as caller:
        audio = join([speech.id], lead_s=2, tail_s=2)
        await caller.say(resample(audio, 16_000, rate_hz), pace_s=0)
        await caller.until(lambda: caller.frames(VADUserStoppedSpeakingFrame))
        assert not len(played(caller))
        await caller.send(UserStoppedSpeakingFrame())
    echo = resample(played(caller), 24_000, 16_000)
    assert len(echo) < 16_000 * (speech.duration_s + 1)
    async with engine("base") as running:
        transcript = await running.decode(echo, language="en")
    assert word_error_rate([speech.text], [transcript.text]) < 0.2


async def test_each_turn_is_said_back_once() -> None:
    async def turn(caller: Call, name: str) -> None:
        stops = len(caller.frames(VADUserStoppedSpeakingFrame))
        before = len(played(caller))
        await caller.say(join([name]), pace_s=0)
        await caller.until(lambda: len(caller.frames(VADUserStoppedSpeakingFrame)) > stops)
        await caller.send(UserStoppedSpeakingFrame())
        await caller.until(lambda: len(played(caller)) > before)
        await caller.send(UserStoppedSpeakingFrame())

    async with call(path()) as caller:
        await turn(caller, "librivox-0880")
        await turn(caller, "cards-005")
    said_s = sum(clip(name).duration_s for name in ("librivox-0880", "cards-005"))
    assert len(played(caller)) / 24_000 < said_s + 2


async def test_the_parts_of_a_turn_are_said_back_together_without_the_pause() -> None:
    pulse = np.full(16_000, 0.5, dtype=np.float32)
    async with call([Echo()]) as caller:
        await caller.say(silence(3), pace_s=0)
        for _ in range(2):
            await caller.say(pulse, pace_s=0)
            await caller.send(VADUserStartedSpeakingFrame(start_secs=0.2))
            await caller.say(pulse, pace_s=0)
            await caller.send(VADUserStoppedSpeakingFrame(stop_secs=0.2))
            await caller.say(silence(5), pace_s=0)
        await caller.send(UserStoppedSpeakingFrame())
    # Each part reaches back over the start's 0.2 s and another 0.2 s.
    assert len(played(caller)) / 24_000 == pytest.approx(2 * 1.4, abs=0.01)
    assert np.median(played(caller)) == pytest.approx(0.5, abs=0.01)


async def test_nothing_is_said_back_when_nothing_was_said() -> None:
    async with call(path()) as caller:
        await caller.send(UserStoppedSpeakingFrame())
        await caller.say(silence(1), pace_s=0)
        await caller.send(UserStartedSpeakingFrame(), UserStoppedSpeakingFrame())
    assert not caller.frames(SpeechOutputAudioRawFrame)
    assert caller.frames(InputAudioRawFrame)


async def test_of_a_very_long_turn_the_last_minute_is_said_back() -> None:
    async with call([Echo()]) as caller:
        await caller.send(VADUserStartedSpeakingFrame(start_secs=0.2))
        await caller.say(np.full(16_000 * 50, 0.1, dtype=np.float32), block_s=1.0, pace_s=0)
        await caller.say(np.full(16_000 * 50, 0.5, dtype=np.float32), block_s=1.0, pace_s=0)
        await caller.send(VADUserStoppedSpeakingFrame(stop_secs=0.2), UserStoppedSpeakingFrame())
    echo = played(caller)
    assert len(echo) / 24_000 == pytest.approx(60, abs=0.01)
    assert np.mean(echo > 0.3) == pytest.approx(50 / 60, abs=0.01)
    longest = max(len(frame.audio) for frame in caller.frames(SpeechOutputAudioRawFrame))
    assert longest <= 24_000 * 2 // 5
