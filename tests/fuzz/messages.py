"""Messages that the protocols know, for the fuzz tests to spoil."""

import base64
from typing import Any

from tests.baseten_peer import CONFIGURATIONS

__all__ = ["BASETEN", "OPENAI", "TOGETHER"]

APPEND = {
    "type": "input_audio_buffer.append",
    "audio": base64.b64encode(bytes(9_600)).decode(),
}
BUFFER: list[dict[str, Any]] = [
    APPEND,
    APPEND,
    {**APPEND, "event_id": "mine"},
    {"type": "input_audio_buffer.commit", "event_id": "c"},
    {"type": "input_audio_buffer.clear"},
]
BASETEN: list[dict[str, Any]] = [
    *CONFIGURATIONS,
    {"type": "end_audio", "trace_id": "t"},
    {"type": "health_check", "trace_id": "t", "timestamp": 1.5, "body": {}},
    {"terminate_session": True},
]
OPENAI: list[dict[str, Any]] = [
    *BUFFER,
    *BUFFER,
    {
        "type": "session.update",
        "session": {
            "type": "transcription",
            "audio": {
                "input": {
                    "format": {"type": "audio/pcm", "rate": 24_000},
                    "noise_reduction": {"type": "near_field", "strength": 0.5},
                    "transcription": {
                        "model": "whisper-1",
                        "language": "en",
                        "languages": ["en", "de"],
                        "prompt": "names",
                        "keywords": ["Ruth"],
                        "delay": "low",
                    },
                    "turn_detection": {"type": "server_vad", "threshold": 0.5},
                }
            },
            "include": ["item.input_audio_transcription.logprobs"],
        },
    },
    *(
        {
            "type": "session.update",
            "session": {"type": "transcription", "audio": {"input": {"turn_detection": turns}}},
        }
        for turns in (None, {"type": "semantic_vad", "eagerness": "high"}, {"type": "server_vad"})
    ),
    {
        "type": "transcription_session.update",
        "session": {
            "input_audio_format": "g711_ulaw",
            "input_audio_transcription": {"model": "whisper-1", "language": "", "prompt": ""},
            "turn_detection": {"type": "server_vad", "silence_duration_ms": 200},
            "input_audio_noise_reduction": {"type": "far_field"},
            "include": None,
            "modalities": ["text", "audio"],
        },
    },
]
TOGETHER: list[dict[str, Any]] = [
    *BUFFER,
    *(
        {"type": "transcription_session.updated", "session": {"turn_detection": turns}}
        for turns in (None, {"type": "server_vad", "max_speech_duration_s": 12})
    ),
]
