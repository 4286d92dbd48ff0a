"""Output that can be held: silent at once, and later on from exactly where it was.

Frames in: ``HoldPlaybackFrame``, ``ResumePlaybackFrame``, and what every output takes. While
held, nothing is written: the audio, and the frames that wait in line with it, stay where they
are. ``ResumePlaybackFrame`` goes on with the very next sample; ``InterruptionFrame`` drops the
rest and ends the hold. Neither begins nor ends the bot's turn: ``BotStoppedSpeakingFrame`` comes
with the end of its speech or with the interruption, as ever.

Who holds decides soon; a hold that nobody ends is ended here, so that no lost frame silences a
bot for good.
"""

import asyncio

from loguru import logger
from pipecat.frames.frames import (
    CancelFrame,
    EndFrame,
    Frame,
    InterruptionFrame,
    OutputAudioRawFrame,
    OutputDTMFUrgentFrame,
    StartFrame,
)
from pipecat.processors.frame_processor import FrameDirection
from pipecat.transports.base_output import BaseOutputTransport

from talkpath.processors.frames import HoldPlaybackFrame, ResumePlaybackFrame
from talkpath.transports.resampling import play_shortly

__all__ = ["LONGEST_HOLD_S", "HoldingOutput"]

LONGEST_HOLD_S = 5.0
"""Half of the time that Pipecat grants a write before it takes the peer for gone."""

# Nobody is there any more to end the hold, or it cannot wait for that.
_ENDS_A_HOLD = (ResumePlaybackFrame, EndFrame, CancelFrame, OutputDTMFUrgentFrame)


class HoldingOutput(BaseOutputTransport):
    """What makes an output holdable; comes before the transport's own class.

    ``class MyOutput(HoldingOutput, SomeOutputTransport)`` is all that a transport needs which
    has nothing in hand once ``write_audio_frame`` has returned. One that has (a queue, a
    jitter buffer) overrides ``on_hold``, ``on_resume`` and ``on_drop``, too.
    """

    _held = False
    _drops = 0  # how often the rest was dropped
    _moved: asyncio.Event | None = None  # set at the end of the hold
    _limit: asyncio.TimerHandle | None = None

    @property
    def held(self) -> bool:
        """Whether playback is held."""
        return self._held

    def on_hold(self) -> None:
        """Playback is held from now on: take back what has not been heard yet."""

    def on_resume(self) -> None:
        """Playback goes on."""

    def on_drop(self) -> None:
        """Drop what was taken back, uninterruptible audio excepted; a hold ends after this."""

    async def set_transport_ready(self, frame: StartFrame) -> None:
        """Be ready to play, audio at other rates than the output's with little delay too."""
        await super().set_transport_ready(frame)
        play_shortly(self)

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Hold, resume or drop, and let the frame go its way."""
        if isinstance(frame, HoldPlaybackFrame):
            self._hold()
        elif isinstance(frame, _ENDS_A_HOLD):
            self._resume()
        elif isinstance(frame, InterruptionFrame):
            self._hold()  # or the next chunk went out while Pipecat clears its queue
        await super().process_frame(frame, direction)
        if isinstance(frame, InterruptionFrame):
            self._drops += 1
            self.on_drop()
            self._resume()

    async def write_audio_frame(self, frame: OutputAudioRawFrame) -> bool:
        """Write a chunk once nothing is held; False if an interruption dropped it meanwhile."""
        drops = self._drops
        while self._held:
            assert self._moved is not None
            await self._moved.wait()
            if frame.interruptible and self._drops != drops:
                return False
        return await super().write_audio_frame(frame)

    async def cleanup(self) -> None:
        """End the hold with the session."""
        self._resume()
        await super().cleanup()  # type: ignore[no-untyped-call]

    def _hold(self) -> None:
        if self._held:
            return
        self._held = True
        self._moved = asyncio.Event()
        self._limit = asyncio.get_running_loop().call_later(LONGEST_HOLD_S, self._give_up)
        self.on_hold()

    def _resume(self) -> None:
        if not self._held:
            return
        assert self._moved is not None and self._limit is not None
        self._held = False
        self._limit.cancel()
        self._moved.set()
        self.on_resume()

    def _give_up(self) -> None:
        logger.warning(
            "{} was held for {:.0f} s and nobody ended it: it goes on", self, LONGEST_HOLD_S
        )
        self._resume()
