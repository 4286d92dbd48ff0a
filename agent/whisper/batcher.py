"""Batcher: which of the waiting requests the next free worker takes. Pure functions.

No fixed waiting window: a batch is what queued up while the workers were busy. The most
urgent request decides, and others of the same bucket ride along, the most urgent first.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from talkpath.agent.audio import FloatArray
from talkpath.agent.whisper.windows import bucket_for

__all__ = ["Priority", "Request", "choose"]


class Priority(IntEnum):
    """How urgent a request is; lower goes first."""

    FINAL = 0
    SPECULATIVE = 1
    FIRST_PARTIAL = 2
    PARTIAL = 3
    OFFLINE = 4


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """One piece of audio to decode.

    Attributes:
        audio: float32, ``[n]``, 16 kHz, at most 30 s.
        priority: how urgent.
        language: Whisper's code, or None to detect it.
        order: rises with every request; the tie-breaker.
    """

    audio: FloatArray
    priority: Priority
    language: str | None
    order: int

    @property
    def bucket(self) -> int:
        """Window in mel frames that the audio needs."""
        return bucket_for(len(self.audio) / 16_000)


def choose(waiting: Sequence[Request], max_batch: int) -> list[Request]:
    """Choose the next batch.

    Args:
        waiting: requests in any order.
        max_batch: most requests in a batch.

    Returns:
        Requests of one bucket, the most urgent and then the oldest first; none if none waits.
    """
    if not waiting:
        return []
    ranked = sorted(waiting, key=lambda request: (request.priority, request.order))
    bucket = ranked[0].bucket
    return [request for request in ranked if request.bucket == bucket][:max_batch]
