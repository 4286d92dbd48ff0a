"""Text to speech with a Piper voice that all sessions of a process share.

Frames in: LLM text or ``TTSSpeakFrame``, and ``SpeakAheadFrame`` for what may follow. Frames out:
``TTSStartedFrame``, then for every word its ``TTSAudioRawFrame`` and its ``TTSTextFrame``, then
``TTSStoppedFrame``.

Pipecat's own ``PiperTTSService`` was not enough: it loads a model for each session, in the
constructor and on the event loop, with as many threads as there are cores; it may fetch it
from the network; it resamples in a stream that holds the end of a sentence back; and it
knows no words, so that an interrupted sentence vanishes from the context as a whole.
"""

import itertools
import re
from collections.abc import AsyncGenerator, Iterator

import numpy as np
from pipecat.frames.frames import (
    AggregatedTextFrame,
    AggregatedTextProgressFrame,
    EagerEndOfTurnCancelFrame,
    ErrorFrame,
    Frame,
    InterruptionFrame,
    LLMAssistantPushAggregationFrame,
    LLMFullResponseEndFrame,
    TTSAudioRawFrame,
    TTSStoppedFrame,
    TTSTextFrame,
)
from pipecat.processors.frame_processor import FrameDirection
from pipecat.services.settings import TTSSettings
from pipecat.services.tts_service import TTSService
from pipecat.utils.text.transforms import strip_markdown

from talkpath.agent.voice import Voice
from talkpath.processors.frames import SpeakAheadFrame
from talkpath.processors.spoken_ahead import SpokenAhead

__all__ = ["PiperVoice", "phrases"]

_SHORT = 48
"""Characters that are synthesized in one go: about 3 s of speech, 200 ms on one core."""
_SHORTEST = 16
"""Characters that a phrase has at least: cut finer, the melody breaks."""
_SENTENCE_END = re.compile(r"(?<=[.!?…])\s+(?=\W*[A-Z])")
_PHRASE_END = re.compile(r"(?<=[.!?…,;:])\s+")
_SILENCE_S = 0.02
_AUDIBLE = 100
"""16-bit amplitude (-50 dBFS) from which Piper's breath before a word can be heard; 35 to 65 ms of
silence come before it."""
_LEAD_S = 0.01
_SLOW_S = 30.0
"""Seconds that a phrase may take on a busy machine. After that (3 by default), Pipecat takes the
reply for spoken, and counts as heard what is yet to be said."""

_QUEUED_WITH_AUDIO = (
    AggregatedTextFrame,  # TTSTextFrame too
    AggregatedTextProgressFrame,
    LLMAssistantPushAggregationFrame,
    LLMFullResponseEndFrame,
    TTSStoppedFrame,
)


