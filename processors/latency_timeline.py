"""Where the time goes between a caller's last word and the bot's first sound.

An observer, so it costs the pipeline nothing: it watches frames pass and hands over one
``TurnLatency`` for each user turn. The arithmetic is in ``TurnClock``, which knows no frames.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum

from loguru import logger
from pipecat.frames.frames import (
    BotStartedSpeakingFrame,
    CancelFrame,
    EndFrame,
    Frame,
    LLMTextFrame,
    TranscriptionFrame,
    TTSAudioRawFrame,
    UserStoppedSpeakingFrame,
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.observers.base_observer import BaseObserver, FramePushed, ProcessorSetUp
from pipecat.processors.aggregators.llm_response_universal import LLMUserAggregator
from pipecat.processors.frame_processor import FrameDirection
from pipecat.services.tts_service import TTSService
from pipecat.turns.user_turn_processor import UserTurnProcessor

from talkpath.processors.echo import Echo

__all__ = ["LatencyTimeline", "Moment", "TurnClock", "TurnLatency"]


@dataclass(frozen=True, slots=True)
class TurnLatency:
    """How long one turn's answer took, from the end of the caller's speech.

    Attributes:
        turn: number of the turn in its session, from 1.
        parts: (name, milliseconds) in order, each from the end of the part before.
        total_ms: the sum of the parts.
    """

    turn: int
    parts: tuple[tuple[str, float], ...]
    total_ms: float

    def __str__(self) -> str:
        """One line with numbers alone, for logs."""
        parts = ", ".join(f"{name} {ms:.0f}" for name, ms in self.parts)
        return f"turn {self.turn}: {self.total_ms:.0f} ms ({parts})"


class Moment(Enum):
    """What the end of each part is called, in the order of a turn."""

    STOP = "stop"  # the detector says that speech has stopped
    FINAL = "final"  # the final transcript
    TURN = "turn"  # the turn is decided to be over
    TOKEN = "first-token"  # the language model's first text
    AUDIO = "first-audio"  # the voice's first audio
    PACKET = "first-packet"  # that audio leaves


class TurnClock:
    """Puts the moments of a turn together. Times are seconds on any one clock.

    A turn is open from a stop of speech until the last moment that this bot has. Speech that
    goes on before the turn was decided belongs to the same turn, whose end then lies later.
    Speech after that interrupts the answer: the turn ends with what it has. What a bot says
    without a turn (a greeting) is nobody's answer.

    Args:
        last: the moment that completes a turn of this bot.
    """

    def __init__(self, last: Moment = Moment.PACKET) -> None:
        self.last = last
        self._turn = 0
        self._speech_end_s = 0.0
        self._moments: dict[Moment, float] = {}

    def speech_started(self) -> TurnLatency | None:
        """Speech starts: it continues an undecided turn or interrupts a decided one."""
        return self.ended()

    def speech_stopped(self, at_s: float, silence_s: float) -> None:
        """Take a stop of speech, decided after so much silence."""
        self._speech_end_s = at_s - silence_s
        self._moments = {Moment.STOP: at_s}

    def mark(self, moment: Moment, at_s: float) -> TurnLatency | None:
        """Take a moment of the open turn; the first of its kind counts, and the last final.

        Returns:
            The turn, if this completes it.
        """
        decided = Moment.TURN in self._moments
        if moment is Moment.FINAL and not decided:
            self._moments.pop(moment, None)
        belongs = decided or moment in (Moment.FINAL, Moment.TURN)
        if self._moments and belongs:
            self._moments.setdefault(moment, at_s)
            if moment is self.last:
                return self._close()
        return None

    def ended(self) -> TurnLatency | None:
        """End the session: a turn that was decided ends with what it has."""
        if Moment.TURN in self._moments:
            return self._close()
        self._moments = {}
        return None

    def _close(self) -> TurnLatency:
        self._turn += 1
        parts = []
        before = 0
        for moment in Moment:
            if moment in self._moments:
                # Whole milliseconds from the start, so that the parts add up exactly. A final
                # may come after the turn was decided without it: no part is below zero.
                after = max(before, round((self._moments[moment] - self._speech_end_s) * 1000))
                parts.append((moment.value, float(after - before)))
                before = after
        self._moments = {}
        return TurnLatency(self._turn, tuple(parts), float(before))


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
    """

    def __init__(self, on_turn: Callable[[TurnLatency], Awaitable[None]] | None = None) -> None:
        super().__init__(observe_every_push=False)
        self._on_turn = on_turn
        self._clock = TurnClock(last=Moment.FINAL)

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
        turn = self._take(data.frame, data.timestamp / 1e9)
        if turn is not None:
            logger.info(turn)
            if self._on_turn is not None:
                await self._on_turn(turn)

    def _take(self, frame: Frame, at_s: float) -> TurnLatency | None:
        if isinstance(frame, VADUserStartedSpeakingFrame):
            return self._clock.speech_started()
        if isinstance(frame, (EndFrame, CancelFrame)):
            return self._clock.ended()
        if isinstance(frame, VADUserStoppedSpeakingFrame):
            self._clock.speech_stopped(at_s, frame.stop_secs)
            return None
        for kind, moment in _MOMENTS:
            if isinstance(frame, kind):
                return self._clock.mark(moment, at_s)
        return None
