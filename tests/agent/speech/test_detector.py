"""The speech state machine, and the tracker on real speech."""

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from talkpath.agent.audio import FloatArray
from talkpath.agent.config import SpeechConfig
from talkpath.agent.speech import (
    WINDOW_S,
    EarlyPause,
    SileroVad,
    SpeechEvent,
    SpeechMachine,
    SpeechResumed,
    SpeechStarted,
    SpeechStopped,
    SpeechTracker,
)
from tests.speech import clip, clips, join, silence

# Five windows to start, two to an early pause, six to the stop.
CONFIG = SpeechConfig(threshold=0.5, start_s=0.16, early_pause_s=0.064, stop_s=0.192)

# (state before it, windows, events with the number of the window that brings them). A letter
# a window: S speech, h between threshold and threshold - 0.15, . silence.
TABLE = [
    ("silence stays quiet", "........", []),
    ("speech starts after its time", "SSSSS", [(4, SpeechStarted(0.16))]),
    ("a gap starts the count anew", "SSSS.SSSSS", [(9, SpeechStarted(0.16))]),
    ("half-hearted speech does not start", "hhhhhhhhhh", []),
    ("half-hearted speech goes on", "SSSSShhhhhhhh", [(4, SpeechStarted(0.16))]),
    (
        "an early pause",
        "SSSSS..",
        [(4, SpeechStarted(0.16)), (6, EarlyPause(0.064))],
    ),
    (
        "a shorter silence is none",
        "SSSSS.S.S.S.S.S.S.S",
        [(4, SpeechStarted(0.16))],
    ),
    (
        "resumed",
        "SSSSS..S",
        [(4, SpeechStarted(0.16)), (6, EarlyPause(0.064)), (7, SpeechResumed())],
    ),
    (
        "half-hearted speech resumes, too",
        "SSSSS.....h",
        [(4, SpeechStarted(0.16)), (6, EarlyPause(0.064)), (10, SpeechResumed())],
    ),
    (
        "stopped",
        "SSSSS......",
        [(4, SpeechStarted(0.16)), (6, EarlyPause(0.064)), (10, SpeechStopped(0.192))],
    ),
    (
        "a resumption starts the silence anew",
        "SSSSS.....S......",
        [
            (4, SpeechStarted(0.16)),
            (6, EarlyPause(0.064)),
            (10, SpeechResumed()),
            (12, EarlyPause(0.064)),
            (16, SpeechStopped(0.192)),
        ],
    ),
    (
        "a second utterance",
        "SSSSS......SSSSS",
        [
            (4, SpeechStarted(0.16)),
            (6, EarlyPause(0.064)),
            (10, SpeechStopped(0.192)),
            (15, SpeechStarted(0.16)),
        ],
    ),
]
PROBABILITY = {"S": 0.5, "h": 0.36, ".": 0.34}


def run(machine: SpeechMachine, windows: str) -> list[tuple[int, SpeechEvent]]:
    return [
        (index, event)
        for index, letter in enumerate(windows)
        for event in machine.advance(PROBABILITY[letter])
    ]


@pytest.mark.parametrize(("name", "windows", "expected"), TABLE, ids=[row[0] for row in TABLE])
def test_transitions(name: str, windows: str, expected: list[tuple[int, SpeechEvent]]) -> None:
    machine = SpeechMachine(CONFIG)
    events = run(machine, windows)
    assert [(index, type(event)) for index, event in events] == [
        (index, type(event)) for index, event in expected
    ]
    for (_, event), (_, wanted) in zip(events, expected, strict=True):
        assert _seconds(event) == pytest.approx(_seconds(wanted))
    assert machine.speaking is (bool(events) and not isinstance(events[-1][1], SpeechStopped))


def _seconds(event: SpeechEvent) -> float:
    match event:
        case SpeechStarted(ago_s):
            return ago_s
        case EarlyPause(silence_s) | SpeechStopped(silence_s):
            return silence_s
    return 0.0


@pytest.mark.parametrize(
    ("windows", "silence_s"), [("SSSSS", 0.0), ("SSSSS.", 0.032), ("SSSSS...", 0.096)]
)
def test_a_forced_stop_tells_the_silence_so_far(windows: str, silence_s: float) -> None:
    machine = SpeechMachine(CONFIG)
    run(machine, windows)
    assert machine.force_stop().silence_s == pytest.approx(silence_s)
    assert not machine.speaking
    assert [type(event) for _, event in run(machine, "SSSSS")] == [SpeechStarted]


def test_early_pause_and_stop_may_fall_together() -> None:
    machine = SpeechMachine(SpeechConfig(start_s=0, early_pause_s=0.1, stop_s=0.1))
    assert [type(event) for _, event in run(machine, "S...")] == [
        SpeechStarted,
        EarlyPause,
        SpeechStopped,
    ]


def test_the_default_settings_start_and_stop_within_their_times() -> None:
    events = run(SpeechMachine(), "S" * 20 + "." * 20)
    (start, started), (pause, _), (stop, stopped) = events
    assert isinstance(started, SpeechStarted)
    assert isinstance(stopped, SpeechStopped)
    assert (start + 1) * WINDOW_S == pytest.approx(started.ago_s)
    assert started.ago_s <= 0.2
    assert (pause - 19) * WINDOW_S == pytest.approx(0.032)
    assert stopped.silence_s == pytest.approx((stop - 19) * WINDOW_S)
    assert abs(stopped.silence_s - 0.2) <= WINDOW_S / 2


