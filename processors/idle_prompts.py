"""Idle prompts: what a bot says to a caller who says nothing, and how it hangs up.

Frames in: all that tells who is speaking or at work. Frames out: everything, and after a silence
``TTSSpeakFrame`` with a prompt; after the last one a farewell and ``EndWorkerFrame``. It stands
right before the voice.

Pipecat's ``UserIdleController`` was not enough: it starts its clock only when the bot stops
speaking, so a cough that begins a turn without words, or a reply that fails before its first
word, stops it for good; and it is to be had only inside the processors that find turns.
"""

import asyncio
from collections.abc import Callable

from pipecat.frames.frames import (
    BotStartedSpeakingFrame,
    BotStoppedSpeakingFrame,
    CancelFrame,
    EndFrame,
    EndWorkerFrame,
    Frame,
    FunctionCallCancelFrame,
    FunctionCallResultFrame,
    FunctionCallsStartedFrame,
    InputDTMFFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    TranscriptionFrame,
    TTSSpeakFrame,
    UserStartedSpeakingFrame,
    UserStoppedSpeakingFrame,
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor

from talkpath.agent.bot_sections import IdleConfig

__all__ = ["IdlePrompts", "hang_up"]

_BEGINS = {
    BotStartedSpeakingFrame: "bot",
    LLMFullResponseStartFrame: "reply",
    UserStartedSpeakingFrame: "turn",
    VADUserStartedSpeakingFrame: "speech",
}
_ENDS = {
    BotStoppedSpeakingFrame: "bot",
    LLMFullResponseEndFrame: "reply",
    UserStoppedSpeakingFrame: "turn",
    VADUserStoppedSpeakingFrame: "speech",
}
_LAST_CHANCE_S = 0.5
"""Silence after the farewell in which a word of the caller's still keeps the line open."""


async def hang_up(processor: FrameProcessor, farewell: str, *last: Frame) -> None:
    """Say farewell to the last word, whoever speaks meanwhile, then end the call.

    Args:
        processor: one before the voice, which pushes the frames.
        farewell: the words; empty ends the call behind what is being said.
        last: frames that come to their turn once the farewell was played.
    """
    words = [TTSSpeakFrame(farewell)] if farewell else []
    for frame in (*words, *last, EndWorkerFrame()):
        frame.interruptible = False
        await processor.push_frame(frame)


class IdlePrompts(FrameProcessor):
    """Asks for a sign of life when nobody has done anything for a while, at last hangs up.

    The clock starts when the bot has spoken for the first time, and again whenever speech, a
    reply or a tool ends. Only words or keys of the caller's begin the prompts anew.

    Args:
        config: times and texts.
        prompt: gives the prompt instead of the settings, whose number still counts.
    """

    def __init__(self, config: IdleConfig, prompt: Callable[[], str] | None = None) -> None:
        super().__init__()
        self._config = config
        self._prompt = prompt
        self._busy: set[str] = set()
        self._tools: set[str] = set()
        self._has_spoken = False
        self._prompted = 0
        self._timer: asyncio.Task[None] | None = None

    async def cleanup(self) -> None:
        """Stop the clock."""
        await super().cleanup()  # type: ignore[no-untyped-call]
        await self._stop()

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Forward the frame, then see whether anybody is busy."""
        await super().process_frame(frame, direction)
        await self.push_frame(frame, direction)
        if isinstance(frame, (EndFrame, CancelFrame)):
            self._busy.add("end")
            await self._stop()
        elif self._notes(frame) and self._config.after_s:
            await self._stop()
            if self._has_spoken and not self._busy and not self._tools:
                self._timer = self.create_task(self._wait())

    def _notes(self, frame: Frame) -> bool:
        """Keep track of who is busy; whether the frame changes anything."""
        kind = type(frame)
        if isinstance(frame, (LLMFullResponseStartFrame, InputDTMFFrame)) or (
            isinstance(frame, TranscriptionFrame) and any(map(str.isalnum, frame.text))
        ):
            self._prompted = 0  # a reply is under way to words that were heard
        if kind in _BEGINS:
            self._busy.add(_BEGINS[kind])
        elif kind in _ENDS:
            self._busy.discard(_ENDS[kind])
            self._has_spoken = self._has_spoken or kind is BotStoppedSpeakingFrame
        elif isinstance(frame, FunctionCallsStartedFrame):
            self._tools.update(call.tool_call_id for call in frame.function_calls)
        elif isinstance(frame, (FunctionCallResultFrame, FunctionCallCancelFrame)):
            self._tools.discard(frame.tool_call_id)  # a cancelled one has a result, too
        else:
            return isinstance(frame, (InputDTMFFrame, TranscriptionFrame))
        return True

    async def _stop(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            await self.cancel_task(timer)

    async def _wait(self) -> None:
        """Prompt after each silence. Speech, the prompt's own too, cancels and starts anew."""
        while True:
            leaving = self._prompted > len(self._config.prompts)
            await asyncio.sleep(_LAST_CHANCE_S if leaving else self._config.after_s)
            if leaving:
                await self.push_frame(EndWorkerFrame())
                return
            await self.push_frame(TTSSpeakFrame(self._words()))

    def _words(self) -> str:
        number, self._prompted = self._prompted, self._prompted + 1
        if number == len(self._config.prompts):
            return self._config.farewell
        return self._prompt() if self._prompt is not None else self._config.prompts[number]
