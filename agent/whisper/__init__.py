"""Streaming Whisper: one engine for all streams of a process."""

from talkpath.agent.whisper.engine import WhisperEngine
from talkpath.agent.whisper.live import WhisperStream
from talkpath.agent.whisper.requests import DecodeOptions
from talkpath.agent.whisper.results import (
    Final,
    Likely,
    Partial,
    Segment,
    StreamFailure,
    StreamResult,
    Transcript,
)
from talkpath.agent.whisper.statistics import EngineStatistics

__all__ = [
    "DecodeOptions",
    "EngineStatistics",
    "Final",
    "Likely",
    "Partial",
    "Segment",
    "StreamFailure",
    "StreamResult",
    "Transcript",
    "WhisperEngine",
    "WhisperStream",
]
