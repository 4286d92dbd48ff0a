"""Pace: partials thin out under load and come back after it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from talkpath.agent.whisper.batcher import Job
from talkpath.agent.whisper.pace import Pace
from talkpath.agent.whisper.requests import Priority, Request
from tests.agent.whisper.simulation import SimulatedEngine, SimulatedStream

HOUR_S = 3600.0


def waited(wait_s: float, now_s: float, priority: Priority) -> Job:
    request = Request(np.zeros(16_000, dtype=np.float32), priority)
    return Job(request, lambda outcome: None, now_s - wait_s, now_s - wait_s, now_s - wait_s)


def observe(pace: Pace, wait_s: float, now_s: float, priority: Priority) -> None:
    pace.observe([waited(wait_s, now_s, priority)], now_s)


def test_without_load_the_interval_is_what_was_asked_for_and_nothing_is_held() -> None:
    pace = Pace(0.5)
    assert (pace.interval_s(0.0), pace.hold_s(0.0)) == (0.5, 0.0)
    for tenth in range(100):
        observe(pace, 0.1, tenth / 10, Priority.PARTIAL)
        observe(pace, 0.03, tenth / 10, Priority.FINAL)
    assert (pace.interval_s(10.0), pace.hold_s(10.0)) == (0.5, 0.0)


def test_a_stream_may_have_an_interval_of_its_own() -> None:
    pace = Pace(0.5)
    assert [pace.interval_s(0.0, own_s) for own_s in (0.1, 0.5, 10.0)] == [0.1, 0.5, 10.0]


@pytest.mark.parametrize("priority", [Priority.FIRST_PARTIAL, Priority.PARTIAL])
def test_the_interval_is_four_times_the_partials_waiting_within_its_bounds(
    priority: Priority,
) -> None:
    pace = Pace(0.5)
    waits = ((0.25, 1.0), (0.5, 2.0), (5.0, 4.0), (0.0, 0.5), (0.25, 1.0))
    for hour, (wait_s, interval_s) in enumerate(waits, start=1):
        observe(pace, wait_s, hour * HOUR_S, priority)
        assert pace.interval_s(hour * HOUR_S) == pytest.approx(interval_s)


@pytest.mark.parametrize("priority", [Priority.FINAL, Priority.SPECULATIVE])
def test_partials_give_way_sooner_where_finals_wait(priority: Priority) -> None:
    pace = Pace(0.5)
    waits = ((0.03, 0.5), (0.045, 0.5), (0.0925, 2.0), (3.0, 4.0), (0.0, 0.5))
    for hour, (wait_s, interval_s) in enumerate(waits, start=1):
        observe(pace, wait_s, hour * HOUR_S, priority)
        assert pace.interval_s(hour * HOUR_S) == pytest.approx(interval_s)


def test_speculations_are_held_as_long_as_finals_wait_and_no_longer() -> None:
    pace = Pace(0.5)
    waits = ((0.02, 0.0), (0.05, 0.08), (0.07, 0.16), (3.0, 0.16), (0.0, 0.0))
    for hour, (wait_s, hold_s) in enumerate(waits, start=1):
        observe(pace, wait_s, hour * HOUR_S, Priority.SPECULATIVE)
        assert pace.hold_s(hour * HOUR_S) == pytest.approx(hold_s)
    observe(pace, 1.0, 9 * HOUR_S, Priority.FINAL)
    observe(pace, 0.0, 9 * HOUR_S + 0.01, Priority.FINAL)
    assert pace.hold_s(9 * HOUR_S + 0.01) == 0.16  # one that found a free worker does not end it


def test_a_lull_ends_what_the_load_before_it_brought() -> None:
    pace = Pace(0.5)
    for tenth in range(20):
        observe(pace, 0.6, tenth / 10, Priority.FINAL)
        observe(pace, 0.6, tenth / 10, Priority.PARTIAL)
    assert (pace.interval_s(2.0), pace.hold_s(2.0)) == (4.0, 0.16)
    assert 0.5 < pace.interval_s(5.0) < 4.0
    assert (pace.interval_s(12.0), pace.hold_s(12.0)) == (0.5, 0.0)


def test_of_a_batch_the_mean_wait_counts_and_files_do_not() -> None:
    pace = Pace(0.5)
    waits = ((0.0, Priority.FINAL), (0.185, Priority.SPECULATIVE), (60.0, Priority.OFFLINE))
    pace.observe([waited(wait_s, 100.0, priority) for wait_s, priority in waits], 100.0)
    assert pace.interval_s(100.0) == pytest.approx(2.0)
    pace.observe([], 100.0)
    assert pace.interval_s(100.0) == pytest.approx(2.0)


@given(
    st.lists(st.tuples(st.floats(0, 60), st.floats(0, 5), st.sampled_from(Priority)), max_size=50)
)
def test_the_interval_stays_within_its_bounds_whatever_comes(
    waits: list[tuple[float, float, Priority]],
) -> None:
    pace = Pace(0.5, most=8, longest_hold_s=0.16)
    now_s = 0.0
    for wait_s, passed_s, priority in waits:
        now_s += passed_s
        observe(pace, wait_s, now_s, priority)
        assert 0.5 <= pace.interval_s(now_s) <= 4.0
        assert 0.0 <= pace.hold_s(now_s) <= 0.16
    assert (pace.interval_s(now_s + 60), pace.hold_s(now_s + 60)) == (0.5, 0.0)


def speak(engine: SimulatedEngine, streams: list[SimulatedStream], seconds: float) -> list[float]:
    """Everybody speaks on and on; the stretch of the interval, ten times a second."""
    stretches = []
    for _ in range(round(seconds * 10)):
        for stream in streams:
            stream.feed(0.1)
        engine.advance(engine.now_s + 0.1)
        stretches.append(engine.pace.interval_s(engine.now_s) / engine.interval_s)
    return stretches


def test_partials_thin_out_under_load_settle_and_come_back() -> None:
    # One of the two workers is kept for finals.
    engine = SimulatedEngine(2, lambda batch: 0.1 + 0.04 * len(batch))
    streams = [SimulatedStream(engine) for _ in range(20)]
    few = streams[:2]
    for index, stream in enumerate(streams):
        stream.stream.speech_started(0.0)
        stream.feed(0.01 * index)
    assert max(speak(engine, few, 5)) == 1.0
    loaded = speak(engine, streams, 20)[100:]
    # It has settled: neither at its bound nor swinging from one end to the other.
    assert 1.5 < min(loaded)
    assert max(loaded) < 6
    assert max(loaded) < 2 * min(loaded)
    waits = [item.wait_s for item in engine.taken if item.at_s > 15]
    assert sum(waits) / len(waits) < engine.pace.interval_s(engine.now_s) / 2
    for stream in streams[2:]:
        stream.stream.close()
        stream.pump()
    calm = speak(engine, few, 10)
    assert calm[-1] == 1.0
    since = engine.now_s - 5
    late = [it for it in engine.taken if it.at_s > since and it.priority is Priority.PARTIAL]
    assert len(late) == pytest.approx(2 * 2 * 5, abs=3)
