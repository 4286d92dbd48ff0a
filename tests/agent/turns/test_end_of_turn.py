"""When a turn is over: the machine alone, on a clock of its own."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from talkpath.agent.turns import (
    PROFILES,
    Eager,
    End,
    EndOfTurn,
    Judge,
    TurnEvent,
    Withdraw,
    required_silence_s,
)

BALANCED = PROFILES["balanced"]
EAGER = replace(BALANCED, eager=True)
STOP_S = 0.2


class Caller:
    """Somebody who speaks, with a clock that goes as told."""

    def __init__(self, eager: bool = False) -> None:
        self.now_s = 100.0
        self.machine = EndOfTurn(EAGER if eager else BALANCED, STOP_S)
        self.events: list[TurnEvent] = []

    def speaks(self, seconds: float = 1.0, *, opens: bool = True) -> None:
        self.events += self.machine.opened(self.now_s) if opens else []
        self.events += self.machine.started()
        self.now_s += seconds

    def pauses(self) -> int:
        """Fall silent, as far as the early pause; give the ticket that Smart Turn is asked by."""
        self.now_s += 0.032
        (judge,) = events = self.machine.early_pause(self.now_s, 0.032)
        self.events += events
        assert isinstance(judge, Judge)
        return judge.ticket

    def is_judged(self, ticket: int, completeness: float | None) -> None:
        self.events += self.machine.judged(ticket, completeness, self.now_s)

    def likely_says(self, text: str) -> None:
        self.events += self.machine.likely(text, self.now_s)

    def stops(self) -> None:
        self.now_s += STOP_S - 0.032
        self.events += self.machine.stopped(self.now_s, STOP_S)

    def said(self, text: str) -> None:
        self.events += self.machine.final(text, self.now_s)

    def waits(self, seconds: float) -> float | None:
        """Let time pass, as an alarm at ``due_s`` would; give when the turn ended, in silence."""
        until_s = self.now_s + seconds
        while (due_s := self.machine.due_s) is not None and due_s <= until_s:
            self.now_s = max(due_s, self.now_s)
            self.events += self.machine.tick(self.now_s)
            if isinstance(self.events[-1], End):
                return self.now_s
        self.now_s = until_s
        return None

    @property
    def ends(self) -> list[End]:
        return [event for event in self.events if isinstance(event, End)]

    @property
    def told(self) -> list[TurnEvent]:
        return [event for event in self.events if not isinstance(event, Judge)]


def a_sentence(caller: Caller, text: str, completeness: float | None) -> float:
    """Say it; give when the silence after it began."""
    caller.speaks()
    silent_since_s = caller.now_s
    caller.is_judged(caller.pauses(), completeness)
    caller.stops()
    caller.said(text)
    return silent_since_s


def test_what_sounds_finished_is_over_at_the_stop() -> None:
    caller = Caller()
    a_sentence(caller, "Hello there.", 0.98)
    assert caller.ends == [End("Hello there.", confirms_eager=False, completeness=0.98)]


@pytest.mark.parametrize("completeness", [0.02, 0.3, 0.5, 0.8, None])
def test_what_sounds_unfinished_waits_for_as_much_silence_as_is_missing(
    completeness: float | None,
) -> None:
    caller = Caller()
    silent_since_s = a_sentence(caller, "I would like", completeness)
    assert not caller.ends
    ended_s = caller.waits(10)
    assert ended_s is not None
    required_s = required_silence_s(0.3 if completeness is None else completeness, BALANCED, STOP_S)
    assert ended_s - silent_since_s == pytest.approx(required_s)


def test_neither_the_final_nor_the_judgement_waits_for_the_other() -> None:
    late_final = Caller()
    late_final.speaks()
    late_final.is_judged(late_final.pauses(), 0.98)
    late_final.stops()
    assert late_final.waits(2) is None
    late_final.said("Hello.")
    late_judgement = Caller()
    late_judgement.speaks()
    ticket = late_judgement.pauses()
    late_judgement.stops()
    late_judgement.said("Hello.")
    assert late_judgement.waits(1) is None
    late_judgement.is_judged(ticket, 0.98)
    assert [end.text for end in late_final.ends + late_judgement.ends] == ["Hello.", "Hello."]


def test_a_judgement_of_an_earlier_pause_does_not_count() -> None:
    caller = Caller()
    caller.speaks()
    stale = caller.pauses()
    caller.events += caller.machine.resumed()
    ticket = caller.pauses()
    caller.stops()
    caller.said("Hello, I would")
    caller.is_judged(stale, 0.99)
    assert not caller.ends
    caller.is_judged(ticket, 0.1)
    assert not caller.ends


def test_a_turn_holds_all_that_was_said_in_it() -> None:
    caller = Caller()
    a_sentence(caller, "I would like", 0.1)
    assert caller.waits(0.5) is None
    a_sentence(caller, "a table for two.", 0.97)
    assert [end.text for end in caller.ends] == ["I would like a table for two."]


def test_words_that_cannot_end_a_turn_wait_though_they_sound_finished() -> None:
    finished, unfinished = Caller(), Caller()
    a_sentence(finished, "That is my problem.", 0.95)
    a_sentence(unfinished, "That is my problem and", 0.95)
    assert finished.ends and not unfinished.ends
    assert unfinished.waits(BALANCED.wait_s) is not None


def test_sound_without_words_is_over_at_once() -> None:
    caller = Caller()
    a_sentence(caller, "", 0.1)
    assert [end.text for end in caller.ends] == [""]


def test_a_detector_without_early_pauses_has_its_turns_too() -> None:
    caller = Caller()
    caller.speaks()
    caller.events += caller.machine.stopped(caller.now_s + STOP_S, STOP_S)
    caller.said("Hello.")
    assert caller.waits(10) is not None


def test_an_eager_reply_is_begun_in_the_pause_and_confirmed_at_the_end() -> None:
    caller = Caller(eager=True)
    caller.speaks()
    ticket = caller.pauses()
    caller.likely_says("Hello there.")
    caller.is_judged(ticket, 0.98)
    assert caller.told == [Eager("Hello there.", 0.98)]
    caller.stops()
    caller.said("hello there")
    assert caller.ends == [End("hello there", confirms_eager=True, completeness=0.98)]


def test_an_eager_reply_is_withdrawn_when_speech_goes_on() -> None:
    caller = Caller(eager=True)
    caller.speaks()
    ticket = caller.pauses()
    caller.is_judged(ticket, 0.98)
    caller.likely_says("Hello there.")
    caller.events += caller.machine.resumed()
    assert caller.told == [Eager("Hello there.", 0.98), Withdraw()]


def test_an_eager_reply_to_other_words_than_the_final_ones_is_withdrawn() -> None:
    caller = Caller(eager=True)
    caller.speaks()
    ticket = caller.pauses()
    caller.is_judged(ticket, 0.98)
    caller.likely_says("Hello there.")
    caller.stops()
    caller.said("Hello, bear.")
    assert caller.told[1:] == [Withdraw(), End("Hello, bear.", False, 0.98)]


def test_an_eager_reply_covers_the_whole_turn() -> None:
    caller = Caller(eager=True)
    a_sentence(caller, "I would like", 0.3)
    caller.speaks()
    ticket = caller.pauses()
    caller.likely_says("a table.")
    caller.is_judged(ticket, 0.97)
    assert caller.told[-1] == Eager("I would like a table.", 0.97)


def test_an_eager_reply_waits_for_the_words_of_earlier_pieces() -> None:
    caller = Caller(eager=True)
    caller.speaks()
    caller.is_judged(caller.pauses(), 0.3)
    caller.stops()  # whose final is late
    caller.speaks()
    ticket = caller.pauses()
    caller.likely_says("a table.")
    caller.is_judged(ticket, 0.97)
    assert not caller.told
    caller.said("I would like")
    assert not [event for event in caller.told if isinstance(event, End)]


def test_nothing_is_begun_on_what_may_take_no_turn() -> None:
    """Speech over a bot that speaks: only its final opens the turn."""
    caller = Caller(eager=True)
    caller.speaks(opens=False)
    ticket = caller.pauses()
    caller.likely_says("Stop it.")
    caller.is_judged(ticket, 0.98)
    caller.stops()
    assert not caller.told
    caller.events += caller.machine.opened(caller.now_s)
    caller.said("Stop it.")
    assert caller.told == [
        Eager("Stop it.", 0.98),
        End("Stop it.", confirms_eager=True, completeness=0.98),
    ]


@pytest.mark.parametrize("said", ["", "I would like"])
def test_a_final_that_never_comes_does_not_keep_a_turn_open(said: str) -> None:
    caller = Caller()
    if said:
        a_sentence(caller, said, 0.1)
    caller.speaks()
    caller.is_judged(caller.pauses(), 0.98)
    caller.stops()
    assert caller.waits(10) is not None
    assert [end.text for end in caller.ends] == [said]


def test_a_judgement_that_never_comes_is_waited_for_no_longer_than_the_longest_silence() -> None:
    caller = Caller()
    caller.speaks()
    caller.pauses()
    since_s = caller.now_s - 0.032
    caller.stops()
    caller.said("Hello.")
    ended_s = caller.waits(10)
    assert ended_s == pytest.approx(since_s + BALANCED.wait_s)


def test_nothing_is_eager_about_a_turn_that_is_over() -> None:
    caller = Caller(eager=True)
    a_sentence(caller, "Hello there.", 0.98)
    assert caller.told == [End("Hello there.", confirms_eager=False, completeness=0.98)]


def test_an_eager_reply_that_was_given_up_is_begun_at_the_end() -> None:
    caller = Caller(eager=True)
    caller.speaks()
    ticket = caller.pauses()
    caller.is_judged(ticket, 0.98)
    caller.likely_says("Hello there.")
    caller.machine.refused()
    caller.stops()
    caller.said("Hello there.")
    assert caller.told[1:] == [End("Hello there.", confirms_eager=False, completeness=0.98)]


def test_what_sounds_unfinished_starts_an_eager_reply_only_when_it_has_stopped() -> None:
    caller = Caller(eager=True)
    caller.speaks()
    ticket = caller.pauses()
    caller.likely_says("I would like")
    caller.is_judged(ticket, 0.2)
    caller.stops()
    assert not caller.told
    caller.said("I would like")
    assert caller.told == [Eager("I would like", 0.2)]


STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["open", "speak", "pause", "resume", "stop", "judge", "likely", "final", "wait"]
        ),
        st.floats(0.0, 1.0),
        st.sampled_from(["", "Hello.", "and", "I would like"]),
    ),
    max_size=40,
)


@given(STEPS)
def test_whatever_happens_a_turn_ends_once_and_only_in_silence(
    steps: list[tuple[str, float, str]],
) -> None:
    machine = EndOfTurn(EAGER, STOP_S)
    now_s, speaking, eager, ticket = 0.0, False, False, 0
    for step, number, text in steps:
        now_s += number
        match step:
            case "speak":
                events, speaking = machine.started(), True
            case "open":
                events = machine.opened(now_s)
            case "pause":
                events = machine.early_pause(now_s, 0.032)
            case "resume":
                events = machine.resumed()
            case "stop":
                events, speaking = machine.stopped(now_s, STOP_S), False
            case "judge":
                events = machine.judged(ticket, number, now_s)
            case "likely":
                events = machine.likely(text, now_s)
            case "final":
                events = machine.final(text, now_s)
            case _:
                events = machine.tick(now_s)
        for event in events:
            match event:
                case Judge():
                    ticket = event.ticket
                case Eager():
                    assert not eager and event.text
                    eager = True
                case Withdraw():
                    assert eager
                    eager = False
                case End():
                    assert not speaking
                    assert event.confirms_eager == eager
                    eager = False
    # Left alone, every turn comes to its end.
    machine.started()
    machine.stopped(now_s, STOP_S)
    assert machine.due_s is not None
    events = machine.tick(machine.due_s)
    assert isinstance(events[-1], End) and machine.due_s is None
