"""Intake: a client's bytes as samples, no sooner than they are due."""

import asyncio
import time
from collections.abc import Callable

from talkpath.agent.audio import (
    FloatArray,
    Resampler,
    alaw_to_float,
    mulaw_to_float,
    pcm16_to_float,
)
from talkpath.agent.server.protocols.codec import Encoding

__all__ = ["Ahead", "SampleReader"]

_TO_FLOAT: dict[Encoding, Callable[[bytes], FloatArray]] = {
    Encoding.PCM_S16LE: pcm16_to_float,
    Encoding.MULAW: mulaw_to_float,
    Encoding.ALAW: alaw_to_float,
}


class SampleReader:
    """Bytes of any number to samples at 16 kHz; half a sample waits for its other half.

    Args:
        encoding: of the bytes.
        sample_rate_hz: of the samples in them.

    Raises:
        AudioError: a sample rate that cannot be had.
    """

    def __init__(self, encoding: Encoding, sample_rate_hz: int) -> None:
        self._to_float = _TO_FLOAT[encoding]
        self._width = 2 if encoding is Encoding.PCM_S16LE else 1
        self._resampler = Resampler(sample_rate_hz)
        self._half = b""
        self.bytes_per_s = self._width * sample_rate_hz

    def read(self, data: bytes) -> FloatArray:
        """The samples that are complete now, float32 ``[n]``."""
        data = self._half + data
        end = len(data) - len(data) % self._width
        self._half = data[end:]
        return self._resampler.process(self._to_float(data[:end]))

    def forget(self) -> None:
        """What comes next does not go on what came: a half sample has no other half any more."""
        self._half = b""

    def finish(self) -> FloatArray:
        """The last samples: no more bytes come."""
        return self._resampler.flush()


class Ahead:
    """Holds back who is too far ahead of real time.

    Args:
        most_s: seconds of audio that may come at once.
    """

    def __init__(self, most_s: float) -> None:
        self._most_s = most_s
        self._ahead_s = 0.0
        self._at_s = time.monotonic()

    async def wait(self, seconds: float) -> bool:
        """Take so much audio once it is due; tell whether it had to wait."""
        now_s = time.monotonic()
        self._ahead_s = max(0.0, self._ahead_s - (now_s - self._at_s)) + seconds
        self._at_s = now_s
        if self._ahead_s <= self._most_s:
            return False
        await asyncio.sleep(self._ahead_s - self._most_s)
        return True
