"""PCM: samples as bytes and as floats, and resampling with little delay."""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from talkpath.agent.errors import AudioError

__all__ = [
    "SAMPLE_RATE_HZ",
    "FloatArray",
    "Resampler",
    "alaw_to_float",
    "float_to_pcm16",
    "mulaw_to_float",
    "pcm16_to_float",
]

FloatArray = npt.NDArray[np.float32]

SAMPLE_RATE_HZ = 16_000
"""The rate that Whisper and Silero were trained at."""

_ZERO_CROSSINGS = 24
_KAISER_BETA = 7.0
_CUTOFF = 0.93
_MAX_RATIO = 2_000
_ROW = 32
"""Outputs that are computed in one row: fewer waste time in calls, more in zeros. Where the filters
repeat only after more outputs than that, each is computed by itself."""


def pcm16_to_float(pcm: bytes) -> FloatArray:
    """Turn signed 16-bit little-endian PCM into floats from -1 to just under 1.

    Args:
        pcm: mono samples, two bytes each.

    Returns:
        float32, shape ``[len(pcm) / 2]``.

    Raises:
        AudioError: an odd number of bytes.
    """
    if len(pcm) % 2:
        raise AudioError(f"16-bit audio needs an even number of bytes; there are {len(pcm)}")
    return np.frombuffer(pcm, dtype="<i2").astype(np.float32) / np.float32(32768)


def float_to_pcm16(audio: FloatArray) -> bytes:
    """Turn floats, shape ``[n]``, into signed 16-bit PCM; what lies outside -1 to 1 is clipped."""
    return np.clip(np.rint(audio * 32768), -32768, 32767).astype("<i2").tobytes()


def mulaw_to_float(data: bytes) -> FloatArray:
    """Turn G.711 mu-law, one byte a sample, into floats within -1 to 1, shape ``[len(data)]``."""
    return _MULAW[np.frombuffer(data, dtype=np.uint8)]


def alaw_to_float(data: bytes) -> FloatArray:
    """Turn G.711 A-law, one byte a sample, into floats within -1 to 1, shape ``[len(data)]``."""
    return _ALAW[np.frombuffer(data, dtype=np.uint8)]


def _mulaw_table() -> FloatArray:
    """What each byte stands for: ITU-T G.711, table 2, in steps of 16-bit PCM."""
    code = ~np.arange(256, dtype=np.int32) & 0xFF
    size = ((((code & 0x0F) << 3) + 132) << ((code >> 4) & 7)) - 132
    return (np.where(code & 0x80, -size, size) / 32768).astype(np.float32)


def _alaw_table() -> FloatArray:
    """What each byte stands for: ITU-T G.711, table 1, in steps of 16-bit PCM."""
    code = np.arange(256, dtype=np.int32) ^ 0x55
    exponent = (code >> 4) & 7
    size = ((code & 0x0F) << 4) + 8 + np.where(exponent, 256, 0)
    size <<= np.maximum(exponent - 1, 0)
    return (np.where(code & 0x80, size, -size) / 32768).astype(np.float32)


_MULAW, _ALAW = _mulaw_table(), _alaw_table()


