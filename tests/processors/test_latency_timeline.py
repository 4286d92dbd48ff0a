"""The arithmetic of turns, and the observer in a real pipeline."""

import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pipecat.frames.frames import (
    BotStartedSpeakingFrame,
    Frame,
    LLMTextFrame,
    OutputAudioRawFrame,
    TextFrame,
    TranscriptionFrame,
    TTSAudioRawFrame,
    UserStoppedSpeakingFrame,
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.tests.utils import SleepFrame, run_test
from pipecat.turns.user_turn_processor import UserTurnProcessor

from talkpath.processors.echo import Echo
from talkpath.processors.latency_timeline import LatencyTimeline, Moment, TurnClock, TurnLatency


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
    assert clock.speech_started() is None
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
    turn = clock.speech_started()
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


@pytest.mark.parametrize(
    ("last", "names"), [(Moment.FINAL, ["stop", "final"]), (Moment.TURN, ["stop", "final", "turn"])]
)
def test_a_bot_without_a_voice_tells_as_far_as_it_goes(last: Moment, names: list[str]) -> None:
    clock = TurnClock(last)
    told = [turn for turn in answer(clock, 5) if turn]
    assert [[name for name, _ in turn.parts] for turn in told] == [names]


@given(
    st.lists(
        st.tuples(st.sampled_from([*Moment, "started"]), st.floats(0, 3), st.floats(0, 0.5)),
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
        else:
            turns.append(clock.speech_started())
    told = [turn for turn in [*turns, clock.ended()] if turn]
    assert [turn.turn for turn in told] == list(range(1, len(told) + 1))
    for turn in told:
        assert math.fsum(ms for _, ms in turn.parts) == turn.total_ms
        assert all(ms >= 0 for _, ms in turn.parts)


class Passing(FrameProcessor):
    """Passes everything on, for one more hop."""

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        await self.push_frame(frame, direction)


def a_turn() -> list[Frame]:
    return [
        VADUserStartedSpeakingFrame(),
        VADUserStoppedSpeakingFrame(stop_secs=0.2),
        SleepFrame(0.05),
        TranscriptionFrame("hello", "", "", finalized=True),
        SleepFrame(0.05),
        UserStoppedSpeakingFrame(),
        LLMTextFrame("Good "),
        LLMTextFrame("morning."),
        TTSAudioRawFrame(bytes(480), 24_000, 1),
        SleepFrame(0.05),
        BotStartedSpeakingFrame(),
        TextFrame("unrelated"),
        OutputAudioRawFrame(bytes(480), 24_000, 1),
        SleepFrame(0.05),
    ]


async def watch(*processors: FrameProcessor, frames: Sequence[Frame]) -> list[TurnLatency]:
    told: list[TurnLatency] = []

    async def on_turn(turn: TurnLatency) -> None:
        told.append(turn)

    pipeline = Pipeline([Passing(), *processors, Passing()])
    await run_test(pipeline, frames_to_send=frames, observers=[LatencyTimeline(on_turn)])
    return told


async def test_the_observer_counts_each_frame_once_in_a_real_pipeline() -> None:
    told = await watch(Echo(), UserTurnProcessor(), frames=[*a_turn(), *a_turn()])
    assert [turn.turn for turn in told] == [1, 2]
    for turn in told:
        assert [name for name, _ in turn.parts] == [moment.value for moment in Moment]
        assert turn.parts[0][1] == 200
        assert turn.total_ms >= 300


async def test_the_observer_finds_out_how_far_a_pipeline_goes() -> None:
    told = await watch(frames=a_turn())
    assert [[name for name, _ in turn.parts] for turn in told] == [["stop", "final"]]
    told = await watch(UserTurnProcessor(), frames=a_turn())
    assert [name for name, _ in told[0].parts] == ["stop", "final", "turn"]


async def test_the_observer_tells_what_is_left_when_the_session_ends() -> None:
    told = await watch(Echo(), frames=[*a_turn()[:6], SleepFrame(0.05)])
    assert [[name for name, _ in turn.parts] for turn in told] == [["stop", "final", "turn"]]


async def test_the_observer_works_without_anyone_to_tell() -> None:
    timeline = LatencyTimeline()
    await run_test(Passing(), frames_to_send=a_turn(), observers=[timeline])
