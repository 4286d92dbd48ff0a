"""Goes on with a sound that broke off, by its last pitch period.

The way of ITU-T G.711, Appendix I, without that one's delay: the first samples are led to the
repetition by an offset that fades, where the recommendation blends into sound that it kept back.
"""

from typing import Final

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

__all__ = ["HISTORY_S", "SILENT_S", "PitchRepeater"]

_SHORTEST_S: Final = 0.0025
_LONGEST_S: Final = 0.015
"""Pitch periods: 400 down to 66 Hz."""

_COMPARED_S: Final = 0.020
"""The last sound, which is compared with what was before it."""

HISTORY_S: Final = _LONGEST_S * 1.25 + _COMPARED_S
"""How much of the sound before the gap is wanted."""

_FULL_S: Final = 0.010
SILENT_S: Final = 0.060
"""From 10 ms on the sound fades; after 60 ms it is gone (both as in the recommendation)."""

_BLEND_S: Final = 0.004
_LEAD_S: Final = 0.002


class PitchRepeater:
    """Makes up sound.

    Args:
        rate_hz: of the samples.
    """

    def __init__(self, rate_hz: int) -> None:
        self._rate_hz = rate_hz
        self._period = np.zeros(1)
        self._offset = 0.0
        self._made = 0

    def begin(self, past: NDArray[np.int16]) -> None:
        """A gap begins.

        Args:
            past: the sound before it, ``HISTORY_S`` of it; with less, there will be silence.
        """
        self._made = 0
        self._period, self._offset = np.zeros(1), 0.0
        if len(past) < round(HISTORY_S * self._rate_hz):
            return
        sound = past.astype(np.float64)
        lag = self._lag(sound)
        period = sound[-lag:].copy()
        # Its end goes over into what was before its start, so that it can be repeated.
        quarter = lag // 4
        weight = np.arange(1, quarter + 1) / (quarter + 1)
        before = sound[-lag - quarter : -lag]
        period[-quarter:] = (1 - weight) * period[-quarter:] + weight * before
        self._period = period
        self._offset = sound[-1] - sound[-lag - 1]

    def more(self, samples: int) -> NDArray[np.float64]:
        """The next samples ``[samples]`` of the gap, in the range of 16 bits."""
        index = np.arange(self._made, self._made + samples)
        self._made += samples
        full, silent = _FULL_S * self._rate_hz, SILENT_S * self._rate_hz
        gain = np.clip((silent - index) / (silent - full), 0, 1)
        lead = np.clip(1 - (index + 1) / (_LEAD_S * self._rate_hz), 0, 1)
        made: NDArray[np.float64] = self._period[index % len(self._period)] + self._offset * lead
        made *= gain
        return made

    def blend(self, pcm: NDArray[np.int16]) -> NDArray[np.float64]:
        """The sound ``[n]`` after the gap, whose beginning is blended with what was made up."""
        sound = pcm.astype(np.float64)
        length = min(len(pcm), round(_BLEND_S * self._rate_hz))
        weight = np.arange(1, length + 1) / (length + 1)
        sound[:length] = weight * sound[:length] + (1 - weight) * self.more(length)
        return sound

    def _lag(self, sound: NDArray[np.float64]) -> int:
        """The period: the lag at which the sound resembles itself most."""
        shortest, longest, compared = (
            round(seconds * self._rate_hz) for seconds in (_SHORTEST_S, _LONGEST_S, _COMPARED_S)
        )
        last = sound[-compared:]
        windows = sliding_window_view(sound[-compared - longest : -shortest], compared)
        # Of those that go the other way none is taken, however much it resembles.
        product = np.maximum(windows @ last, 0.0)
        likeness = product / np.sqrt(np.einsum("ij,ij->i", windows, windows) + 1.0)
        return longest - int(np.argmax(likeness))
