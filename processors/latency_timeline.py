"""The latency timeline: watches a pipeline's turns from outside.

An observer, so it costs the pipeline nothing: it sees frames pass, hands over one ``TurnLatency``
for each user turn and the session's ``TurnCounts`` whenever they change, counts both in the
process's metrics, and logs them, numbers alone. The arithmetic is in ``talkpath.agent.timeline``
and ``talkpath.agent.turn_counts``, which know no frames.
"""

import statistics
from collections.abc import Awaitable, Callable

from loguru import logger
from pipecat.frames.frames import (
    BotStartedSpeakingFrame,
    BotStoppedSpeakingFrame,
    CancelFrame,
    EagerEndOfTurnCancelFrame,
    EndFrame,
    Frame,
    InterruptionFrame,
    LLMTextFrame,
    TranscriptionFrame,
    TTSAudioRawFrame,
    UserBackchannelFrame,
    UserStoppedSpeakingFrame,
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.observers.base_observer import BaseObserver, FramePushed, ProcessorSetUp
from pipecat.processors.aggregators.llm_response_universal import LLMUserAggregator
from pipecat.processors.frame_processor import FrameDirection
from pipecat.services.tts_service import TTSService
from pipecat.turns.user_turn_processor import UserTurnProcessor

from talkpath.agent.timeline import Moment, TurnClock, TurnLatency
from talkpath.agent.turn_counts import TurnCounts, TurnEvent, TurnMetrics, TurnWatch
from talkpath.processors.echo import Echo
from talkpath.processors.frames import (
    EagerEndOfTurnFrame,
    HoldPlaybackFrame,
    ResumePlaybackFrame,
)

__all__ = ["LatencyTimeline"]

_MOMENTS: tuple[tuple[type[Frame], Moment], ...] = (
    (TranscriptionFrame, Moment.FINAL),
    (UserStoppedSpeakingFrame, Moment.TURN),
    (LLMTextFrame, Moment.TOKEN),
    (TTSAudioRawFrame, Moment.AUDIO),
    (BotStartedSpeakingFrame, Moment.PACKET),
)


class LatencyTimeline(BaseObserver):
    """Watches a pipeline's turns, as far as the pipeline goes.

    A turn is complete with the first packet where the bot has a voice, with the end of the
    turn where it only takes turns, and with the final transcript where it has neither.

    Args:
        on_turn: awaited for each turn, off the pipeline's own path.
        on_counts: awaited with the counts of the session when one has changed.
        metrics: counts for the whole process.
    """

    def __init__(
        self,
        on_turn: Callable[[TurnLatency], Awaitable[None]] | None = None,
        on_counts: Callable[[TurnCounts], Awaitable[None]] | None = None,
        metrics: TurnMetrics | None = None,
    ) -> None:
        super().__init__(observe_every_push=False)
        self._on_turn = on_turn
        self._on_counts = on_counts
        self._metrics = metrics or TurnMetrics()
        self._clock = TurnClock(last=Moment.FINAL)
        self._watch = TurnWatch()
        self._totals_ms: list[float] = []
        self._summed_up = False

    async def on_processor_setup(self, data: ProcessorSetUp) -> None:
        """Learn from the processors how far this pipeline goes."""
        if isinstance(data.processor, (TTSService, Echo)):
            self._clock.last = Moment.PACKET
        elif isinstance(data.processor, (LLMUserAggregator, UserTurnProcessor)):
            if self._clock.last is Moment.FINAL:
                self._clock.last = Moment.TURN

    async def on_push_frame(self, data: FramePushed) -> None:
        """Take the time of a frame, where it is pushed first."""
        # What is broadcast goes both ways as two frames; one is enough.
        if data.direction is not FrameDirection.DOWNSTREAM:
            return
        event = self._count(data.frame)
        turn = self._take(data.frame, data.timestamp / 1e9)
        if event is not None:
            self._metrics.happened(event)
            if self._on_counts is not None:
                await self._on_counts(self._watch.counts)
        if turn is not None:
            logger.info(turn)
            self._totals_ms.append(turn.total_ms)
            self._metrics.took(turn)
            if self._on_turn is not None:
                await self._on_turn(turn)
        if isinstance(data.frame, (EndFrame, CancelFrame)) and not self._summed_up:
            self._sum_up()

    def _count(self, frame: Frame) -> TurnEvent | None:
        watch = self._watch
        match frame:
            case EagerEndOfTurnFrame():
                return watch.eager()
            case EagerEndOfTurnCancelFrame():
                return watch.withdrawn()
            case UserStoppedSpeakingFrame():
                return watch.turn_over()
            case InterruptionFrame():
                return watch.interrupted()
            case UserBackchannelFrame():
                return watch.backchannel()
            case VADUserStartedSpeakingFrame():
                return watch.speech_starts()
            case EndFrame() | CancelFrame():
                return watch.settled()
            case HoldPlaybackFrame():
                watch.held()
            case ResumePlaybackFrame():
                watch.resumed()
            case BotStartedSpeakingFrame() | BotStoppedSpeakingFrame():
                watch.bot_speaks(isinstance(frame, BotStartedSpeakingFrame))
        return None

    def _take(self, frame: Frame, at_s: float) -> TurnLatency | None:
        clock = self._clock
        match frame:
            case InterruptionFrame() | EndFrame() | CancelFrame():
                return clock.ended()
            case VADUserStartedSpeakingFrame():
                clock.speech_started()
            case VADUserStoppedSpeakingFrame():
                clock.speech_stopped(at_s, frame.stop_secs, frame.timestamp - frame.stop_secs)
            case EagerEndOfTurnFrame():
                clock.eager(at_s)
            case EagerEndOfTurnCancelFrame():
                clock.withdrawn()
            case _:
                for kind, moment in _MOMENTS:
                    if isinstance(frame, kind):
                        return clock.mark(moment, at_s)
        return None

    def _sum_up(self) -> None:
        self._summed_up = True
        turns = len(self._totals_ms)
        middle = f", median {statistics.median(self._totals_ms):.0f} ms" if turns else ""
        logger.info("session over: turns {}{}; {}", turns, middle, self._watch.counts)
