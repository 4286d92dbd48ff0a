"""Turn taking: Pipecat's turn strategies, on talkpath's machines.

``TurnStart`` begins a user turn, ``TurnStop`` ends it; both go into an ``LLMUserAggregator`` or
a ``UserTurnProcessor``, see ``turn_strategies``. Behind a ``SpeechDetector`` and a
``StreamingWhisper`` they see

- in: the detector's frames, audio, transcripts, ``NothingHeardFrame``, what the bot says;
- out: ``HoldPlaybackFrame`` and ``ResumePlaybackFrame`` while it is open whether somebody wants
  the bot's turn, Pipecat's ``UserBackchannelFrame`` where nobody did; ``EagerEndOfTurnFrame``
  where the reply is begun before the turn is over, and ``ReadAheadFrame`` while it is being said.

The decisions themselves are in ``talkpath.agent.turns``.
"""

import asyncio
from typing import Any

from loguru import logger
from pipecat.frames.frames import (
    BotStartedSpeakingFrame,
    BotStoppedSpeakingFrame,
    EagerEndOfTurnCancelFrame,
    EagerTranscriptionFrame,
    Frame,
    FunctionCallCancelFrame,
    FunctionCallInProgressFrame,
    FunctionCallResultFrame,
    InputAudioRawFrame,
    InterimTranscriptionFrame,
    InterruptionFrame,
    LLMRunFrame,
    TranscriptionFrame,
    UserBackchannelFrame,
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.turns.types import ProcessFrameResult, UserTurnSpeculation
from pipecat.turns.user_start import BaseUserTurnStartStrategy
from pipecat.turns.user_stop import BaseUserTurnStopStrategy
from pipecat.turns.user_turn_strategies import UserTurnStrategies
from pipecat.utils.time import time_now_iso8601

from talkpath.agent.audio import Resampler, pcm16_to_float
from talkpath.agent.smart_turn import SmartTurn
from talkpath.agent.turns import (
    Answer,
    Backchannel,
    BargeIn,
    BargeInEvent,
    Begin,
    Eager,
    End,
    EndOfTurn,
    Hold,
    Interrupt,
    Judge,
    Resume,
    TurnAudio,
    TurnEvent,
    TurnProfile,
    Withdraw,
)
from talkpath.agent.whisper import Partial
from talkpath.processors.alarm import Alarm, now_s
from talkpath.processors.frames import (
    EagerEndOfTurnFrame,
    EarlyPauseFrame,
    HoldPlaybackFrame,
    NothingHeardFrame,
    ReadAheadFrame,
    ResumePlaybackFrame,
    SpeechOnsetEndedFrame,
    SpeechOnsetFrame,
    SpeechResumedFrame,
)

__all__ = ["TurnStart", "TurnStop", "turn_strategies"]


# A frame of the reply stage is underway for a few milliseconds; a new turn takes longer.
_CROSSED_S = 0.5


class TurnStart(BaseUserTurnStartStrategy):
    """Starts a turn: at once while the bot is silent, and over it where the words want it.

    Args:
        profile: minimum words and grace.
        stop: what ends the turns.
        answers: whether the bot answers turns; it thinks about them then, and noise meanwhile is
            no interruption.
    """

    def __init__(self, profile: TurnProfile, stop: "TurnStop", *, answers: bool = True) -> None:
        super().__init__()
        self._machine = BargeIn(profile)
        self._stop = stop
        self._answers = answers
        self._alarm = Alarm(self.create_task)
        self._open = False
        self._worded = False  # this turn has words
        self._tools: set[str] = set()  # that run

    async def cleanup(self) -> None:
        """Forget the time that was waited for."""
        self._alarm.stop()
        await super().cleanup()  # type: ignore[no-untyped-call]

    async def handle_user_turn_started(self) -> None:
        """The caller has the turn: there is nothing to hold any more."""
        self._open = True
        self._machine.interrupted()

    async def handle_user_turn_stopped(self) -> None:
        """The turn is over: the bot thinks about what was said in it."""
        self._open = False
        worded, self._worded = self._worded, False
        if worded and self._answers:
            await self._handle(self._machine.thinking(now_s()))

    async def process_frame(self, frame: Frame) -> ProcessFrameResult:
        """Take a frame; it may start a turn."""
        if isinstance(frame, TranscriptionFrame) and frame.text.strip():
            self._worded = True
        begun = await self._handle(self._events(frame))
        return ProcessFrameResult.STOP if begun else ProcessFrameResult.CONTINUE

    def _events(self, frame: Frame) -> list[BargeInEvent]:
        machine = self._machine
        match frame:
            case SpeechOnsetFrame():
                return machine.onset(now_s(), frame.ago_s)
            case SpeechOnsetEndedFrame():
                return machine.onset_ended()
            case VADUserStartedSpeakingFrame():
                return machine.started(now_s(), frame.start_secs)
            case VADUserStoppedSpeakingFrame():
                return machine.stopped()
            case InterimTranscriptionFrame():
                return machine.partial(_settled(frame), worded=bool(frame.text.strip()))
            case TranscriptionFrame():
                return machine.final(frame.text, now_s(), ends_speech=frame.finalized)
            case NothingHeardFrame():
                return machine.final("", now_s(), ends_speech=frame.ends_speech)
            case BotStartedSpeakingFrame():
                return machine.speaking()
            case BotStoppedSpeakingFrame():
                events = machine.idle(now_s())
                # It has only said that it looks something up.
                return [*events, *machine.thinking(now_s())] if self._tools else events
            case FunctionCallInProgressFrame():
                self._tools.add(frame.tool_call_id)
                return machine.thinking(now_s())
            case FunctionCallResultFrame() | FunctionCallCancelFrame():
                self._tools.discard(frame.tool_call_id)
        return []

    async def _handle(self, events: list[BargeInEvent]) -> bool:
        begun = False
        for event in events:
            match event:
                case Hold():
                    await self.push_frame(HoldPlaybackFrame())
                case Resume():
                    await self.push_frame(ResumePlaybackFrame())
                case Backchannel(text):
                    await self._let_pass(text)
                case Answer(text):
                    await self.trigger_user_turn_started()
                    await self._stop.answered(text)
                case Begin():
                    begun = True
                    await self.trigger_user_turn_started()
                case Interrupt():
                    begun = True
                    await self._interrupt()
        self._alarm.set(self._machine.due_s, self._tick)
        return begun

    async def _interrupt(self) -> None:
        if self._open:  # the bot spoke in the middle of the caller's turn
            await self.broadcast_frame(InterruptionFrame)
        else:
            await self.trigger_user_turn_started()
        # Should a hold come behind the interruption, it is over.
        await self.push_frame(ResumePlaybackFrame())

    async def _tick(self) -> None:
        if self._tools:  # it waits for them, however long they take
            self._machine.thinking(now_s())
        await self._handle(self._machine.tick(now_s()))

    async def _let_pass(self, text: str) -> None:
        """Keep a backchannel out of the conversation, which an aggregator has taken it into."""
        if self._open:
            return  # it is a part of what the caller says
        self._worded = False
        self._stop.let_pass()
        await self.trigger_reset_aggregation()  # type: ignore[no-untyped-call]
        await self.broadcast_frame(
            UserBackchannelFrame, text=text, user_id="", timestamp=time_now_iso8601()
        )


def _settled(frame: InterimTranscriptionFrame) -> str:
    """The words that will not change; all of them where a service does not tell them apart."""
    result: Any = frame.result
    return result.stable if isinstance(result, Partial) else frame.text


class TurnStop(BaseUserTurnStopStrategy):
    """Ends a turn once there is silence enough for how finished it sounds.

    Args:
        profile: threshold, longest wait and whether the reply begins early.
        stop_s: seconds of silence after which the detector says that speech has stopped.
        analyser: the session's Smart Turn, or None: then silence alone decides, as it does
            where no audio comes by.
        context: the conversation, for a reply stage that reads ahead where the profile is eager.
    """

    def __init__(
        self,
        profile: TurnProfile,
        stop_s: float,
        analyser: SmartTurn | None = None,
        context: LLMContext | None = None,
    ) -> None:
        super().__init__()
        self._machine = EndOfTurn(profile, stop_s)
        self._context = context
        self._read = ""  # what the reply stage was given to read ahead
        self._audio = None if analyser is None else TurnAudio(analyser)
        self._speculates = False  # a reply was begun on what this turn is likely to say
        self._confirmed_s: float | None = None  # when the last turn ended with such a reply
        self._resampler: Resampler | None = None
        self._alarm = Alarm(self.create_task)
        self._judging: asyncio.Task[None] | None = None
        self._turn = False

    async def cleanup(self) -> None:
        """Forget what was waited for."""
        self._alarm.stop()
        await self._stop_judging()
        await super().cleanup()  # type: ignore[no-untyped-call]

    async def handle_user_turn_started(self) -> None:
        """A turn begins: what was heard of it so far counts."""
        self._turn = True
        await self._handle(self._machine.opened(now_s()))

    async def handle_user_turn_stopped(self) -> None:
        """The turn is over, whoever ended it."""
        self._turn = self._speculates = False
        self._machine.ended()
        if self._audio is not None:
            self._audio.clear()

    async def answered(self, text: str) -> None:
        """What was said over the bot's last words is a turn."""
        said = [] if self._machine.text else self._machine.final(text, now_s())
        await self._handle(said)

    def let_pass(self) -> None:
        """What was said over the bot was no turn."""
        if not self._turn:
            self._machine.ended()

    async def process_frame(self, frame: Frame) -> ProcessFrameResult:
        """Take a frame; it may end the turn."""
        if isinstance(frame, InputAudioRawFrame):
            self._hear(frame)
        elif isinstance(frame, InterimTranscriptionFrame):
            await self._let_read(frame.text)
        elif isinstance(frame, EagerEndOfTurnCancelFrame) and not self._turn:
            await self._run_again()
        else:
            await self._handle(self._events(frame), frame)
        return ProcessFrameResult.CONTINUE

    def _events(self, frame: Frame) -> list[TurnEvent]:
        machine = self._machine
        match frame:
            case VADUserStartedSpeakingFrame():
                if self._audio is not None and not machine.text:
                    self._audio.speech_started(frame.start_secs)
                return machine.started()
            case EarlyPauseFrame():
                return machine.early_pause(now_s(), frame.silence_s)
            case SpeechResumedFrame():
                return machine.resumed()
            case VADUserStoppedSpeakingFrame():
                return machine.stopped(now_s(), frame.stop_secs)
            case EagerEndOfTurnCancelFrame():
                # Of the reply stage: a model that wants to call a tool may do so in earnest only.
                self._speculates = False
                machine.refused()
            case EagerTranscriptionFrame():
                return machine.likely(frame.text, now_s())
            case TranscriptionFrame():
                return machine.final(frame.text, now_s(), ends_speech=frame.finalized)
            case NothingHeardFrame():
                return machine.final("", now_s(), ends_speech=frame.ends_speech)
        return []

    async def _handle(self, events: list[TurnEvent], frame: Frame | None = None) -> None:
        for event in events:
            match event:
                case Judge(ticket):
                    silence_s = frame.silence_s if isinstance(frame, EarlyPauseFrame) else 0.0
                    await self._stop_judging()
                    self._judging = self.create_task(self._judge(ticket, silence_s), "smart turn")
                case Eager() if self._turn:
                    self._speculates = True
                    await self.broadcast_frame(
                        EagerEndOfTurnFrame, completeness=event.completeness or 0.0
                    )
                    await self.trigger_user_turn_inference_triggered(
                        speculation=UserTurnSpeculation(text=event.text)
                    )
                case Withdraw() if self._turn:
                    self._speculates = False
                    await self.trigger_user_turn_speculation_cancelled()  # type: ignore[no-untyped-call]
                case End() if self._turn:
                    await self._end(event)
        self._alarm.set(self._machine.due_s, self._tick)

    async def _tick(self) -> None:
        await self._handle(self._machine.tick(now_s()))

    async def _end(self, end: End) -> None:
        if end.confirms_eager and self._speculates:
            self._confirmed_s = now_s()
            await self.trigger_user_turn_finalized(confirms_speculation=True)
        else:
            await self.trigger_user_turn_stopped()

    async def _run_again(self) -> None:
        """Have a reply made after all: its stage gave it up just when the turn was over."""
        confirmed_s, self._confirmed_s = self._confirmed_s, None
        if confirmed_s is not None and now_s() - confirmed_s < _CROSSED_S:
            await self.push_frame(LLMRunFrame())

    async def _judge(self, ticket: int, silence_s: float) -> None:
        completeness = None
        if self._audio is not None and self._audio.seconds:
            try:
                completeness = await self._audio.completeness(silence_s)
            except Exception as error:  # onnxruntime's have no base; silence decides instead
                logger.warning("Smart Turn failed, so silence alone ends this turn: {}", error)
        await self._handle(self._machine.judged(ticket, completeness, now_s()))

    async def _stop_judging(self) -> None:
        """Nobody waits for the last judgement any more."""
        task, self._judging = self._judging, None
        if task is not None and not task.done():
            await self.cancel_task(task)

    async def _let_read(self, partial: str) -> None:
        """Let the model read ahead, all but the last word, which may become another one."""
        text = f"{self._machine.text} {partial.rpartition(' ')[0]}".strip()
        context, eager = self._context, self._machine.profile.eager
        if context is None or not eager or not self._turn or not text or text == self._read:
            return
        self._read = text
        words: Any = {"role": "user", "content": text}
        so_far = LLMContext(
            messages=[*context.messages, words],
            tools=context.tools,
            tool_choice=context.tool_choice,
        )
        await self.push_frame(ReadAheadFrame(so_far))

    def _hear(self, frame: InputAudioRawFrame) -> None:
        if self._audio is None:
            return
        if self._resampler is None or self._resampler.from_hz != frame.sample_rate:
            self._resampler = Resampler(frame.sample_rate)
        self._audio.append(self._resampler.process(pcm16_to_float(frame.audio)))


def turn_strategies(
    profile: TurnProfile,
    stop_s: float,
    analyser: SmartTurn | None = None,
    *,
    context: LLMContext | None = None,
    answers: bool = True,
) -> UserTurnStrategies:
    """Both strategies, as Pipecat takes them.

    Args:
        profile: see ``talkpath.agent.turns.turn_profile``.
        stop_s: the detector's seconds of silence before a stop.
        analyser: the session's Smart Turn, or None.
        context: the conversation with a language model, or None.
        answers: whether the bot answers turns.
    """
    stop = TurnStop(profile, stop_s, analyser, context)
    return UserTurnStrategies(start=[TurnStart(profile, stop, answers=answers)], stop=[stop])
