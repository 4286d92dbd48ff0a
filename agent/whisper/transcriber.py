"""Transcriber: a batch of requests in, transcripts out. Runs in a worker's thread."""

import dataclasses
import itertools
import time
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from talkpath.agent.audio import SAMPLE_RATE_HZ
from talkpath.agent.errors import AudioError, ConfigError
from talkpath.agent.whisper.agreement import join_texts
from talkpath.agent.whisper.backend import Backend, Decoded, Item, TimedText
from talkpath.agent.whisper.context import context_tokens
from talkpath.agent.whisper.guard import compression_ratio, is_loop, is_too_fast
from talkpath.agent.whisper.requests import Again, Priority, Request
from talkpath.agent.whisper.results import Segment, Transcript, Word
from talkpath.agent.whisper.turn import misled
from talkpath.agent.whisper.windows import FULL_WINDOW, MAX_POSITIONS, token_cap

__all__ = ["Stages", "Transcriber"]

# Unsure of the words, it decodes again (Whisper's own threshold).
_UNSURE_LOGPROB = -1.0
# The mean over a few tokens says little: a word on its own, such as a digit, is often below the
# threshold and right, and on the reference clips the next attempts made it worse as often as
# better, a second later.
_UNSURE_TOKENS = 10
# Nobody speaks: Whisper's own rule is a probability over 0.6 and a log probability under -1.0.
# The surer it is of the one, the less unsure it must be of the words. Measured on ``base``: the
# line through these two points parts all that was heard in 70 minutes of ``bench.nonspeech``
# (10 utterances) from 283 of speech, at its own level, with peaks of -40 dBFS and by telephone.
_NO_SPEECH_PROBABILITY = 0.5
_NO_SPEECH_LOGPROB = (-1.12, -0.67)  # where it is 0.5, and where it is 1.0
_LIKELY_LANGUAGE = 0.5
_TASK_TOKENS = 4  # start of the context, start, language, task
_STAMPS = 3  # time stamps that a decoder may take back at the end, and where it stops


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

    def prepare(self, request: Request) -> Request:
        """Put into a request what batches are formed by. Cheap; to be called before it waits.

        Raises:
            ConfigError: the model cannot do what its options ask for.
        """
        if request.context_tokens is not None:
            return request
        options = request.options
        if options.task == "translate" and not self._backend.multilingual:
            raise ConfigError("this model knows English only and cannot translate")
        unknown = {options.language or "en", *options.languages} - self._backend.languages
        if unknown:
            raise ConfigError(f"Whisper does not know the language {sorted(unknown)[0]!r}")
        tokens = context_tokens(
            self._backend.tokenize,
            hotwords=options.hotwords,
            prompt=options.prompt,
            context=request.context,
        )
        windows = request.windows or self._backend.windows
        return dataclasses.replace(
            request, context_tokens=tokens, windows=windows, mixes=self._backend.mixes
        )

    def transcribe(self, requests: Sequence[Request]) -> list[Transcript | Again]:
        """Decode requests that have one ``batch_key``, each of them once.

        Returns:
            For each a transcript, or what to decode again, because it looks wrong: in a longer
            window first and then at rising temperatures. What passes first is the transcript;
            where nothing does, the best of all attempts.

        Raises:
            AudioError: the audio of one of them holds values that are not finite numbers.
            ConfigError: see ``prepare``.
            ValueError: they cannot be decoded together.
        """
        started = time.perf_counter()
        if not all(np.isfinite(request.audio).all() for request in requests):
            raise AudioError("the audio holds values that are not finite numbers")
        requests = [self.prepare(request) for request in requests]
        if len({request.batch_key for request in requests}) > 1:
            raise ValueError(
                "one batch has one batch_key: task, beam, temperature, words and mostly window"
            )
        transcripts = self._decode(requests)
        cost_s = (time.perf_counter() - started) / len(requests)
        return [
            _judge(request, dataclasses.replace(transcript, cost_s=cost_s))
            for request, transcript in zip(requests, transcripts, strict=True)
        ]

    def settle(self, requests: Sequence[Request]) -> list[Transcript]:
        """Decode requests that have one ``batch_key`` until each of them has its transcript.

        Raises:
            AudioError: see ``transcribe``, likewise the others.
        """
        return [
            outcome if isinstance(outcome, Transcript) else self.settle([outcome.request])[0]
            for outcome in self.transcribe(requests)
        ]

    def _decode(self, requests: Sequence[Request]) -> list[Transcript]:
        first = requests[0]
        encoded = self._encode(requests)
        languages = self._languages(requests, encoded)
        items = [
            Item(
                max(possible, key=lambda code: possible[code]),
                len(request.audio),
                context=request.context_tokens or (),
                draft=request.draft,
            )
            for request, possible in zip(requests, languages, strict=True)
        ]
        decoded = self._generate(encoded, first, items)
        decoded = self._put_right(encoded, requests, items, decoded)
        words = (
            self._backend.align(encoded, items, decoded, task=first.options.task)
            if first.wants_words
            else [((),) * len(answer.segments) for answer in decoded]
        )
        return [
            _transcript(requests[index], items[index], decoded[index], words[index], possible)
            for index, possible in enumerate(languages)
        ]

    def _encode(self, requests: Sequence[Request]) -> Any:
        """Encode, one window after the other where the batch has several."""
        padding = (requests[0].windows or self._backend.windows).padding
        started = time.perf_counter()
        parts = [
            self._backend.encode([request.audio for request in alike], bucket, padding)
            for bucket, alike in itertools.groupby(requests, key=lambda request: request.bucket)
        ]
        if self._stages is not None:
            self._stages.encode(time.perf_counter() - started, len(requests))
        return parts[0] if len(parts) == 1 else self._backend.join(parts)

    def _generate(self, encoded: Any, first: Request, items: Sequence[Item]) -> list[Decoded]:
        started = time.perf_counter()
        decoded = self._backend.generate(
            encoded,
            items,
            max_tokens=max(token_cap(item.samples, item.language) for item in items),
            task=first.options.task,
            beam_size=first.beam_size,
            temperature=first.temperature,
        )
        if self._stages is not None:
            self._stages.decode(
                time.perf_counter() - started,
                len(items),
                tokens=sum(len(item.tokens) for item in decoded),
                drafted=sum(item.drafted for item in decoded),
                accepted=sum(item.accepted for item in decoded),
            )
        return decoded

    def _put_right(
        self,
        encoded: Any,
        requests: Sequence[Request],
        items: Sequence[Item],
        decoded: list[Decoded],
    ) -> list[Decoded]:
        """Decode once more, with nothing said before, where that seems to have misled the model."""
        astray = [
            misled(_text(answer), request.context)
            for answer, request in zip(decoded, requests, strict=True)
        ]
        if not any(astray):
            return decoded
        first = requests[0]
        mixes = self._backend.mixes and first.beam_size == 1 and not first.temperature
        plain = [
            # Where contexts may differ, the others' own answers, as drafts, hold in one pass.
            dataclasses.replace(item, draft=answer.tokens)
            if mixes and not lost
            else dataclasses.replace(item, context=(), draft=())
            for item, answer, lost in zip(items, decoded, astray, strict=True)
        ]
        again = self._generate(encoded, first, plain)
        return [new if lost else old for new, old, lost in zip(again, decoded, astray, strict=True)]

    def _languages(self, requests: Sequence[Request], encoded: Any) -> list[dict[str, float]]:
        """For each request the languages that it may be in, and how probable each is."""
        given = [self._given_language(request) for request in requests]
        if all(given):
            return [{code: 1.0} for code in given if code]
        detected = self._backend.detect_language(encoded)
        return [
            {code: 1.0} if code else _restricted(possible, request.options.languages)
            for code, possible, request in zip(given, detected, requests, strict=True)
        ]

    def _given_language(self, request: Request) -> str | None:
        if not self._backend.multilingual:
            return "en"
        if len(request.options.languages) == 1:
            return request.options.languages[0]
        return request.options.language


