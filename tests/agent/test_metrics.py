"""Counters, gauges, histograms, and what Prometheus reads of them."""

import math
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from talkpath.agent.metrics import Counter, Histogram, Registry, render_prometheus


def test_a_counter_counts_each_series_and_all_together() -> None:
    requests = Counter("requests_total", "Requests.", "priority")
    assert requests.value == 0
    requests.add(of="final")
    requests.add(3, of="partial")
    requests.add(of="final")
    assert requests.values == {"final": 2, "partial": 3}
    assert requests.value == 5


def test_counts_of_several_threads_add_up() -> None:
    counter = Counter("items_total", "Items.")
    histogram = Histogram("wait_seconds", "Waiting, in seconds.", bounds=(1,))
    start = threading.Barrier(4)

    def count() -> None:
        start.wait()
        for _ in range(5_000):
            counter.add()
            histogram.observe(0.5)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counter.value == 20_000
    assert histogram.distribution().counts == (20_000, 0)


def test_a_value_on_a_bound_belongs_to_the_bucket_below_it() -> None:
    histogram = Histogram("wait_seconds", "Waiting, in seconds.", bounds=(1, 2))
    for value in (0.0, 1.0, 1.5, 2.0, 2.5):
        histogram.observe(value)
    held = histogram.distribution()
    assert held.counts == (2, 2, 1)
    assert held.count == 5
    assert held.mean == pytest.approx(1.4)


def test_a_histogram_with_nothing_in_it_has_figures_all_the_same() -> None:
    histogram = Histogram("wait_seconds", "Waiting, in seconds.", label="priority")
    assert histogram.distributions == {}
    held = histogram.distribution("final")
    assert (held.count, held.mean, held.quantile(0.95)) == (0, 0.0, 0.0)
    assert histogram.distributions == {}


@given(st.lists(st.floats(0, 12), min_size=1), st.floats(0, 1))
def test_a_quantile_is_off_by_no_more_than_its_bucket(values: list[float], share: float) -> None:
    bounds = tuple(range(1, 11))
    histogram = Histogram("values", "Values.", bounds=bounds)
    for value in values:
        histogram.observe(value)
    estimate = histogram.distribution().quantile(share)
    rank = max(1, math.ceil(share * len(values)))
    exact = min(sorted(values)[rank - 1], 10)
    assert abs(estimate - exact) <= 1


def test_quantiles_are_interpolated_and_end_at_the_highest_bound() -> None:
    histogram = Histogram("values", "Values.", bounds=(10, 20))
    for value in (11, 12, 13, 14):
        histogram.observe(value)
    assert histogram.distribution().quantile(0.5) == 15
    histogram.observe(99)
    assert histogram.distribution().quantile(1) == 20


def test_prometheus_reads_names_help_units_and_values() -> None:
    registry = Registry()
    registry.counter("requests_total", "Requests, by\npriority.", "priority").add(2, of='fi"nal\\')
    registry.counter("failed_total", "Failures.")
    level = 1.0
    registry.gauge("streams_open", "Open streams.", lambda: level)
    wait = registry.histogram("wait_seconds", "Waiting, in seconds.", bounds=(0.1, 1))
    for value in (0.05, 0.5, 0.5, 7):
        wait.observe(value)
    level = 3.0
    by = registry.histogram("queue_seconds", "Queue, in seconds.", bounds=(1,), label="priority")
    by.observe(0.25, of="final")
    assert render_prometheus(registry) == (
        "# HELP requests_total Requests, by\\npriority.\n"
        "# TYPE requests_total counter\n"
        'requests_total{priority="fi\\"nal\\\\"} 2\n'
        "# HELP failed_total Failures.\n"
        "# TYPE failed_total counter\n"
        "failed_total 0\n"
        "# HELP streams_open Open streams.\n"
        "# TYPE streams_open gauge\n"
        "streams_open 3\n"
        "# HELP wait_seconds Waiting, in seconds.\n"
        "# TYPE wait_seconds histogram\n"
        'wait_seconds_bucket{le="0.1"} 1\n'
        'wait_seconds_bucket{le="1"} 3\n'
        'wait_seconds_bucket{le="+Inf"} 4\n'
        "wait_seconds_sum 8.05\n"
        "wait_seconds_count 4\n"
        "# HELP queue_seconds Queue, in seconds.\n"
        "# TYPE queue_seconds histogram\n"
        'queue_seconds_bucket{priority="final",le="1"} 1\n'
        'queue_seconds_bucket{priority="final",le="+Inf"} 1\n'
        'queue_seconds_sum{priority="final"} 0.25\n'
        'queue_seconds_count{priority="final"} 1\n'
    )


def test_a_name_is_given_once() -> None:
    registry = Registry()
    registry.counter("requests_total", "Requests.")
    with pytest.raises(ValueError, match="a metric requests_total already"):
        registry.gauge("requests_total", "Requests.", lambda: 0)
