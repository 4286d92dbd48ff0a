"""Turn texts: what the caller said, one whole turn at a time, and what the bot says to it.

For bots without a language model. It stands behind ``user_turns()`` and before the voice. Frames
in: transcripts and the end of turns. Frames out: everything, and at the end of each turn a
``TTSSpeakFrame`` if there is something to say.
"""

from collections.abc import Awaitable, Callable

from pipecat.frames.frames import (
    Frame,
    TranscriptionFrame,
    TTSSpeakFrame,
    UserStartedSpeakingFrame,
    UserStoppedSpeakingFrame,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor

from talkpath.agent.whisper.agreement import join_texts

__all__ = ["TurnTexts"]


class TurnTexts(FrameProcessor):
    """Gathers the transcripts of a turn and asks for the answer when it is over.

    A transcript that comes after the end of its turn has an answer of its own.

    Args:
        answer: gets the turn's text and gives what to say, or None to say nothing.
    """

    def __init__(self, answer: Callable[[str], Awaitable[str | None]]) -> None:
        super().__init__()
        self._answer = answer
        self._texts: list[str] = []
        self._in_turn = False

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Forward the frame; gather, or answer."""
        await super().process_frame(frame, direction)
        await self.push_frame(frame, direction)
        if direction is not FrameDirection.DOWNSTREAM:
            return
        if isinstance(frame, UserStartedSpeakingFrame):
            self._in_turn = True
        elif isinstance(frame, UserStoppedSpeakingFrame):
            self._in_turn = False
            await self._end_turn()
        elif isinstance(frame, TranscriptionFrame):
            self._texts.append(frame.text)
            if not self._in_turn:
                await self._end_turn()

    async def _end_turn(self) -> None:
        texts, self._texts = self._texts, []
        if not texts:
            return
        text = await self._answer(join_texts(texts))
        if text:
            await self.push_frame(TTSSpeakFrame(text))
