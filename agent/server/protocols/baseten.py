"""BasetenCodec: the WebSocket protocol of Baseten's streaming Whisper, for its clients unchanged.

::

    UNCONFIGURED ─ configuration ─> STREAMING ─ end_audio ─> ENDING ─ all finals out ─> ENDED
    and from each of them, by a refusal, terminate_session or the server's own end, CLOSED

The first text frame is the configuration (``_baseten_settings``); audio follows in binary frames
of any size. Text frames after it are ``end_audio`` (acknowledged at once, ``finished`` when
everything is out), ``health_check``, and ``{"terminate_session": true}``, which finishes as
``end_audio`` does and closes the socket then. The first two carry a ``trace_id`` that comes back.

Where the original leaves it open, this is what happens:

- What cannot be a configuration ends the connection with 1003, what is refused of one with 1008.
  Any later mistake is answered with an error, and the connection stays; the hundredth ends it.
- A configuration holds for its connection: another one is an error. Clients open a new socket.
- After ``end_audio`` the connection stays until the client closes it. Audio that still comes is
  dropped, and said to be so once, not for each of fifty frames a second.
- An utterance's partials and its final have its number for their ``transcription_num``; they rise
  and have gaps where an utterance failed. A partial that overtakes an earlier utterance's final
  is kept back until that is out.
- Where nothing was understood, the final comes with no segments: it takes back the partials.
- A partial has no log probability, no latency, and no language probability unless the language
  was given; ``diarization``, ``speaker``, ``beam_results`` and ``next_partial`` are empty always.

Whoever asks for ``include_timing_info`` is told more than the original tells. With it a client can
go on at another server without losing or repeating a word (``talkpath.agent.client``):

- A final's ``timing_info`` also has ``audio_start_s`` and ``audio_end_s``, what it was decoded from
  in seconds of the stream, ``ends_speech``, false where long speech was cut and goes on, and
  ``speculative``.
- The body of the ``error`` for an utterance that failed has its ``transcription_num`` and
  ``ends_speech``.
- The answer to a ``health_check`` has ``quiet`` in its body: whether, in the audio before the
  question, nobody speaks at the end and every final is out.
"""

import json
import math
from collections.abc import Collection, Mapping, Sequence
from enum import IntEnum, auto
from typing import Any

from talkpath.agent.errors import TalkpathError
from talkpath.agent.server.protocols.baseten_settings import (
    BasetenSettings,
    Refused,
    is_configuration,
    read_settings,
    shown,
    utf8,
)
from talkpath.agent.server.protocols.codec import (
    GOING_AWAY,
    Audio,
    Close,
    Command,
    Configure,
    Finish,
    Send,
)
from talkpath.agent.server.protocols.fields import has_too_many_values
from talkpath.agent.whisper.agreement import join_texts
from talkpath.agent.whisper.results import Final, Partial, Segment, StreamFailure, Transcript, Word

__all__ = ["BasetenCodec"]

# Of RFC 6455, section 7.4.1.
_NORMAL, _UNSUPPORTED_DATA, _POLICY_VIOLATION = 1000, 1003, 1008
_REASON_BYTES = 123
_MOST_ERRORS = 100


class _State(IntEnum):
    UNCONFIGURED = auto()
    STREAMING = auto()
    ENDING = auto()
    ENDED = auto()
    CLOSED = auto()


