"""The speech detector in a real pipeline."""

import asyncio
from collections.abc import Sequence

import numpy as np
import pytest
from pipecat.audio.vad.vad_analyzer import VADParams
from pipecat.frames.frames import (
    BotStartedSpeakingFrame,
    ErrorFrame,
    Frame,
    InputAudioRawFrame,
    SpeechControlParamsFrame,
    UserSpeakingFrame,
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.processors.filters.identity_filter import IdentityFilter
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor

from talkpath.agent.audio import FloatArray, float_to_pcm16
from talkpath.agent.config import SpeechConfig
from talkpath.agent.speech import SileroState, SileroVad
from talkpath.processors.frames import (
    EarlyPauseFrame,
    SpeechOnsetEndedFrame,
    SpeechOnsetFrame,
    SpeechResumedFrame,
)
from talkpath.processors.speech_detector import SpeechDetector
from tests.agent.whisper.helpers import vad
from tests.processors.caller import call
from tests.speech import clip, clips, join, resample, silence

EVENTS = (
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
    EarlyPauseFrame,
    SpeechResumedFrame,
)
SIGNS = (SpeechOnsetFrame, SpeechOnsetEndedFrame)
UPSTREAM = FrameDirection.UPSTREAM
Timed = tuple[type[Frame], float]


class Tape(FrameProcessor):
    """Stands behind the detector and writes down what comes, in its order."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[Timed] = []
        self._seconds = 0.0

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if direction is FrameDirection.DOWNSTREAM and isinstance(frame, InputAudioRawFrame):
            self._seconds += frame.num_frames / frame.sample_rate
        elif direction is FrameDirection.DOWNSTREAM and isinstance(frame, EVENTS):
            self.events.append((type(frame), self._seconds))
        await self.push_frame(frame, direction)


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 24_000, 48_000])
async def test_speech_is_found_behind_the_audio_that_shows_it(rate_hz: int) -> None:
    audio = join(["cards-001", "cards-003"], gap_s=1.5)
    tape = Tape()
    async with call([SpeechDetector(vad()), tape], rate_hz=rate_hz) as caller:
        await caller.say(resample(audio, 16_000, rate_hz), pace_s=0)
    events = tape.events
    starts = [at for kind, at in events if kind is VADUserStartedSpeakingFrame]
    stops = [at for kind, at in events if kind is VADUserStoppedSpeakingFrame]
    first_end_s = 0.5 + clip("cards-001").duration_s
    second_start_s = first_end_s + 1.5
    assert 0.7 < starts[0] < first_end_s
    assert any(first_end_s - 1 < at < first_end_s + 0.4 for at in stops)
    assert any(second_start_s < at < second_start_s + 1 for at in starts)
    # An early pause stands between the last word and each stop.
    kinds = [kind for kind, _ in events]
    for index, kind in enumerate(kinds):
        if kind is VADUserStoppedSpeakingFrame:
            assert kinds[index - 1] is EarlyPauseFrame
            assert 0.08 < events[index][1] - events[index - 1][1] < 0.17
        if kind is SpeechResumedFrame:
            assert kinds[index - 1] is EarlyPauseFrame
    assert len(starts) == len(stops)
    assert all(start < stop for start, stop in zip(starts, stops, strict=True))


async def test_it_tells_both_sides_and_passes_all_audio_on() -> None:
    audio = join(["cards-005"])
    config = SpeechConfig(threshold=0.6, stop_s=0.3)
    async with call([IdentityFilter(), SpeechDetector(vad(), config)]) as caller:
        await caller.say(audio)
    for kind in (VADUserStartedSpeakingFrame, VADUserStoppedSpeakingFrame, UserSpeakingFrame):
        down = caller.frames(kind)
        up = caller.frames(kind, direction=FrameDirection.UPSTREAM)
        assert len(down) == len(up) > 0
    (params, *_) = caller.frames(SpeechControlParamsFrame)
    assert isinstance(params.vad_params, VADParams)
    assert (params.vad_params.confidence, params.vad_params.stop_secs) == (0.6, 0.3)
    assert not caller.frames(EarlyPauseFrame, SpeechResumedFrame, direction=FrameDirection.UPSTREAM)
    passed = sum(frame.num_frames for frame in caller.frames(InputAudioRawFrame))
    assert passed == len(audio)
    assert all(frame.stop_secs == 0.3 for frame in caller.frames(VADUserStoppedSpeakingFrame))
    assert all(
        0.15 < frame.start_secs < 0.25 for frame in caller.frames(VADUserStartedSpeakingFrame)
    )


async def test_a_large_block_does_not_hide_where_speech_began() -> None:
    audio = np.concatenate([silence(1.5), clip("cards-005").samples()])
    starts_s = []
    for block_s in (0.02, 3.0):
        tape = Tape()
        async with call([SpeechDetector(vad()), tape]) as caller:
            await caller.say(audio[:48_000], block_s=block_s, pace_s=0)
        at = next(at for kind, at in tape.events if kind is VADUserStartedSpeakingFrame)
        starts_s.append(at - caller.frames(VADUserStartedSpeakingFrame)[0].start_secs)
    assert abs(starts_s[0] - starts_s[1]) < 0.1


async def test_while_the_bot_speaks_a_first_sign_comes_before_the_start() -> None:
    tape = Tape()
    early = join(["cards-001"], tail_s=0.5)
    cough = np.concatenate([early[:14_000], silence(0.5)])  # a syllable, and no more
    async with call([SpeechDetector(vad(), SpeechConfig(start_s=0.5)), tape]) as caller:
        await caller.say(cough, pace_s=0)
        assert not caller.frames(SpeechOnsetFrame)
        await tape.push_frame(BotStartedSpeakingFrame(), FrameDirection.UPSTREAM)
        await caller.until(lambda: caller.frames(BotStartedSpeakingFrame, direction=UPSTREAM))
        await caller.say(np.concatenate([cough, early]), pace_s=0)
        await caller.until(lambda: caller.frames(VADUserStoppedSpeakingFrame))
    told = [
        type(item.frame)
        for item in caller.heard
        if item.direction is FrameDirection.DOWNSTREAM and isinstance(item.frame, (*EVENTS, *SIGNS))
    ]
    assert told[:4] == [*SIGNS, SpeechOnsetFrame, VADUserStartedSpeakingFrame]
    assert all(0.03 < frame.ago_s < 0.15 for frame in caller.frames(SpeechOnsetFrame))


async def test_silence_and_noise_tell_nothing() -> None:
    noise = np.random.default_rng(2).normal(0, 0.02, 48_000).astype(np.float32)
    tape = Tape()
    async with call([SpeechDetector(vad()), tape]) as caller:
        await caller.say(np.concatenate([silence(2), noise]), pace_s=0)
    assert tape.events == []


async def test_the_noise_filter_is_for_its_own_ear() -> None:
    noise = np.random.default_rng(2).normal(0, 0.02, 6 * 16_000).astype(np.float32)
    speech = join(["cards-005"])
    audio = speech + noise[: len(speech)]
    async with call([SpeechDetector(vad(), SpeechConfig(noise_filter="rnnoise"))]) as caller:
        await caller.say(audio, pace_s=0)
    assert caller.frames(VADUserStartedSpeakingFrame, VADUserStoppedSpeakingFrame)
    passed = b"".join(frame.audio for frame in caller.frames(InputAudioRawFrame))
    assert passed == float_to_pcm16(audio)


async def test_audio_that_fails_to_come_stops_the_speech() -> None:
    audio = join(["librivox-0870"])[:32_000]  # in the middle of a sentence
    tape = Tape()
    async with call([SpeechDetector(vad()), tape]) as caller:
        await caller.say(audio, pace_s=0)
        await caller.until(lambda: caller.frames(VADUserStoppedSpeakingFrame))
        (stopped,) = caller.frames(VADUserStoppedSpeakingFrame)
        assert stopped.stop_secs >= 1.0  # so long there was nothing
        assert caller.frames(VADUserStoppedSpeakingFrame, direction=FrameDirection.UPSTREAM)
        # The microphone is back.
        await caller.say(join(["cards-003"]), pace_s=0)
        await caller.until(lambda: len(caller.frames(VADUserStoppedSpeakingFrame)) >= 2)
    kinds = [kind for kind, _ in tape.events if kind in EVENTS[:2]]
    assert kinds == [*EVENTS[:2]] * (len(kinds) // 2)


async def test_a_frame_that_is_no_audio_is_an_error_and_the_next_is_heard() -> None:
    tape = Tape()
    async with call([SpeechDetector(vad()), tape]) as caller:
        await caller.send(InputAudioRawFrame(b"\0\0\0", 16_000, 1))
        await caller.say(join(["cards-003"]), pace_s=0)
    errors = caller.frames(ErrorFrame, direction=FrameDirection.UPSTREAM)
    assert ["even number of bytes" in error.error for error in errors] == [True]
    assert VADUserStoppedSpeakingFrame in [kind for kind, _ in tape.events]


class Broken(SileroVad):
    """Fails on its first calls, as a runtime without memory does."""

    def __init__(self, failures: int) -> None:
        super().__init__()
        self.failures = failures

    def advance(self, windows: FloatArray, states: Sequence[SileroState]) -> FloatArray:
        if self.failures:
            self.failures -= 1
            raise RuntimeError("out of memory")
        return super().advance(windows, states)


async def test_a_model_that_fails_is_reported_once_and_the_audio_goes_on() -> None:
    tape = Tape()
    audio = join(["cards-003"], lead_s=1.0)
    async with call([SpeechDetector(Broken(10)), tape]) as caller:
        await caller.say(audio, pace_s=0)
    (error,) = caller.frames(ErrorFrame, direction=FrameDirection.UPSTREAM)
    assert "voice activity model failed: out of memory" in error.error
    assert sum(frame.num_frames for frame in caller.frames(InputAudioRawFrame)) == len(audio)
    assert VADUserStoppedSpeakingFrame in [kind for kind, _ in tape.events]


async def test_calls_side_by_side_hear_what_each_hears_alone() -> None:
    names = [item.id for item in clips() if item.id.startswith("cards")]

    async def events(name: str) -> list[Timed]:
        tape = Tape()
        async with call([SpeechDetector(vad()), tape]) as caller:
            await caller.say(join([name]), pace_s=0)
        return tape.events

    alone = [await events(name) for name in names]
    assert await asyncio.gather(*map(events, names)) == alone


@pytest.mark.parametrize("cancel", [False, True])
async def test_nothing_runs_on_after_the_call(cancel: bool) -> None:
    before = asyncio.all_tasks()
    async with call([SpeechDetector(vad())], cancel=cancel) as caller:
        await caller.say(join(["librivox-0870"])[:32_000], pace_s=0)
    assert asyncio.all_tasks() == before
