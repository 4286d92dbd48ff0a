"""Chunks: a long recording cut into pieces that Whisper can take; sans-IO.

Pieces end in pauses. The longer a piece is already, the shorter a pause will do, because Whisper
is better on ten to twenty seconds than on one (it hears the sentence) and no worse for a short
pause inside; where nobody pauses, the cut falls on the least likely speech of the last seconds.
"""

from collections import deque
from dataclasses import dataclass

import numpy as np

from talkpath.agent.audio import SAMPLE_RATE_HZ, FloatArray
from talkpath.agent.speech import WINDOW_S

__all__ = ["Chunk", "Chunker"]

_LONGEST_S = 28.0  # fits Whisper's window with the silence that its end needs
_PAUSE_AT_START_S, _PAUSE_AT_TARGET_S, _TARGET_S = 2.0, 0.3, 18.0
_SEARCH_S = 10.0  # where no pause comes, the cut falls within so much of the end
# Kept around speech, whose soft beginnings and endings are below the threshold. Measured on the
# reference clips: 0.1 s 3.7 % word errors, 0.3 s 3.3, 0.6 s 3.2, the whole clip 3.2.
_PAD_S = 0.6
_ONSET_S = 0.1  # shorter sounds than this are clicks
_HYSTERESIS = 0.15  # as in the speech detector


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """A piece of speech.

    Attributes:
        start_s: where it begins in the file.
        audio: float32, ``[n]``, 16 kHz, at most 28 s.
        speech: where in the file somebody speaks in it, as pairs of seconds.
    """

    start_s: float
    audio: FloatArray
    speech: tuple[tuple[float, float], ...]

    @property
    def end_s(self) -> float:
        """Where it ends in the file."""
        return self.start_s + len(self.audio) / SAMPLE_RATE_HZ


class Chunker:
    """Cuts a stream of windows of 32 ms into pieces of speech; sans-IO.

    Args:
        threshold: Silero probability from which a window counts as speech.
    """

    def __init__(self, threshold: float = 0.5) -> None:
        self._threshold = threshold
        self._windows: deque[FloatArray] = deque()
        self._probabilities: deque[float] = deque()
        self._first = 0  # number of the first window that is held
        self._run = 0  # windows of speech one after the other
        self._speaking = False
        self._speech: list[list[int]] = []  # first window and the one after the last

    def push(self, windows: FloatArray, probabilities: FloatArray) -> list[Chunk]:
        """Take windows ``[n, 512]`` and their probabilities ``[n]``; give what is complete."""
        chunks = []
        for window, probability in zip(windows, probabilities.tolist(), strict=True):
            self._windows.append(window)
            self._probabilities.append(probability)
            self._follow(probability)
            if not self._speech:
                self._forget(_count(_PAD_S) + self._run)
            elif self._pause_is_long_enough():
                chunks.append(self._cut(min(self._speech[-1][1] + _count(_PAD_S), self._end)))
            elif self._end - self._first >= _count(_LONGEST_S):
                chunks.append(self._cut(self._quietest()))
        return chunks

    def finish(self) -> list[Chunk]:
        """Give the rest: no more audio comes."""
        if not self._speech:
            return []
        return [self._cut(min(self._speech[-1][1] + _count(_PAD_S), self._end))]

    @property
    def quiet(self) -> bool:
        """Whether no piece is under way."""
        return not self._speech and not self._run

    @property
    def _end(self) -> int:
        return self._first + len(self._windows)

    def _follow(self, probability: float) -> None:
        threshold = self._threshold - (_HYSTERESIS if self._speaking else 0)
        if probability < threshold:
            self._run = 0
            self._speaking = False
            return
        self._run += 1
        if self._speaking:
            self._speech[-1][1] = self._end
        elif self._run >= _count(_ONSET_S):
            self._speaking = True
            self._speech.append([self._end - self._run, self._end])

    def _pause_is_long_enough(self) -> bool:
        pause_s = (self._end - self._speech[-1][1]) * WINDOW_S
        length_s = (self._speech[-1][1] - self._first) * WINDOW_S
        share = min(length_s / _TARGET_S, 1.0)
        enough_s = _PAUSE_AT_START_S + share * (_PAUSE_AT_TARGET_S - _PAUSE_AT_START_S)
        return self._run == 0 and pause_s >= enough_s

    def _quietest(self) -> int:
        """Where in the last seconds speech is least likely, over 0.16 s."""
        smooth = np.convolve(np.array(self._probabilities), np.full(5, 0.2), mode="valid")
        start = len(smooth) - _count(_SEARCH_S)
        return self._first + start + int(smooth[start:].argmin()) + 2

    def _cut(self, end: int) -> Chunk:
        """Make a piece of all up to a window, and go on with what follows it."""
        count = end - self._first
        audio = np.concatenate([self._windows[index] for index in range(count)])
        before = [(start, min(stop, end)) for start, stop in self._speech if start < end]
        chunk = Chunk(
            self._first * WINDOW_S,
            audio,
            tuple((start * WINDOW_S, stop * WINDOW_S) for start, stop in before),
        )
        self._speech = [[max(start, end), stop] for start, stop in self._speech if stop > end]
        self._forget(len(self._windows) - count)
        if not self._speech:
            self._speaking = False
            self._forget(_count(_PAD_S) + self._run)
        return chunk

    def _forget(self, keep: int) -> None:
        while len(self._windows) > keep:
            self._windows.popleft()
            self._probabilities.popleft()
            self._first += 1


def _count(seconds: float) -> int:
    """Windows in so many seconds."""
    return max(1, round(seconds / WINDOW_S))
