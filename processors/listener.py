"""Listener: a base class for processors that act on what a caller does.

Frames in: speech, transcripts, turns and keys. Frames out: everything, before it is told of.

A turn's end and its words come as frames of two kinds, and either may be the first: turn frames
overtake transcripts. Whoever wants the words of a whole turn gets them here, once both are there.
"""

from pipecat.frames.frames import Frame, InputDTMFFrame, VADUserStartedSpeakingFrame
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor

from talkpath.processors.frames import EagerEndOfTurnFrame, EarlyPauseFrame, SpeechResumedFrame
from talkpath.processors.turn_texts import TurnWords

__all__ = ["Listener"]


class Listener(FrameProcessor):
    """Override what is of interest; all of it does nothing here.

    It stands behind the processors that hear: before ``context.user()`` in a bot with a
    language model, behind ``user_turns()`` in one without. The methods are awaited on the frames'
    own way: start a task (``self.create_task``) for what takes long.
    """

    def __init__(self) -> None:
        super().__init__()
        self._words = TurnWords()

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
                text = await self._words.take(frame, self)
                if text is not None:
                    await self.on_end_of_turn(text)
