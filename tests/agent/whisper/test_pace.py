"""Pace: partials thin out under load and come back after it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from talkpath.agent.whisper.pace import PartialPace, SpeculationPace
from talkpath.agent.whisper.requests import Priority
from tests.agent.whisper.simulation import SimulatedEngine, SimulatedStream


def test_without_load_the_interval_is_what_was_asked_for() -> None:
    pace = PartialPace(0.5)
    assert pace.interval_s == 0.5
    for tenth in range(100):
        pace.observe(0.1, tenth / 10)
    assert pace.stretch == 1.0


def test_the_interval_is_four_times_the_waiting_within_its_bounds() -> None:
    pace = PartialPace(0.5)
    pace.observe(0.0, 0.0)
    waits = ((0.25, 1.0), (0.5, 2.0), (5.0, 4.0), (0.0, 0.5), (0.25, 1.0))
    for hour, (wait_s, interval_s) in enumerate(waits, start=1):
        pace.observe(wait_s, 3600.0 * hour)
        assert pace.interval_s == pytest.approx(interval_s)


@given(st.lists(st.tuples(st.floats(0, 60), st.floats(0, 5)), max_size=50))
def test_the_stretch_stays_within_its_bounds_whatever_comes(
    waits: list[tuple[float, float]],
) -> None:
    pace = PartialPace(0.5, most=8)
    now_s = 0.0
    for wait_s, passed_s in waits:
        now_s += passed_s
        pace.observe(wait_s, now_s)
        assert 1.0 <= pace.stretch <= 8.0
    pace.observe(0.0, now_s + 60)
    assert pace.stretch == 1.0


def test_speculations_are_held_as_long_as_finals_wait_and_no_longer() -> None:
    pace = SpeculationPace(most=0.16)
    assert pace.hold_s == 0.0
    waits = ((0.02, 0.0), (0.05, 0.08), (0.07, 0.16), (3.0, 0.16), (0.0, 0.0))
    for hour, (wait_s, hold_s) in enumerate(waits, start=1):
        pace.observe(wait_s, 3600.0 * hour)
        assert pace.hold_s == pytest.approx(hold_s)
    pace.observe(1.0, 3600.0 * 9)
    pace.observe(0.0, 3600.0 * 9 + 0.01)
    assert pace.hold_s == 0.16  # one that found a free worker does not end it


def speak(engine: SimulatedEngine, streams: list[SimulatedStream], seconds: float) -> list[float]:
    """Everybody speaks on and on; the stretch, ten times a second."""
    stretches = []
    for _ in range(round(seconds * 10)):
        for stream in streams:
            stream.feed(0.1)
        engine.advance(engine.now_s + 0.1)
        stretches.append(engine.pace.stretch)
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
