"""Answers: a transcript in the shapes of OpenAI's audio endpoints, written as it gets ready.

An answer is told each piece and gives the whole at the end. What OpenAI's answers leave open, or
this server does otherwise:

- ``duration`` and ``usage.seconds`` are the length of the sound that could be read.
- ``language`` is the English name, ``english`` where the text was translated, and ``unknown``
  where nobody speaks and none was given. ``languages`` has the code.
- A segment's figures are those of the piece that it was decoded in, of up to 28 seconds; ``seek``
  is where that begins, in hundredths of a second. All texts of segments together are the text.
- A word keeps its punctuation.
- Log probabilities are a word each: the logarithm of the mean probability of its tokens. Put
  together, their texts are the text.
- ``warning``, where it is there, says what of the recording could not be read.
"""

import json
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

from talkpath.agent.server.problems import Problem
from talkpath.agent.server.recordings.form import TranscriptionWish
from talkpath.agent.server.recordings.languages import language_name
from talkpath.agent.subtitles import TranscriptWriter
from talkpath.agent.transcribe import Piece
from talkpath.agent.whisper import Segment
from talkpath.agent.whisper.agreement import join_texts

__all__ = ["Answer", "Events", "Heard", "answer_for"]

_JSON = "application/json"
_TEXT = "text/plain; charset=utf-8"
_LEAST_PROBABILITY = 1e-10
_SEEKS_PER_S = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What is known of a recording at its end.

    Attributes:
        duration_s: its length.
        language: Whisper's code, or None where it is unknown.
        warning: what of it could not be read, or None.
    """

    duration_s: float
    language: str | None
    warning: str | None = None


class Answer(ABC):
    """One answer.

    Attributes:
        media_type: of the whole.
    """

    media_type = _JSON

    @abstractmethod
    def add(self, piece: Piece) -> None:
        """Take the next piece."""

    @abstractmethod
    def finish(self, heard: Heard) -> bytes:
        """Give the whole."""


def answer_for(wish: TranscriptionWish) -> Answer:
    """The answer that a client asks for, where it does not ask for events."""
    if wish.form == "json":
        return _Json(logprobs=wish.logprobs)
    if wish.form == "text":
        return _Text()
    if wish.form == "verbose_json":
        return _Verbose(wish)
    return _Subtitles(wish.form)


class _Text(Answer):
    media_type = _TEXT

    def __init__(self) -> None:
        self._text = _GrowingText()

    def add(self, piece: Piece) -> None:
        for segment in piece.segments:
            self._text.add(segment)

    def finish(self, heard: Heard) -> bytes:
        return (self._text.whole + "\n").encode()


class _Subtitles(Answer):
    media_type = _TEXT

    def __init__(self, form: str) -> None:
        self._writer = TranscriptWriter(form)
        self._parts = [self._writer.begin("")]

    def add(self, piece: Piece) -> None:
        self._parts += [self._writer.segment(segment) for segment in piece.segments]

    def finish(self, heard: Heard) -> bytes:
        end = self._writer.end(language=heard.language, duration_s=heard.duration_s)
        return "".join([*self._parts, end]).encode()


class _Json(Answer):
    def __init__(self, *, logprobs: bool) -> None:
        self._text = _GrowingText()
        self._logprobs: list[str] | None = [] if logprobs else None

    def add(self, piece: Piece) -> None:
        for segment in piece.segments:
            delta = self._text.add(segment)
            if self._logprobs is not None:
                self._logprobs += map(_json, _logprobs(segment, delta, piece))

    def finish(self, heard: Heard) -> bytes:
        lists = {} if self._logprobs is None else {"logprobs": self._logprobs}
        fields = {"text": self._text.whole, "languages": _languages(heard), **_usage(heard)}
        return _object(fields, lists)


class _Verbose(Answer):
    def __init__(self, wish: TranscriptionWish) -> None:
        self._wish = wish
        self._text = _GrowingText()
        self._count = 0
        # Written at once: a long one would hold the event loop up at the end.
        self._lists: dict[str, list[str]] = {}
        if wish.segments:
            self._lists["segments"] = []
        if wish.words:
            self._lists["words"] = []

    def add(self, piece: Piece) -> None:
        for segment in piece.segments:
            delta = self._text.add(segment)
            if self._wish.segments:
                self._lists["segments"].append(_json(self._segment(piece, segment, delta)))
            if self._wish.words:
                self._lists["words"] += [
                    _json({"word": word.text, **_times(word.start_s, word.end_s)})
                    for word in segment.words
                ]
            self._count += 1

    def _segment(self, piece: Piece, segment: Segment, delta: str) -> dict[str, object]:
        transcript = piece.transcript
        return {
            "id": self._count,
            "seek": round(piece.start_s * _SEEKS_PER_S),
            **_times(segment.start_s, segment.end_s),
            "text": delta,
            "tokens": segment.tokens,
            "temperature": transcript.temperature,
            "avg_logprob": transcript.avg_logprob,
            "compression_ratio": transcript.compression_ratio,
            "no_speech_prob": transcript.no_speech_probability,
        }

    def finish(self, heard: Heard) -> bytes:
        task = self._wish.options.task
        language = "en" if task == "translate" else heard.language
        fields = {
            "task": task,
            "language": "unknown" if language is None else language_name(language),
            "duration": round(heard.duration_s, 3),
            "text": self._text.whole,
            **_usage(heard),
        }
        return _object(fields, self._lists)


class Events:
    """The same as server-sent events: a delta for each segment, and at the end the whole text.

    Args:
        logprobs: whether log probabilities are wanted.
    """

    def __init__(self, *, logprobs: bool) -> None:
        self._text = _GrowingText()
        self._with_logprobs = logprobs
        self._logprobs: list[str] = []

    def add(self, piece: Piece) -> bytes:
        """The events of the next piece."""
        return b"".join(self._delta(piece, segment) for segment in piece.segments)

    def _delta(self, piece: Piece, segment: Segment) -> bytes:
        delta = self._text.add(segment)
        logprobs = list(map(_json, _logprobs(segment, delta, piece)))
        self._logprobs += logprobs if self._with_logprobs else []
        return self._event({"type": "transcript.text.delta", "delta": delta}, logprobs)

    def finish(self, heard: Heard) -> bytes:
        """The last event."""
        fields = {
            "type": "transcript.text.done",
            "text": self._text.whole,
            "languages": _languages(heard),
            **_warning(heard),
        }
        return self._event(fields, self._logprobs)

    def fail(self, problem: Problem) -> bytes:
        """The last event where something went wrong on the way."""
        return b"event: error\n" + self._event({"type": "error", **problem.body}, None)

    def _event(self, fields: dict[str, object], logprobs: list[str] | None) -> bytes:
        wanted = self._with_logprobs and logprobs is not None
        content = _object(fields, {"logprobs": logprobs or []} if wanted else {})
        return b"data: " + content + b"\n\n"


class _GrowingText:
    """A text of segments, with a space between them where their script has spaces."""

    def __init__(self) -> None:
        self._parts: list[str] = []

    def add(self, segment: Segment) -> str:
        """Add a segment's text; give it with the space before it."""
        last = self._parts[-1:]
        delta = join_texts([*last, segment.text])[len("".join(last)) :]
        self._parts.append(delta)
        return delta

    @property
    def whole(self) -> str:
        return "".join(self._parts)


