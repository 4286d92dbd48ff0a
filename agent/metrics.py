"""Metrics: counters, gauges and histograms, and their text form for Prometheus.

Written for a few dozen figures that several threads count and somebody reads now and then:
one lock a metric, fixed buckets, no dependency. A metric may have one label, as in
``talkpath_whisper_requests_total{priority="final"}``; the values of a label come from the
code, never from a caller, so their number is bounded.
"""

import bisect
import itertools
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

__all__ = [
    "PROMETHEUS",
    "SECONDS",
    "Counter",
    "Distribution",
    "Gauge",
    "Histogram",
    "Registry",
    "render_prometheus",
]

PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
"""Media type of ``render_prometheus``'s text."""

SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0)
"""Upper bounds of a histogram's buckets for what should take well under a second."""


@dataclass(frozen=True, slots=True)
class Distribution:
    """What a histogram held at one moment.

    Attributes:
        bounds: upper bounds of the buckets, each included, in the metric's unit.
        counts: values in each bucket, ``len(bounds) + 1``: the last one is above all bounds.
        total: sum of the values.
    """

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    total: float

    @property
    def count(self) -> int:
        """How many values."""
        return sum(self.counts)

    @property
    def mean(self) -> float:
        """Mean of the values; 0.0 for none."""
        return self.total / self.count if self.count else 0.0

    def quantile(self, share: float) -> float:
        """The value that a share of all, 0 to 1, does not exceed; 0.0 where there is none.

        Interpolated within its bucket, as Prometheus' ``histogram_quantile`` does it; from
        the bucket above all bounds it is the highest bound.
        """
        wanted = share * self.count
        below = 0
        low = 0.0
        for bound, count in zip(self.bounds, self.counts, strict=False):
            if count and below + count >= wanted:
                return low + (bound - low) * (wanted - below) / count
            below += count
            low = bound
        return low if self.count else 0.0


class Counter:
    """Counts up from 0.

    Args:
        name: Prometheus' name, ending in ``_total``.
        help: one sentence, with the unit.
        label: name of the label that tells its series apart; empty for a single series.
    """

    kind = "counter"

    def __init__(self, name: str, help: str, label: str = "") -> None:
        self.name = name
        self.help = help
        self.label = label
        self._values: dict[str, int] = {} if label else {"": 0}
        self._lock = threading.Lock()

    def add(self, count: int = 1, of: str = "") -> None:
        """Count up, in the series of a label's value."""
        with self._lock:
            self._values[of] = self._values.get(of, 0) + count

    @property
    def value(self) -> int:
        """The count of all series together."""
        with self._lock:
            return sum(self._values.values())

    @property
    def values(self) -> Mapping[str, int]:
        """The count of each series, by the label's value."""
        with self._lock:
            return dict(self._values)

    def samples(self) -> Iterator[tuple[str, float]]:
        """Name with labels, and value, of each series."""
        for of, value in sorted(self.values.items()):
            yield self.name + _labels((self.label, of)), value


class Gauge:
    """A figure that goes up and down, read when somebody asks.

    Args:
        name: Prometheus' name, with its unit.
        help: one sentence.
        read: gives the figure; called from any thread.
    """

    kind = "gauge"

    def __init__(self, name: str, help: str, read: Callable[[], float]) -> None:
        self.name = name
        self.help = help
        self._read = read

    @property
    def value(self) -> float:
        """The figure now."""
        return self._read()

    def samples(self) -> Iterator[tuple[str, float]]:
        """Name and value."""
        yield self.name, self.value


