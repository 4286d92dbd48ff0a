"""Percentiles, ratios and tables say what they should."""

import json
import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as some

from talkpath.agent.bench.figures import ratio, show, spread, table, to_json


@given(some.lists(some.floats(-1e6, 1e6), min_size=1, max_size=50))
def test_percentiles_are_those_of_numpy(values: list[float]) -> None:
    found = spread(values)
    expected = np.percentile(values, [50, 95, 99, 100])
    assert found.count == len(values)
    assert np.allclose([found.p50, found.p95, found.p99, found.most], expected, atol=1e-6)


def test_nothing_measured_is_told_apart_from_zero() -> None:
    nothing = spread([])
    assert nothing.count == 0
    assert math.isnan(nothing.p95)
    assert show(nothing.p95, ".3f") == "-"
    assert show(0.0, ".3f") == "0.000"
    assert math.isnan(ratio(1.0, 0.0))
    assert ratio(3.0, 2.0) == 1.5


def test_numbers_line_up_under_their_heads() -> None:
    assert table([["", "ours", "theirs"], ["p95", "0.4", "12.0"], ["a long name", "1", "2"]]) == (
        "             ours  theirs\np95           0.4    12.0\na long name     1       2\n"
    )


def test_json_holds_no_value_that_json_does_not_know() -> None:
    text = to_json({"a": math.nan, "b": [math.inf, 1.23456789, 2], "c": {"d": "x", "e": None}})
    assert json.loads(text) == {"a": None, "b": [None, 1.234568, 2], "c": {"d": "x", "e": None}}
