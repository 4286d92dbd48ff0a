"""The first sign of speech, for a bot that speaks."""

from itertools import pairwise

import numpy as np
import pytest

from talkpath.agent.audio import FloatArray
from talkpath.agent.bench.nonspeech import KINDS
from talkpath.agent.config import SpeechConfig
from talkpath.agent.speech import (
    OnsetMachine,
    SileroVad,
    SpeechEvent,
    SpeechLevel,
    SpeechOnset,
    SpeechOnsetEnded,
    SpeechStarted,
    SpeechTracker,
)
from tests.speech import clips, join, silence

# Letters: S a window of speech, h half so, m less, . silence, + and - begin and end listening,
# ! no more audio; loud ones: H half so, Q a quarter, X none. Five windows of speech in a row are
# a start.
PROBABILITY = {"S": 0.9, "h": 0.45, "m": 0.38, ".": 0.0, "H": 0.45, "Q": 0.15, "X": 0.0}
LOUD = "HQX"
TABLE = [
    ("a window that is certain", "+S", ["onset 1"]),
    ("two that are half so", "+hh", ["onset 2"]),
    ("one of them a little more", "+mh.", ["onset 2"]),
    ("too little", "+h.m.mmm.h", []),
    ("nobody listens", "SSSS", []),
    ("speech that was under way when listening began", "SSS+S", ["onset 2"]),
    ("it starts", "+SSSSS....", ["onset 1", "started"]),
    ("it comes to nothing", "+SS...", ["onset 1", "ended"]),
    ("what was only likely lasts as long", "+hhh..", ["onset 2", "ended"]),
    ("a hole is no end", "+SS..SS..S", ["onset 1"]),
    ("it comes to nothing twice", "+SS...SSS...", ["onset 1", "ended"] * 2),
    ("it ends though nobody listens any more", "+SS-...SS...", ["onset 1", "ended"]),
    ("none within speech", "SSSSS+SSSS", ["started"]),
    ("no more audio", "+SS!", ["onset 1", "ended"]),
    ("no more audio without one", "+h!h", []),
    ("loud, and half certain", "+H", ["onset 1"]),
    ("loud twice, and not impossible", "+.QQ", ["onset 2"]),
    ("loud once", "+.Q.Q.m", []),
    ("loud, but nothing like speech", "+XXXXXX", []),
    ("loud, and nothing comes of it", "+HX...", ["onset 1", "ended"]),
    ("loud sounds keep it up", "+hhXXX..S", ["onset 2"]),
    ("but not for long", "+SXXXXXXXXXX", ["onset 1", "ended"]),
    ("loud once more: now it must be likely", "+H...HQQ.SS", ["onset 1", "ended", "onset 1"]),
    ("loud, and nobody listens", "HQQ", []),
]


@pytest.mark.parametrize(("name", "windows", "expected"), TABLE, ids=[row[0] for row in TABLE])
def test_transitions(name: str, windows: str, expected: list[str]) -> None:
    machine = OnsetMachine(SpeechConfig(barge_in_threshold=0.8))
    told: list[str] = []
    run = 0
    for letter in windows:
        if letter in "+-":
            machine.listening = letter == "+"
            continue
        speech = letter == "S"
        run = run + 1 if speech else 0
        if letter == "!":
            events = machine.end()
        else:
            events = machine.advance(
                PROBABILITY[letter], speech=speech, speaking=run >= 5, loud=letter in LOUD
            )
        told += [_text(event) for event in events] + (["started"] if run == 5 else [])
    assert told == expected


def _text(event: SpeechEvent) -> str:
    match event:
        case SpeechOnset(ago_s):
            return f"onset {ago_s / 0.032:.0f}"
        case SpeechOnsetEnded():
            return "ended"
    raise AssertionError(event)


