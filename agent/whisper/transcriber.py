"""Transcriber: a batch of requests in, transcripts out. Runs in a worker's thread."""

import dataclasses
import time
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from talkpath.agent.audio import SAMPLE_RATE_HZ
from talkpath.agent.errors import AudioError
from talkpath.agent.whisper.agreement import join_texts
from talkpath.agent.whisper.backend import Backend, Decoded, Item
from talkpath.agent.whisper.guard import compression_ratio, is_loop
from talkpath.agent.whisper.requests import Priority, Request
from talkpath.agent.whisper.results import Segment, Transcript
from talkpath.agent.whisper.windows import FULL_WINDOW, token_cap

__all__ = ["Stages", "Transcriber"]

# Whisper's own rule for silence: it says that nobody speaks, and is unsure of the words.
_NO_SPEECH_PROBABILITY = 0.6
_NO_SPEECH_LOGPROB = -1.0
_LIKELY_LANGUAGE = 0.5


class Stages(Protocol):
    """Is told what each stage cost. Called from several threads at once."""

    def encode(self, seconds: float, batch: int) -> None:
        """A batch of so many items was encoded in so many wall-clock seconds."""
        ...

    def decode(
        self, seconds: float, batch: int, *, tokens: int = 0, drafted: int = 0, accepted: int = 0
    ) -> None:
        """A batch was decoded: seconds, items, tokens out, draft tokens offered and accepted."""
        ...


class Transcriber:
    """Decodes batches on a backend; keeps nothing between them.

    Args:
        backend: the model.
        stages: is told the cost of each stage.
    """

    def __init__(self, backend: Backend, stages: Stages | None = None) -> None:
        self._backend = backend
        self._stages = stages

    def transcribe(self, requests: Sequence[Request]) -> list[Transcript]:
        """Decode requests of one bucket; a final that looks wrong once more in the full window.

        Raises:
            AudioError: the audio of one of them holds values that are not finite numbers.
        """
        started = time.perf_counter()
        if not all(np.isfinite(request.audio).all() for request in requests):
            raise AudioError("the audio holds values that are not finite numbers")
        transcripts = self._decode_window(requests, requests[0].bucket)
        for index, request in enumerate(requests):
            if _is_doubtful(transcripts[index]) and _deserves_retry(request):
                again = self._decode_window([request], FULL_WINDOW)[0]
                transcripts[index] = dataclasses.replace(again, full_window=True)
            transcripts[index] = dataclasses.replace(
                transcripts[index], possible_hallucination=is_loop(transcripts[index].text)
            )
        cost_s = (time.perf_counter() - started) / len(requests)
        return [dataclasses.replace(item, cost_s=cost_s) for item in transcripts]

    def _decode_window(self, requests: Sequence[Request], bucket: int) -> list[Transcript]:
        started = time.perf_counter()
        encoded = self._backend.encode([request.audio for request in requests], bucket)
        if self._stages is not None:
            self._stages.encode(time.perf_counter() - started, len(requests))
        languages = [(request.options.language or "", 1.0) for request in requests]
        if not all(language for language, _ in languages):
            detected = [
                max(item.items(), key=lambda entry: entry[1])
                for item in self._backend.detect_language(encoded)
            ]
            languages = [
                given if given[0] else found
                for given, found in zip(languages, detected, strict=True)
            ]
        items = [
            Item(language, len(request.audio), draft=request.draft)
            for request, (language, _) in zip(requests, languages, strict=True)
        ]
        started = time.perf_counter()
        decoded = self._backend.generate(
            encoded, items, max_tokens=token_cap(max(item.samples for item in items))
        )
        if self._stages is not None:
            self._stages.decode(
                time.perf_counter() - started,
                len(items),
                tokens=sum(len(item.tokens) for item in decoded),
            )
        return [
            _transcript(answer, *language, item.samples / SAMPLE_RATE_HZ)
            for answer, language, item in zip(decoded, languages, items, strict=True)
        ]


def _is_doubtful(transcript: Transcript) -> bool:
    """Whether the short window may have misled the model: a loop, no words, no clear language.

    On the reference clips it took a string of digits for silence and Spanish for Swahili; in
    the full window it took neither.
    """
    return (
        not transcript.text
        or transcript.language_probability < _LIKELY_LANGUAGE
        or is_loop(transcript.text)
    )


def _deserves_retry(request: Request) -> bool:
    """Whether doubt is worth the full window; a partial is replaced by the next one anyway."""
    return (
        request.priority not in (Priority.FIRST_PARTIAL, Priority.PARTIAL)
        and request.bucket != FULL_WINDOW
    )


def _transcript(
    decoded: Decoded, language: str, language_probability: float, duration_s: float
) -> Transcript:
    silence = (
        decoded.no_speech_probability > _NO_SPEECH_PROBABILITY
        and decoded.avg_logprob < _NO_SPEECH_LOGPROB
    )
    segments = (
        ()
        if silence
        else tuple(Segment(item.start_s, item.end_s, item.text) for item in decoded.segments)
    )
    text = join_texts(segment.text for segment in segments)
    return Transcript(
        text=text,
        segments=segments,
        duration_s=duration_s,
        language=language,
        language_probability=language_probability,
        avg_logprob=decoded.avg_logprob,
        no_speech_probability=decoded.no_speech_probability,
        compression_ratio=compression_ratio(text),
        tokens=decoded.tokens,
    )
