"""Listener: a base class for processors that act on what a caller does.

Frames in: speech, transcripts, turns and keys. Frames out: everything, before it is told of.

A turn's end and its words come as frames of two kinds, and either may be the first: turn frames
overtake transcripts. Whoever wants the words of a whole turn gets them here, once both are there.
"""

from pipecat.frames.frames import (
    BotStartedSpeakingFrame,
    BotStoppedSpeakingFrame,
    Frame,
    InputDTMFFrame,
    TranscriptionFrame,
    UserStartedSpeakingFrame,
    UserStoppedSpeakingFrame,
    VADUserStartedSpeakingFrame,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor

from talkpath.processors.frames import EagerEndOfTurnFrame, EarlyPauseFrame, SpeechResumedFrame

__all__ = ["Listener"]


class Listener(FrameProcessor):
    """Override what is of interest; all of it does nothing here.

    It stands behind the processors that hear: before ``context.user()`` in a bot with a
    language model, behind ``user_turns()`` in one without. The methods are awaited on the frames'
    own way: start a task (``self.create_task``) for what takes long.
    """

    def __init__(self) -> None:
        super().__init__()
        self._in_turn = False
        self._bot_speaks = False
        self._words: list[str] = []

    async def on_speech_started(self) -> None:
        """Somebody speaks; it may be a cough yet."""

    async def on_early_pause(self, silence_s: float) -> None:
        """The speaker has been silent for a moment: time to prepare what may be needed."""

    async def on_speech_resumed(self) -> None:
        """The speaker went on after an early pause."""

    async def on_eager_end_of_turn(self, completeness: float) -> None:
        """The turn is probably over; ``on_speech_resumed`` or the end of the turn follows."""

    async def on_end_of_turn(self, text: str) -> None:
        """The turn is over, and this is all that was said in it."""

    async def on_key(self, key: str) -> None:
        """A key of the telephone was pressed: ``0`` to ``9``, ``*`` or ``#``."""

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Forward the frame, then tell the methods what it means."""
        await super().process_frame(frame, direction)
        await self.push_frame(frame, direction)
        match frame:
            case VADUserStartedSpeakingFrame():
                await self.on_speech_started()
            case EarlyPauseFrame():
                await self.on_early_pause(frame.silence_s)
            case SpeechResumedFrame():
                await self.on_speech_resumed()
            case EagerEndOfTurnFrame():
                await self.on_eager_end_of_turn(frame.completeness)
            case InputDTMFFrame():
                await self.on_key(frame.button.value)
            case _:
                await self._follow(frame)

    async def _follow(self, frame: Frame) -> None:
        match frame:
            case BotStartedSpeakingFrame():
                self._bot_speaks = True
            case BotStoppedSpeakingFrame():
                self._bot_speaks = False
            case UserStartedSpeakingFrame():
                self._in_turn = True
            case UserStoppedSpeakingFrame():
                self._in_turn = False
                await self._turn_over()
            case TranscriptionFrame():
                # Words over the bot that took no turn are a mere "mhm".
                if self._in_turn or not self._bot_speaks:
                    self._words.append(frame.text.strip())
                if not self._in_turn:
                    await self._turn_over()
            case _:
                pass

    async def _turn_over(self) -> None:
        text = " ".join(filter(None, self._words))
        self._words.clear()
        if text:
            await self.on_end_of_turn(text)