def _restricted(possible: dict[str, float], languages: Sequence[str]) -> dict[str, float]:
    """What is left of the probabilities when only some languages count; they add up to one."""
    if not languages:
        return possible
    total = sum(possible[code] for code in languages)
    # A language that speech is nothing like may have none at all.
    return {code: possible[code] / total if total else 1 / len(languages) for code in languages}


def _judge(request: Request, transcript: Transcript) -> Transcript | Again:
    """Take a transcript, or have it decoded again; the cost adds up."""
    best = transcript
    if request.best is not None:
        cost_s = transcript.cost_s + request.best.cost_s
        transcript = dataclasses.replace(transcript, cost_s=cost_s)
        best = max(request.best, transcript, key=_merit)
        best = dataclasses.replace(best, cost_s=cost_s)
    in_doubt = not request.attempt and request.bucket != FULL_WINDOW and _is_doubtful(transcript)
    # Without the words before, there is room for more words.
    no_room = transcript.truncated and bool(request.context)
    if not (in_doubt or no_room or _is_wrong(transcript)):
        return transcript
    if request.attempt + 1 < request.attempts:
        return Again(
            dataclasses.replace(
                request,
                priority=Priority.OFFLINE
                if request.priority == Priority.OFFLINE
                else Priority.AGAIN,
                attempt=request.attempt + 1,
                best=best,
                context="",
                context_tokens=None,
                draft=(),
            )
        )
    return _flagged(best)