def _logprobs(segment: Segment, text: str, piece: Piece) -> list[dict[str, object]]:
    """A word each, with what stands before it; where there are no words, the text as one."""
    pairs: list[tuple[str, float]] = []
    at = 0
    for word in segment.words:
        found = text.find(word.text, at)
        if found < 0:
            continue
        end = found + len(word.text)
        pairs.append((text[at:end], math.log(max(word.probability, _LEAST_PROBABILITY))))
        at = end
    if not pairs:
        pairs, at = [(text, piece.transcript.avg_logprob)], len(text)
    last, logprob = pairs[-1]
    pairs[-1] = (last + text[at:], logprob)
    return [
        {"token": token, "bytes": list(token.encode()), "logprob": min(logprob, 0.0)}
        for token, logprob in pairs
    ]


def _times(start_s: float, end_s: float) -> dict[str, object]:
    return {"start": round(start_s, 3), "end": round(end_s, 3)}


def _usage(heard: Heard) -> dict[str, object]:
    usage = {"type": "duration", "seconds": round(heard.duration_s, 3)}
    return {"usage": usage, **_warning(heard)}


def _warning(heard: Heard) -> dict[str, object]:
    return {} if heard.warning is None else {"warning": heard.warning}


def _languages(heard: Heard) -> list[dict[str, str]]:
    return [] if heard.language is None else [{"code": heard.language}]


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _object(fields: dict[str, object], lists: dict[str, list[str]]) -> bytes:
    """An object of fields, and of lists whose items are written already."""
    parts = [f"{_json(name)}:{_json(value)}" for name, value in fields.items()]
    parts += [f"{_json(name)}:[{','.join(items)}]" for name, items in lists.items()]
    return ("{" + ",".join(parts) + "}").encode()
