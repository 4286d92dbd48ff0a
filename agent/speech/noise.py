"""A noise filter for the ear of the speech detector: RNNoise, a small recurrent network.

Only for that ear. Whisper has learned to listen through noise and knows nothing of what the filter
leaves of a voice: with it the word error rate of ``base`` over 18 clips rose from 3.7 to 4.9 % in
clean sound, from 4.9 to 11.1 % with pink noise at 10 dB and from 37 to 49 % at 0 dB.
"""

import weakref

import numpy as np

from talkpath.agent.audio import SAMPLE_RATE_HZ, FloatArray, Resampler
from talkpath.agent.errors import MissingDependency

__all__ = ["NoiseFilter"]

_RATE_HZ = 48_000
_FRAME_SAMPLES = 480


class NoiseFilter:
    """Filters one stream. It delays it by 20 ms, and by what is no whole frame of 10 ms.

    Raises:
        MissingDependency: the ``noise`` extra is not installed.
    """

    def __init__(self) -> None:
        try:
            from pyrnnoise import rnnoise
        except ImportError as error:
            raise MissingDependency(
                "the noise filter is not installed: pip install 'talkpath[noise]'"
            ) from error
        self._rnnoise = rnnoise
        self._state = rnnoise.create()
        weakref.finalize(self, rnnoise.destroy, self._state)
        self._up = Resampler(SAMPLE_RATE_HZ, _RATE_HZ)
        self._down = Resampler(_RATE_HZ, SAMPLE_RATE_HZ)
        self._rest: FloatArray = np.zeros(0, dtype=np.float32)

    def process(self, audio: FloatArray) -> FloatArray:
        """Take the next samples, float32 ``[n]`` at 16 kHz, and give those that are ready."""
        samples = np.concatenate([self._rest, self._up.process(audio)])
        end = len(samples) - len(samples) % _FRAME_SAMPLES
        self._rest = samples[end:]
        pcm = np.clip(np.rint(samples[:end] * 32768), -32768, 32767).astype(np.int16)
        for start in range(0, end, _FRAME_SAMPLES):
            frame = slice(start, start + _FRAME_SAMPLES)
            pcm[frame], _ = self._rnnoise.process_mono_frame(self._state, pcm[frame])
        return self._down.process(pcm.astype(np.float32) / np.float32(32768))
