"""Streaming Whisper: speech to text on this machine, while it is being spoken.

Frames in: audio, and from a ``SpeechDetector`` in front of it the beginning, early pause,
resumption and end of speech. Frames out: everything, and

- ``InterimTranscriptionFrame`` about every half second of speech; its ``result`` is the
  ``Partial``, which tells the stable words from the rest;
- ``TranscriptionFrame`` at the end of speech, with ``finalized=True`` and the ``Final`` as
  its ``result``. Speech longer than 15 s is split at short pauses, and before 28 s in any case
  (sooner in languages that take many tokens): all pieces but the last have
  ``finalized=False``. What was said earlier in the turn, which ends with Pipecat's
  ``UserStoppedSpeakingFrame`` or a longer pause, helps to understand what comes next;
- ``NothingHeardFrame`` where there was sound but no word;
- ``EagerTranscriptionFrame``, if asked for, in a pause that may be the end: the final that the
  stop will bring.

It also works behind Pipecat's own ``VADProcessor``, without the early pause and so with
finals that come later by the time of one decode.
"""

import time
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Any

from pipecat.frames.frames import (
    Frame,
    STTMuteFrame,
    UserStoppedSpeakingFrame,
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.processors.frame_processor import FrameDirection
from pipecat.services.settings import STTSettings

from talkpath.agent.errors import TalkpathError
from talkpath.agent.whisper import (
    Final,
    Likely,
    Partial,
    StreamFailure,
    StreamResult,
    WhisperEngine,
    WhisperStream,
)
from talkpath.processors.frames import EarlyPauseFrame, NothingHeardFrame, SpeechResumedFrame
from talkpath.processors.transcripts import final_frame, likely_frame, partial_frame
from talkpath.processors.whisper_service import WhisperService

__all__ = ["StreamingWhisper"]

TTFS_P99_S = 0.45
"""End of speech to final transcript, 99th percentile of one stream on two CPU cores with
``base`` int8 and a stop of 0.2 s (``talkpath bench load``)."""

# Whisper is so unsure of its translations that the guard sends most of them back. Drawn again at
# five temperatures, in the longer window, 4 s of speech took 4 to 8 s (``base``, two cores, five
# languages), and nonsense came out as often as before.
_TRANSLATING = (0.0, 0.4)


class StreamingWhisper(WhisperService[StreamResult]):
    """One session's view of the process's Whisper engine. Results wait in a ``ResultQueue``.

    Args:
        engine: shared by all sessions (``Runtime.whisper``).
        language: a Whisper code, ``auto``, or None for the engine's setting.
        task: ``transcribe``, ``translate`` into English, or None for the engine's setting.
        words: whether finals carry the times of their words, see ``Transcript.words``.
        partials: whether to send ``InterimTranscriptionFrame``.
        eager: whether to send ``EagerTranscriptionFrame``, for turn strategies that begin a reply
            on it.
        audio_passthrough: whether the audio goes on; False saves the way behind this processor
            where nobody listens there.
        ttfs_p99_latency: seconds from the end of speech to the final, 99th percentile; turn
            strategies wait this long at most. Measure your own machine's.
    """

    def __init__(
        self,
        engine: WhisperEngine,
        *,
        language: str | None = None,
        task: str | None = None,
        words: bool = False,
        partials: bool = True,
        eager: bool = False,
        audio_passthrough: bool = True,
        ttfs_p99_latency: float = TTFS_P99_S,
    ) -> None:
        super().__init__(
            language, audio_passthrough=audio_passthrough, ttfs_p99_latency=ttfs_p99_latency
        )
        self._engine = engine
        self._task = task
        self._words = words
        self._partials = partials
        self._eager = eager
        self._stream: WhisperStream | None = None

    @property
    def task(self) -> str:
        """``transcribe``, or ``translate`` into English."""
        return self._task or self._engine.options.task

    async def run_stt(self, audio: bytes) -> AsyncGenerator[Frame | None, None]:
        """Take the next samples, 16-bit mono PCM; transcripts come on their own time."""
        if self._stream is not None:
            self._stream.feed(audio)
        yield None

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Forward the frame, then tell the stream what it says about speech."""
        await super().process_frame(frame, direction)
        stream = self._stream
        if stream is not None and isinstance(frame, STTMuteFrame):
            self._mute(stream)
            return
        if stream is not None and isinstance(frame, UserStoppedSpeakingFrame):
            stream.end_turn()  # the aggregator behind sends it upstream too
            return
        if stream is None or self._muted or direction is not FrameDirection.DOWNSTREAM:
            return
        if isinstance(frame, VADUserStartedSpeakingFrame):
            stream.speech_started(frame.start_secs)
        elif isinstance(frame, EarlyPauseFrame):
            stream.early_pause()
        elif isinstance(frame, SpeechResumedFrame):
            stream.speech_resumed()
        elif isinstance(frame, VADUserStoppedSpeakingFrame):
            # A part of the silence may be audio that never came: the stream does not hold it.
            missing_s = time.monotonic() - self._last_audio_time
            stream.speech_stopped(max(0.0, frame.stop_secs - missing_s))

    # Pipecat's own STTService narrows the settings in the same way.
    async def _update_settings(self, delta: STTSettings) -> dict[str, Any]:  # type: ignore[override]
        changed = await super()._update_settings(delta)
        if "language" in changed and self._stream is not None:
            language = self._settings.language
            try:
                self._stream.set_language(str(language) if language else None)
            except TalkpathError as error:
                await self.push_error(str(error), exception=error)
        return changed

    def _mute(self, stream: WhisperStream) -> None:
        """What was said before the mute is an utterance; so is what comes after it."""
        if self._muted:
            stream.speech_stopped(0.0)
            stream.forget()
        elif self._user_speaking:
            stream.speech_started(0.0)

    def _open(self) -> None:
        language = self._settings.language
        usual = self._engine.options
        options = replace(
            usual,
            task=self.task,
            word_timestamps=self._words,
            languages=() if language else usual.languages,
            temperatures=usual.temperatures if self.task == "transcribe" else _TRANSLATING,
        )
        self._stream = self._engine.open_stream(
            self._results.take,
            sample_rate_hz=self.sample_rate,
            language=str(language) if language else None,
            partials=self._partials,
            likely=self._eager,
            options=options,
        )

    async def _drain(self) -> None:
        if self._stream is not None:
            self._stream.speech_stopped(0.0)
            await self._stream.drain()

    async def _release(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    async def _push(self, result: StreamResult) -> None:
        match result:
            case Partial():
                await self.push_frame(partial_frame(result, self._user_id))
            case Likely():
                await self._push_likely(result)
            case Final():
                await self.emit_stt_usage_metrics()  # type: ignore[no-untyped-call]
                finalized = result.ends_speech
                await self.push_frame(final_frame(result, self._user_id, finalized=finalized))
            case StreamFailure():
                await self.push_error(str(result.error), exception=result.error)
                nothing = NothingHeardFrame(result.utterance, ends_speech=result.ends_speech)
                await self.push_frame(nothing)

    async def _push_likely(self, likely: Likely) -> None:
        frame = likely_frame(likely, self._user_id)
        if frame is not None:
            await self.push_frame(frame)
