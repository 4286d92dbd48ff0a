"""Remote Whisper in a real pipeline, with real speech, at a real server."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest
from pipecat.frames.frames import (
    EndFrame,
    ErrorFrame,
    Frame,
    InputAudioRawFrame,
    InterimTranscriptionFrame,
    MetricsFrame,
    STTMetadataFrame,
    STTMuteFrame,
    STTUpdateSettingsFrame,
    TranscriptionFrame,
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.metrics.metrics import STTUsageMetricsData, TTFBMetricsData
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.services.settings import STTSettings
from pipecat.transcriptions.language import Language

from talkpath.agent.client import ClientConfig, servers
from talkpath.agent.config import SpeechConfig
from talkpath.agent.server.service import Service
from talkpath.agent.whisper import Final, Partial
from talkpath.processors import remote_whisper, whisper_service
from talkpath.processors.frames import NothingHeardFrame
from talkpath.processors.remote_whisper import RemoteWhisper
from talkpath.processors.speech_detector import SpeechDetector
from talkpath.processors.streaming_whisper import StreamingWhisper
from tests.agent.server.serving import serving, the_service
from tests.agent.whisper.helpers import Gate, backend, until, vad
from tests.processors.caller import Call, call
from tests.speech import clip, join, resample, silence, word_error_rate

LONG, SHORT = clip("librivox-0870"), clip("librivox-0930")
ENGLISH = ClientConfig(language="en")
BASE = {"whisper.model": "base"}
SPEECH = (VADUserStartedSpeakingFrame, VADUserStoppedSpeakingFrame)
ANSWERS = (TranscriptionFrame, NothingHeardFrame)


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    async with the_service(BASE, model="base") as shared:
        yield shared


@pytest.fixture
async def url(service: Service) -> AsyncIterator[str]:
    async with serving(service) as address:
        yield address


def remote(*urls: str, config: ClientConfig = ENGLISH, **options: Any) -> RemoteWhisper:
    return RemoteWhisper(urls, config=config, **options)


def path(whisper: FrameProcessor) -> list[FrameProcessor]:
    return [SpeechDetector(vad()), whisper]


def text(caller: Call) -> str:
    return " ".join(frame.text for frame in caller.frames(TranscriptionFrame))


def errors(caller: Call) -> list[ErrorFrame]:
    return caller.frames(ErrorFrame, direction=FrameDirection.UPSTREAM)


def order(caller: Call, kinds: tuple[type[Frame], ...] = (*SPEECH, *ANSWERS)) -> list[str]:
    """Starts, stops and answers, or some of them, as they came."""
    return [
        type(item.frame).__name__
        for item in caller.heard
        if isinstance(item.frame, kinds) and item.direction is FrameDirection.DOWNSTREAM
    ]


async def test_its_frames_are_those_of_the_local_one(service: Service, url: str) -> None:
    calls = []
    for whisper in (remote(url), StreamingWhisper(service.engine, language="en")):
        async with call(path(whisper)) as caller:
            await caller.say(join([LONG.id]), pace_s=0.01)
            await caller.until(lambda: caller.frames(TranscriptionFrame))
            await caller.say(join([SHORT.id]), pace_s=0.01)
        assert not errors(caller)
        calls.append(caller)
    over_there, here = calls
    # Which comes first, an answer or the next start, is a matter of speed.
    for kinds in (SPEECH, ANSWERS):
        assert order(over_there, kinds) == order(here, kinds)
    for mine, theirs in zip(
        over_there.frames(TranscriptionFrame), here.frames(TranscriptionFrame), strict=True
    ):
        assert word_error_rate([theirs.text], [mine.text]) < 0.1
        assert mine.finalized and theirs.finalized
        assert mine.language is theirs.language is Language.EN
        assert not mine.interruptible
        assert isinstance(mine.result, Final) and isinstance(theirs.result, Final)
        assert mine.result.utterance == theirs.result.utterance
        assert mine.result.start_s == pytest.approx(theirs.result.start_s, abs=0.05)
    partials = over_there.frames(InterimTranscriptionFrame)
    assert partials
    for partial in partials:
        assert isinstance(partial.result, Partial)
        assert partial.text == partial.result.text


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
async def test_audio_goes_on_behind_it_where_it_is_wanted(url: str, passes: bool) -> None:
    behind = Behind()
    async with call([*path(remote(url, audio_passthrough=passes)), behind]) as caller:
        await caller.say(join([SHORT.id]), pace_s=0)
    assert word_error_rate([SHORT.text], [text(caller)]) < 0.15
    assert bool(behind.audio) is passes
    assert caller.frames(EndFrame)


async def test_it_reports_how_long_the_final_took_and_how_much_it_heard(url: str) -> None:
    audio = join([SHORT.id])
    whisper = remote(url, ttfs_p99_latency=0.3)
    whisper._stt_ttfb_timeout = 60.0  # so long Pipecat waits for a final to measure
    async with call(path(whisper)) as caller:
        await caller.say(audio, pace_s=0.02)
    data = [item for frame in caller.frames(MetricsFrame) for item in frame.data]
    times = [item.value for item in data if isinstance(item, TTFBMetricsData) and item.value]
    assert len(times) == len(caller.frames(TranscriptionFrame)) >= 1
    heard_s = sum(
        item.value.audio_seconds for item in data if isinstance(item, STTUsageMetricsData)
    )
    assert heard_s == pytest.approx(len(audio) / 16_000)
    (metadata,) = caller.frames(STTMetadataFrame)
    assert metadata.ttfs_p99_latency == 0.3


@pytest.mark.parametrize("rate_hz", [8_000, 24_000])
async def test_other_rates_are_understood(url: str, rate_hz: int) -> None:
    async with call(path(remote(url)), rate_hz=rate_hz) as caller:
        await caller.say(resample(join([SHORT.id]), 16_000, rate_hz))
    assert word_error_rate([SHORT.text], [text(caller)]) < 0.3


async def test_the_end_in_the_middle_of_speech_brings_the_words_so_far(
    service: Service, url: str
) -> None:
    async with call(path(remote(url))) as caller:
        await caller.say(join([SHORT.id], tail_s=0))
    assert word_error_rate([SHORT.text], [text(caller)]) < 0.15
    await until(lambda: service.engine.streams == 0)


async def test_what_is_said_while_muted_is_not_heard(url: str) -> None:
    async with call(path(remote(url))) as caller:
        await caller.send(STTMuteFrame(mute=True))
        await caller.say(join([LONG.id]))
        await caller.send(STTMuteFrame(mute=False))
        await caller.say(join([SHORT.id]))
    assert word_error_rate([SHORT.text], [text(caller)]) < 0.15


async def test_a_mute_in_the_middle_of_speech_cuts_out_what_is_said_meanwhile(url: str) -> None:
    sentence = LONG.samples()
    async with call(path(remote(url))) as caller:
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


async def test_a_microphone_that_goes_silent_in_a_word_still_brings_the_final(url: str) -> None:
    async with call(path(remote(url))) as caller:
        await caller.say(LONG.samples()[:40_000])
        await caller.until(lambda: text(caller))  # no audio comes, not even silence
        assert caller.frames(VADUserStoppedSpeakingFrame)
        await caller.say(join([SHORT.id]))
    assert "dashwood" in text(caller).lower()
    assert "himself" in text(caller).lower()
    assert all(frame.finalized for frame in caller.frames(TranscriptionFrame))


async def test_a_stop_of_which_the_server_hears_nothing_is_answered(url: str) -> None:
    async with call([remote(url)]) as caller:
        await caller.send(VADUserStartedSpeakingFrame(start_secs=0.2))
        await caller.say(silence(1.0))
        await caller.send(VADUserStoppedSpeakingFrame(stop_secs=0.2))
        await caller.say(silence(2.0))
        await caller.until(lambda: caller.frames(NothingHeardFrame))
    assert len(caller.frames(NothingHeardFrame)) == 1
    assert not text(caller)


async def test_a_final_before_the_stop_here_does_not_end_the_speech(url: str) -> None:
    async with call([remote(url)]) as caller:
        await caller.send(VADUserStartedSpeakingFrame(start_secs=0.2))
        await caller.say(join([SHORT.id]))  # the detector here hears no end of it
        await caller.until(lambda: text(caller))
        (frame,) = caller.frames(TranscriptionFrame)
        assert not frame.finalized
        await caller.send(VADUserStoppedSpeakingFrame(stop_secs=0.2))
        await caller.say(silence(2.0))
        await caller.until(lambda: caller.frames(NothingHeardFrame))
    assert order(caller)[-3:] == [
        "TranscriptionFrame",
        "VADUserStoppedSpeakingFrame",
        "NothingHeardFrame",
    ]


async def test_a_late_final_answers_its_own_stop_though_somebody_speaks_again() -> None:
    gate = Gate(backend("base"))
    config = ClientConfig(language="en", partials=False)
    async with the_service(BASE, model=gate) as service, serving(service) as url:
        async with call(path(remote(url, config=config))) as caller:
            await caller.say(join([SHORT.id]))
            await caller.until(lambda: caller.frames(VADUserStoppedSpeakingFrame))
            await caller.say(LONG.samples()[:32_000])
            await caller.until(lambda: len(caller.frames(VADUserStartedSpeakingFrame)) == 2)
            gate.open()
            await caller.until(lambda: text(caller))
            await caller.say(LONG.samples()[32_000:])
            await caller.say(silence(2.0))
    assert all(frame.finalized for frame in caller.frames(TranscriptionFrame))
    assert not caller.frames(NothingHeardFrame)
    stops = len(caller.frames(VADUserStoppedSpeakingFrame))
    assert len(caller.frames(TranscriptionFrame)) == stops


async def test_noise_without_words_is_told(url: str) -> None:
    noise = np.random.default_rng(1).normal(0, 0.02, 48_000).astype(np.float32)
    async with call([remote(url)]) as caller:
        await caller.send(VADUserStartedSpeakingFrame(start_secs=0.2))
        await caller.say(noise)
        await caller.send(VADUserStoppedSpeakingFrame(stop_secs=0.2))
        await caller.say(silence(2.0))
        await caller.until(lambda: caller.frames(NothingHeardFrame))
    assert not caller.frames(TranscriptionFrame, InterimTranscriptionFrame)


async def test_a_new_language_holds_from_the_next_utterance(url: str) -> None:
    config = ClientConfig(language="en-GB")
    async with call(path(remote(url, config=config))) as caller:
        await caller.say(join([SHORT.id]))
        await caller.until(lambda: text(caller))
        await caller.send(STTUpdateSettingsFrame(delta=STTSettings(language=Language.NL)))
        await caller.say(join([SHORT.id]))
        await caller.until(lambda: len(caller.frames(TranscriptionFrame)) == 2)
        await caller.send(STTUpdateSettingsFrame(delta=STTSettings(language="klingon")))
        await caller.until(lambda: errors(caller))
    first, second = caller.frames(TranscriptionFrame)
    assert (first.language, second.language) == (Language.EN, Language.NL)
    (error,) = errors(caller)
    assert "does not know that language" in error.error


async def test_a_longer_stop_holds_at_the_server_too(url: str) -> None:
    speech = SpeechConfig(stop_s=1.0)
    config = ClientConfig(language="en", speech=speech)
    processors = [SpeechDetector(vad(), speech), remote(url, config=config)]
    async with call(processors) as caller:
        await caller.say(join([SHORT.id, LONG.id], gap_s=0.4, tail_s=2.0))
    assert len(caller.frames(TranscriptionFrame)) == 1
    assert word_error_rate([f"{SHORT.text} {LONG.text}"], [text(caller)]) < 0.15


async def test_a_wrong_key_makes_it_unusable_and_the_call_goes_on() -> None:
    async with serving({"serve.api_keys": ("right",)}) as url:
        whisper = remote(url, api_key="wrong")
        async with call(path(whisper)) as caller:
            await caller.until(lambda: errors(caller))
            assert not whisper.is_usable
            await caller.say(join([SHORT.id]), pace_s=0)
    (error,) = errors(caller)
    assert "no speech-to-text server takes this client" in error.error
    assert caller.frames(VADUserStartedSpeakingFrame)
    assert not text(caller)


async def test_what_is_no_url_makes_it_unusable() -> None:
    whisper = remote("gpu-1:8000")
    async with call(path(whisper)) as caller:
        assert not whisper.is_usable
    (error,) = errors(caller)
    assert "is no URL" in error.error


async def test_a_server_that_stops_in_a_call_costs_no_word() -> None:
    connections: list[str] = []
    audio = join([SHORT.id, LONG.id])
    async with serving({"serve.drain_s": 0.0}) as second:
        async with contextlib.AsyncExitStack() as stack:
            first = await stack.enter_async_context(serving({"serve.drain_s": 0.0}))
            whisper = remote(first, second)
            for event in ("on_connected", "on_disconnected"):
                whisper.add_event_handler(event, lambda *_, event=event: connections.append(event))
            async with call(path(whisper)) as caller:
                await caller.say(audio[:80_000])
                await caller.until(lambda: text(caller))
                await stack.aclose()
                await caller.say(audio[80_000:])
    assert not errors(caller)
    assert word_error_rate([f"{SHORT.text} {LONG.text}"], [text(caller)]) < 0.3
    assert connections == ["on_connected", "on_disconnected", "on_connected"]


async def test_that_no_server_is_there_is_told_once_until_one_was_there(
    free_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_whisper, "_UNREACHED_S", 0.5)
    monkeypatch.setattr(servers, "_LONGEST_WAIT_S", 0.5)  # it looks as often all the time
    monkeypatch.setattr(whisper_service, "_DRAIN_S", 0.5)  # at its end there is no server
    failures: list[str] = []
    connections: list[str] = []
    whisper = remote(f"ws://127.0.0.1:{free_port}")
    whisper.add_event_handler("on_connection_error", lambda _, why: failures.append(why))
    whisper.add_event_handler("on_connected", lambda _: connections.append("there"))
    async with call(path(whisper)) as caller:
        await caller.say(join([SHORT.id]))
        await caller.until(lambda: errors(caller))
        before = len(failures)
        await until(lambda: len(failures) >= before + 1)
        (error,) = errors(caller)
        assert "no speech-to-text server is available" in error.error
        assert f"127.0.0.1:{free_port}: cannot be reached" in error.error
        assert whisper.is_usable
        async with serving({"serve.port": free_port, "serve.drain_s": 0.0}):
            await caller.until(lambda: text(caller))
            assert word_error_rate([SHORT.text], [text(caller)]) < 0.3
            assert len(connections) == len(errors(caller)) == 1
        await caller.until(lambda: len(errors(caller)) == 2)
        async with serving({"serve.port": free_port}):
            await until(lambda: len(connections) == 2)


@pytest.mark.parametrize("cancel", [False, True])
async def test_nothing_runs_on_after_the_call(service: Service, url: str, cancel: bool) -> None:
    before = asyncio.all_tasks()
    async with call(path(remote(url)), cancel=cancel) as caller:
        await caller.say(join([LONG.id])[:48_000])
        await until(lambda: service.engine.streams == 1)
    await until(lambda: asyncio.all_tasks() <= before)
    await until(lambda: service.engine.streams == 0)


async def test_many_calls_at_once_keep_their_words_apart(url: str) -> None:
    sentences = [clip(f"librivox-{number}") for number in ("0870", "0890", "0920", "0930")] * 2

    async def one(name: str) -> str:
        async with call(path(remote(url))) as caller:
            await caller.say(join([name]))
        assert not errors(caller)
        return text(caller)

    said = await asyncio.gather(*(one(sentence.id) for sentence in sentences))
    for sentence, words in zip(sentences, said, strict=True):
        assert word_error_rate([sentence.text], [words]) < 0.2
