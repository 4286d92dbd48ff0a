"""The arithmetic of turns."""

import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from talkpath.agent.timeline import Moment, TurnClock, TurnLatency


def answer(clock: TurnClock, start_s: float) -> list[TurnLatency | None]:
    """Run a whole turn whose speech ended at ``start_s``."""
    clock.speech_stopped(start_s + 0.2, 0.2)
    return [
        clock.mark(Moment.FINAL, start_s + 0.25),
        clock.mark(Moment.TURN, start_s + 0.3),
        clock.mark(Moment.TOKEN, start_s + 0.4),
        clock.mark(Moment.AUDIO, start_s + 0.6),
        clock.mark(Moment.PACKET, start_s + 0.61),
    ]


def test_a_whole_turn_is_told_with_its_first_packet() -> None:
    *before, turn = answer(TurnClock(), 10)
    assert before == [None] * 4
    assert turn == TurnLatency(
        1,
        (
            ("stop", 200),
            ("final", 50),
            ("turn", 50),
            ("first-token", 100),
            ("first-audio", 200),
            ("first-packet", 10),
        ),
        610,
    )
    assert str(turn) == (
        "turn 1: 610 ms (stop 200, final 50, turn 50, first-token 100, first-audio 200, "
        "first-packet 10)"
    )


def test_turns_are_numbered() -> None:
    clock = TurnClock()
    turns = [answer(clock, 10 * number)[-1] for number in range(3)]
    assert [turn.turn for turn in turns if turn] == [1, 2, 3]


def test_only_the_first_token_audio_and_packet_count() -> None:
    clock = TurnClock()
    clock.speech_stopped(1.2, 0.2)
    clock.mark(Moment.TURN, 1.3)
    clock.mark(Moment.TOKEN, 1.4)
    clock.mark(Moment.TOKEN, 1.5)
    turn = clock.mark(Moment.PACKET, 1.6)
    assert turn is not None
    assert turn.parts == (("stop", 200), ("turn", 100), ("first-token", 100), ("first-packet", 200))
    assert clock.mark(Moment.PACKET, 1.7) is None


def test_speech_that_goes_on_moves_the_end_of_the_turn() -> None:
    clock = TurnClock()
    clock.speech_stopped(1.2, 0.2)
    clock.mark(Moment.FINAL, 1.25)
    clock.speech_started()
    clock.speech_stopped(3.2, 0.2)
    clock.mark(Moment.FINAL, 3.3)
    clock.mark(Moment.FINAL, 3.4)  # a long speech comes in two pieces
    clock.mark(Moment.TURN, 3.5)
    turn = clock.mark(Moment.PACKET, 4)
    assert turn is not None
    assert (turn.turn, turn.total_ms) == (1, 1000)
    assert turn.parts[1] == ("final", 200)


def test_an_interrupted_turn_tells_what_it_has() -> None:
    clock = TurnClock()
    clock.speech_stopped(1.2, 0.2)
    clock.mark(Moment.FINAL, 1.25)
    clock.mark(Moment.TURN, 1.3)
    clock.mark(Moment.TOKEN, 1.4)
    clock.speech_started()
    turn = clock.ended()
    assert turn is not None
    assert [name for name, _ in turn.parts] == ["stop", "final", "turn", "first-token"]
    assert turn.total_ms == 400
    assert clock.ended() is None


def test_a_session_that_ends_tells_the_turn_it_owes() -> None:
    clock = TurnClock()
    clock.speech_stopped(1.2, 0.2)
    clock.mark(Moment.TURN, 1.3)
    turn = clock.ended()
    assert turn is not None
    assert turn.total_ms == 300


def test_a_greeting_is_no_answer() -> None:
    clock = TurnClock()
    greeting = [clock.mark(moment, 1) for moment in (Moment.TOKEN, Moment.AUDIO, Moment.PACKET)]
    assert greeting == [None, None, None]
    # The caller speaks into the greeting; its last audio belongs to no turn either.
    clock.speech_started()
    clock.speech_stopped(2.2, 0.2)
    assert clock.mark(Moment.AUDIO, 2.3) is None
    clock.mark(Moment.TURN, 2.4)
    clock.mark(Moment.AUDIO, 2.9)
    turn = clock.mark(Moment.PACKET, 3)
    assert turn is not None
    assert turn.parts == (("stop", 200), ("turn", 200), ("first-audio", 500), ("first-packet", 100))


def test_a_final_after_the_turn_was_decided_leaves_no_part_below_zero() -> None:
    clock = TurnClock()
    clock.speech_stopped(1.2, 0.2)
    clock.mark(Moment.TURN, 1.5)
    clock.mark(Moment.FINAL, 1.6)
    clock.mark(Moment.FINAL, 1.7)
    turn = clock.mark(Moment.PACKET, 2)
    assert turn is not None
    assert turn.parts == (("stop", 200), ("final", 400), ("turn", 0), ("first-packet", 400))


