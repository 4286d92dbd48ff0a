"""Scripted dialogue: a bot that follows a plan instead of a language model.

Frames in: ``TranscriptionFrame`` and the turns around it, ``InputDTMFFrame``. Frames out:
everything, ``TTSSpeakFrame`` with what the dialogue says, and at its end ``TransferFrame`` where
it sends the caller on, and ``EndWorkerFrame``. It stands behind the turns, before the voice.
"""

from pipecat.frames.frames import (
    BotStartedSpeakingFrame,
    BotStoppedSpeakingFrame,
    Frame,
    InputDTMFFrame,
    OutputTransportMessageFrame,
    TTSSpeakFrame,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.processors.frameworks.rtvi import models as rtvi

from talkpath.agent.dialogue import Dialogue, Step
from talkpath.processors.frames import TransferFrame, TransferRefusedFrame
from talkpath.processors.idle_prompts import hang_up
from talkpath.processors.turn_texts import TurnWords

__all__ = ["ScriptedDialogue"]

_NOT_REACHED = "I am sorry, nobody can be reached there now. Goodbye."


class ScriptedDialogue(FrameProcessor):
    """Gives a dialogue each turn's words, and each key, and says its answers.

    A key silences the bot at once. What comes after the dialogue's end is not heard any more.

    Args:
        dialogue: the plan, for this one call; its start is the bot's greeting.
    """

    def __init__(self, dialogue: Dialogue) -> None:
        super().__init__()
        self._dialogue = dialogue
        self._over = False
        self._bot_speaks = False
        self._words = TurnWords()

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Forward the frame, then take in what the caller did."""
        await super().process_frame(frame, direction)
        await self.push_frame(frame, direction)
        if isinstance(frame, BotStartedSpeakingFrame):
            self._bot_speaks = True
        elif isinstance(frame, BotStoppedSpeakingFrame):
            self._bot_speaks = False
        refused = isinstance(frame, TransferRefusedFrame)
        if refused and direction is FrameDirection.UPSTREAM:  # the plan is over all the same
            await hang_up(self, _NOT_REACHED)
        text = await self._words.take(frame, self)
        if self._over:
            return
        if text:
            await self._do(self._dialogue.heard(text))
        elif isinstance(frame, InputDTMFFrame):
            if self._bot_speaks:
                await self.broadcast_interruption()  # type: ignore[no-untyped-call]
            await self._do(self._dialogue.pressed(frame.button.value))

    async def _do(self, step: Step) -> None:
        if not step.ends:
            if step.say:
                await self.push_frame(TTSSpeakFrame(step.say))
            return
        self._over = True
        last: list[Frame] = []
        if step.target:
            # Not Pipecat's frame for server messages: that one would overtake the words.
            message = rtvi.ServerMessage(data={"type": "transfer", "target": step.target})
            last.append(TransferFrame(target=step.target))
            last.append(OutputTransportMessageFrame(message=message.model_dump()))
        await hang_up(self, step.say, *last)