def test_windows_in_between_tell_too_until_something_came_to_nothing() -> None:
    machine = OnsetMachine(SpeechConfig(barge_in_threshold=0.8))
    assert not machine.advance_between(0.9)  # nobody listens
    machine.listening = True
    machine.advance(0.3, speech=False, speaking=False)
    assert [_text(event) for event in machine.advance_between(0.45)] == ["onset 2"]
    assert not machine.waits
    for _ in range(3):
        events = machine.advance(0.0, speech=False, speaking=False)
    assert [_text(event) for event in events] == ["ended"]
    assert not machine.advance_between(0.9)
    assert machine.advance(0.9, speech=True, speaking=False)


def test_a_window_from_before_the_bot_was_silent_counts_for_nothing() -> None:
    machine = OnsetMachine(SpeechConfig(barge_in_threshold=0.8))
    machine.listening = True
    assert not machine.advance_between(0.5)
    machine.listening = False
    machine.advance(0.0, speech=False, speaking=False)
    machine.listening = True
    assert not machine.advance_between(0.35)


@pytest.fixture(scope="module")
def vad() -> SileroVad:
    return SileroVad()


def follow(
    vad: SileroVad, audio: FloatArray, level: SpeechLevel | None = None
) -> list[tuple[float, SpeechEvent]]:
    """All events while a bot speaks, each with the seconds of audio so far."""
    tracker = SpeechTracker(vad, level=level)
    tracker.bot_speaks(True)
    return [
        ((at + 512) / 16_000, event)
        for at in range(0, len(audio), 512)
        for event in tracker.process(audio[at : at + 512])
    ]


def test_it_comes_well_before_the_start_and_seldom_for_nothing(vad: SileroVad) -> None:
    events = follow(vad, join([item.id for item in clips()]))
    earlier_s = [
        at_s - onset_s
        for (onset_s, onset), (at_s, started) in pairwise(events)
        if isinstance(onset, SpeechOnset) and isinstance(started, SpeechStarted)
    ]
    starts = [event for _, event in events if isinstance(event, SpeechStarted)]
    in_vain = [event for _, event in events if isinstance(event, SpeechOnsetEnded)]
    assert len(earlier_s) >= 0.9 * len(starts) > 8
    assert np.median(earlier_s) >= 0.12
    assert len(in_vain) <= 0.1 * len(starts)


def test_where_the_level_is_known_too_it_comes_earlier(vad: SileroVad) -> None:
    earlier_s = []
    for item in clips():
        audio = np.concatenate([silence(2.0), item.samples()[:24_000]])
        plain_s, loud_s = (
            next(
                at_s for at_s, event in follow(vad, audio, level) if isinstance(event, SpeechOnset)
            )
            for level in (None, SpeechLevel(15.0))
        )
        assert loud_s <= plain_s
        earlier_s.append(plain_s - loud_s)
    assert np.mean(earlier_s) >= 0.005


def test_a_bot_among_knocks_falters_once(vad: SileroVad) -> None:
    wave = KINDS["knocks"](np.random.default_rng(1), 8 * 16_000)
    audio = (0.5 * wave / np.abs(wave).max()).astype(np.float32)
    told = follow(vad, np.concatenate([silence(2.0), audio]), SpeechLevel(15.0))
    plain = follow(vad, np.concatenate([silence(2.0), audio]))
    assert len(told) <= len(plain) + 2


@pytest.mark.parametrize("kind", ["white noise", "room", "breath", "keyboard", "clicks"])
def test_noise_is_no_onset(vad: SileroVad, kind: str) -> None:
    wave = KINDS[kind](np.random.default_rng(4), 5 * 16_000)
    audio = (0.2 * wave / np.abs(wave).max()).astype(np.float32)
    assert not follow(vad, np.concatenate([silence(0.5), audio]))


def test_nothing_is_told_where_nobody_listens(vad: SileroVad) -> None:
    events = SpeechTracker(vad).process(join(["cards-001"]))
    assert not [event for event in events if isinstance(event, (SpeechOnset, SpeechOnsetEnded))]
    assert [event for event in events if isinstance(event, SpeechStarted)]
