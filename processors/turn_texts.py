"""Turn texts: what the caller said, one whole turn at a time, and what the bot says to it.

For bots without a language model. It stands behind ``user_turns()`` and before the voice. Frames
in: transcripts, backchannels, and the turns around them. Frames out: everything, and at the end
of each turn a ``TTSSpeakFrame`` if there is something to say.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from pipecat.frames.frames import (
    DataFrame,
    Frame,
    TranscriptionFrame,
    TTSSpeakFrame,
    UserBackchannelFrame,
    UserStartedSpeakingFrame,
    UserStoppedSpeakingFrame,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor

from talkpath.agent.whisper.agreement import join_texts
from talkpath.processors.frames import NothingHeardFrame

__all__ = ["TurnTexts", "TurnWords"]


@dataclass
class _TurnOverFrame(DataFrame):
    """A turn's end in the order of words, behind all that were under way when it came."""

    words: "TurnWords"
    turn: int


class TurnWords:
    """Puts the transcripts of a turn together, whatever the order in which the frames come.

    A transcript outside a turn belongs to one that begins or has just ended, or was no more than
    a backchannel: the frames of turns overtake those of words.
    """

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._turn = 0
        self._late = False  # the last turn is over, and its words are not here yet

    async def take(self, frame: Frame, processor: FrameProcessor) -> str | None:
        """Take a frame; the text of the whole turn if it is over with that, else None.

        Args:
            frame: each one that the processor gets.
            processor: who asks; the end of a turn is queued there once more, behind its words.
        """
        match frame:
            case UserStartedSpeakingFrame():
                self._turn, self._late = self._turn + 1, False
            case UserStoppedSpeakingFrame():
                over = _TurnOverFrame(self, self._turn)
                over.interruptible = False
                await processor.queue_frame(over)
            case _TurnOverFrame() if frame.words is self:
                self._late = not self._texts and frame.turn == self._turn
                return self._over()
            case NothingHeardFrame():
                self._late = False
            case UserBackchannelFrame() if frame.text in self._texts:
                self._texts.remove(frame.text)
            case TranscriptionFrame():
                self._texts.append(frame.text.strip())
                if self._late:
                    self._late = False
                    return self._over()
        return None

    def _over(self) -> str | None:
        texts, self._texts = self._texts, []
        return join_texts(texts) or None


class TurnTexts(FrameProcessor):
    """Asks for the answer to each turn.

    Args:
        answer: gets the turn's text and gives what to say, or None to say nothing.
    """

    def __init__(self, answer: Callable[[str], Awaitable[str | None]]) -> None:
        super().__init__()
        self._answer = answer
        self._words = TurnWords()

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Forward the frame; at the end of a turn, answer."""
        await super().process_frame(frame, direction)
        await self.push_frame(frame, direction)
        text = await self._words.take(frame, self)
        answer = await self._answer(text) if text else None
        if answer:
            await self.push_frame(TTSSpeakFrame(answer))