class PiperVoice(TTSService):
    """Speaks phrase by phrase, and says word by word what has been played.

    Pipecat times words by the clock, from the moment their audio was made. Audio that
    waits behind other audio, or comes late, is then counted as heard before anybody heard
    it. Here each word's frame follows the word's own audio through the transport's queue:
    when it comes out, the word has been played, and what an interruption finds in that
    queue was not. So the context and the page keep only what the caller heard.

    Args:
        voice: the loaded voice. It belongs to the caller, who closes it.
    """

    def __init__(self, voice: Voice) -> None:
        super().__init__(
            push_text_frames=False,
            push_start_frame=True,
            push_stop_frames=True,
            stop_frame_timeout_s=_SLOW_S,
            # A reply of nothing but symbols is no reason to give up on the voice.
            max_consecutive_zero_audio_contexts=0,
            text_transforms=[("*", strip_markdown)],
            settings=TTSSettings(model=None, voice=None, language=None),
        )
        self._ahead = SpokenAhead(voice, self.create_task, self.cancel_task)
        self._begun_context: str | None = None
        self._failed_context: str | None = None

    def can_generate_metrics(self) -> bool:
        """Time to first byte and characters are measured."""
        return True

    async def cleanup(self) -> None:
        """Drop what was made ahead."""
        await self._ahead.drop()
        await super().cleanup()  # type: ignore[no-untyped-call]

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Begin with what may have to be spoken, and give it up when the reply is withdrawn."""
        if isinstance(frame, SpeakAheadFrame):
            text = await strip_markdown(frame.text, "sentence")
            for phrase in itertools.islice(phrases(text), 1):
                await self._ahead.begin(phrase, self.sample_rate)
            return
        if isinstance(frame, (EagerEndOfTurnCancelFrame, InterruptionFrame)):
            await self._ahead.drop()
        await super().process_frame(frame, direction)

    async def run_tts(self, text: str, context_id: str) -> AsyncGenerator[Frame | None, None]:
        """Speak a text.

        An interruption cancels this generator: no further phrase is synthesized.

        Args:
            text: one or more sentences.
            context_id: Pipecat's name for the reply that it belongs to.

        Yields:
            The audio of each word with the pause before it, in two where the voice has made the
            beginning of a word alone so far.
        """
        await self.start_tts_usage_metrics(text)
        try:
            for phrase in phrases(text):
                async for frame in self._speak(phrase, context_id):
                    yield frame
        except Exception as error:
            yield ErrorFrame(error=f"the voice failed: {error}", exception=error)
            if self.audio_context_available(context_id):  # there is nothing to wait for
                await self.remove_audio_context(context_id)

    async def _speak(self, phrase: str, context_id: str) -> AsyncGenerator[Frame, None]:
        silent = True
        async for spoken in self._ahead.pieces(phrase, self.sample_rate):
            start = self._silence_before(spoken.pcm, context_id)
            for word in spoken.words:
                if word.end > start:
                    yield self._audio(spoken.pcm[2 * start : 2 * word.end], context_id)
                    start = word.end
                # The time is unused, see push_frame.
                await self.add_word_timestamps([(word.text, 0.0)], context_id)
            if 2 * start < len(spoken.pcm):
                yield self._audio(spoken.pcm[2 * start :], context_id)
            silent = silent and not spoken.pcm
        if silent:  # text without any sound ("...") still is a reply; the base wants some audio
            silence = bytes(2 * int(self.sample_rate * _SILENCE_S))
            yield self._audio(silence, context_id)

    def _silence_before(self, pcm: bytes, context_id: str) -> int:
        """Samples at a reply's beginning in which nothing is heard yet: the caller waits for it."""
        if context_id == self._begun_context:
            return 0
        self._begun_context = context_id
        heard = np.nonzero(np.abs(np.frombuffer(pcm, np.int16).astype(np.int32)) > _AUDIBLE)[0]
        if not len(heard):
            return 0
        return max(0, int(heard[0]) - round(self.sample_rate * _LEAD_S))

    def _audio(self, pcm: bytes, context_id: str) -> TTSAudioRawFrame:
        return TTSAudioRawFrame(pcm, self.sample_rate, 1, context_id=context_id)

    async def push_frame(
        self, frame: Frame, direction: FrameDirection = FrameDirection.DOWNSTREAM
    ) -> None:
        """Push a frame, text without a time so that it keeps its place in the audio.

        A transport sends a frame with a time by the clock, and one without behind the audio
        that came before. The base gives a time to all text that has none, hence zero, which
        transports take for none.
        """
        failed = self._failed_context
        if isinstance(frame, TTSTextFrame) and failed and frame.context_id == failed:
            return  # the base hands over what it believes spoken without times
        if isinstance(frame, _QUEUED_WITH_AUDIO):
            frame.pts = 0
        await super().push_frame(frame, direction)

    async def push_error_frame(
        self, error: ErrorFrame, force_treat_as_permanent: bool = False
    ) -> None:
        """Report an error. What was to be spoken after it does not count as heard."""
        self._failed_context = self.get_active_audio_context_id()
        await super().push_error_frame(error, force_treat_as_permanent)


def phrases(text: str) -> Iterator[str]:
    """Cut a text where a speaker could breathe, so that the first sound comes early.

    Sentences stand alone; one over 48 characters is cut after commas and the like, into
    phrases of at least 16 characters. Nothing but space between phrases is lost.
    """
    for sentence in _SENTENCE_END.split(text.strip()):
        if len(sentence) <= _SHORT:
            yield sentence
            continue
        phrase = ""
        parts = _PHRASE_END.split(sentence)
        for index, part in enumerate(parts):
            phrase = f"{phrase} {part}" if phrase else part
            rest = sum(map(len, parts[index + 1 :]))
            # The last phrase of a sentence cannot be short: its rest was long enough before.
            if not rest or (len(phrase) >= _SHORTEST and rest >= _SHORTEST):
                yield phrase
                phrase = ""
