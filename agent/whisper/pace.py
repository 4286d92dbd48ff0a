"""Pace: what thins out under load, so that finals find a free worker.

Partials are the only answers that may thin out: a stream asks for one after every half second
of speech, and the same words come again in the next one. When there is more of it than the
workers can do, partials wait, and whoever comes then waits for the batch under way.

Speculations are the only work that may come to nothing: it was a breath, and speech goes on.
That costs nothing while workers are idle, and under load about a third of the time for finals.
"""

import math

__all__ = ["PartialPace", "SpeculationPace"]


class _MeanWait:
    """Exponential average of waits over ``MEMORY_S`` of the clock."""

    MEMORY_S = 2.0

    def __init__(self) -> None:
        self.seconds = 0.0
        self._seen_s: float | None = None

    def observe(self, wait_s: float, now_s: float) -> None:
        passed_s = self.MEMORY_S if self._seen_s is None else now_s - self._seen_s
        self._seen_s = now_s
        self.seconds += (1.0 - math.exp(-passed_s / self.MEMORY_S)) * (wait_s - self.seconds)


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

    def __init__(self, interval_s: float, most: float = 8.0) -> None:
        self._interval_s = interval_s
        self._most = most
        self._wait = _MeanWait()
        self.stretch = 1.0

    @property
    def interval_s(self) -> float:
        """Seconds of speech between partials, as things are."""
        return self._interval_s * self.stretch

    def observe(self, wait_s: float, now_s: float) -> None:
        """A partial left the queue after so many seconds, at this time on any clock."""
        self._wait.observe(wait_s, now_s)
        stretch = self._wait.seconds / (self.SHARE * self._interval_s)
        self.stretch = min(max(stretch, 1.0), self._most)


class SpeculationPace:
    """Holds speculations back while finals wait, and lets them go at once when they do not.

    A breath ends most early pauses within a few windows; the longer a speculation is held, the
    surer it is to be of use. With ``wait`` the mean time that finals and speculations waited of
    late for a worker once they were due (an exponential average over two seconds)::

        hold = min(max(4 * (wait - 0.03), 0), most)

    Args:
        most: longest hold in seconds; speech that stops is a final by then.
    """

    FREE_S = 0.03
    FACTOR = 4.0

    def __init__(self, most: float = 0.16) -> None:
        self._most = most
        self._wait = _MeanWait()
        self.hold_s = 0.0

    def observe(self, wait_s: float, now_s: float) -> None:
        """A final or a speculation found a worker so long after it was due."""
        self._wait.observe(wait_s, now_s)
        self.hold_s = min(max(self.FACTOR * (self._wait.seconds - self.FREE_S), 0.0), self._most)
