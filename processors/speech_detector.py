"""Voice activity: who speaks when.

Frames in: audio. Frames out: everything, and after the audio that shows it

- ``VADUserStartedSpeakingFrame``, ``VADUserStoppedSpeakingFrame`` and, while speech lasts,
  ``UserSpeakingFrame``, in both directions as Pipecat's own ``VADProcessor`` sends them;
- ``EarlyPauseFrame`` and ``SpeechResumedFrame``, downstream;
- while the bot speaks (``BotStartedSpeakingFrame`` to ``BotStoppedSpeakingFrame``)
  ``SpeechOnsetFrame`` ahead of a start, and ``SpeechOnsetEndedFrame`` if none comes, downstream.
"""

import asyncio
import time

from pipecat.audio.vad.vad_analyzer import VADParams
from pipecat.frames.frames import (
    BotStartedSpeakingFrame,
    BotStoppedSpeakingFrame,
    CancelFrame,
    EndFrame,
    Frame,
    InputAudioRawFrame,
    SpeechControlParamsFrame,
    StartFrame,
    UserSpeakingFrame,
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor

from talkpath.agent.audio import SAMPLE_RATE_HZ, FloatArray, Resampler, pcm16_to_float
from talkpath.agent.config import SpeechConfig
from talkpath.agent.errors import ModelError
from talkpath.agent.speech import (
    WINDOW_SAMPLES,
    EarlyPause,
    SileroVad,
    SpeechEvent,
    SpeechLevel,
    SpeechOnset,
    SpeechOnsetEnded,
    SpeechResumed,
    SpeechStarted,
    SpeechStopped,
    SpeechTracker,
)
from talkpath.agent.speech.noise import NoiseFilter
from talkpath.processors.audio_frames import with_audio
from talkpath.processors.frames import (
    EarlyPauseFrame,
    SpeechOnsetEndedFrame,
    SpeechOnsetFrame,
    SpeechResumedFrame,
)

__all__ = ["SpeechDetector"]

_SPEAKING_PERIOD_S = 0.2
_NO_AUDIO_S = 1.0
_LONGEST_BLOCK_S = 0.1
_ERROR_PERIOD_S = 10.0


class SpeechDetector(FrameProcessor):
    """Finds the caller's speech in the incoming audio, at any sample rate, mono.

    Put it right behind the transport's input. When no audio comes for a second in the middle
    of speech (a muted microphone), speech counts as stopped, and so does an onset. Windows that
    the model fails on are passed over, with an error frame at most every 10 s; the audio goes on.

    Args:
        vad: the model, shared by all sessions (``Runtime.vad``), which advances their
            streams in batches.
        config: threshold, times, whose speech is background, and the noise filter.

    Raises:
        MissingDependency: the noise filter is not installed.
    """

    def __init__(self, vad: SileroVad, config: SpeechConfig | None = None) -> None:
        super().__init__()
        self._config = config or SpeechConfig()
        level = SpeechLevel(self._config.background_db)
        self._tracker = SpeechTracker(vad, self._config, level)
        self._noise = NoiseFilter() if self._config.noise_filter == "rnnoise" else None
        self._resampler: Resampler | None = None
        self._last_audio = 0.0
        self._last_speaking = 0.0
        self._next_error = 0.0
        self._watch: asyncio.Task[None] | None = None

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Forward the frame, then look for speech if it is audio."""
        await super().process_frame(frame, direction)
        if isinstance(frame, InputAudioRawFrame):
            for block in _blocks(frame):
                await self.push_frame(block, direction)
                await self._handle_audio(block)
            return
        await self.push_frame(frame, direction)
        if isinstance(frame, StartFrame):
            params = VADParams(
                confidence=self._config.threshold,
                start_secs=self._config.start_s,
                stop_secs=self._config.stop_s,
                min_volume=0.0,
            )
            await self.broadcast_frame(SpeechControlParamsFrame, vad_params=params)
            self._watch = self.create_task(self._watch_for_silence())
        elif isinstance(frame, (BotStartedSpeakingFrame, BotStoppedSpeakingFrame)):
            self._tracker.bot_speaks(isinstance(frame, BotStartedSpeakingFrame))
        elif isinstance(frame, (EndFrame, CancelFrame)):
            await self._stop_watching()

    async def cleanup(self) -> None:
        """Stop the watch over missing audio."""
        await super().cleanup()  # type: ignore[no-untyped-call]
        await self._stop_watching()

    async def _handle_audio(self, frame: InputAudioRawFrame) -> None:
        self._last_audio = time.monotonic()
        audio = self._to_16_khz(frame)
        for start in range(0, len(audio), WINDOW_SAMPLES):
            events = await self._hear(audio[start : start + WINDOW_SAMPLES])
            # The whole frame went on before the events that its first part shows.
            since_s = max(0, len(audio) - start - WINDOW_SAMPLES) / SAMPLE_RATE_HZ
            for event in events:
                await self._emit(event, since_s)
        if (
            self._tracker.machine.speaking
            and self._last_audio - self._last_speaking >= _SPEAKING_PERIOD_S
        ):
            self._last_speaking = self._last_audio
            await self.broadcast_frame(UserSpeakingFrame)

    async def _hear(self, audio: FloatArray) -> list[SpeechEvent]:
        try:
            return await self._tracker.hear(audio)
        except ModelError as error:
            if self._last_audio >= self._next_error:  # not for each of 31 windows a second
                self._next_error = self._last_audio + _ERROR_PERIOD_S
                await self.push_error(str(error), exception=error)
            return []

    def _to_16_khz(self, frame: InputAudioRawFrame) -> FloatArray:
        if self._resampler is None or self._resampler.from_hz != frame.sample_rate:
            self._resampler = Resampler(frame.sample_rate)
        audio = self._resampler.process(pcm16_to_float(frame.audio))
        return audio if self._noise is None else self._noise.process(audio)

    async def _emit(self, event: SpeechEvent, since_s: float) -> None:
        match event:
            case SpeechOnset(ago_s):
                await self.push_frame(SpeechOnsetFrame(ago_s + since_s))
            case SpeechOnsetEnded():
                await self.push_frame(SpeechOnsetEndedFrame())
            case SpeechStarted(ago_s):
                await self.broadcast_frame(VADUserStartedSpeakingFrame, start_secs=ago_s + since_s)
            case EarlyPause(silence_s):
                await self.push_frame(EarlyPauseFrame(silence_s + since_s))
            case SpeechResumed():
                await self.push_frame(SpeechResumedFrame())
            case SpeechStopped():
                await self.broadcast_frame(
                    VADUserStoppedSpeakingFrame, stop_secs=self._config.stop_s + since_s
                )

    async def _watch_for_silence(self) -> None:
        last_audio, looks = 0.0, 0
        while True:
            await asyncio.sleep(_NO_AUDIO_S / 2)
            # Where this process had no time for a second, audio may be waiting for it: it has the
            # time until the next look to be heard.
            looks = looks + 1 if self._last_audio == last_audio else 0
            last_audio = self._last_audio
            quiet_for_s = time.monotonic() - last_audio
            if looks < 2 or quiet_for_s < _NO_AUDIO_S:
                continue
            for event in self._tracker.end_onset():
                await self._emit(event, quiet_for_s)
            if self._tracker.machine.speaking:
                silence_s = self._tracker.machine.force_stop().silence_s + quiet_for_s
                await self.broadcast_frame(VADUserStoppedSpeakingFrame, stop_secs=silence_s)

    async def _stop_watching(self) -> None:
        if self._watch is not None:
            await self.cancel_task(self._watch)
            self._watch = None


def _blocks(frame: InputAudioRawFrame) -> list[InputAudioRawFrame]:
    """Cut a long frame up: what listens behind must not hear its end before its events."""
    step = round(_LONGEST_BLOCK_S * frame.sample_rate) * frame.num_channels * 2
    if len(frame.audio) <= step:
        return [frame]
    starts = range(0, len(frame.audio), step)
    return [with_audio(frame, frame.audio[start : start + step]) for start in starts]
