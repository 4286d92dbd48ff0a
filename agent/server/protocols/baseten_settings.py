"""The configuration of the Baseten protocol: every key, what it may be, and what comes of it.

A key is honoured, or it is refused by name with what it may be. What no engine here can do
(diarization, beam results, a prefix, ...) may be said as long as it is not asked for, since real
clients spell out their defaults.

Sources: the service's reference page of the streaming transcription API, and the messages that
its published clients send.
"""

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from talkpath.agent.errors import ConfigError
from talkpath.agent.server.protocols.codec import Encoding, SessionSettings, VoiceActivity
from talkpath.agent.server.protocols.fields import known_language
from talkpath.agent.whisper.requests import MAX_BEAM, DecodeOptions
from talkpath.agent.whisper.windows import longest_utterance_s

__all__ = ["BasetenSettings", "Refused", "is_configuration", "read_settings", "shown", "utf8"]

_SAMPLE_RATES_HZ = (8_000, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
_LONGEST_LABEL = 200
_MOST_TEMPERATURES = 10  # each may cost a decode of its own
# No answer has more tokens: an utterance is split where it might need more than so many.
_ENOUGH_TOKENS = 400
_LONGEST_SHOWN = 40
_DETECTION_ONLY = "language_detection_only"


class Refused(Exception):
    """What a client sent cannot be taken; the text is for the client."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BasetenSettings:
    """What a configuration asks for.

    Attributes:
        session: what concerns the stream.
        detection_only: finals say the language and no words; there are no partials.
        pipeline_latency: finals say how long they took.
        timing_info: finals say what their decoding cost.
        chunk_languages: as it was asked for; the messages repeat it.
        with_transcript: the client is an older one, which reads a message's text from its
            ``transcript``.
    """

    session: SessionSettings
    detection_only: bool = False
    pipeline_latency: bool = False
    timing_info: bool = False
    chunk_languages: bool = False
    with_transcript: bool = False


@dataclass(frozen=True, slots=True)
class _Key:
    """One key: its value where it is not given, and how a given one is read.

    ``read`` raises ``_Wrong`` with what the value must be.
    """

    default: object
    read: Callable[[object], object]


# A section: its keys, and the sections in it.
_Table = Mapping[str, "_Key | _Table"]


class _Wrong(Exception):
    """A value is not what it must be; the text says what."""


def shown(value: object) -> str:
    """A value of JSON for an error message: one line, and not long."""
    match value:
        case None | True | False:
            return {None: "null", True: "true", False: "false"}[value]
        case dict():
            return "an object"
        case list():
            return "a list"
        case str():
            return repr(_cut(utf8(value)))
        case _:
            return _cut(str(value))


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "..."


def utf8(text: str) -> str:
    """The text, with a question mark for every half of a character that JSON let in alone."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise _Wrong("it must be true or false")
    return value


def _flag_or_null(value: object) -> bool:
    return value is not None and _flag(value)


def _text(value: object) -> str:
    if value is None:
        return ""
    if not isinstance(value, str) or utf8(value) != value:
        raise _Wrong("it must be text")
    return value


def _label(value: object) -> str:
    text = _text(value)
    if len(text) > _LONGEST_LABEL or not text.isprintable():
        raise _Wrong(f"it must be at most {_LONGEST_LABEL} printable characters")
    return text


def _language(value: object) -> str:
    """A language as it was given; null is none, and no way to say that it is unknown."""
    if not isinstance(value, str):
        raise _Wrong("it must be a language code or 'auto'")
    return value


def _languages(value: object) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise _Wrong("it must be a list of language codes")
    return value


def _number(low: float, high: float, unit: str = "") -> Callable[[object], float]:
    """A number within limits, both included."""

    def read(value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise _Wrong("it must be a number")
        if not low <= value <= high:
            raise _Wrong(f"it must lie between {low:g} and {high:g}{unit}")
        return float(value)

    return read


def _whole(low: int, high: float = math.inf) -> Callable[[object], int]:
    """A whole number within limits, both included; ``5.0`` is one."""

    def read(value: object) -> int:
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            limits = f"{low} or more" if high == math.inf else f"{low} to {high:g}"
            raise _Wrong(f"it must be a whole number, {limits}")
        return value

    return read


def _threshold(value: object) -> float:
    number = _number(0, 1)(value)
    if number in (0.0, 1.0):
        raise _Wrong("it must lie above 0 and below 1")
    return number


def _temperatures(value: object) -> tuple[float, ...]:
    if not isinstance(value, list) or not 1 <= len(value) <= _MOST_TEMPERATURES:
        raise _Wrong(f"it must be a list of 1 to {_MOST_TEMPERATURES} temperatures")
    try:
        return tuple(map(_number(0, 1), value))
    except _Wrong:
        raise _Wrong("every temperature must lie between 0 and 1") from None


def _choice(*names: object) -> Callable[[object], object]:
    """One of these values."""

    def read(value: object) -> object:
        if not _among(value, names):
            raise _Wrong(f"it must be {' or '.join(map(shown, names))}")
        return value

    return read


def _only(*neutral: object) -> Callable[[object], object]:
    """What cannot be done here: only the values that do not ask for it will do."""

    def read(value: object) -> object:
        if not _among(value, neutral):
            meant = " or ".join(map(shown, neutral))
            raise _Wrong(f"this server cannot do that, so it must be {meant}")
        return value

    return read


def _among(value: object, values: tuple[object, ...]) -> bool:
    """Whether it is one of them; in JSON, true is not 1."""
    return any(value == x and isinstance(value, bool) == isinstance(x, bool) for x in values)


def _unsupported(default: object, *others: object) -> _Key:
    return _Key(default, _only(default, *others))


def _empty(value: object) -> object:
    if value != {}:
        raise _Wrong("this server cannot tell speakers apart, so it must be empty")
    return value


_SAMPLING: _Table = {
    "beam_width": _Key(1, _whole(1, MAX_BEAM)),
    "sampling_temperatures": _Key([0.0, 0.2, 0.4, 0.6, 0.8, 1.0], _temperatures),
    # The service's own default, and the value that changes nothing.
    "length_penalty": _unsupported(2.0, 1.0),
    "repetition_penalty": _unsupported(1.01, 1.0),
    "no_repeat_ngram_size": _unsupported(None, 0),
    "beam_search_diversity_rate": _unsupported(None, 0.0),
    "max_new_tokens": _Key(_ENOUGH_TOKENS, _whole(_ENOUGH_TOKENS)),
}

_WHISPER: _Table = {
    "prompt": _Key("", _text),
    "audio_language": _Key("en", _language),
    "output_language": _Key("auto", _text),
    "language_options": _Key([], _languages),
    "language_detection_only": _Key(False, _flag),
    "enable_chunk_level_language_detection": _Key(False, _flag_or_null),
    "show_word_timestamps": _Key(False, _flag),
    "whisper_sampling_params": _SAMPLING,
    "prefix": _unsupported("", None),
    "show_beam_results": _unsupported(False),
    # A stream is cut into utterances by voice activity; there is no other way to end one.
    "enable_vad": _unsupported(True),
    "use_dynamic_preprocessing": _unsupported(False),
    "use_missing_chunk_retry": _unsupported(False),
    "enable_diarization": _unsupported(False, None),
    "enable_final_diarization": _unsupported(False),
    "enable_word_level_diarization": _unsupported(False),
    "enable_sentence_level_diarization": _unsupported(False),
    # Of no effect, since what they refine cannot be switched on.
    "missing_chunk_wpm_threshold": _Key(100, _whole(0)),
    "diarization_granularity": _Key(
        "sentence", _choice("word", "segment", "sentence", "split_segment")
    ),
}

_STREAMING: _Table = {
    "encoding": _Key("pcm_s16le", _choice("pcm_s16le", "pcm_mulaw")),
    "sample_rate": _Key(16_000, _choice(*_SAMPLE_RATES_HZ)),
    "enable_partial_transcripts": _Key(False, _flag),
    "partial_transcript_interval_s": _Key(0.5, _number(0.1, 30, " seconds")),
    "final_transcript_max_duration_s": _Key(30, _number(1, 30, " seconds")),
    # Whether finals wait for the diarization: of no effect without one.
    "prioritize_latency": _Key(True, _flag),
    # Partials that may be made up never leave the stream.
    "skip_partial_if_hallucination": _unsupported(True),
    "include_pipeline_latency_metric": _Key(False, _flag),
}

_VAD: _Table = {
    "threshold": _Key(0.5, _threshold),
    "min_silence_duration_ms": _Key(300, _number(0, 10_000, " milliseconds")),
    "speech_pad_ms": _Key(0, _number(0, 2_000, " milliseconds")),
}

_TOP: _Table = {
    "whisper_params": _WHISPER,
    "streaming_params": _STREAMING,
    "streaming_vad_config": _VAD,
    "stream_id": _Key("", _label),
    "include_timing_info": _Key(False, _flag),
    "streaming_diarization_config": _Key({}, _empty),
    "diarization_config": _Key({}, _empty),
}

# What older clients send. No two keys have the same name, in whatever section they stand, so
# that one of them means the same in these.
_OLDER: _Table = {
    "vad_params": _VAD,
    "streaming_whisper_params": {**_STREAMING, **_WHISPER},
}


def is_configuration(message: Mapping[str, object]) -> bool:
    """Whether a message has anything of a configuration."""
    return any(name in _TOP or name in _OLDER for name in message)


def read_settings(
    configuration: Mapping[str, object], languages: Collection[str] = ()
) -> BasetenSettings:
    """Read a configuration.

    Args:
        configuration: the first text frame, parsed.
        languages: codes that the model knows; empty leaves it to the engine to refuse one.

    Raises:
        Refused: a key is unknown or wrong, or asks for what cannot be done; the text names it.
    """
    values: dict[str, Any] = dict(_defaults(_TOP))
    values.update(_given("", {**_TOP, **_OLDER}, configuration, {}))
    decode = _decode_options(values, languages)
    return BasetenSettings(
        session=SessionSettings(
            encoding=Encoding(values["encoding"]),
            sample_rate_hz=int(values["sample_rate"]),
            decode=decode,
            # An utterance is all the audio there is to tell a language by; there is no file.
            language_mode="utterance",
            partials=values["enable_partial_transcripts"] and not values[_DETECTION_ONLY],
            partial_interval_s=values["partial_transcript_interval_s"],
            longest_utterance_s=min(
                values["final_transcript_max_duration_s"],
                longest_utterance_s(decode.language or "en"),
            ),
            activity=VoiceActivity(
                threshold=values["threshold"],
                min_silence_s=values["min_silence_duration_ms"] / 1000,
                pad_s=values["speech_pad_ms"] / 1000,
            ),
            stream_id=values["stream_id"],
        ),
        detection_only=values[_DETECTION_ONLY],
        pipeline_latency=values["include_pipeline_latency_metric"],
        timing_info=values["include_timing_info"],
        chunk_languages=values["enable_chunk_level_language_detection"],
        with_transcript="streaming_whisper_params" in configuration,
    )


def _defaults(table: _Table) -> Iterator[tuple[str, object]]:
    """Every key's name and default, those of the sections in a section too."""
    for name, key in table.items():
        if isinstance(key, _Key):
            yield name, key.read(key.default)
        else:
            yield from _defaults(key)


def _given(
    section: str, table: _Table, content: object, values: dict[str, object]
) -> dict[str, object]:
    """Values by their keys, without the sections' names, added to those of other sections."""
    if not isinstance(content, dict):
        raise Refused(f"{section} is {shown(content)}; it must be an object")
    for name, value in content.items():
        key = table.get(name)
        path = f"{section}.{name}" if section else name
        if key is None:
            raise Refused(f"there is no key {shown(name)} in {section or 'the configuration'}")
        if not isinstance(key, _Key):
            _given(path, key, value, values)
        elif name in values:
            raise Refused(f"{path} is given twice, under an older name too")
        else:
            try:
                values[name] = key.read(value)
            except _Wrong as wrong:
                raise Refused(f"{path} is {shown(value)}; {wrong}") from None
    return values


def _decode_options(values: Mapping[str, Any], languages: Collection[str]) -> DecodeOptions:
    spoken = None
    if values["audio_language"].strip().lower() != "auto" and not values[_DETECTION_ONLY]:
        spoken = _code("audio_language", values["audio_language"], languages)
    possible = (_code("language_options", text, languages) for text in values["language_options"])
    try:
        return DecodeOptions(
            language=spoken,
            languages=tuple(dict.fromkeys(possible)),
            task=_task(spoken, values["output_language"], languages),
            prompt=values["prompt"],
            beam_size=values["beam_width"],
            temperatures=values["sampling_temperatures"],
            word_timestamps=values["show_word_timestamps"],
        )
    except ConfigError as error:
        raise Refused(f"audio_language and language_options contradict: {error}") from None


def _code(key: str, text: str, languages: Collection[str]) -> str:
    """Whisper's code for a language: of ``en-US`` it knows the ``en``."""
    code = known_language(text, languages)
    if code is not None:
        return code
    raise Refused(f"{key} is {shown(text)}; the model does not know that language")


def _task(spoken: str | None, output: str, languages: Collection[str]) -> str:
    """What to write: the words as they are said, or, of another language, English."""
    if output.strip().lower() in ("", "auto"):
        return "transcribe"
    wanted = _code("output_language", output, languages)
    if wanted == spoken:
        return "transcribe"
    if wanted == "en":
        return "translate"
    raise Refused(
        f"output_language is {shown(output)}; speech is written in its own language or, with "
        "'en', translated into English"
    )