class Histogram:
    """Sorts values into buckets.

    Args:
        name: Prometheus' name, with its unit.
        help: one sentence, with the unit.
        bounds: upper bounds of the buckets, rising; one more bucket is above them.
        label: name of the label that tells its series apart; empty for a single series.
    """

    kind = "histogram"

    def __init__(
        self, name: str, help: str, bounds: Sequence[float] = SECONDS, label: str = ""
    ) -> None:
        self.name = name
        self.help = help
        self.label = label
        self._bounds = tuple(bounds)
        self._series: dict[str, _Series] = {}
        self._lock = threading.Lock()
        if not label:
            self._series[""] = _Series(len(self._bounds))

    def observe(self, value: float, of: str = "") -> None:
        """Take a value, in the series of a label's value."""
        bucket = bisect.bisect_left(self._bounds, value)
        with self._lock:
            series = self._series.get(of)
            if series is None:
                series = self._series[of] = _Series(len(self._bounds))
            series.counts[bucket] += 1
            series.total += value

    def distribution(self, of: str = "") -> Distribution:
        """What a series holds now; an empty distribution for one that nothing came to."""
        with self._lock:
            series = self._series.get(of) or _Series(len(self._bounds))
            return Distribution(self._bounds, tuple(series.counts), series.total)

    @property
    def distributions(self) -> Mapping[str, Distribution]:
        """What each series holds now, by the label's value."""
        with self._lock:
            names = list(self._series)
        return {of: self.distribution(of) for of in names}

    def samples(self) -> Iterator[tuple[str, float]]:
        """Name with labels, and value, of each bucket, sum and count, as Prometheus has them."""
        for of, held in sorted(self.distributions.items()):
            mine = (self.label, of)
            ends = (*(f"{bound:g}" for bound in held.bounds), "+Inf")
            for end, upto in zip(ends, itertools.accumulate(held.counts), strict=True):
                yield f"{self.name}_bucket" + _labels(mine, ("le", end)), upto
            yield f"{self.name}_sum" + _labels(mine), held.total
            yield f"{self.name}_count" + _labels(mine), held.count


class _Series:
    __slots__ = ("counts", "total")

    def __init__(self, bounds: int) -> None:
        self.counts = [0] * (bounds + 1)
        self.total = 0.0


_Metric = TypeVar("_Metric", Counter, Gauge, Histogram)


class Registry:
    """The metrics of one part of the process, in the order in which they were made."""

    def __init__(self) -> None:
        self._metrics: dict[str, Counter | Gauge | Histogram] = {}

    def __iter__(self) -> Iterator[Counter | Gauge | Histogram]:
        return iter(tuple(self._metrics.values()))

    def counter(self, name: str, help: str, label: str = "") -> Counter:
        """Make a counter; see ``Counter``."""
        return self._add(Counter(name, help, label))

    def gauge(self, name: str, help: str, read: Callable[[], float]) -> Gauge:
        """Make a gauge; see ``Gauge``."""
        return self._add(Gauge(name, help, read))

    def histogram(
        self, name: str, help: str, bounds: Sequence[float] = SECONDS, label: str = ""
    ) -> Histogram:
        """Make a histogram; see ``Histogram``."""
        return self._add(Histogram(name, help, bounds, label))

    def _add(self, metric: _Metric) -> _Metric:
        if metric.name in self._metrics:
            raise ValueError(f"there is a metric {metric.name} already")
        self._metrics[metric.name] = metric
        return metric


def render_prometheus(registry: Registry) -> str:
    """Prometheus' text format, version 0.0.4, of all metrics.

    Source: https://prometheus.io/docs/instrumenting/exposition_formats/
    """
    lines: list[str] = []
    for metric in registry:
        help = metric.help.replace("\\", r"\\").replace("\n", r"\n")
        lines += [f"# HELP {metric.name} {help}", f"# TYPE {metric.name} {metric.kind}"]
        lines += [f"{name} {value:.15g}" for name, value in metric.samples()]
    return "".join(f"{line}\n" for line in lines)


def _labels(*labels: tuple[str, str]) -> str:
    """``{name="value"}`` of those that have a name; nothing for none."""
    named = [(name, value) for name, value in labels if name]
    if not named:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in named) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