def test_a_cough_while_the_bot_thinks_leaves_the_answer_its_time() -> None:
    clock = TurnClock()
    *_, undisturbed = answer(TurnClock(), 1)
    clock.speech_stopped(1.2, 0.2)
    clock.mark(Moment.FINAL, 1.25)
    clock.mark(Moment.TURN, 1.3)
    clock.mark(Moment.TOKEN, 1.4)
    clock.speech_started()
    clock.speech_stopped(1.55, 0.2)
    clock.mark(Moment.AUDIO, 1.6)
    assert clock.mark(Moment.PACKET, 1.61) == undisturbed


def test_a_turn_that_was_heard_before_the_interruption_is_the_next_one() -> None:
    clock = TurnClock()
    clock.speech_stopped(1.2, 0.2)
    clock.mark(Moment.TURN, 1.3)
    clock.speech_started()
    clock.speech_stopped(2.2, 0.2)
    interrupted = clock.ended()
    assert interrupted is not None
    assert interrupted.total_ms == 300
    clock.mark(Moment.FINAL, 2.3)
    clock.mark(Moment.TURN, 2.3)
    following = clock.mark(Moment.PACKET, 2.5)
    assert following is not None
    assert (following.turn, following.total_ms) == (2, 500)


def test_a_turn_that_is_never_answered_is_told_when_the_next_one_is_over() -> None:
    clock = TurnClock()
    clock.speech_stopped(1.2, 0.2)
    clock.mark(Moment.TURN, 1.3)
    clock.speech_started()
    clock.speech_stopped(9.2, 0.2)
    unanswered = clock.mark(Moment.TURN, 9.3)
    assert unanswered is not None
    assert unanswered.parts == (("stop", 200), ("turn", 100))


def eager_turn(clock: TurnClock) -> None:
    """A reply begun in the early pause, with its first token before the turn is over."""
    clock.speech_started()
    clock.eager(1.1)
    clock.speech_stopped(1.2, 0.2, ended_at_s=1000.0)
    clock.mark(Moment.TOKEN, 1.22)
    clock.mark(Moment.FINAL, 1.25)


def test_what_an_eager_reply_has_before_the_turn_is_over_costs_nothing() -> None:
    clock = TurnClock()
    eager_turn(clock)
    clock.mark(Moment.TURN, 1.3)
    clock.mark(Moment.TOKEN, 1.35)
    clock.mark(Moment.AUDIO, 1.4)
    turn = clock.mark(Moment.PACKET, 1.41)
    heard = (("stop", 200), ("final", 50), ("turn", 50))
    answered = (("first-token", 0), ("first-audio", 100), ("first-packet", 10))
    assert turn == TurnLatency(1, (*heard, *answered), 410, ended_at_s=1000.0, eager_ms=200)
    assert str(turn).endswith("first-packet 10, eager by 200)")


def test_a_reply_that_is_begun_with_the_decision_is_not_eager() -> None:
    clock = TurnClock()
    clock.speech_started()
    clock.speech_stopped(1.2, 0.2)
    clock.mark(Moment.TURN, 1.3)
    clock.eager(1.3)
    clock.mark(Moment.TOKEN, 1.4)
    turn = clock.mark(Moment.PACKET, 1.5)
    assert turn is not None
    assert turn.eager_ms is None
    assert ("first-token", 100) in turn.parts


def test_an_eager_reply_that_is_withdrawn_never_was() -> None:
    clock = TurnClock()
    eager_turn(clock)
    clock.withdrawn()
    clock.mark(Moment.TURN, 1.3)
    clock.mark(Moment.TOKEN, 1.4)
    turn = clock.mark(Moment.PACKET, 1.5)
    assert turn is not None
    assert turn.eager_ms is None
    assert ("first-token", 100) in turn.parts


@pytest.mark.parametrize(
    ("last", "names"), [(Moment.FINAL, ["stop", "final"]), (Moment.TURN, ["stop", "final", "turn"])]
)
def test_a_bot_without_a_voice_tells_as_far_as_it_goes(last: Moment, names: list[str]) -> None:
    clock = TurnClock(last)
    told = [turn for turn in answer(clock, 5) if turn]
    assert [[name for name, _ in turn.parts] for turn in told] == [names]


KINDS = [*Moment, "started", "eager", "withdrawn", "interrupted"]


@given(
    st.lists(
        st.tuples(st.sampled_from(KINDS), st.floats(0, 3), st.floats(0, 0.5)),
        max_size=30,
    )
)
def test_parts_add_up_whatever_happens(events: Sequence[tuple[Moment | str, float, float]]) -> None:
    clock = TurnClock()
    now = 0.0
    turns = []
    for event, step_s, silence_s in events:
        now += step_s
        if event is Moment.STOP:
            clock.speech_stopped(now, silence_s)
        elif isinstance(event, Moment):
            turns.append(clock.mark(event, now))
        elif event == "interrupted":
            turns.append(clock.ended())
        elif event == "eager":
            clock.eager(now)
        elif event == "withdrawn":
            clock.withdrawn()
        else:
            clock.speech_started()
    told = [turn for turn in [*turns, clock.ended()] if turn]
    assert [turn.turn for turn in told] == list(range(1, len(told) + 1))
    for turn in told:
        assert math.fsum(ms for _, ms in turn.parts) == turn.total_ms
        assert all(ms >= 0 for _, ms in turn.parts)
        assert turn.eager_ms is None or turn.eager_ms >= 0
