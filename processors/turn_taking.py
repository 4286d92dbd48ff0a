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
from collections.abc import Callable, Coroutine
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

from talkpath.agent.audio import Resampler, pcm16_to_float
from talkpath.agent.smart_turn import SmartTurn
from talkpath.agent.turns import (
    Answer,
    Backchannel,
    BargeIn,
    BargeInEvent,
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


class _Alarm:
    """Calls a coroutine at a time; a later setting takes the place of an earlier one.

    Pipecat's own clock for frames stands still between them, so the event loop's counts.
    """

    def __init__(self, create_task: Callable[..., asyncio.Task[None]]) -> None:
        self._create_task = create_task
        self._at_s: float | None = None
        self._task: asyncio.Task[None] | None = None

    def set(self, at_s: float | None, action: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Go off at this time of the loop's clock, or (None) not at all."""
        if at_s == self._at_s:
            return
        self.stop()
        self._at_s = at_s
        if at_s is not None:
            self._task = self._create_task(self._wait(at_s, action), "turn alarm")

    def stop(self) -> None:
        """Do not go off."""
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()
        self._at_s, self._task = None, None

    async def _wait(self, at_s: float, action: Callable[[], Coroutine[Any, Any, None]]) -> None:
        await asyncio.sleep(max(0.0, at_s - _now_s()))
        self._at_s, self._task = None, None
        await action()


def _now_s() -> float:
    return asyncio.get_running_loop().time()


class TurnStart(BaseUserTurnStartStrategy):
    """Starts a turn: at once while the bot is silent, and over it where the words want it.

    Args:
        profile: minimum words and grace.
    """

    def __init__(self, profile: TurnProfile) -> None:
        super().__init__()
        self._machine = BargeIn(profile)
        self._alarm = _Alarm(self.create_task)
        self._backchannel: TranscriptionFrame | None = None
        self._worded = False  # this turn has words
        self._tools: set[str] = set()  # that run

    async def cleanup(self) -> None:
        """Forget the time that was waited for."""
        self._alarm.stop()
        await super().cleanup()  # type: ignore[no-untyped-call]

    async def handle_user_turn_started(self) -> None:
        """The caller has the turn: there is nothing to hold any more."""
        self._machine.interrupted()

    async def handle_user_turn_stopped(self) -> None:
        """The turn is over: the bot thinks about what was said in it."""
        if self._worded:
            self._worded = False
            await self._handle(self._machine.thinking(_now_s()))

    async def process_frame(self, frame: Frame) -> ProcessFrameResult:
        """Take a frame; it may start a turn."""
        if isinstance(frame, TranscriptionFrame) and frame.text.strip():
            self._worded = True
        interrupt = await self._handle(self._events(frame), frame)
        return ProcessFrameResult.STOP if interrupt else ProcessFrameResult.CONTINUE

    def _events(self, frame: Frame) -> list[BargeInEvent]:
        machine = self._machine
        match frame:
            case SpeechOnsetFrame():
                return machine.onset(_now_s(), frame.ago_s)
            case SpeechOnsetEndedFrame():
                return machine.onset_ended()
            case VADUserStartedSpeakingFrame():
                return machine.started(_now_s(), frame.start_secs)
            case VADUserStoppedSpeakingFrame():
                return machine.stopped()
            case InterimTranscriptionFrame():
                return machine.partial(_settled(frame))
            case TranscriptionFrame():
                return machine.final(frame.text, _now_s(), ends_speech=frame.finalized)
            case NothingHeardFrame():
                return machine.final("", _now_s())
            case BotStartedSpeakingFrame():
                return machine.speaking()
            case BotStoppedSpeakingFrame():
                events = machine.idle(_now_s())
                # It has only said that it looks something up.
                return [*events, *machine.thinking(_now_s())] if self._tools else events
            case FunctionCallInProgressFrame():
                self._tools.add(frame.tool_call_id)
                return machine.thinking(_now_s())
            case FunctionCallResultFrame() | FunctionCallCancelFrame():
                self._tools.discard(frame.tool_call_id)
        return []

    async def _handle(self, events: list[BargeInEvent], frame: Frame | None = None) -> bool:
        interrupt = False
        for event in events:
            match event:
                case Hold():
                    await self.push_frame(HoldPlaybackFrame())
                case Resume():
                    await self.push_frame(ResumePlaybackFrame())
                case Backchannel():
                    await self._let_pass(frame)
                case Answer():
                    await self._answer()
                case Interrupt():
                    interrupt = True
                    await self.trigger_user_turn_started()
        self._alarm.set(self._machine.due_s, self._tick)
        return interrupt

    async def _tick(self) -> None:
        await self._handle(self._machine.tick(_now_s()))

    async def _let_pass(self, frame: Frame | None) -> None:
        """Keep a backchannel out of the conversation, which an aggregator has taken it into."""
        assert isinstance(frame, TranscriptionFrame)
        self._backchannel, self._worded = frame, False
        await self.trigger_reset_aggregation()  # type: ignore[no-untyped-call]
        await self.push_frame(UserBackchannelFrame(frame.text, frame.user_id, frame.timestamp))

    async def _answer(self) -> None:
        """Bring what was taken for a backchannel in again, now that the bot is silent."""
        frame, self._backchannel = self._backchannel, None
        if frame is not None:
            again = TranscriptionFrame(
                frame.text,
                frame.user_id,
                frame.timestamp,
                frame.language,
                result=frame.result,
                finalized=True,
            )
            await self.push_frame(again)


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
        self._resampler: Resampler | None = None
        self._alarm = _Alarm(self.create_task)
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

    async def handle_user_turn_stopped(self) -> None:
        """The turn is over, whoever ended it."""
        self._turn = False
        self._machine.ended()
        if self._audio is not None:
            self._audio.clear()

    async def process_frame(self, frame: Frame) -> ProcessFrameResult:
        """Take a frame; it may end the turn."""
        if isinstance(frame, InputAudioRawFrame):
            self._hear(frame)
        elif isinstance(frame, InterimTranscriptionFrame):
            await self._let_read(frame.text)
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
                return machine.early_pause(_now_s(), frame.silence_s)
            case SpeechResumedFrame():
                return machine.resumed()
            case VADUserStoppedSpeakingFrame():
                return machine.stopped(_now_s(), frame.stop_secs)
            case EagerEndOfTurnCancelFrame():
                # Of the reply stage: a model that wants to call a tool may do so in earnest only.
                machine.refused()
            case EagerTranscriptionFrame():
                return machine.likely(frame.text, _now_s())
            case TranscriptionFrame():
                return machine.final(frame.text, _now_s(), ends_speech=frame.finalized)
            case NothingHeardFrame():
                return machine.final("", _now_s())
        return []

    async def _handle(self, events: list[TurnEvent], frame: Frame | None = None) -> None:
        for event in events:
            match event:
                case Judge(ticket):
                    silence_s = frame.silence_s if isinstance(frame, EarlyPauseFrame) else 0.0
                    await self._stop_judging()
                    self._judging = self.create_task(self._judge(ticket, silence_s), "smart turn")
                case Eager() if self._turn:
                    await self.broadcast_frame(
                        EagerEndOfTurnFrame, completeness=event.completeness or 0.0
                    )
                    await self.trigger_user_turn_inference_triggered(
                        speculation=UserTurnSpeculation(text=event.text)
                    )
                case Withdraw() if self._turn:
                    await self.trigger_user_turn_speculation_cancelled()  # type: ignore[no-untyped-call]
                case End() if self._turn:
                    await self._end(event)
        self._alarm.set(self._machine.due_s, self._tick)

    async def _tick(self) -> None:
        await self._handle(self._machine.tick(_now_s()))

    async def _end(self, end: End) -> None:
        if end.confirms_eager:
            await self.trigger_user_turn_finalized(confirms_speculation=True)
        else:
            await self.trigger_user_turn_stopped()

    async def _judge(self, ticket: int, silence_s: float) -> None:
        completeness = None
        if self._audio is not None and self._audio.seconds:
            try:
                completeness = await self._audio.completeness(silence_s)
            except Exception as error:  # onnxruntime's have no base; silence decides instead
                logger.warning("Smart Turn failed, so silence alone ends this turn: {}", error)
        await self._handle(self._machine.judged(ticket, completeness, _now_s()))

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
    context: LLMContext | None = None,
) -> UserTurnStrategies:
    """Both strategies, as Pipecat takes them.

    Args:
        profile: see ``talkpath.agent.turns.turn_profile``.
        stop_s: the detector's seconds of silence before a stop.
        analyser: the session's Smart Turn, or None.
        context: the conversation with a language model, or None.
    """
    return UserTurnStrategies(
        start=[TurnStart(profile)], stop=[TurnStop(profile, stop_s, analyser, context)]
    )
