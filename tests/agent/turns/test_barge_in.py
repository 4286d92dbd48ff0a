"""Whether a caller wants the turn of a bot that is speaking: the machine alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from talkpath.agent.turns import (
    PROFILES,
    Answer,
    Backchannel,
    BargeIn,
    BargeInEvent,
    Begin,
    Hold,
    Interrupt,
    Resume,
)

SNAPPY, BALANCED, PATIENT = (PROFILES[name] for name in ("snappy", "balanced", "patient"))


def spoken_over(profile: str = "balanced") -> BargeIn:
    """A bot that speaks, and a caller who just began to."""
    machine = BargeIn(PROFILES[profile])
    assert machine.speaking() == []
    return machine


def speech(machine: BargeIn, at_s: float = 0.0) -> list[BargeInEvent]:
    return [*machine.onset(at_s, 0.08), *machine.started(at_s + 0.13, 0.21)]


def test_speech_takes_the_turn_at_once_while_the_bot_is_silent() -> None:
    assert BargeIn(BALANCED).started(1.0, 0.2) == [Begin()]


def test_a_speaking_bot_falls_silent_at_the_onset() -> None:
    assert speech(spoken_over()) == [Hold()]


def test_an_onset_that_comes_to_nothing_lets_it_go_on() -> None:
    machine = spoken_over()
    assert machine.onset(0.0, 0.08) == [Hold()]
    assert machine.onset_ended() == [Resume()]


def test_a_knock_between_the_stop_and_its_final_lets_nobody_speak_into_the_words() -> None:
    machine = spoken_over()
    speech(machine)
    machine.stopped()
    assert machine.onset(1.0, 0.08) == []
    assert machine.onset_ended() == []
    assert machine.final("stop please now", 1.3) == [Interrupt()]

    machine = spoken_over()
    speech(machine)
    machine.stopped()
    machine.onset(1.0, 0.08)
    assert machine.final("", 1.1) == []  # the new sound may be speech
    assert machine.onset_ended() == [Resume()]


def test_words_interrupt_it() -> None:
    machine = spoken_over()
    speech(machine)
    assert machine.partial("wait") == []  # one word is not enough for this profile
    assert machine.partial("wait a minute") == [Interrupt()]
    assert not machine.held


@pytest.mark.parametrize("text", ["Stop.", "No!", "Wait.", "Nein.", "Hello?"])
def test_one_word_said_by_itself_is_enough(text: str) -> None:
    machine = spoken_over("patient")
    machine.started(0.0, 0.2)
    machine.stopped()
    assert machine.final(text, 1.0) == [Interrupt()]


@pytest.mark.parametrize("text", ["Mm-hmm.", "Yeah.", "Uh-huh", "Okay, right.", "Ja, genau."])
def test_a_backchannel_lets_it_go_on(text: str) -> None:
    machine = spoken_over()
    assert speech(machine) == [Hold()]
    assert machine.partial(text) == []
    assert machine.stopped() == []
    assert machine.final(text, 1.0) == [Resume()]
    assert machine.due_s is not None
    assert machine.tick(machine.due_s) == [Backchannel(text)]


def test_sound_without_words_lets_it_go_on() -> None:
    machine = spoken_over()
    speech(machine)
    machine.stopped()
    assert machine.final("", 1.0) == [Resume()]


def test_long_noise_lets_it_go_on_and_does_not_stop_it_again() -> None:
    machine = spoken_over()
    speech(machine)
    assert machine.due_s is not None
    assert machine.tick(machine.due_s) == [Resume()]
    assert machine.due_s is None
    assert machine.partial("now I have said something") == [Interrupt()]


def test_a_hold_without_a_decision_ends() -> None:
    machine = spoken_over()
    speech(machine)
    machine.partial("wait")
    assert machine.due_s is not None
    assert machine.tick(machine.due_s) == [Resume()]


def test_a_patient_bot_speaks_on_for_a_moment() -> None:
    machine = spoken_over("patient")
    assert speech(machine) == []
    assert machine.due_s == pytest.approx(-0.08 + PATIENT.grace_s)
    assert machine.tick(machine.due_s or 0.0) == [Hold()]


def test_a_backchannel_within_the_grace_is_no_pause_at_all() -> None:
    machine = spoken_over("patient")
    assert not [*speech(machine), *machine.stopped(), *machine.final("Mhm.", 0.6)]
    assert machine.onset(1.0, 0.08) == [Backchannel("Mhm.")]


def test_yes_over_the_last_words_of_a_question_is_its_answer() -> None:
    machine = spoken_over()
    speech(machine)
    machine.stopped()
    machine.final("Yes.", 1.0)
    assert machine.idle(2.0) == [Answer("Yes.")]


def test_yes_in_the_middle_of_a_speech_is_none() -> None:
    machine = spoken_over()
    speech(machine)
    machine.stopped()
    machine.final("Yes.", 1.0)
    assert machine.idle(6.0) == [Backchannel("Yes.")]


def test_a_caller_who_speaks_when_the_bot_ends_has_the_turn() -> None:
    machine = spoken_over("patient")
    machine.started(0.0, 0.2)
    assert machine.idle(0.1) == [Begin()]


def test_what_it_stopped_saying_is_no_end_of_its_thoughts() -> None:
    machine = spoken_over()
    speech(machine)
    machine.stopped()
    assert machine.final("Wait.", 1.0) == [Interrupt()]
    machine.thinking(1.1)
    assert machine.idle(1.2) == []  # of the speech that was interrupted
    assert machine.started(2.0, 0.2) == [Hold()]


def test_words_that_may_still_change_are_no_noise() -> None:
    machine = spoken_over()
    speech(machine)
    assert machine.partial("", worded=True) == []
    assert machine.tick(2.0) == []


def test_a_thinking_bot_is_not_disturbed_by_a_cough() -> None:
    machine = BargeIn(BALANCED)
    machine.thinking(0.0)
    assert machine.started(0.5, 0.2) == [Hold()]
    machine.stopped()
    assert machine.final("", 1.0) == [Resume()]


def test_a_bot_that_has_no_answer_stops_thinking() -> None:
    machine = BargeIn(BALANCED)
    machine.thinking(0.0)
    assert machine.due_s is not None
    machine.tick(machine.due_s)
    assert machine.started(20.0, 0.2) == [Begin()]


STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            [
                "think",
                "speak",
                "idle",
                "onset",
                "ended",
                "start",
                "stop",
                "partial",
                "final",
                "wait",
            ]
        ),
        st.floats(0.0, 2.0),
        st.sampled_from(["", "mhm", "stop", "tell me about the weather"]),
    ),
    max_size=50,
)


@given(STEPS, st.sampled_from(sorted(PROFILES)))
def test_whatever_happens_every_hold_has_its_end(
    steps: list[tuple[str, float, str]], profile: str
) -> None:
    machine = BargeIn(PROFILES[profile])
    now_s, held = 0.0, False
    for step, number, text in steps:
        until_s = now_s + number
        while (due_s := machine.due_s) is not None and due_s <= until_s:
            now_s = max(due_s, now_s)
            held = _followed(machine.tick(now_s), held)
        now_s = until_s
        held = _followed(_events(machine, step, now_s, text), held)
        assert held == machine.held
    for _ in range(10):  # left alone it decides
        if machine.due_s is None:
            break
        held = _followed(machine.tick(max(machine.due_s, now_s)), held)
    assert not machine.held


def _events(machine: BargeIn, step: str, at_s: float, text: str) -> list[BargeInEvent]:
    match step:
        case "think":
            return machine.thinking(at_s)
        case "speak":
            return machine.speaking()
        case "idle":
            return machine.idle(at_s)
        case "onset":
            return machine.onset(at_s, 0.08)
        case "ended":
            return machine.onset_ended()
        case "start":
            return machine.started(at_s, 0.2)
        case "stop":
            return machine.stopped()
        case "partial":
            return machine.partial(text)
        case "final":
            return machine.final(text, at_s)
    return machine.tick(at_s)


def _followed(events: list[BargeInEvent], held: bool) -> bool:
    for event in events:
        match event:
            case Hold():
                assert not held
                held = True
            case Resume():
                assert held
                held = False
            case Interrupt():
                held = False
    return held
