"""Clients of the hosted services, unmodified but for URL and key, against the real server."""

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from openai import AsyncOpenAI
from openai.types.realtime.realtime_transcription_session_audio_input_turn_detection_param import (
    RealtimeTranscriptionSessionAudioInputTurnDetectionParam,
)
from pipecat.frames.frames import ErrorFrame, InterimTranscriptionFrame, TranscriptionFrame
from pipecat.processors.frame_processor import FrameProcessor
from pipecat.services.openai.stt import OpenAIRealtimeSTTService
from pipecat.services.stt_service import STTService
from pipecat.services.together.stt import TogetherSTTService
from websockets.asyncio.client import connect

from talkpath.agent.audio import FloatArray, Resampler, float_to_pcm16
from talkpath.processors.speech_detector import SpeechDetector
from tests.agent.server.serving import serving
from tests.agent.whisper.helpers import WAIT_S, vad
from tests.processors.caller import Call, call
from tests.speech import clip, silence, word_error_rate

KEY = "a-key-for-tests"
NAMES = ("librivox-0930", "librivox-0870")


@contextlib.asynccontextmanager
async def with_a_key() -> AsyncIterator[str]:
    async with serving({"serve.api_keys": (KEY,)}) as url:
        yield url


def socket_url(url: str, path: str) -> str:
    return url.replace("http", "ws", 1) + path


def right(texts: list[str]) -> bool:
    words = " ".join(clip(name).text for name in NAMES)
    return word_error_rate([words], [" ".join(texts)]) <= 0.25


# -- the openai package ----------------------------------------------------------------------


@pytest.mark.parametrize("turns", [{"type": "server_vad"}, {"type": "semantic_vad"}, None])
async def test_the_openai_package_holds_a_transcription_session(
    turns: RealtimeTranscriptionSessionAudioInputTurnDetectionParam | None,
) -> None:
    async with with_a_key() as url, AsyncOpenAI(api_key=KEY, base_url=f"{url}/v1") as client:
        async with (
            asyncio.timeout(WAIT_S),
            client.realtime.connect(extra_query={"intent": "transcription"}) as connection,
        ):
            await connection.session.update(
                session={
                    "type": "transcription",
                    "audio": {
                        "input": {
                            "format": {"type": "audio/pcm", "rate": 24_000},
                            "transcription": {"model": "gpt-4o-transcribe", "language": "en"},
                            "turn_detection": turns,
                        }
                    },
                }
            )
            resampler = Resampler(16_000, 24_000)
            for name in NAMES:
                # Smart Turn may wait for up to 4 s.
                for audio in (clip(name).samples(), silence(4.5)):
                    pcm = float_to_pcm16(resampler.process(audio))
                    for start in range(0, len(pcm), 4800):
                        part = base64.b64encode(pcm[start : start + 4800]).decode()
                        await connection.input_audio_buffer.append(audio=part)
                if turns is None:
                    await connection.input_audio_buffer.commit()
            said: dict[str, str] = {}
            deltas: dict[str, str] = {}
            kinds: list[str] = []
            async for event in connection:
                kinds.append(event.type)
                assert event.type != "error", event
                if event.type == "conversation.item.input_audio_transcription.delta":
                    deltas[event.item_id] = deltas.get(event.item_id, "") + (event.delta or "")
                elif event.type == "conversation.item.input_audio_transcription.completed":
                    said[event.item_id] = event.transcript
                    if right(list(said.values())):
                        break
    assert kinds[:2] == ["session.created", "session.updated"]
    assert ("input_audio_buffer.speech_started" in kinds) == (turns is not None)
    assert kinds.count("input_audio_buffer.committed") >= len(NAMES)
    assert deltas.keys() == said.keys()


# -- Pipecat's services ----------------------------------------------------------------------


async def spoken(processors: list[FrameProcessor], service: STTService) -> Call:
    """A call in which everything is said with a caller's pace, until it is transcribed."""
    async with call([*processors, service]) as line:
        for name in NAMES:
            await line.say(clip(name).samples(), pace_s=0.01)
            await line.say(silence(1.0), pace_s=0.01)
        await line.until(lambda: right(texts(line)) or line.frames(ErrorFrame))
    return line


def texts(line: Call) -> list[str]:
    return [frame.text for frame in line.frames(TranscriptionFrame)]


def check(line: Call) -> None:
    assert not [frame.error for frame in line.frames(ErrorFrame)]
    assert right(texts(line))
    assert line.frames(InterimTranscriptionFrame)


