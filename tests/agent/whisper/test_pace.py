"""Pace: partials thin out under load and come back after it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from talkpath.agent.whisper.pace import Pace
from talkpath.agent.whisper.requests import Priority
from tests.agent.whisper.simulation import SimulatedEngine, SimulatedStream

HOUR_S = 3600.0


def test_without_load_the_interval_is_what_was_asked_for_and_nothing_is_held() -> None:
    pace = Pace(0.5)
    assert (pace.interval_s, pace.hold_s) == (0.5, 0.0)
    for tenth in range(100):
        pace.partial_waited(0.1, tenth / 10)
        pace.final_waited(0.03, tenth / 10)
    assert (pace.interval_s, pace.hold_s) == (0.5, 0.0)


def test_the_interval_is_four_times_the_partials_waiting_within_its_bounds() -> None:
    pace = Pace(0.5)
    waits = ((0.25, 1.0), (0.5, 2.0), (5.0, 4.0), (0.0, 0.5), (0.25, 1.0))
    pace.partial_waited(0.0, 0.0)
    for hour, (wait_s, interval_s) in enumerate(waits, start=1):
        pace.partial_waited(wait_s, hour * HOUR_S)
        assert pace.interval_s == pytest.approx(interval_s)


def test_partials_give_way_sooner_where_finals_wait() -> None:
    pace = Pace(0.5)
    waits = ((0.03, 0.5), (0.06, 0.5), (0.155, 2.0), (3.0, 4.0), (0.0, 0.5))
    pace.final_waited(0.0, 0.0)
    for hour, (wait_s, interval_s) in enumerate(waits, start=1):
        pace.final_waited(wait_s, hour * HOUR_S)
        assert pace.interval_s == pytest.approx(interval_s)


def test_speculations_are_held_as_long_as_finals_wait_and_no_longer() -> None:
    pace = Pace(0.5)
    waits = ((0.02, 0.0), (0.05, 0.08), (0.07, 0.16), (3.0, 0.16), (0.0, 0.0))
    pace.final_waited(0.0, 0.0)
    for hour, (wait_s, hold_s) in enumerate(waits, start=1):
        pace.final_waited(wait_s, hour * HOUR_S)
        assert pace.hold_s == pytest.approx(hold_s)
    pace.final_waited(1.0, 9 * HOUR_S)
    pace.final_waited(0.0, 9 * HOUR_S + 0.01)
    assert pace.hold_s == 0.16  # one that found a free worker does not end it


@given(st.lists(st.tuples(st.floats(0, 60), st.floats(0, 5), st.booleans()), max_size=50))
def test_the_interval_stays_within_its_bounds_whatever_comes(
    waits: list[tuple[float, float, bool]],
) -> None:
    pace = Pace(0.5, most=8, longest_hold_s=0.16)
    now_s = 0.0
    for wait_s, passed_s, final in waits:
        now_s += passed_s
        observe = pace.final_waited if final else pace.partial_waited
        observe(wait_s, now_s)
        assert 0.5 <= pace.interval_s <= 4.0
        assert 0.0 <= pace.hold_s <= 0.16
    pace.partial_waited(0.0, now_s + 60)
    pace.final_waited(0.0, now_s + 60)
    assert (pace.interval_s, pace.hold_s) == (0.5, 0.0)


def speak(engine: SimulatedEngine, streams: list[SimulatedStream], seconds: float) -> list[float]:
    """Everybody speaks on and on; the stretch of the interval, ten times a second."""
    stretches = []
    for _ in range(round(seconds * 10)):
        for stream in streams:
            stream.feed(0.1)
        engine.advance(engine.now_s + 0.1)
        stretches.append(engine.pace.interval_s / engine.interval_s)
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
    assert sum(waits) / len(waits) < engine.pace.interval_s / 2
    for stream in streams[2:]:
        stream.stream.close()
        stream.pump()
    calm = speak(engine, few, 10)
    assert calm[-1] == 1.0
    since = engine.now_s - 5
    late = [it for it in engine.taken if it.at_s > since and it.priority is Priority.PARTIAL]
    assert len(late) == pytest.approx(2 * 2 * 5, abs=3)