# What may follow upon what.
LEGAL: dict[type[SpeechEvent] | None, set[type[SpeechEvent]]] = {
    None: {SpeechStarted},
    SpeechStarted: {EarlyPause, SpeechStopped},
    EarlyPause: {SpeechResumed, SpeechStopped},
    SpeechResumed: {EarlyPause, SpeechStopped},
    SpeechStopped: {SpeechStarted},
}


@given(
    st.lists(st.one_of(st.floats(0, 1), st.just("force")), max_size=200),
    st.floats(0, 0.5),
    st.floats(0.032, 0.3),
    st.floats(0, 0.5),
)
@settings(deadline=None)
def test_events_always_come_in_a_legal_order(
    inputs: Sequence[float | str], start_s: float, early_pause_s: float, further_s: float
) -> None:
    config = SpeechConfig(
        start_s=start_s, early_pause_s=early_pause_s, stop_s=early_pause_s + further_s
    )
    machine = SpeechMachine(config)
    last: type[SpeechEvent] | None = None
    for item in inputs:
        if isinstance(item, str):
            events: list[SpeechEvent] = [machine.force_stop()] if machine.speaking else []
        else:
            events = machine.advance(item)
        for event in events:
            assert type(event) in LEGAL[last]
            last = type(event)
        assert machine.speaking is (last not in (None, SpeechStopped))


@pytest.fixture(scope="module")
def vad() -> SileroVad:
    return SileroVad()


def follow(
    vad: SileroVad, audio: FloatArray, blocks: int | Sequence[int] = 512
) -> list[SpeechEvent]:
    """All events of a stretch of audio, fed in blocks of given sizes, in turn."""
    tracker = SpeechTracker(vad)
    sizes = itertools.cycle([blocks] if isinstance(blocks, int) else blocks)
    events: list[SpeechEvent] = []
    at = 0
    while at < len(audio):
        size = next(sizes)
        events += tracker.process(audio[at : at + size])
        at += size
    return events


def stretches(vad: SileroVad, audio: FloatArray) -> list[tuple[float, float]]:
    """Beginning and end of each utterance, in seconds."""
    tracker = SpeechTracker(vad)
    found: list[list[float]] = []
    for at in range(0, len(audio), 512):
        end_s = (at + 512) / 16_000
        for event in tracker.process(audio[at : at + 512]):
            if isinstance(event, SpeechStarted):
                found.append([end_s - event.ago_s])
            elif isinstance(event, SpeechStopped):
                found[-1].append(end_s - event.silence_s)
    return [(start_s, end_s) for start_s, end_s in found]


def test_each_sentence_is_found_where_it_is_said(vad: SileroVad) -> None:
    names = [item.id for item in clips() if item.id.startswith("librivox")]
    found = stretches(vad, join(names, gap_s=1.5))
    start_s = 0.5
    for name in names:
        end_s = start_s + clip(name).duration_s
        inside = [(begin, end) for begin, end in found if start_s - 0.2 < begin < end_s]
        spoken_s = sum(end - begin for begin, end in inside)
        assert inside[-1][1] < end_s + 0.3, name
        assert spoken_s > 0.6 * clip(name).duration_s, name
        found = [stretch for stretch in found if stretch not in inside]
        start_s = end_s + 1.5
    assert not found


def test_silence_and_noise_are_no_speech(vad: SileroVad) -> None:
    generator = np.random.default_rng(7)
    count = 10 * 16_000
    hum = 0.1 * np.sin(2 * np.pi * 50 * np.arange(count) / 16_000)
    for audio in (
        silence(10),
        generator.normal(0, 0.001, count),
        generator.normal(0, 0.1, count),
        hum,
    ):
        assert follow(vad, audio.astype(np.float32)) == []


def test_speech_after_two_minutes_of_noise_is_heard(vad: SileroVad) -> None:
    noise = np.random.default_rng(3).normal(0, 0.003, 60 * 16_000).astype(np.float32)
    events = follow(vad, np.concatenate([noise, silence(60), join(["cards-005"])]), 16_000)
    assert any(isinstance(event, SpeechStarted) for event in events)
    assert isinstance(events[-1], SpeechStopped)


@pytest.mark.parametrize("blocks", [160, 320, [1, 1023, 77], [511, 513], 16_001])
def test_block_sizes_do_not_matter(vad: SileroVad, blocks: int | Sequence[int]) -> None:
    audio = join(["cards-001", "cards-003"], gap_s=0.6)
    expected = follow(vad, audio)
    assert [type(event) for event in expected].count(SpeechStopped) >= 2
    assert follow(vad, audio, blocks) == expected


@pytest.mark.parametrize("threshold", [0.02, 0.1, 0.15])
def test_speech_ends_at_any_threshold(threshold: float) -> None:
    tracker = SpeechTracker(SileroVad(), SpeechConfig(threshold=threshold))
    events = tracker.process(np.concatenate([clip("librivox-0880").samples(), silence(2)]))
    assert isinstance(events[-1], SpeechStopped)