def _is_doubtful(transcript: Transcript) -> bool:
    """Whether the short window may have misled the model: no words, no clear language.

    On the reference clips it took a string of digits for silence and Spanish for Swahili; in
    the full window it took neither.
    """
    return not transcript.text or transcript.language_probability < _LIKELY_LANGUAGE


def _is_wrong(transcript: Transcript) -> bool:
    """Whether there are words and they fail, by Whisper's thresholds or by their speed."""
    return bool(transcript.text) and (
        (transcript.avg_logprob < _UNSURE_LOGPROB and len(transcript.tokens) >= _UNSURE_TOKENS)
        or is_loop(transcript.text)
        or is_too_fast(transcript.text, transcript.duration_s)
    )


def _merit(transcript: Transcript) -> tuple[bool, bool, bool, float]:
    """What makes one failed attempt better than another: loops are often quite sure."""
    return (
        not is_loop(transcript.text),
        not is_too_fast(transcript.text, transcript.duration_s),
        not transcript.truncated,
        transcript.avg_logprob,
    )


def _flagged(transcript: Transcript) -> Transcript:
    """Mark what is left of a failure; words that nobody can have said go."""
    if is_too_fast(transcript.text, transcript.duration_s):
        return dataclasses.replace(
            transcript, text="", segments=(), tokens=(), possible_hallucination=True
        )
    return dataclasses.replace(transcript, possible_hallucination=is_loop(transcript.text))


def _room(request: Request) -> int:
    """Positions of the decoder that the prompt leaves to the answer."""
    return MAX_POSITIONS - len(request.context_tokens or ()) - _TASK_TOKENS


def _text(decoded: Decoded) -> str:
    if _is_silence(decoded):
        return ""
    return join_texts(segment.text for segment in decoded.segments)


def _is_silence(decoded: Decoded) -> bool:
    beyond = (decoded.no_speech_probability - _NO_SPEECH_PROBABILITY) / (1 - _NO_SPEECH_PROBABILITY)
    low, high = _NO_SPEECH_LOGPROB
    return beyond > 0 and decoded.avg_logprob < low + beyond * (high - low)


def _transcript(
    request: Request,
    item: Item,
    decoded: Decoded,
    words: Sequence[tuple[Word, ...]],
    languages: dict[str, float],
) -> Transcript:
    segments = (
        ()
        if _is_silence(decoded)
        else tuple(
            _segment(part, spoken) for part, spoken in zip(decoded.segments, words, strict=True)
        )
    )
    text = join_texts(segment.text for segment in segments)
    return Transcript(
        text=text,
        segments=segments,
        duration_s=item.samples / SAMPLE_RATE_HZ,
        language=item.language,
        language_probability=languages[item.language],
        language_probabilities=languages,
        avg_logprob=decoded.avg_logprob,
        no_speech_probability=decoded.no_speech_probability,
        compression_ratio=compression_ratio(text),
        temperature=request.temperature,
        truncated=len(decoded.tokens) >= _room(request) - _STAMPS,
        longer_window=request.attempt > 0,
        tokens=decoded.tokens,
    )


def _segment(part: TimedText, words: tuple[Word, ...]) -> Segment:
    """A segment; where its words have times, these are closer than the time stamps."""
    if not words:
        return Segment(part.start_s, part.end_s, part.text, tokens=part.tokens)
    return Segment(words[0].start_s, words[-1].end_s, part.text, words, part.tokens)
