"""Text to speech at any server that has OpenAI's ``/v1/audio/speech``.

Frames in: LLM text or ``TTSSpeakFrame``. Frames out: ``TTSStartedFrame``, audio as it comes,
the sentence as ``TTSTextFrame`` behind it, then ``TTSStoppedFrame``.

Pipecat's ``OpenAITTSService`` takes OpenAI's own voices alone, cannot resample, and waits ten
minutes for a server that says nothing.
"""

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any
from urllib.parse import urlsplit

from loguru import logger
from openai import AsyncOpenAI, DefaultAsyncHttpxClient, Timeout
from pipecat.frames.frames import ErrorFrame, Frame, TTSAudioRawFrame, TTSTextFrame
from pipecat.services.settings import TTSSettings
from pipecat.services.tts_service import TTSService
from pipecat.utils.context.word_timestamp_tracker import WordTimestamp
from pipecat.utils.errors import ErrorCategory
from pipecat.utils.text.transforms import strip_markdown

from talkpath.agent.audio import Resampler, float_to_pcm16, pcm16_to_float
from talkpath.agent.voice import Voice

__all__ = ["OpenAIVoice"]

_OPENAI_URL = "https://api.openai.com/v1"
_RATE_HZ = 24_000
"""Of OpenAI's ``pcm``: mono, signed 16-bit little-endian, without a header.
Source: https://platform.openai.com/docs/guides/text-to-speech"""
_CHUNK_BYTES = 4800
"""A tenth of a second."""
_CONNECT_S = 3.0
_PATIENCE_S = 5.0
"""For the first sound, and for each further piece of it."""


class OpenAIVoice(TTSService):
    """Speaks sentence by sentence; what an interruption finds unplayed counts as unsaid.

    Args:
        url: base URL of the server, with ``/v1``; None is OpenAI's own.
        api_key: its key, if it wants one.
        model: the model's name there.
        voice: the speaker's name there.
        options: further fields of the request, such as ``speed`` and ``instructions``.
        stand_in: a voice in this process that speaks when the server does not.
    """

    def __init__(
        self,
        *,
        url: str | None = None,
        api_key: str | None = None,
        model: str,
        voice: str,
        options: Mapping[str, Any] | None = None,
        stand_in: Voice | None = None,
    ) -> None:
        super().__init__(
            push_start_frame=True,
            push_stop_frames=True,
            # A server that is away comes back; until then each sentence is tried.
            max_consecutive_zero_audio_contexts=0,
            text_transforms=[("*", strip_markdown)],
            settings=TTSSettings(model=model, voice=voice, language=None),
        )
        self._stand_in = stand_in
        self._has_failed = False
        url = url or _OPENAI_URL
        is_local = urlsplit(url).hostname in ("127.0.0.1", "::1", "localhost")
        timeout = Timeout(_PATIENCE_S, connect=_CONNECT_S)
        self._client = AsyncOpenAI(
            base_url=url,
            # Without a key the client would take OPENAI_API_KEY and give it to this server.
            api_key=api_key or "none",
            max_retries=0,
            timeout=timeout,
            http_client=DefaultAsyncHttpxClient(timeout=timeout, trust_env=not is_local),
        )
        self._request: dict[str, Any] = {
            "model": model,
            "voice": voice,
            "response_format": "pcm",
            "extra_body": dict(options or {}),
        }

    def can_generate_metrics(self) -> bool:
        """Time to first byte and characters are measured."""
        return True

    async def cleanup(self) -> None:
        """Close the connections."""
        await super().cleanup()  # type: ignore[no-untyped-call]
        await self._client.close()

    async def run_tts(self, text: str, context_id: str) -> AsyncGenerator[Frame | None, None]:
        """Speak a text.

        Args:
            text: a sentence, or a few.
            context_id: Pipecat's name for the reply that it belongs to.

        Yields:
            Audio as it comes; an ``ErrorFrame`` where neither server nor stand-in speaks.
        """
        await self.start_tts_usage_metrics(text)
        has_spoken = self._has_failed = False
        try:
            async with aclosing(self._audio(text)) as audio:
                async for pcm in audio:
                    has_spoken = True
                    yield TTSAudioRawFrame(pcm, self.sample_rate, 1, context_id=context_id)
        except Exception as error:  # whatever the client raises: the caller hears the rest
            if self._stand_in is None or has_spoken:
                # Not by its status: a refusal for good would make Pipecat give up the voice.
                self._has_failed = True
                yield ErrorFrame(error=f"the voice failed: {error}", category=ErrorCategory.SERVER)
                return
            logger.error("The voice failed, another one stands in: {}", error)
            spoken = await self._stand_in.say(text, self.sample_rate)
            yield TTSAudioRawFrame(spoken.pcm, self.sample_rate, 1, context_id=context_id)

    async def _audio(self, text: str) -> AsyncGenerator[bytes]:
        """Sound at the pipeline's rate.

        Raises:
            Exception: whatever the client raises, or the answer is no sound.
        """
        resampler = Resampler(_RATE_HZ, self.sample_rate)
        speech = self._client.audio.speech.with_streaming_response
        rest = b""
        async with speech.create(input=text, **self._request) as response:
            kind = response.headers.get("content-type", "").partition(";")[0]
            if kind.startswith("text/") or kind == "application/json":
                raise ValueError(f"the server answered with {kind} instead of sound")
            async for data in response.iter_bytes(_CHUNK_BYTES):
                data = rest + data
                whole = len(data) // 2 * 2
                rest = data[whole:]
                pcm = float_to_pcm16(resampler.process(pcm16_to_float(data[:whole])))
                if pcm:
                    yield pcm
        if pcm := float_to_pcm16(resampler.flush()):
            yield pcm

    async def append_to_audio_context(
        self, context_id: str | None, frame: Frame | WordTimestamp | None
    ) -> None:
        """Put a frame behind the audio; a sentence that was not spoken does not count as heard."""
        # A sentence's text comes right behind its audio, before the next one is asked for.
        if self._has_failed and isinstance(frame, TTSTextFrame):
            return
        await super().append_to_audio_context(context_id, frame)
