"""Voices by configuration, and OpenAI's over real HTTP with real speech."""

import asyncio
import contextlib
import json
import sys
import types
from collections.abc import AsyncIterator, Sequence
from typing import Any

import numpy as np
import pytest
from pipecat.frames.frames import (
    AggregatedTextFrame,
    ErrorFrame,
    Frame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    TTSAudioRawFrame,
    TTSTextFrame,
)
from pipecat.pipeline.worker import PipelineParams

from talkpath.agent.audio import pcm16_to_float
from talkpath.agent.config import VoiceConfig
from talkpath.agent.errors import ConfigError
from talkpath.agent.voice import Voice
from talkpath.processors.openai_voice import OpenAIVoice
from talkpath.processors.piper_voice import PiperVoice
from talkpath.processors.voices import make_voice
from tests.local_models import voice_model
from tests.processors.sending import run_test

SENTENCE = "We are open from nine to five."


@pytest.fixture(scope="module")
def piper() -> Voice:
    return asyncio.run(Voice.load(voice_model()))


@contextlib.asynccontextmanager
async def speech_server(
    answer: bytes,
    *,
    status: int = 200,
    kind: str = "audio/pcm",
    cut: bool = False,
    refused: str | None = None,
) -> AsyncIterator[tuple[str, list[dict[str, Any]]]]:
    """Answer each request for speech with the same bytes; give the URL and the requests.

    One text may be refused.
    """
    requests: list[dict[str, Any]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        length = int(head.partition("content-length:")[2].split("\r\n")[0])
        requests.append(json.loads(await reader.readexactly(length)))
        code = 503 if requests[-1]["input"] == refused else status
        writer.write(
            f"HTTP/1.1 {code} Whatever\r\ncontent-type: {kind}\r\nconnection: close\r\n"
            f"content-length: {len(answer) * (1 + cut)}\r\n\r\n".encode()
        )
        writer.write(answer)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", requests


async def speak(
    voice: Any, rate_hz: int = 24_000, sentences: Sequence[str] = (SENTENCE,)
) -> tuple[Sequence[Frame], Sequence[Frame]]:
    reply = [
        LLMFullResponseStartFrame(),
        *(AggregatedTextFrame(sentence, "sentence") for sentence in sentences),
        LLMFullResponseEndFrame(),
    ]
    params = PipelineParams(audio_out_sample_rate=rate_hz)
    return await run_test(voice, frames_to_send=reply, pipeline_params=params)


def sound(frames: Sequence[Frame]) -> bytes:
    return b"".join(frame.audio for frame in frames if isinstance(frame, TTSAudioRawFrame))


def said(frames: Sequence[Frame]) -> str:
    return " ".join(frame.text for frame in frames if isinstance(frame, TTSTextFrame))


async def test_a_server_speaks_as_openai_does(piper: Voice) -> None:
    pcm = (await piper.say(SENTENCE)).pcm
    config = VoiceConfig(service="openai", model="m", voice="af_heart", options={"speed": 1.5})
    async with speech_server(pcm) as (url, requests):
        voices = [
            make_voice(VoiceConfig(**{**vars_of(config), "url": url, "api_key": "k"}))
            for _ in range(2)
        ]
        (down, up), (half, _) = await asyncio.gather(speak(voices[0]), speak(voices[1], 8_000))
    assert requests[0] == {
        "input": SENTENCE,
        "model": "m",
        "voice": "af_heart",
        "response_format": "pcm",
        "speed": 1.5,
    }
    assert sound(down) == pcm
    assert said(down) == SENTENCE
    assert not [frame for frame in up if isinstance(frame, ErrorFrame)]
    # Another rate: as long, as loud.
    assert len(sound(half)) == pytest.approx(len(pcm) / 3, abs=4)
    levels = [np.sqrt(np.mean(pcm16_to_float(heard) ** 2)) for heard in (sound(half), pcm)]
    assert levels[0] == pytest.approx(levels[1], rel=0.1)


def vars_of(config: VoiceConfig) -> dict[str, Any]:
    return {name: getattr(config, name) for name in ("service", "model", "voice", "options")}


async def test_a_voice_that_fails_is_reported_and_nothing_counts_as_said() -> None:
    error = b'{"error": {"message": "no"}}'

    async def check(answer: bytes, **how: Any) -> None:
        async with speech_server(answer, **how) as (url, _):
            voice = make_voice(VoiceConfig(service="openai", url=url))
            down, up = await speak(voice)
        assert [frame for frame in up if isinstance(frame, ErrorFrame)]
        assert said(down) == ""
        assert voice.is_usable, "the next sentence is tried"

    await asyncio.gather(
        check(error, status=401, kind="application/json"),
        check(error, status=500, kind="application/json"),
        check(b"<html>Log in</html>", kind="text/html"),
        check(bytes(9600), cut=True),
    )


async def test_of_a_reply_only_the_sentence_that_failed_counts_as_unsaid() -> None:
    sentences = ["One is one.", "Two is two.", "Three is three."]
    async with speech_server(bytes(9600), refused=sentences[1]) as (url, requests):
        voice = make_voice(VoiceConfig(service="openai", url=url))
        down, up = await speak(voice, sentences=sentences)
    assert [request["input"] for request in requests] == sentences
    assert said(down) == "One is one. Three is three."
    assert len(sound(down)) == 2 * 9600
    assert len([frame for frame in up if isinstance(frame, ErrorFrame)]) == 1


async def test_piper_stands_in_for_a_server_that_is_away(piper: Voice, free_port: int) -> None:
    url = f"http://127.0.0.1:{free_port}/v1"
    config = VoiceConfig(service="openai", url=url, fallback_model="piper-en-us-joe")
    down, up = await speak(make_voice(config, piper))
    assert len(sound(down)) == pytest.approx(len((await piper.say(SENTENCE)).pcm), rel=0.3)
    assert said(down) == SENTENCE
    assert not [frame for frame in up if isinstance(frame, ErrorFrame)]


def test_the_settings_say_who_speaks(piper: Voice) -> None:
    assert isinstance(make_voice(VoiceConfig(), piper), PiperVoice)
    assert isinstance(make_voice(VoiceConfig(service="openai")), OpenAIVoice)


def test_any_service_of_pipecats_gets_its_key_its_settings_and_its_options() -> None:
    config = VoiceConfig(
        service="pipecat.services.openai.tts:OpenAITTSService",
        api_key="k",
        url="http://127.0.0.1:9/v1",
        model="m",
        voice="nova",
        options={"speed": 1.5, "sample_rate": 24_000},
    )
    voice: Any = make_voice(config)
    settings = voice._settings
    assert (settings.model, settings.voice, settings.speed) == ("m", "nova", 1.5)
    assert str(voice._client.base_url) == "http://127.0.0.1:9/v1/"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"service": "no.such.module:Voice"}, "no.such.module cannot be imported"),
        ({"service": "talkpath.agent.audio:Voice"}, "talkpath.agent.audio has no Voice"),
        ({"service": "talkpath.agent.audio:Resampler"}, "is no TTS service"),
        ({"service": "pipecat.services.tts_service:TTSService"}, "is no TTS service"),
        (
            {
                "service": "pipecat.services.openai.tts:OpenAITTSService",
                "options": {"sped": 2},
            },
            "has no sped",
        ),
        ({"options": {"speed": 2}}, "other services than piper"),
    ],
    ids=str,
)
def test_a_voice_that_cannot_be_is_named_at_the_start(
    settings: dict[str, Any], message: str, piper: Voice
) -> None:
    with pytest.raises(ConfigError, match=message):
        make_voice(VoiceConfig(**settings), piper)


def test_a_service_that_refuses_tells_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    class Picky(PiperVoice):
        def __init__(self, api_key: str) -> None:
            raise ValueError(f"bad key {api_key}")

    module = types.ModuleType("picky")
    module.__dict__["Picky"] = Picky
    monkeypatch.setitem(sys.modules, "picky", module)
    with pytest.raises(ConfigError, match="does not take") as caught:
        make_voice(VoiceConfig(service="picky:Picky", api_key="geheim"))
    assert "geheim" not in str(caught.value)
