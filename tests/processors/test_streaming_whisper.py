"""Streaming Whisper in a real pipeline, with real speech."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import numpy as np
import pytest
from pipecat.audio.vad.silero import SileroVADAnalyzer
from pipecat.audio.vad.vad_analyzer import VADParams
from pipecat.frames.frames import (
    EndFrame,
    ErrorFrame,
    Frame,
    InputAudioRawFrame,
    InterimTranscriptionFrame,
    InterruptionFrame,
    MetricsFrame,
    STTMetadataFrame,
    STTMuteFrame,
    STTUpdateSettingsFrame,
    TranscriptionFrame,
    UserStoppedSpeakingFrame,
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.metrics.metrics import STTUsageMetricsData, TTFBMetricsData
from pipecat.processors.audio.vad_processor import VADProcessor
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.services.settings import STTSettings
from pipecat.transcriptions.language import Language

from talkpath.agent.config import WhisperConfig
from talkpath.agent.whisper import Final, Partial, WhisperEngine
from talkpath.agent.whisper.backend import Decoded, Item
from talkpath.processors.frames import NothingHeardFrame
from talkpath.processors.speech_detector import SpeechDetector
from talkpath.processors.streaming_whisper import StreamingWhisper
from tests.agent.whisper.helpers import Gate, backend, engine, until, vad
from tests.processors.caller import Call, call
from tests.speech import clip, join, resample, silence, word_error_rate

LONG = clip("librivox-0870")
SHORT = clip("librivox-0930")


@pytest.fixture
async def base() -> AsyncIterator[WhisperEngine]:
    async with engine("base", WhisperConfig(language="en")) as running:
        yield running


def path(whisper: StreamingWhisper) -> list[FrameProcessor]:
    return [SpeechDetector(vad()), whisper]


def text(caller: Call) -> str:
    return " ".join(frame.text for frame in caller.frames(TranscriptionFrame))


def errors(caller: Call) -> list[ErrorFrame]:
    return caller.frames(ErrorFrame, direction=FrameDirection.UPSTREAM)


def pieces(caller: Call) -> list[Sequence[Frame]]:
    """The transcripts between one stop of speech and the next, partials and finals."""
    found: list[list[Frame]] = [[]]
    for item in caller.heard:
        if isinstance(item.frame, (InterimTranscriptionFrame, TranscriptionFrame)):
            found[-1].append(item.frame)
            if isinstance(item.frame, TranscriptionFrame):
                found.append([])
    assert not found.pop(), "no partial without a final"
    return list(found)


class Behind(FrameProcessor):
    """Counts the audio that comes to it."""

    def __init__(self) -> None:
        super().__init__()
        self.audio = 0

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        self.audio += isinstance(frame, InputAudioRawFrame)
        await self.push_frame(frame, direction)


@pytest.mark.parametrize("passes", [True, False])
async def test_audio_goes_on_behind_it_where_it_is_wanted(
    base: WhisperEngine, passes: bool
) -> None:
    behind = Behind()
    async with call([*path(StreamingWhisper(base, audio_passthrough=passes)), behind]) as caller:
        await caller.say(join([SHORT.id]), pace_s=0)
    assert word_error_rate([SHORT.text], [text(caller)]) < 0.15
    assert bool(behind.audio) is passes


async def test_partials_come_while_it_is_said_and_one_final_for_each_stop(
    base: WhisperEngine,
) -> None:
    async with call(path(StreamingWhisper(base))) as caller:
        audio = join([LONG.id])
        await caller.say(audio[:48_000])
        await caller.until(lambda: caller.frames(InterimTranscriptionFrame))
        assert not text(caller)
        await caller.say(audio[48_000:], pace_s=0.01)
    assert not errors(caller)
    assert word_error_rate([LONG.text], [text(caller)]) < 0.15
    finals = caller.frames(TranscriptionFrame)
    assert len(finals) + len(caller.frames(NothingHeardFrame)) == len(
        caller.frames(VADUserStoppedSpeakingFrame)
    )
    utterances = []
    for *partials, final in pieces(caller):
        assert isinstance(final, TranscriptionFrame)
        assert final.finalized
        assert final.language is Language.EN
        assert not final.interruptible
        assert isinstance(final.result, Final)
        assert final.result.transcript.text == final.text
        utterances.append(final.result.utterance)
        for partial in partials:
            assert isinstance(partial, InterimTranscriptionFrame)
            assert isinstance(partial.result, Partial)
            assert partial.result.utterance == utterances[-1]
            assert partial.text == partial.result.text
    assert utterances == sorted(set(utterances))


async def test_all_other_frames_go_through(base: WhisperEngine) -> None:
    audio = join([SHORT.id])
    async with call(path(StreamingWhisper(base))) as caller:
        await caller.say(audio)
    passed = sum(frame.num_frames for frame in caller.frames(InputAudioRawFrame))
    assert passed == len(audio)
    assert caller.frames(VADUserStartedSpeakingFrame)
    assert caller.frames(EndFrame)


async def test_it_reports_how_long_the_final_took_and_how_much_it_heard(
    base: WhisperEngine,
) -> None:
    audio = join([SHORT.id])
    whisper = StreamingWhisper(base, ttfs_p99_latency=0.3)
    whisper._stt_ttfb_timeout = 60.0  # so long Pipecat waits for a final to measure
    async with call(path(whisper)) as caller:
        await caller.say(audio, pace_s=0.02)
    data = [item for frame in caller.frames(MetricsFrame) for item in frame.data]
    times = [item.value for item in data if isinstance(item, TTFBMetricsData) and item.value]
    stops = len(caller.frames(TranscriptionFrame))
    assert len(times) == stops >= 1
    assert all(value > 0 for value in times)
    heard_s = sum(
        item.value.audio_seconds for item in data if isinstance(item, STTUsageMetricsData)
    )
    assert heard_s == pytest.approx(len(audio) / 16_000)
    (metadata,) = caller.frames(STTMetadataFrame)
    assert metadata.ttfs_p99_latency == 0.3


async def test_without_partials_there_are_finals_alone(base: WhisperEngine) -> None:
    async with call(path(StreamingWhisper(base, partials=False))) as caller:
        await caller.say(join([SHORT.id]))
    assert not caller.frames(InterimTranscriptionFrame)
    assert word_error_rate([SHORT.text], [text(caller)]) < 0.15


async def test_the_end_in_the_middle_of_speech_brings_the_words_so_far(
    base: WhisperEngine,
) -> None:
    async with call(path(StreamingWhisper(base))) as caller:
        await caller.say(join([SHORT.id], tail_s=0))
    assert word_error_rate([SHORT.text], [text(caller)]) < 0.15
    assert base.streams == 0


@pytest.mark.parametrize("rate_hz", [8_000, 24_000])
async def test_other_rates_are_understood(base: WhisperEngine, rate_hz: int) -> None:
    async with call(path(StreamingWhisper(base)), rate_hz=rate_hz) as caller:
        await caller.say(resample(join([SHORT.id]), 16_000, rate_hz))
    assert word_error_rate([SHORT.text], [text(caller)]) < 0.3


async def test_what_is_said_while_muted_is_not_heard(base: WhisperEngine) -> None:
    async with call(path(StreamingWhisper(base))) as caller:
        await caller.send(STTMuteFrame(mute=True))
        await caller.say(join([LONG.id]))
        await caller.send(STTMuteFrame(mute=False))
        await caller.say(join([SHORT.id]))
    assert word_error_rate([SHORT.text], [text(caller)]) < 0.15


async def test_a_mute_in_the_middle_of_speech_cuts_out_what_is_said_meanwhile(
    base: WhisperEngine,
) -> None:
    sentence = LONG.samples()
    async with call(path(StreamingWhisper(base, partials=False))) as caller:
        await caller.say(sentence[:32_000])
        await caller.send(STTMuteFrame(mute=True))
        await caller.until(lambda: text(caller))
        said = text(caller).lower()
        before = len(caller.frames(TranscriptionFrame))
        await caller.say(sentence[32_000:72_000])
        await caller.send(STTMuteFrame(mute=False))
        await caller.say(sentence[72_000:])
        await caller.say(silence(1))
    assert "dashwood" in said
    rest = " ".join(frame.text for frame in caller.frames(TranscriptionFrame)[before:]).lower()
    assert "to do for them" in rest
    assert "dashwood" not in rest
    assert "consider" not in text(caller).lower()


async def test_a_line_that_went_silent_in_a_word_does_not_repeat_it() -> None:
    missing_s = 0.5
    async with engine("tiny.en") as running:
        async with call([StreamingWhisper(running, partials=False)]) as caller:
            await caller.send(VADUserStartedSpeakingFrame(start_secs=0.0))
            await caller.say(LONG.samples()[:20_000], pace_s=0)
            await caller.until(lambda: len(caller.frames(InputAudioRawFrame)) == 63)
            await asyncio.sleep(missing_s)  # no audio comes; this is what the stop reports
            await caller.send(VADUserStoppedSpeakingFrame(stop_secs=missing_s))
            await caller.until(lambda: text(caller))
            await caller.say(SHORT.samples()[4_000:8_000], pace_s=0)
            await caller.send(VADUserStartedSpeakingFrame(start_secs=0.2))
            await caller.say(SHORT.samples()[8_000:], pace_s=0)
            await caller.send(VADUserStoppedSpeakingFrame(stop_secs=0.2))
    first, second = caller.frames(TranscriptionFrame)
    assert first.text
    assert second.result is not None
    # Without the 0.3 s before its beginning, which belong to the utterance before.
    assert second.result.transcript.duration_s == pytest.approx(SHORT.duration_s - 0.25, abs=0.05)


async def test_an_engine_that_closes_in_a_call_is_an_error_not_a_silence() -> None:
    async with engine("tiny.en") as running:
        async with call(path(StreamingWhisper(running))) as caller:
            await caller.say(join([SHORT.id]), pace_s=0)
            await caller.until(lambda: text(caller))
            await asyncio.to_thread(running.close)
            await caller.say(join([SHORT.id]), pace_s=0)
            await caller.until(lambda: errors(caller))
    assert {error.error for error in errors(caller)} == {"the speech-to-text engine is closed"}
    stops = len(caller.frames(VADUserStoppedSpeakingFrame))
    assert len(errors(caller)) + len(caller.frames(TranscriptionFrame)) == stops


async def test_a_new_language_holds_from_the_next_utterance(base: WhisperEngine) -> None:
    whisper = StreamingWhisper(base, language="en-GB")
    async with call(path(whisper)) as caller:
        await caller.say(join([SHORT.id]))
        await caller.until(lambda: text(caller))
        english = len(caller.frames(TranscriptionFrame))
        await caller.send(STTUpdateSettingsFrame(delta=STTSettings(language=Language.NL)))
        await caller.say(join([SHORT.id]))
        await caller.until(lambda: len(caller.frames(TranscriptionFrame)) > english)
        await caller.send(STTUpdateSettingsFrame(delta=STTSettings(language="klingon")))
        await caller.until(lambda: errors(caller))
    languages = [frame.language for frame in caller.frames(TranscriptionFrame)]
    assert set(languages[:english]) == {Language.EN}
    assert set(languages[english:]) == {Language.NL}
    (error,) = errors(caller)
    assert "does not know the language 'klingon'" in error.error


async def test_a_language_that_the_model_lacks_makes_it_unusable(base: WhisperEngine) -> None:
    whisper = StreamingWhisper(base, language="xx")
    async with call(path(whisper)) as caller:
        await caller.say(join([SHORT.id]), pace_s=0)
        assert not whisper.is_usable
    (error,) = errors(caller)
    assert "does not know the language 'xx'" in error.error


async def test_a_full_engine_says_so_and_the_call_goes_on() -> None:
    async with engine(config=WhisperConfig(max_streams=1)) as running:
        whisper = StreamingWhisper(running)
        taken = running.open_stream(lambda result: None)
        async with call(path(whisper)) as caller:
            await caller.say(join([SHORT.id]), pace_s=0)
            assert not whisper.is_usable
        assert running.streams == 1
        taken.close()
    (error,) = errors(caller)
    assert "streams are in use" in error.error
    assert caller.frames(VADUserStartedSpeakingFrame)
    assert not text(caller)


async def test_an_interruption_loses_no_final() -> None:
    gate = Gate(backend("base"))
    async with engine(gate, WhisperConfig(language="en")) as running:
        async with call(path(StreamingWhisper(running))) as caller:
            await caller.say(join([SHORT.id]))
            await caller.until(lambda: caller.frames(VADUserStoppedSpeakingFrame))
            await caller.send(InterruptionFrame())
            await caller.until(lambda: caller.frames(InterruptionFrame))
            gate.open()
            await caller.until(lambda: text(caller))
            await caller.send(InterruptionFrame())
        assert word_error_rate([SHORT.text], [text(caller)]) < 0.15


async def test_sound_without_words_is_told() -> None:
    noise = np.random.default_rng(1).normal(0, 0.02, 48_000).astype(np.float32)
    async with engine("base") as running:
        async with call([StreamingWhisper(running)]) as caller:
            await caller.send(VADUserStartedSpeakingFrame(start_secs=0.2))
            await caller.say(noise)
            await caller.send(VADUserStoppedSpeakingFrame(stop_secs=0.2))
    assert [frame.utterance for frame in caller.frames(NothingHeardFrame)] == [1]
    assert not caller.frames(TranscriptionFrame, InterimTranscriptionFrame)


class Overheard(Gate):
    """Notes the context that each decode was given."""

    def __init__(self) -> None:
        super().__init__(backend("base"), workers=1)
        self.contexts: list[tuple[int, ...]] = []
        self.open()

    def generate(
        self, encoded: Any, items: Sequence[Item], *, max_tokens: int, **options: Any
    ) -> list[Decoded]:
        self.contexts += [item.context for item in items]
        return super().generate(encoded, items, max_tokens=max_tokens, **options)


async def test_the_words_of_a_turn_help_with_its_next_ones_until_the_turn_ends() -> None:
    model = Overheard()
    card = join(["cards-003"], lead_s=0, tail_s=0.5)

    async def hear(caller: Call) -> list[tuple[int, ...]]:
        before, decodes = len(caller.frames(TranscriptionFrame)), len(model.contexts)
        await caller.say(card)
        await caller.until(lambda: len(caller.frames(TranscriptionFrame)) > before)
        return model.contexts[decodes:]

    async with engine(model, WhisperConfig(language="en")) as running:
        async with call(path(StreamingWhisper(running, partials=False))) as caller:
            await caller.say(silence(0.5))
            assert not any(await hear(caller))
            assert any(await hear(caller))
            await caller.send(UserStoppedSpeakingFrame())
            await caller.until(lambda: caller.frames(UserStoppedSpeakingFrame))
            assert not any(await hear(caller))
    assert not errors(caller)


async def test_it_works_behind_pipecats_own_voice_activity(base: WhisperEngine) -> None:
    analyzer = SileroVADAnalyzer(params=VADParams(min_volume=0.0))
    whisper = StreamingWhisper(base)
    async with call([VADProcessor(vad_analyzer=analyzer), whisper]) as caller:
        await caller.say(join([SHORT.id]), pace_s=0.005)
        await caller.until(lambda: text(caller))
    assert word_error_rate([SHORT.text], [text(caller)]) < 0.15
    finals = caller.frames(TranscriptionFrame)
    assert all(frame.finalized for frame in finals)
    assert not any(frame.result.speculative for frame in finals if frame.result)


@pytest.mark.parametrize("cancel", [False, True])
async def test_nothing_runs_on_after_the_call(base: WhisperEngine, cancel: bool) -> None:
    before = asyncio.all_tasks()
    async with call(path(StreamingWhisper(base)), cancel=cancel) as caller:
        await caller.say(join([LONG.id])[:48_000])
        assert base.streams == 1
    await until(lambda: asyncio.all_tasks() == before)
    assert base.streams == 0


async def test_many_calls_at_once_keep_their_words_apart(base: WhisperEngine) -> None:
    sentences = [clip(f"librivox-{number}") for number in ("0870", "0890", "0920", "0930")] * 2

    async def one(name: str) -> str:
        async with call(path(StreamingWhisper(base))) as caller:
            await caller.say(join([name]))
        assert not errors(caller)
        return text(caller)

    said = await asyncio.gather(*(one(sentence.id) for sentence in sentences))
    for sentence, words in zip(sentences, said, strict=True):
        assert word_error_rate([sentence.text], [words]) < 0.2