class Resampler:
    """Resamples one mono stream, in blocks of any size, by any rational ratio.

    A polyphase filter: a sinc with 24 zero crossings on each side at the lower of
    both rates, in a Kaiser window of beta 7 (about 70 dB of rejection; Kaiser's formula,
    Oppenheim and Schafer, Discrete-Time Signal Processing, 7.5). It is flat within 1 dB up to
    0.425 of the lower rate (3.4 kHz of 8) and lets nothing through above 0.52 of it. It delays
    the signal by ``24 / min(from_hz, to_hz)`` seconds: 3 ms for 8 kHz, 1.5 ms for 16 kHz.

    Args:
        from_hz: rate of what comes in.
        to_hz: rate of what goes out.

    Raises:
        AudioError: a rate outside 4 to 384 kHz, or two rates whose ratio is not one of small
            numbers (44,100 to 16,000 Hz is 160 to 441), for the filters would fill the memory.
    """

    def __init__(self, from_hz: int, to_hz: int = SAMPLE_RATE_HZ) -> None:
        for rate_hz in (from_hz, to_hz):
            if not 4_000 <= rate_hz <= 384_000:
                raise AudioError(f"a sample rate of {rate_hz} Hz is not between 4 and 384 kHz")
        self.from_hz = from_hz
        self.to_hz = to_hz
        divisor = math.gcd(from_hz, to_hz)
        self._up = to_hz // divisor
        self._down = from_hz // divisor
        if self._up > _MAX_RATIO:
            raise AudioError(f"cannot resample {from_hz} Hz to {to_hz} Hz: an unusual sample rate")
        self._bank = _filter_bank(self._up, self._down)
        self._taps = self._bank.shape[1]
        # History before the first sample is silence; the position counts in units of
        # 1 / up input samples from the start of the history.
        self._history: FloatArray = np.zeros(self._taps // 2 - 1, dtype=np.float32)
        self._position = 0
        self._plan: _Plan | None = None

    @property
    def delay(self) -> int:
        """Samples at ``from_hz`` that the filter must see beyond the one that it gives out."""
        return 0 if self._up == self._down else self._taps // 2

    def process(self, audio: FloatArray) -> FloatArray:
        """Take the next samples and give what can be computed from all so far.

        Args:
            audio: float32, shape ``[n]``, at ``from_hz``.

        Returns:
            float32, shape ``[m]``, at ``to_hz``; over a whole stream ``m`` is about
            ``n * to_hz / from_hz``.
        """
        if self._up == self._down:
            return audio
        samples = np.concatenate([self._history, audio])
        # As many as have their whole window: starts up to len(samples) - taps.
        ready = (len(samples) - self._taps + 1) * self._up - self._position
        count = max(0, -(-ready // self._down))
        output = self._filtered(samples, count) if count else np.zeros(0, dtype=np.float32)
        position = self._position + self._down * count
        consumed = min(position // self._up, len(samples))
        self._history = samples[consumed:]
        self._position = position - consumed * self._up
        return output

    def _filtered(self, samples: FloatArray, count: int) -> FloatArray:
        if self._up > _ROW:
            return self._one_by_one(samples, count)
        plan = self._plan
        # Blocks of one size come at the same few positions, most often at a single one.
        if plan is None or plan.position != self._position:
            self._plan = plan = _plan(self._up, self._down, self._position)
        inputs, outputs = plan.matrix.shape
        rows = -(-count // outputs)
        missing = (rows - 1) * plan.step + inputs - len(samples)
        if missing > 0:
            samples = np.concatenate([samples, np.zeros(missing, dtype=np.float32)])
        (stride,) = samples.strides
        # What as_strided does, which takes as long as the multiplication.
        windows: FloatArray = np.ndarray(
            (rows, inputs), samples.dtype, samples, strides=(plan.step * stride, stride)
        )
        output: FloatArray = (np.ascontiguousarray(windows) @ plan.matrix).ravel()[:count]
        return output

    def _one_by_one(self, samples: FloatArray, count: int) -> FloatArray:
        """The same for rates like 22,050 to 16,000 Hz, at which every output has its own filter.

        There, almost each block begins at another position, and a plan would serve but once.
        """
        starts, phases = np.divmod(
            self._position + self._down * np.arange(count, dtype=np.int64), self._up
        )
        windows = np.lib.stride_tricks.sliding_window_view(samples, self._taps)
        output: FloatArray = (windows[starts] * self._bank[phases]).sum(axis=1)
        return output

    def flush(self) -> FloatArray:
        """Give the last samples, those that the filter still holds back, shape ``[m]``.

        The whole stream is then ``ceil(n * to_hz / from_hz)`` samples long.
        """
        if self._up == self._down:
            return np.zeros(0, dtype=np.float32)
        return self.process(np.zeros(self.delay, dtype=np.float32))


@dataclass(frozen=True, slots=True)
class _Plan:
    """How outputs come from the inputs around them, a row of outputs in one multiplication.

    Attributes:
        position: where the first output lies, in units of 1 / up input samples.
        step: input samples from one row of outputs to the next.
        matrix: the filters of a row's outputs, each where its inputs are, ``[inputs, outputs]``.
    """

    position: int
    step: int
    matrix: FloatArray


@lru_cache(maxsize=256)
def _plan(up: int, down: int, position: int) -> _Plan:
    """The plan of a position; streams of the same rates share it."""
    bank = _filter_bank(up, down)
    periods = max(1, _ROW // up)  # after a period the same filters come again
    starts, phases = np.divmod(position + down * np.arange(periods * up), up)
    matrix = np.zeros((int(starts[-1]) + bank.shape[1], periods * up), dtype=np.float32)
    for output, (start, phase) in enumerate(zip(starts, phases, strict=True)):
        matrix[start : start + bank.shape[1], output] = bank[phase]
    return _Plan(position, periods * down, matrix)


@lru_cache(maxsize=32)
def _filter_bank(up: int, down: int) -> FloatArray:
    """One filter for each of the ``up`` positions between two input samples, ``[up, taps]``."""
    # Cut off a little below the lower Nyquist frequency, so that the transition band
    # (0.19 of that frequency wide with this window) ends close to it.
    cutoff = min(1.0, up / down) * _CUTOFF
    half = math.ceil(_ZERO_CROSSINGS * max(1.0, down / up))
    taps = np.arange(2 * half, dtype=np.float64)
    offsets = taps[None, :] - (half - 1) - np.arange(up, dtype=np.float64)[:, None] / up
    window = np.i0(_KAISER_BETA * np.sqrt(np.clip(1 - (offsets / half) ** 2, 0, None)))
    bank = cutoff * np.sinc(cutoff * offsets) * window / np.i0(_KAISER_BETA)
    bank /= bank.sum(axis=1, keepdims=True)
    return bank.astype(np.float32)
