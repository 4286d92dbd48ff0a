"""What was said and done in a call, and when: watched from outside, frame by frame.

All times are seconds since the caller was connected.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pipecat.frames.frames import (
    BotStartedSpeakingFrame,
    BotStoppedSpeakingFrame,
    ErrorFrame,
    Frame,
    FunctionCallCancelFrame,
    FunctionCallInProgressFrame,
    FunctionCallResultFrame,
    InterruptionFrame,
    TranscriptionFrame,
    TTSTextFrame,
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.observers.base_observer import BaseObserver, FramePushed
from pipecat.processors.frame_processor import FrameDirection
from pipecat.transports.base_output import BaseOutputTransport

from talkpath.transports.inprocess import Line, Played

__all__ = ["BotTurn", "Ear", "ToolCall", "Utterance", "is_sound"]

PAUSE_S = 0.5
"""Silence after which a bot's turn is over: between its sentences there is less."""

# Of 32,768: -46 dBFS. Voices fade in and out of less, and no word is as quiet.
_SOUND = 160


@dataclass(frozen=True, slots=True)
class Utterance:
    """Something that was said.

    Attributes:
        who: ``bot`` or ``caller``.
        text: of the bot, the words that were played; of the caller, what was said where it is
            the answer of ``says``, and what the bot understood in a transcript.
        start_s: when its first sound was heard.
        end_s: when its last sound was heard, or the latest one so far.
        interrupted: whether the bot was cut off.
    """

    who: str
    text: str
    start_s: float
    end_s: float
    interrupted: bool = False

    def __str__(self) -> str:
        """One line."""
        cut = " [cut off]" if self.interrupted else ""
        return f"{self.start_s:7.2f} {self.end_s:7.2f}  {self.who:6}  {self.text}{cut}"


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A function that the language model called.

    Attributes:
        name: the function's.
        arguments: what it was called with.
        result: what it gave; None while it runs.
        at_s: when it was called.
        cancelled: whether it was cancelled before it had a result.
    """

    name: str
    arguments: Mapping[str, Any]
    result: Any
    at_s: float
    cancelled: bool = False

    def __str__(self) -> str:
        """One line."""
        result = "cancelled" if self.cancelled else repr(self.result)
        return f"{self.at_s:7.2f}          tool    {self.name}({dict(self.arguments)}) -> {result}"


@dataclass(slots=True)
class BotTurn:
    """A turn of the bot, from its first frame to its last.

    Attributes:
        began_s: when it started.
        stopped_s: when it stopped; None while it lasts.
        words: text of what was played, in pieces as they came, with the spaces between them.
        interrupted: whether it was cut off.
    """

    began_s: float
    stopped_s: float | None = None
    words: list[str] = field(default_factory=list)
    interrupted: bool = False

    def is_over(self, now_s: float) -> bool:
        """Whether it stopped, and nothing was added to it for a while."""
        return self.stopped_s is not None and now_s - self.stopped_s >= PAUSE_S


class Ear(BaseObserver):
    """Writes down what passes through a bot's pipeline.

    Args:
        on_news: called after every frame that was written down.

    Attributes:
        turns: the bot's, in order.
        understood: the caller's utterances as the bot understood them.
        tools: functions called, by their id, in order.
        interruptions: when the bot was cut off.
        errors: what the pipeline reported.
    """

    def __init__(self, on_news: Callable[[], None]) -> None:
        super().__init__()
        self.line: Line | None = None
        self.turns: list[BotTurn] = []
        self.understood: list[Utterance] = []
        self.tools: dict[str, ToolCall] = {}
        self.interruptions: list[float] = []
        self.errors: list[ErrorFrame] = []
        self._on_news = on_news
        self._speech_s = 0.0, 0.0

    @property
    def now_s(self) -> float:
        """Seconds since the caller was connected."""
        if self.line is None or self.line.began_s is None:
            return 0.0
        return asyncio.get_running_loop().time() - self.line.began_s

    @property
    def bot_speaks(self) -> bool:
        """Whether the bot is in the middle of a turn."""
        return bool(self.turns) and self.turns[-1].stopped_s is None

    async def on_push_frame(self, data: FramePushed) -> None:
        """Write a frame down: the bot's words where they were played, all else where it began."""
        frame = data.frame
        if isinstance(frame, TTSTextFrame):
            played = isinstance(data.source, BaseOutputTransport)
            if played and data.direction is FrameDirection.DOWNSTREAM:
                self._word(frame)
                self._on_news()
        # What is broadcast goes both ways as two frames; one is enough.
        elif data.first_push and (
            data.direction is FrameDirection.DOWNSTREAM or isinstance(frame, ErrorFrame)
        ):
            self._take(frame)
            self._on_news()

    def _take(self, frame: Frame) -> None:
        match frame:
            case BotStartedSpeakingFrame():
                self._started()
            case BotStoppedSpeakingFrame() if self.bot_speaks:
                self.turns[-1].stopped_s = self.now_s
            case InterruptionFrame() if self.bot_speaks:
                self.turns[-1].interrupted = True
                self.interruptions.append(self.now_s)
            case VADUserStartedSpeakingFrame():
                self._speech_s = self.now_s - frame.start_secs, self.now_s
            case VADUserStoppedSpeakingFrame():
                self._speech_s = self._speech_s[0], self.now_s - frame.stop_secs
            case TranscriptionFrame():
                start_s, end_s = self._speech_s
                self.understood.append(Utterance("caller", frame.text.strip(), start_s, end_s))
            case FunctionCallInProgressFrame():
                self.tools[frame.tool_call_id] = ToolCall(
                    frame.function_name, frame.arguments, None, self.now_s
                )
            case FunctionCallResultFrame():
                self._tool_ended(frame.tool_call_id, frame.result, cancelled=False)
            case FunctionCallCancelFrame():
                self._tool_ended(frame.tool_call_id, None, cancelled=True)
            case ErrorFrame():
                self.errors.append(frame)
            case _:
                pass

    def _started(self) -> None:
        last = self.turns[-1] if self.turns else None
        goes_on = last is not None and not last.interrupted and not last.is_over(self.now_s)
        if last is not None and goes_on:
            last.stopped_s = None
        else:
            self.turns.append(BotTurn(self.now_s))

    def _word(self, frame: TTSTextFrame) -> None:
        if not self.turns:  # text without sound
            self.turns.append(BotTurn(self.now_s, self.now_s))
        space = "" if frame.includes_inter_frame_spaces else " "
        self.turns[-1].words.append(frame.text + space)

    def _tool_ended(self, call_id: str, result: Any, *, cancelled: bool) -> None:
        call = self.tools.get(call_id)
        if call is not None and not call.cancelled:  # some are told a result as well
            self.tools[call_id] = ToolCall(call.name, call.arguments, result, call.at_s, cancelled)


def is_sound(chunk: Played) -> bool:
    """Whether something is to be heard in it."""
    return bool(len(chunk.samples)) and int(np.abs(chunk.samples.astype(np.int32)).max()) > _SOUND