class BasetenCodec:
    """One connection. See the module's text, and ``Codec`` for the methods.

    Args:
        languages: codes that the model knows; a configuration with another one is refused. Empty
            leaves that to the engine.
    """

    def __init__(self, languages: Collection[str] = ()) -> None:
        self._languages = languages
        self._state = _State.UNCONFIGURED
        self._settings: BasetenSettings | None = None
        self._errors = 0
        self._told_late = False
        self._end_trace_id: str | None = None
        self._answers_end = False
        self._terminates = False
        self._done = 0  # utterances up to this one have nothing more to come
        self._speeches = 0  # that were begun and have something to come
        self._early: tuple[Partial, float] | None = None

    def opened(self) -> list[Command]:
        """The client speaks first."""
        return []

    def text(self, frame: str) -> list[Command]:
        """A configuration or a message of the client's."""
        if self._state is _State.CLOSED:
            return []
        try:
            message = _parsed(frame)
        except Refused as refused:
            return self._wrong(str(refused), code=_UNSUPPORTED_DATA)
        trace_id = message.get("trace_id")
        if not isinstance(trace_id, str | None):
            return self._wrong(f"trace_id is {shown(trace_id)}; it must be text")
        try:
            return self._message(message, trace_id)
        except Refused as refused:
            return self._wrong(str(refused), trace_id)

    def binary(self, frame: bytes) -> list[Command]:
        """Audio."""
        match self._state:
            case _State.CLOSED:
                return []
            case _State.UNCONFIGURED:
                return self._wrong(
                    "the first frame must be the configuration, as text; this one is binary",
                    code=_UNSUPPORTED_DATA,
                )
            case _State.STREAMING:
                return [Audio(frame)] if frame else []
        if self._told_late:
            return []
        self._told_late = True
        return self._wrong("audio came after end_audio and is dropped; open another connection")

    def speech_started(self, at_s: float) -> list[Command]:
        """The protocol has no message for it."""
        self._speeches += 1
        return []

    def speech_stopped(self, at_s: float) -> list[Command]:
        """The protocol has no message for it."""
        return []

    def partial(self, partial: Partial, start_s: float) -> list[Command]:
        """A ``transcription`` that is not final, if nothing earlier is due before it."""
        settings = self._transcribing()
        if (
            settings is None
            or not settings.session.partials
            or partial.utterance <= self._done
            or not partial.text
        ):
            return []
        if partial.utterance > self._done + 1:
            self._early = partial, start_s
            return []
        return [_partial_message(settings, partial, start_s)]

    def final(self, final: Final, start_s: float, latency_s: float) -> list[Command]:
        """A ``transcription`` that is final."""
        settings = self._transcribing()
        if settings is None or final.utterance <= self._done:
            return []
        return [
            _final_message(settings, final, start_s, latency_s),
            *self._after(final),
        ]

    def failed(self, failure: StreamFailure) -> list[Command]:
        """An ``error``; the utterance has no final."""
        settings = self._transcribing()
        if settings is None or failure.utterance <= self._done:
            return []
        # What the project's own errors say is meant for users; others may say anything.
        known = isinstance(failure.error, TalkpathError)
        why = str(failure.error) if known else "an internal error"
        text = f"utterance {failure.utterance} could not be transcribed: {why}"
        particulars: dict[str, object] = {}
        if settings.timing_info:
            particulars = {
                "transcription_num": failure.utterance,
                "ends_speech": failure.ends_speech,
            }
        return [_error(text, particulars=particulars), *self._after(failure)]

    def finished(self) -> list[Command]:
        """``end_audio`` is finished."""
        if self._state is not _State.ENDING:
            return []
        self._state = _State.ENDED
        commands: list[Command] = []
        if self._answers_end:
            commands.append(_control("end_audio", self._end_trace_id, {"status": "finished"}))
        if self._terminates:
            commands.append(self._close(_NORMAL, "the session was terminated"))
        return commands

    def closing(self, reason: str, code: int = GOING_AWAY) -> list[Command]:
        """An ``error``, and the end."""
        if self._state is _State.CLOSED:
            return []
        return [_error(reason), self._close(code, reason)]

    def _message(self, message: Mapping[str, object], trace_id: str | None) -> list[Command]:
        if "terminate_session" in message:
            return self._terminate(message["terminate_session"])
        kind = message.get("type")
        if kind == "health_check":
            body = {"healthy": True}
            if self._settings is not None and self._settings.timing_info:
                body["quiet"] = self._speeches == 0
            return [_control("health_check", trace_id, body)]
        if kind == "end_audio":
            return self._end(trace_id)
        if self._state is _State.UNCONFIGURED:
            self._settings = read_settings(message, self._languages)
            self._state = _State.STREAMING
            return [Configure(self._settings.session)]
        if is_configuration(message):
            raise Refused(
                "the configuration came already and holds for this connection; open another one"
            )
        raise Refused(
            f"the message's type is {shown(kind)}; it must be 'end_audio' or 'health_check'"
        )

    def _end(self, trace_id: str | None) -> list[Command]:
        if self._state is _State.UNCONFIGURED:
            raise Refused("end_audio came before the configuration")
        if self._answers_end:
            raise Refused("end_audio came already")
        self._answers_end, self._end_trace_id = True, trace_id
        return [_control("end_audio", trace_id, {"status": "acknowledged"}), *self._finish()]

    def _terminate(self, value: object) -> list[Command]:
        if value is not True:
            raise Refused(f"terminate_session is {shown(value)}; it must be true")
        if self._state in (_State.UNCONFIGURED, _State.ENDED):
            return [self._close(_NORMAL, "the session was terminated")]
        self._terminates = True
        return self._finish()

    def _finish(self) -> list[Command]:
        if self._state is not _State.STREAMING:
            return []
        self._state = _State.ENDING
        return [Finish()]

    def _transcribing(self) -> BasetenSettings | None:
        """The settings while results may go out."""
        return self._settings if self._state in (_State.STREAMING, _State.ENDING) else None

    def _after(self, end: Final | StreamFailure) -> list[Command]:
        """What the end of an utterance sets free."""
        self._done = end.utterance
        if end.ends_speech:
            self._speeches = max(self._speeches - 1, 0)
        early, self._early = self._early, None
        return [] if early is None else self.partial(*early)

    def _wrong(
        self, text: str, trace_id: str | None = None, *, code: int = _POLICY_VIOLATION
    ) -> list[Command]:
        """Tell the client of its mistake; nothing can follow one before the configuration."""
        self._errors += 1
        if self._state is _State.UNCONFIGURED:
            return [_error(text, trace_id), self._close(code, text)]
        if self._errors >= _MOST_ERRORS:
            return [_error(text, trace_id), self._close(_POLICY_VIOLATION, "too many errors")]
        return [_error(text, trace_id)]

    def _close(self, code: int, reason: str) -> Close:
        self._state = _State.CLOSED
        cut = utf8(reason).encode()[:_REASON_BYTES]
        return Close(code, cut.decode("utf-8", "ignore"))


