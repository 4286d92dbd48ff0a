"""The client's side of the Baseten protocol: its configuration, and the server's messages.

No socket and no state: text in, frozen values out. Times are seconds from the first sample that
the connection carried; ``timing_info``, which the configuration asks for, says what a final
covers and whether it ends the speech. A server that leaves it out is another one than talkpath's:
then the end of the last segment has to do.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from talkpath.agent.whisper.agreement import join_texts
from talkpath.agent.whisper.results import Segment, Transcript, Word

__all__ = [
    "AudioEnd",
    "Garbled",
    "Healthy",
    "RemoteError",
    "RemoteFinal",
    "RemotePartial",
    "ServerMessage",
    "control",
    "read_message",
]


class Garbled(Exception):
    """A server's message is none of this protocol's; the text says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class RemotePartial:
    """What an utterance says so far.

    Attributes:
        number: of the utterance in its connection.
        start_s: where its audio begins.
        duration_s: of the audio that the text covers.
        text: all words.
        language: Whisper's code.
    """

    number: int
    start_s: float
    duration_s: float
    text: str
    language: str


@dataclass(frozen=True, slots=True)
class RemoteFinal:
    """What an utterance said.

    Attributes:
        number: of the utterance in its connection.
        start_s: where its audio begins.
        end_s: where it ends; None where the server does not say.
        transcript: its times count from ``start_s``.
        ends_speech: False where speech goes on in the next one.
        speculative: whether it was decoded before the stop was certain.
    """

    number: int
    start_s: float
    end_s: float | None
    transcript: Transcript
    ends_speech: bool
    speculative: bool


@dataclass(frozen=True, slots=True)
class RemoteError:
    """Something went wrong there.

    Attributes:
        text: what, for users.
        number: of the utterance that has no final because of it; None for anything else.
        ends_speech: False where speech goes on in the next one.
    """

    text: str
    number: int | None = None
    ends_speech: bool = True


@dataclass(frozen=True, slots=True)
class Healthy:
    """The answer to a ``health_check``.

    Attributes:
        trace_id: the question's.
        quiet: whether nobody speaks and all finals are out, of the audio before the question;
            None where the server does not say.
    """

    trace_id: str
    quiet: bool | None


@dataclass(frozen=True, slots=True)
class AudioEnd:
    """An answer to ``end_audio``.

    Attributes:
        finished: whether all finals are out; else it was acknowledged only.
    """

    finished: bool


ServerMessage = RemotePartial | RemoteFinal | RemoteError | Healthy | AudioEnd


def control(kind: str, trace_id: str) -> str:
    """A text frame of the client's: ``health_check`` or ``end_audio``."""
    return json.dumps({"type": kind, "trace_id": trace_id})


def read_message(frame: str) -> ServerMessage:
    """Read a text frame of a server's.

    Raises:
        Garbled: it is not one of this protocol's.
    """
    try:
        message = json.loads(frame)
        match message["type"]:
            case "transcription":
                return _final(message) if message["is_final"] else _partial(message)
            case "health_check":
                body = message.get("body") or {}
                quiet = body.get("quiet")
                return Healthy(str(message.get("trace_id")), None if quiet is None else bool(quiet))
            case "end_audio":
                return AudioEnd(message["body"]["status"] == "finished")
            case "error":
                return _error(message)
            case kind:
                raise Garbled(f"a message of the type {str(kind)[:40]!r}")
    except json.JSONDecodeError:
        raise Garbled("a message that is not JSON") from None
    except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError, RecursionError):
        raise Garbled("a message without its parts") from None


def _error(message: Mapping[str, Any]) -> RemoteError:
    body = message.get("body") or {}
    number = body.get("transcription_num")
    return RemoteError(
        str(body.get("error") or message.get("message") or "no reason given"),
        None if number is None else _whole(number),
        bool(body.get("ends_speech", True)),
    )


def _partial(message: Mapping[str, Any]) -> RemotePartial:
    segments = [_segment(segment, 0.0) for segment in message["segments"]]
    start_s = segments[0].start_s if segments else 0.0
    return RemotePartial(
        _whole(message["transcription_num"]),
        start_s,
        _number(message["audio_length_sec"]),
        join_texts(segment.text for segment in segments),
        str(message["language_code"]),
    )


def _final(message: Mapping[str, Any]) -> RemoteFinal:
    timing = message.get("timing_info") or {}
    raw: list[dict[str, Any]] = message["segments"]
    start_s = _start_s(timing, raw)
    end_s = timing.get("audio_end_s", raw[-1]["end_time"] if raw else None)
    return RemoteFinal(
        _whole(message["transcription_num"]),
        start_s,
        None if end_s is None else _number(end_s),
        _transcript(message, raw, start_s, _number(timing.get("transcription_duration_s") or 0.0)),
        bool(timing.get("ends_speech", True)),
        bool(timing.get("speculative", False)),
    )


def _start_s(timing: Mapping[str, Any], segments: list[dict[str, Any]]) -> float:
    value = timing.get("audio_start_s")
    if value is None:
        value = segments[0]["start_time"] if segments else 0.0
    return _number(value)


def _transcript(
    message: Mapping[str, Any], raw: list[dict[str, Any]], start_s: float, cost_s: float
) -> Transcript:
    segments = tuple(_segment(segment, start_s) for segment in raw)
    sure = message.get("language_prob")
    likely = raw[0].get("log_prob") if raw else None
    return Transcript(
        text=join_texts(segment.text for segment in segments),
        segments=segments,
        duration_s=_number(message["audio_length_sec"]),
        language=str(message["language_code"]),
        language_probability=1.0 if sure is None else _number(sure),
        avg_logprob=0.0 if likely is None else _number(likely),
        possible_hallucination=any(bool(segment["possible_hallucination"]) for segment in raw),
        cost_s=cost_s,
    )


def _segment(segment: Mapping[str, Any], start_s: float) -> Segment:
    """A segment whose times count from the beginning of its utterance."""
    words = tuple(
        Word(
            _number(word["start_time"]),
            _number(word["end_time"]),
            str(word["word"]),
            _number(word["prob"] or 0.0),
        )
        for word in segment.get("word_timestamps") or ()
    )
    whole = Segment(
        _number(segment["start_time"]), _number(segment["end_time"]), str(segment["text"]), words
    )
    return whole.shifted(-start_s)


def _number(value: Any) -> float:
    """A number that there is; JSON as Python reads it has others."""
    number = float(value)
    if not math.isfinite(number):
        raise Garbled("a number that is none")
    return number


def _whole(value: Any) -> int:
    return int(_number(value))
