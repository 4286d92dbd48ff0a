"""Pace: how often streams may ask for partials, so that finals find a free worker.

Partials are the only work that may thin out: a stream asks for one after every half second
of speech, and the same words come again in the next one. When there is more of it than the
workers can do, partials wait, and whoever comes then waits for the batch under way.
"""

import math

__all__ = ["PartialPace"]


class PartialPace:
    """Stretches the interval between partials while they wait, and lets it come back.

    The law, in one line: the interval is at least four times as long as partials wait. With
    ``wait`` the mean time that partials waited of late (an exponential average over two
    seconds of the clock)::

        stretch = min(max(4 * wait / interval, 1), 8)

    Streams that ask half as often queue half as much, so the waiting falls as the stretch
    rises and the two meet; nothing is switched on or off, and there is no memory beyond the
    average. A quarter of the interval keeps the workers short of saturation: at an interval of
    0.5 s partials wait for 125 ms at most before they begin to thin out.

    Args:
        interval_s: seconds of speech between partials when there is no load.
        most: the greatest stretch.
    """

    SHARE = 0.25
    MEMORY_S = 2.0

    def __init__(self, interval_s: float, most: float = 8.0) -> None:
        self._interval_s = interval_s
        self._most = most
        self._wait_s = 0.0
        self._seen_s: float | None = None
        self.stretch = 1.0

    @property
    def interval_s(self) -> float:
        """Seconds of speech between partials, as things are."""
        return self._interval_s * self.stretch

    def observe(self, wait_s: float, now_s: float) -> None:
        """A partial left the queue after so many seconds, at this time on any clock."""
        passed_s = self.MEMORY_S if self._seen_s is None else now_s - self._seen_s
        self._seen_s = now_s
        weight = 1.0 - math.exp(-passed_s / self.MEMORY_S)
        self._wait_s += weight * (wait_s - self._wait_s)
        stretch = self._wait_s / (self.SHARE * self._interval_s)
        self.stretch = min(max(stretch, 1.0), self._most)
