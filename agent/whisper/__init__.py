"""Streaming Whisper: one engine for all streams of a process."""

from talkpath.agent.whisper.engine import EngineStatistics, WhisperEngine, WhisperStream
from talkpath.agent.whisper.results import (
    Final,
    Partial,
    Segment,
    StreamFailure,
    StreamResult,
    Transcript,
)

__all__ = [
    "EngineStatistics",
    "Final",
    "Partial",
    "Segment",
    "StreamFailure",
    "StreamResult",
    "Transcript",
    "WhisperEngine",
    "WhisperStream",
]
