"""The timeline in a real pipeline: what it tells, counts and logs of the frames that pass."""

import time
from collections.abc import Sequence

import pytest
from loguru import logger
from pipecat.frames.frames import (
    BotStartedSpeakingFrame,
    EagerEndOfTurnCancelFrame,
    Frame,
    InterruptionFrame,
    LLMTextFrame,
    OutputAudioRawFrame,
    TextFrame,
    TranscriptionFrame,
    TTSAudioRawFrame,
    UserBackchannelFrame,
    UserStoppedSpeakingFrame,
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.turns.user_turn_processor import UserTurnProcessor

from talkpath.agent.metrics import render_prometheus
from talkpath.agent.timeline import Moment, TurnLatency
from talkpath.agent.turn_counts import TurnCounts, TurnMetrics
from talkpath.processors.echo import Echo
from talkpath.processors.frames import (
    EagerEndOfTurnFrame,
    HoldPlaybackFrame,
    ResumePlaybackFrame,
)
from talkpath.processors.latency_timeline import LatencyTimeline
from tests.processors.sending import SleepFrame, run_test


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


async def watch(
    *processors: FrameProcessor,
    frames: Sequence[Frame],
    counted: list[TurnCounts] | None = None,
    metrics: TurnMetrics | None = None,
) -> list[TurnLatency]:
    told: list[TurnLatency] = []

    async def on_turn(turn: TurnLatency) -> None:
        told.append(turn)

    async def on_counts(counts: TurnCounts) -> None:
        if counted is not None:
            counted.append(counts)

    pipeline = Pipeline([Passing(), *processors, Passing()])
    timeline = LatencyTimeline(on_turn, on_counts, metrics)
    await run_test(pipeline, frames_to_send=frames, observers=[timeline])
    return told


async def test_the_observer_counts_each_frame_once_in_a_real_pipeline() -> None:
    told = await watch(Echo(), UserTurnProcessor(), frames=[*a_turn(), *a_turn()])
    assert [turn.turn for turn in told] == [1, 2]
    for turn in told:
        assert abs(time.time() - turn.ended_at_s) < 60
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


async def test_an_eager_turn_and_barge_ins_are_told_logged_and_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    counted: list[TurnCounts] = []
    metrics = TurnMetrics()
    frames: list[Frame] = [
        VADUserStartedSpeakingFrame(),
        EagerEndOfTurnFrame(0.9),
        SleepFrame(0.05),
        EagerEndOfTurnCancelFrame(),
        VADUserStoppedSpeakingFrame(stop_secs=0.2),
        EagerEndOfTurnFrame(0.9),
        LLMTextFrame("Good "),
        SleepFrame(0.05),
        *a_turn()[3:],
        HoldPlaybackFrame(),
        ResumePlaybackFrame(),
        VADUserStartedSpeakingFrame(),
        HoldPlaybackFrame(),
        ResumePlaybackFrame(),
        UserBackchannelFrame("mhm", "", ""),
        SleepFrame(0.05),
        VADUserStartedSpeakingFrame(),
        HoldPlaybackFrame(),
        InterruptionFrame(),
        SleepFrame(0.05),
    ]
    sink = logger.add(caplog.handler, format="{message}", level="INFO")
    try:
        told = await watch(
            Echo(), UserTurnProcessor(), frames=frames, counted=counted, metrics=metrics
        )
    finally:
        logger.remove(sink)
    assert len(told) == 1
    assert told[0].eager_ms is not None and told[0].eager_ms >= 50
    assert dict(told[0].parts)["first-token"] == 0
    assert counted[-1] == TurnCounts(
        eager_started=2,
        eager_used=1,
        eager_discarded=1,
        barge_ins=1,
        false_alarms=1,
        backchannels=1,
    )
    assert len(counted) == 7
    summary = [
        line for line in caplog.messages if line.startswith("session over: turns 1, median ")
    ]
    assert len(summary) == 1
    assert summary[0].endswith(
        "eager replies 2, used 1, thrown away 1; barge-ins 1, false alarms 1, backchannels 1"
    )
    text = render_prometheus(metrics.registry)
    assert 'talkpath_turn_events_total{event="eager_discarded"} 1' in text
    assert 'talkpath_turn_part_seconds_count{part="first-audio"} 1' in text
    assert "talkpath_turn_seconds_count 1" in text
