"""From the rate of a call's codec to that of the pipeline and back, block for block.

A resampler holds back what its filter still needs the future of, so the first block of 20 ms
comes out shorter. Whoever gathers blocks of 20 ms again then waits for the next one each time, and
the call is 20 ms slower for 2 ms of filter. Here the filter is filled with silence first: each
block comes out whole, later by the filter's delay alone.
"""

import numpy as np

from talkpath.agent.audio import FloatArray, Resampler
from talkpath.agent.errors import AudioError

__all__ = ["SteadyResampler"]


class SteadyResampler:
    """Resamples one stream of PCM (16-bit, mono) without making its blocks uneven.

    Args:
        from_hz: rate of what comes in.
        to_hz: rate of what goes out.

    Raises:
        AudioError: see ``talkpath.agent.audio.Resampler``.
    """

    def __init__(self, from_hz: int, to_hz: int) -> None:
        self.from_hz = from_hz
        self.to_hz = to_hz
        self._resampler = Resampler(from_hz, to_hz)
        self._resampler.process(np.zeros(self._resampler.delay, dtype=np.float32))

    def process(self, pcm: bytes) -> bytes:
        """Take the next samples and give as many, at the other rate."""
        if self.from_hz == self.to_hz:
            return pcm
        if len(pcm) % 2:
            raise AudioError(f"16-bit audio needs an even number of bytes; there are {len(pcm)}")
        # Between full steps: a filter does not mind the scale, and this runs for every packet.
        return _pcm16(self._resampler.process(np.frombuffer(pcm, "<i2").astype(np.float32)))

    def flush(self) -> bytes:
        """Give the last samples, those that the filter holds back; the stream is over."""
        return _pcm16(self._resampler.flush())


def _pcm16(steps: FloatArray) -> bytes:
    np.rint(steps, out=steps)
    np.maximum(steps, -32768, out=steps)
    np.minimum(steps, 32767, out=steps)
    return steps.astype("<i2").tobytes()
