"""How loud the caller is, and which speech is too quiet to be theirs: a television, a colleague.

Sans-IO: windows in, a verdict on each out. The level of speech swings by 30 dB from window to
window, so what is compared is its recent peak: the loudest of the last twelve windows (0.38 s) in
dBFS, the noise floor's power taken off. Over the reference clips 98 % of a speaker's windows lie
no more than 7 dB below their speaker's mean by that measure.

Measured on conversations of 2.5 s pauses in which somebody else speaks (13 pairs of speakers, 55
pauses): without it 53, 49, 48 and 43 pauses had a false start, at 10, 15, 20 and 25 dB below
the caller. At the default of 15 dB 36, 8 and 0 were left at 15, 20 and 25 dB, and 0.2 % of the
caller's own windows were missed; 10 dB left 36 even at 10 dB and 7 at 15, but takes a sentence said
more softly than others for somebody else's. With pink noise 15 dB below the caller 5 were left at
20 dB.

Nobody is locked out. A caller who has moved away, or whose level was learned from somebody
else, is background at first; after two seconds of such speech with none louder between, and the
bot silent, the level that counts as theirs sinks by 3 dB a second until they are heard, and is
learned anew. While the bot speaks it stays: then the caller listens, and what is heard is the
television.
"""

import math
from collections import deque

import numpy as np

from talkpath.agent.audio import FloatArray
from talkpath.agent.speech.silero import WINDOW_S, windows_of

__all__ = ["SpeechLevel"]

_PEAK_WINDOWS = 12
_KNOWN_WINDOWS = windows_of(2.0)
# Upwards quickly: whoever is louder is nearer.
_RISE_S, _FALL_S = 0.5, 5.0
_FLOOR_RISE_S, _FLOOR_FALL_S = 1.0, 0.1
# While the caller speaks: sentences end softly, and must not end before that.
_GOING_ON_DB = 3.0
_PATIENCE_WINDOWS = windows_of(2.0)
_SINKS_DB_PER_S = 3.0
_LEAST_DBFS = -100.0
# A sound that may be the beginning of speech stands out so far from what was there before. A
# caller who is quieter than this in a quiet room is told by the probability alone.
_STANDS_OUT_DB = 20.0
_LOUD_DBFS = -45.0


class SpeechLevel:
    """Follows one stream.

    Args:
        background_db: speech is background from so far below the caller's level on; 0 takes
            all speech for the caller's.

    Attributes:
        caller_dbfs: the level of the speech that counted; None until there were two seconds.
    """

    def __init__(self, background_db: float) -> None:
        self.caller_dbfs: float | None = None
        self._background_db = background_db
        self._floor_dbfs = _LEAST_DBFS
        self._recent: deque[float] = deque(maxlen=_PEAK_WINDOWS)
        self._learned: list[float] = []
        self._quieter = 0

    def is_near(self, window: FloatArray) -> bool:
        """Whether a window, float32 ``[n]``, is as loud as the caller, as far as that is known."""
        if not self._background_db or self.caller_dbfs is None:
            return True
        return _level_dbfs(window) >= self.caller_dbfs - self._background_db

    def is_loud(self, window: FloatArray) -> bool:
        """Whether it stands out from the noise, too."""
        least_dbfs = max(self._floor_dbfs + _STANDS_OUT_DB, _LOUD_DBFS)
        return _level_dbfs(window) >= least_dbfs and self.is_near(window)

    def is_background(
        self, window: FloatArray, speech: bool, *, going_on: bool, bot_speaks: bool
    ) -> bool:
        """Take the next window.

        Args:
            window: float32, ``[n]``.
            speech: whether it may be speech, whoever speaks.
            going_on: whether there was speech that counted just before it.
            bot_speaks: whether the caller listens to the bot.
        """
        power = _power(window)
        self._hear_floor(_dbfs(power), speech)
        self._recent.append(power - 10 ** (self._floor_dbfs / 10))
        if not speech or not self._background_db or self.caller_dbfs is None:
            return False
        least_dbfs = self.caller_dbfs - self._background_db - (_GOING_ON_DB if going_on else 0)
        if self._peak_dbfs() >= least_dbfs:
            return False
        if not bot_speaks:
            self._quieter += 1
            if self._quieter > _PATIENCE_WINDOWS:
                self.caller_dbfs -= _SINKS_DB_PER_S * WINDOW_S
        return True

    def _hear_floor(self, level_dbfs: float, speech: bool) -> None:
        higher = level_dbfs > self._floor_dbfs
        if higher and speech:
            return
        change_s = _FLOOR_RISE_S if higher else _FLOOR_FALL_S
        self._floor_dbfs += (level_dbfs - self._floor_dbfs) * WINDOW_S / change_s

    def learn(self) -> None:
        """Learn from the last window: it counted as speech."""
        level = self._peak_dbfs()
        lost, self._quieter = self._quieter > _PATIENCE_WINDOWS, 0
        if self.caller_dbfs is None:
            self._learned.append(level)
            if len(self._learned) == _KNOWN_WINDOWS:
                self.caller_dbfs = sum(self._learned) / _KNOWN_WINDOWS
        elif lost:
            self.caller_dbfs = level
        else:
            change_s = _RISE_S if level > self.caller_dbfs else _FALL_S
            self.caller_dbfs += (level - self.caller_dbfs) * WINDOW_S / change_s

    def _peak_dbfs(self) -> float:
        return _dbfs(max(self._recent))


def _power(window: FloatArray) -> float:
    return float(np.mean(np.square(window)))


def _level_dbfs(window: FloatArray) -> float:
    return _dbfs(_power(window))


def _dbfs(power: float) -> float:
    return max(_LEAST_DBFS, 10 * math.log10(power)) if power > 0 else _LEAST_DBFS
