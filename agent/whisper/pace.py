"""Pace: what thins out under load, so that finals find a free worker.

Partials are the only answers that may thin out: a stream asks for one after every half second
of speech, and the same words come again in the next one. When there is more of it than the
workers can do, partials wait, and whoever comes then waits for the batch under way.

Speculations are the only work that may come to nothing: it was a breath, and speech goes on.
That costs nothing while workers are idle, and under load about a third of the time for finals.
"""

import math

__all__ = ["Pace"]

_MEMORY_S = 2.0
_FREE_S = 0.03


class _MeanWait:
    """Exponential average of waits over two seconds of the clock."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._seen_s: float | None = None

    def observe(self, wait_s: float, now_s: float) -> None:
        passed_s = _MEMORY_S if self._seen_s is None else now_s - self._seen_s
        self._seen_s = now_s
        self.seconds += (1.0 - math.exp(-passed_s / _MEMORY_S)) * (wait_s - self.seconds)


class Pace:
    """Stretches the interval between partials and holds speculations back, under load.

    With ``partials`` and ``finals`` the mean times that partials, and finals and speculations,
    waited of late for a worker once they were due (exponential averages over two seconds), and
    ``late = max(finals - 0.03, 0)``::

        interval = min(max(4 * partials, 16 * late, interval without load), most * that)
        hold = min(4 * late, longest hold)

    Streams that ask half as often queue half as much, so the waiting falls as the interval
    grows and the two meet; nothing is switched on or off, and there is no memory beyond the
    averages. Partials wait for a quarter of the interval at most before they thin out, which
    keeps the workers short of saturation; finals for a sixteenth, for somebody waits for them.
    A breath ends most early pauses within a few windows: the longer a speculation is held, the
    surer it is to be of use.

    Args:
        interval_s: seconds of speech between partials when there is no load.
        most: the greatest stretch of it.
        longest_hold_s: of a speculation; speech that stops is a final by then.
    """

    def __init__(
        self, interval_s: float, *, most: float = 8.0, longest_hold_s: float = 0.16
    ) -> None:
        self._interval_s = interval_s
        self._most = most
        self._longest_hold_s = longest_hold_s
        self._partials = _MeanWait()
        self._finals = _MeanWait()

    @property
    def interval_s(self) -> float:
        """Seconds of speech between partials, as things are."""
        wanted = max(4 * self._partials.seconds, 16 * self._late_s, self._interval_s)
        return min(wanted, self._most * self._interval_s)

    @property
    def hold_s(self) -> float:
        """Seconds that a new speculation is not to be taken."""
        return min(4 * self._late_s, self._longest_hold_s)

    def partial_waited(self, wait_s: float, now_s: float) -> None:
        """A partial left the queue after so many seconds, at this time on any clock."""
        self._partials.observe(wait_s, now_s)

    def final_waited(self, wait_s: float, now_s: float) -> None:
        """A final, or a speculation, found a worker so long after it was due."""
        self._finals.observe(wait_s, now_s)

    @property
    def _late_s(self) -> float:
        return max(self._finals.seconds - _FREE_S, 0.0)
