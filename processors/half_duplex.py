"""For speakerphones without echo cancellation: while the bot is heard, the caller is not.

Frames in: audio, and the bot's ``BotStartedSpeakingFrame`` and ``BotStoppedSpeakingFrame``.
Frames out: everything, with silence for audio while the bot speaks and for a tail after it.
"""

from pipecat.frames.frames import (
    BotStartedSpeakingFrame,
    BotStoppedSpeakingFrame,
    Frame,
    InputAudioRawFrame,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor

from talkpath.processors.audio_frames import with_audio

__all__ = ["MuteWhileSpeaking"]

_TAIL_S = 0.3


class MuteWhileSpeaking(FrameProcessor):
    """Put it right behind the transport's input, before all that listens.

    A microphone that hears the loudspeaker would make turns of the bot's own words. There is no
    barge-in then: the caller has to let the bot finish.

    Args:
        tail_s: seconds of audio that stay muted after the bot: the way of its last words over
            the network and through the room, and back.
    """

    def __init__(self, tail_s: float = _TAIL_S) -> None:
        super().__init__()
        self._tail_s = tail_s
        self._bot_speaks = False
        self._left_s = 0.0

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Forward the frame, muted where it is audio that may hold the bot's voice."""
        await super().process_frame(frame, direction)
        if isinstance(frame, BotStartedSpeakingFrame):
            self._bot_speaks = True
        elif isinstance(frame, BotStoppedSpeakingFrame):
            self._bot_speaks, self._left_s = False, self._tail_s
        elif isinstance(frame, InputAudioRawFrame):
            frame = self._muted(frame)
        await self.push_frame(frame, direction)

    def _muted(self, frame: InputAudioRawFrame) -> InputAudioRawFrame:
        if not self._bot_speaks and self._left_s <= 0:
            return frame
        if not self._bot_speaks:
            self._left_s -= frame.num_frames / frame.sample_rate
        return with_audio(frame, bytes(len(frame.audio)))
