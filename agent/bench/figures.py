"""Figures: percentiles, ratios, and the table that a bench prints."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = ["Spread", "ratio", "show", "spread", "table", "to_json"]


@dataclass(frozen=True, slots=True)
class Spread:
    """How values are spread. NaN where there are none.

    Attributes:
        count: how many.
        p50: median.
        p95: 95th percentile.
        p99: 99th percentile.
        most: the largest.
    """

    count: int
    p50: float
    p95: float
    p99: float
    most: float


def spread(values: Sequence[float]) -> Spread:
    """Spread of values in any order."""
    ordered = sorted(values)
    return Spread(
        count=len(ordered),
        p50=_percentile(ordered, 0.50),
        p95=_percentile(ordered, 0.95),
        p99=_percentile(ordered, 0.99),
        most=_percentile(ordered, 1.0),
    )


def _percentile(ordered: Sequence[float], share: float) -> float:
    """Between the two nearest values, as numpy's default does."""
    if not ordered:
        return math.nan
    place = share * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def ratio(theirs: float, ours: float) -> float:
    """How many times ours fits into theirs; NaN where that has no answer."""
    return theirs / ours if ours else math.nan


def show(value: float, form: str) -> str:
    """A number in a format of Python's, a dash where there is none."""
    return "-" if math.isnan(value) else format(value, form)


def table(rows: Sequence[Sequence[str]]) -> str:
    """Align rows of cells: the first column to the left, the others to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(
            [row[0].ljust(widths[0])]
            + [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        ).rstrip()
        for row in rows
    ]
    return "\n".join(lines) + "\n"


def to_json(figures: Mapping[str, object]) -> str:
    """One JSON object; values that are no numbers become null, which JSON has."""
    return json.dumps(_finite(figures), indent=1) + "\n"


def _finite(value: object) -> object:
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