async def test_pipecats_openai_service_with_its_own_voice_activity() -> None:
    async with with_a_key() as url:
        service = OpenAIRealtimeSTTService(api_key=KEY, base_url=socket_url(url, "/v1/realtime"))
        check(await spoken([SpeechDetector(vad())], service))


async def test_pipecats_openai_service_with_the_servers_voice_activity() -> None:
    async with with_a_key() as url:
        service = OpenAIRealtimeSTTService(
            api_key=KEY,
            base_url=socket_url(url, "/v1/realtime"),
            turn_detection={"type": "server_vad", "silence_duration_ms": 300},
            settings=OpenAIRealtimeSTTService.Settings(model="gpt-transcribe"),
        )
        check(await spoken([], service))


async def test_pipecats_together_service() -> None:
    async with with_a_key() as url:
        service = TogetherSTTService(api_key=KEY, base_url=socket_url(url, "/v1"))
        check(await spoken([SpeechDetector(vad())], service))


# -- the reference client of Baseten's -------------------------------------------------------

# What the reference messages have, and of which type.
MESSAGE: dict[str, type | tuple[type, ...]] = {
    "type": str,
    "is_final": bool,
    "transcription_num": int,
    "segments": list,
    "language_code": str,
    "language_prob": (float, type(None)),
    "diarization": list,
    "timing_info": type(None),
    "enable_chunk_level_language_detection": bool,
    "audio_length_sec": float,
    "next_partial": type(None),
    "pipeline_latency": type(None),
}
SEGMENT: dict[str, type | tuple[type, ...]] = {
    "start_time": float,
    "end_time": float,
    "text": str,
    "log_prob": (float, type(None)),
    "word_timestamps": list,
    "speaker": type(None),
    "speaker_confidence": type(None),
    "possible_hallucination": bool,
    "beam_results": (list, type(None)),
    "language_code": str,
    "language_prob": (float, type(None)),
}
REFERENCE = {
    "whisper_params": {"prompt": "", "audio_language": "en"},
    "streaming_params": {
        "encoding": "pcm_s16le",
        "sample_rate": 16_000,
        "enable_partial_transcripts": True,
    },
    "streaming_vad_config": {
        "threshold": 0.5,
        "min_silence_duration_ms": 300,
        "speech_pad_ms": 30,
    },
}


def has(message: dict[str, Any], shape: dict[str, type | tuple[type, ...]]) -> bool:
    return message.keys() == shape.keys() and all(
        isinstance(message[key], kind) for key, kind in shape.items()
    )


async def test_the_reference_client_gets_the_reference_messages() -> None:
    async with (
        with_a_key() as url,
        asyncio.timeout(WAIT_S),
        connect(
            socket_url(url, "/environments/production/websocket"),
            additional_headers={"Authorization": f"Api-Key {KEY}"},
        ) as client,
    ):
        await client.send(json.dumps(REFERENCE))
        await client.send(json.dumps({"type": "health_check"}))
        healthy = json.loads(await client.recv())
        assert (healthy["type"], healthy["body"]) == ("health_check", {"healthy": True})

        async def speak(audio: FloatArray) -> None:
            pcm = float_to_pcm16(audio)
            for start in range(0, len(pcm), 1024):
                await client.send(pcm[start : start + 1024])
                await asyncio.sleep(0.008)

        for name in NAMES:
            await speak(clip(name).samples())
            await speak(silence(0.8))
        await client.send(json.dumps({"type": "end_audio", "body": {}}))
        heard: list[dict[str, Any]] = []
        while not heard or heard[-1].get("body") != {"status": "finished"}:
            heard.append(json.loads(await client.recv()))
    *transcriptions, acknowledged, finished = [
        *(message for message in heard if message["type"] == "transcription"),
        *(message for message in heard if message["type"] == "end_audio"),
    ]
    assert [acknowledged["body"], finished["body"]] == [
        {"status": "acknowledged"},
        {"status": "finished"},
    ]
    assert all(has(message, MESSAGE) for message in transcriptions)
    assert all(has(segment, SEGMENT) for item in transcriptions for segment in item["segments"])
    finals = [message for message in transcriptions if message["is_final"]]
    partials = [message for message in transcriptions if not message["is_final"]]
    assert {partial["transcription_num"] for partial in partials} <= {
        final["transcription_num"] for final in finals
    }
    numbers = [final["transcription_num"] for final in finals]
    assert numbers == list(range(1, len(numbers) + 1))
    assert right([segment["text"] for final in finals for segment in final["segments"]])
    assert all(not segment["word_timestamps"] for item in finals for segment in item["segments"])
