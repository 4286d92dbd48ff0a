"""How much silence a turn needs, and which words only show that somebody listens."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from talkpath.agent.config import TurnConfig
from talkpath.agent.turns import (
    PROFILES,
    is_backchannel,
    is_unfinished,
    required_silence_s,
    turn_profile,
    word_count,
)

STOP_S = 0.2


@given(st.floats(0, 1), st.floats(0, 1), st.sampled_from(sorted(PROFILES)), st.booleans())
def test_the_less_finished_the_longer_within_the_profiles_bounds(
    one: float, other: float, name: str, unfinished: bool
) -> None:
    profile = PROFILES[name]
    less, more = sorted((one, other))
    waits = [required_silence_s(p, profile, STOP_S, unfinished=unfinished) for p in (less, more)]
    assert profile.wait_s >= waits[0] >= waits[1] >= STOP_S
    assert required_silence_s(more, profile, STOP_S) <= waits[1]
    if more >= profile.threshold and not unfinished:
        assert waits[1] == STOP_S


def test_more_patient_profiles_wait_longer() -> None:
    names = ("snappy", "balanced", "patient")
    for completeness in (0.02, 0.3, 0.6, 0.95):
        waits = [required_silence_s(completeness, PROFILES[name], STOP_S) for name in names]
        assert all(one <= other for one, other in itertools.pairwise(waits))


def test_a_wait_shorter_than_the_stop_is_the_stop() -> None:
    profile = turn_profile(TurnConfig(profile="snappy", wait_s=0.2))
    assert required_silence_s(0.01, profile, 0.5) == 0.5


@pytest.mark.parametrize(
    "text", ["I would like to", "The...", "Well,", "und", "I went home and.", "C'est le", "for the"]
)
def test_words_that_cannot_end_a_turn(text: str) -> None:
    assert is_unfinished(text)


@pytest.mark.parametrize("text", ["", "Hello.", "What are you looking at?", "Come in", "7", "Ja."])
def test_words_that_can(text: str) -> None:
    assert not is_unfinished(text)


@pytest.mark.parametrize(
    "text",
    ["Mm-hmm.", "mhm", "Yeah", "Yes, right.", "Uh-huh!", "OK.", "I see.", "Oui, d'accord", "Sí."],
)
def test_backchannels(text: str) -> None:
    assert is_backchannel(text)


@pytest.mark.parametrize(
    "text", ["", "...", "No.", "Stop!", "Yes, but wait.", "Right, the next question", "Nein", "5"]
)
def test_what_is_no_backchannel(text: str) -> None:
    assert not is_backchannel(text)


def test_words_are_counted_without_punctuation() -> None:
    assert word_count("Well - I don't, you know... 42!") == 6


def test_settings_go_over_the_bots_own_profile() -> None:
    assert turn_profile(TurnConfig()) == PROFILES["balanced"]
    assert turn_profile(TurnConfig(), "patient") == PROFILES["patient"]
    own = turn_profile(TurnConfig(profile="snappy", min_words=3), "patient")
    assert own.threshold == PROFILES["snappy"].threshold and own.min_words == 3
