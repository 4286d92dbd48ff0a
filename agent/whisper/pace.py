"""Pace: what thins out under load, so that finals find a free worker.

Partials are the only answers that may thin out: a stream asks for one after every half second
of speech, and the same words come again in the next one. When there is more of it than the
workers can do, partials wait, and whoever comes then waits for the batch under way.

Speculations are the only work that may come to nothing: it was a breath, and speech goes on.
That costs nothing while workers are idle, and under load about a third of the time for finals.
"""

import math
from collections.abc import Iterable
from statistics import fmean
from typing import TYPE_CHECKING

from talkpath.agent.whisper.requests import Priority

if TYPE_CHECKING:
    from talkpath.agent.whisper.batcher import Job

__all__ = ["Pace"]

_MEMORY_S = 2.0
# No sign of overload: a worker that is busy half of the time with batches of 0.12 s is free for
# whoever comes at any moment after so long on average.
_FREE_S = 0.03


class _MeanWait:
    """Exponential average of waits over two seconds of the clock; without any it falls to 0."""

    def __init__(self) -> None:
        self._seconds = 0.0
        self._seen_s = -math.inf

    def at(self, now_s: float) -> float:
        return self._seconds * math.exp((self._seen_s - now_s) / _MEMORY_S)

    def observe(self, wait_s: float, now_s: float) -> None:
        weight = 1.0 - math.exp((self._seen_s - now_s) / _MEMORY_S)
        self._seconds += weight * (wait_s - self._seconds)
        self._seen_s = now_s


class Pace:
    """Stretches the interval between partials and holds speculations back, under load.

    With ``partials`` and ``finals`` the mean times that partials, and finals and speculations,
    waited of late for a worker once they were due (exponential averages over two seconds, each
    batch once), and ``late = max(finals - 0.03, 0)``::

        interval = min(max(4 * partials, 32 * late, interval without load), most * that)
        hold = min(4 * late, longest hold)

    Streams that ask half as often queue half as much, so the waiting falls as the interval
    grows and the two meet; nothing is switched on or off, and there is no memory beyond the
    averages. Partials wait for a quarter of the interval at most before they thin out, which
    keeps the workers short of saturation; finals, for somebody waits for them, for a 32nd
    and 0.03 s.
    A breath ends most early pauses within a few windows: the longer a speculation is held, the
    surer it is to be of use.

    Args:
        interval_s: seconds of speech between partials when there is no load.
        most: the greatest stretch of it.
        longest_hold_s: of a speculation: speech that has stopped is a final by then, with the
            usual 0.2 s of silence.
    """

    def __init__(
        self, interval_s: float, *, most: float = 8.0, longest_hold_s: float = 0.16
    ) -> None:
        self._interval_s = interval_s
        self._most = most
        self._longest_hold_s = longest_hold_s
        self._partials = _MeanWait()
        self._finals = _MeanWait()

    def interval_s(self, now_s: float, usual_s: float | None = None) -> float:
        """Seconds of speech between partials, as things are at this time on any clock.

        Args:
            now_s: the time.
            usual_s: a stream's own interval when there is no load; None for the usual one.
        """
        usual_s = self._interval_s if usual_s is None else usual_s
        wanted = max(4 * self._partials.at(now_s), 32 * self._late_s(now_s))
        return max(usual_s, min(wanted, self._most * self._interval_s))

    def hold_s(self, now_s: float) -> float:
        """Seconds that a speculation that comes now is not to be taken."""
        return min(4 * self._late_s(now_s), self._longest_hold_s)

    def observe(self, jobs: Iterable["Job"], now_s: float) -> None:
        """These left the queue together, at this time on the same clock."""
        partials, finals = [], []
        for job in jobs:
            if job.request.is_partial:
                partials.append(now_s - job.since_s)
            elif job.request.priority in (Priority.FINAL, Priority.SPECULATIVE):
                finals.append(now_s - job.due_s)
        if partials:
            self._partials.observe(fmean(partials), now_s)
        if finals:
            self._finals.observe(fmean(finals), now_s)

    def _late_s(self, now_s: float) -> float:
        return max(self._finals.at(now_s) - _FREE_S, 0.0)