def _parsed(frame: str) -> dict[str, Any]:
    """A text frame as an object of JSON.

    Raises:
        Refused: it is none.
    """
    if has_too_many_values(frame):
        raise Refused("a text frame must be an object in JSON; this one is not JSON, or too much")
    try:
        # Python's own reading of JSON takes NaN and Infinity, and gives up on deep nesting and on
        # very long numbers.
        message = json.loads(frame, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise Refused("a text frame must be an object in JSON; this one is not JSON") from None
    if not isinstance(message, dict):
        raise Refused(f"a text frame must be an object in JSON; this one is {shown(message)}")
    return message


def _no_constant(name: str) -> None:
    raise ValueError(name)


def _send(message: Mapping[str, object]) -> Send:
    text = json.dumps(message, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Send(utf8(text))


def _control(kind: str, trace_id: str | None, body: Mapping[str, object]) -> Send:
    return _send({"type": kind, "trace_id": trace_id, "body": body})


def _error(
    text: str, trace_id: str | None = None, *, particulars: Mapping[str, object] | None = None
) -> Send:
    """The text stands twice: clients read the one or the other."""
    body = {"error": text, **(particulars or {})}
    return _send({"type": "error", "trace_id": trace_id, "body": body, "message": text})


def _number(value: float | None) -> float | None:
    """A number that JSON has, to a tenth of a millisecond; null for one that it has not."""
    return round(value, 4) if value is not None and math.isfinite(value) else None


def _partial_message(settings: BasetenSettings, partial: Partial, start_s: float) -> Send:
    given = settings.session.decode.language == partial.language
    heard = partial.language, 1.0 if given else None
    whole = Segment(start_s, start_s + partial.duration_s, partial.text)
    return _transcription(
        settings,
        [_segment(whole, heard)],
        heard,
        {
            "audio_length_sec": _number(partial.duration_s),
            "is_final": False,
            "transcription_num": partial.utterance,
        },
    )


def _final_message(
    settings: BasetenSettings, final: Final, start_s: float, latency_s: float
) -> Send:
    transcript = final.transcript
    heard = transcript.language, transcript.language_probability
    shifted = (
        [] if settings.detection_only else [each.shifted(start_s) for each in _pieces(transcript)]
    )
    return _transcription(
        settings,
        [
            _segment(
                each,
                heard,
                log_prob=transcript.avg_logprob,
                possible_hallucination=transcript.possible_hallucination,
            )
            for each in shifted
        ],
        heard,
        {
            "timing_info": _timing(final, start_s) if settings.timing_info else None,
            "audio_length_sec": _number(transcript.duration_s),
            "is_final": True,
            "transcription_num": final.utterance,
            "pipeline_latency": _number(latency_s) if settings.pipeline_latency else None,
        },
    )


def _pieces(transcript: Transcript) -> Sequence[Segment]:
    """The segments that say something; all of the text is one where there are none."""
    pieces = [segment for segment in transcript.segments if segment.text]
    if not pieces and transcript.text:
        return [Segment(0.0, transcript.duration_s, transcript.text)]
    return pieces


def _transcription(
    settings: BasetenSettings,
    segments: list[dict[str, object]],
    heard: tuple[str, float | None],
    particulars: Mapping[str, object],
) -> Send:
    message: dict[str, object] = {
        "type": "transcription",
        "segments": segments,
        "language_code": heard[0],
        "language_prob": _number(heard[1]),
        "diarization": [],
        "timing_info": None,
        "enable_chunk_level_language_detection": settings.chunk_languages,
        "next_partial": None,
        "pipeline_latency": None,
        **particulars,
    }
    if settings.with_transcript:
        message["transcript"] = join_texts([str(segment["text"]) for segment in segments])
    return _send(message)


def _segment(
    segment: Segment,
    heard: tuple[str, float | None],
    *,
    log_prob: float | None = None,
    possible_hallucination: bool = False,
) -> dict[str, object]:
    return {
        "start_time": _number(segment.start_s),
        "end_time": _number(segment.end_s),
        "text": segment.text,
        "log_prob": _number(log_prob),
        "word_timestamps": [_word(word) for word in segment.words],
        "speaker": None,
        "speaker_confidence": None,
        "possible_hallucination": possible_hallucination,
        "beam_results": None,
        "language_code": heard[0],
        "language_prob": _number(heard[1]),
    }


def _word(word: Word) -> dict[str, object]:
    return {
        "start_time": _number(word.start_s),
        "end_time": _number(word.end_s),
        "word": word.text,
        "prob": _number(word.probability),
        "speaker": None,
    }


def _timing(final: Final, start_s: float) -> dict[str, object]:
    """The service's figures, of which decoding is the only one here, and what was decoded."""
    transcript = final.transcript
    return {
        "read_audio_duration_s": None,
        "chunking_duration_s": None,
        "language_detection_duration_s": None,
        "transcription_duration_s": _number(transcript.cost_s),
        "diarization_duration_s": None,
        "speaker_assignment_duration_s": None,
        "total_duration_s": None,
        "audio_start_s": _number(start_s),
        "audio_end_s": _number(start_s + transcript.duration_s),
        "ends_speech": final.ends_speech,
        "speculative": final.speculative,
    }
