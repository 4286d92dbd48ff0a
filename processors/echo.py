"""Echo: says back what it heard, in the caller's own voice.

Frames in: audio, and what the speech detector and the turn strategies say about it. Frames
out: everything, and at the end of each user turn its speech as ``SpeechOutputAudioRawFrame``,
pauses cut out.
"""

import asyncio

from pipecat.frames.frames import (
    Frame,
    InputAudioRawFrame,
    SpeechOutputAudioRawFrame,
    UserStoppedSpeakingFrame,
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor, FrameProcessorSetup

from talkpath.agent.audio import FloatArray, Resampler, float_to_pcm16, pcm16_to_float

__all__ = ["Echo"]

_PRE_ROLL_S = 0.2
_LONGEST_TURN_S = 60.0
_CHUNK_S = 0.2


class Echo(FrameProcessor):
    """Keeps the speech of the turn under way and plays it when the turn ends.

    It keeps 60 s; of a longer turn it says back the last 60.
    """

    def __init__(self) -> None:
        super().__init__()
        self._turn = bytearray()
        self._recent = bytearray()
        self._recording = False
        self._bytes_per_s = 0
        self._out_hz = 0

    # Pipecat's own FrameProcessor.setup departs from its base in the same way.
    async def setup(self, setup: FrameProcessorSetup) -> None:  # type: ignore[override]
        """Take the pipeline's sample rates."""
        await super().setup(setup)
        self._bytes_per_s = 2 * setup.audio_in_sample_rate
        self._out_hz = setup.audio_out_sample_rate

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Forward the frame, then record or play."""
        await super().process_frame(frame, direction)
        await self.push_frame(frame, direction)
        if direction is not FrameDirection.DOWNSTREAM:
            return
        if isinstance(frame, InputAudioRawFrame):
            self._record(frame.audio)
        elif isinstance(frame, VADUserStartedSpeakingFrame):
            self._recording = True
            self._turn += self._recent[-self._bytes(frame.start_secs + _PRE_ROLL_S) :]
            self._recent.clear()
        elif isinstance(frame, VADUserStoppedSpeakingFrame):
            self._recording = False
        elif isinstance(frame, UserStoppedSpeakingFrame):
            await self._play()

    def _record(self, audio: bytes) -> None:
        kept, limit_s = (self._turn, _LONGEST_TURN_S) if self._recording else (self._recent, 1.0)
        kept += audio
        del kept[: max(0, len(kept) - self._bytes(limit_s))]

    def _bytes(self, seconds: float) -> int:
        return round(seconds * self._bytes_per_s / 2) * 2

    async def _play(self) -> None:
        turn, self._turn = bytes(self._turn), bytearray()
        if not turn:
            return
        resampler = Resampler(self._bytes_per_s // 2, self._out_hz)
        step = self._bytes(_CHUNK_S)
        for start in range(0, len(turn), step):
            await self._say(resampler.process(pcm16_to_float(turn[start : start + step])))
            await asyncio.sleep(0)  # other callers' turn: a minute takes a while to resample
        await self._say(resampler.flush())

    async def _say(self, speech: FloatArray) -> None:
        if len(speech):
            await self.push_frame(
                SpeechOutputAudioRawFrame(
                    audio=float_to_pcm16(speech), sample_rate=self._out_hz, num_channels=1
                )
            )
