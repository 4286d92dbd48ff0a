"""The fields of a form that asks for a transcription, as OpenAI's and Together's clients send it.

=============================  ================================================================
``file``                       the recording: any format that FFmpeg reads
``model``                      any name is taken, and none: there is one model, the server's
``language``                   a code (``en``, ``en-US``), an English name, or ``auto``
``languages[]``                where it is detected, only these count
``prompt``                     what the model takes for what was said before
``keywords[]``                 words to expect
``response_format``            ``json`` (default), ``text``, ``srt``, ``vtt``, ``verbose_json``
``temperature``                0 to 1; 0 (default) starts there and rises until the text will do
``timestamp_granularities[]``  ``segment`` (default) and ``word``, with ``verbose_json`` only
``stream``                     whether events come as the text gets ready; ``json`` or ``text``
``include[]``                  ``logprobs``, with ``json`` only: a word each
``chunking_strategy``          ``auto`` or ``server_vad`` with its fields, of which ``threshold``
                               has an effect: the recording is always cut in pauses
``diarize``                    false only
=============================  ================================================================

A list is repeated fields, with or without ``[]``. An empty field counts as not given. Every other
field, and what only a model that tells speakers apart could do, is refused by its name.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace

from talkpath.agent.errors import ConfigError
from talkpath.agent.server.protocols.fields import Fields, Refused
from talkpath.agent.server.recordings.languages import language_code
from talkpath.agent.whisper import DecodeOptions, WhisperEngine

__all__ = ["TranscriptionWish", "read_form"]

_FORMATS = ("json", "text", "srt", "vtt", "verbose_json")
_LISTS = ("include", "keywords", "languages", "timestamp_granularities")
_FLAGS = {"true": True, "false": False, "1": True, "0": False}
_VAD = "chunking_strategy"
_SCALARS = (
    "diarize",
    "language",
    "model",
    "prompt",
    "response_format",
    "stream",
    "temperature",
    _VAD,
)
_FOR_SPEAKERS = ("known_speaker_names", "known_speaker_references", "max_speakers", "min_speakers")


@dataclass(frozen=True, slots=True, kw_only=True)
class TranscriptionWish:
    """What a client asks for.

    Attributes:
        language: for the recording as a whole, or None to detect it.
        options: how to decode it.
        form: of the answer: ``json``, ``text``, ``srt``, ``vtt`` or ``verbose_json``.
        segments: whether the answer lists segments.
        words: whether it lists words.
        logprobs: whether it has log probabilities.
        stream: whether it comes in events.
        threshold: probability from which a window counts as speech; None for the server's.
    """

    language: str | None
    options: DecodeOptions
    form: str = "json"
    segments: bool = False
    words: bool = False
    logprobs: bool = False
    stream: bool = False
    threshold: float | None = None


def read_form(
    given: Iterable[tuple[str, str]], engine: WhisperEngine, usual: DecodeOptions
) -> TranscriptionWish:
    """Read the fields of a form, all but the recording.

    Args:
        given: names and values.
        engine: knows the languages.
        usual: what holds where the form says nothing, its task included.

    Raises:
        Refused: a field that there is not, or a wrong value.
    """
    fields = Fields(_typed(given))
    _refuse_speakers(fields)
    fields.only(*_SCALARS, *_LISTS)
    form = fields.choice("response_format", *_FORMATS) or "json"
    granularities = _subset(fields, "timestamp_granularities", "segment", "word") or ("segment",)
    if "word" in granularities and form != "verbose_json":
        why = "timestamp_granularities can have word with response_format verbose_json only"
        raise Refused("invalid_value", why, "timestamp_granularities")
    logprobs = bool(_subset(fields, "include", "logprobs"))
    if logprobs and form != "json":
        raise Refused("invalid_value", "include needs response_format json", "include")
    stream = fields.flag("stream") or False
    if stream and form not in ("json", "text"):
        why = f"with stream, response_format must be json or text, not {form}"
        raise Refused("invalid_value", why, "response_format")
    options = _options(fields, engine, usual)
    words = "word" in granularities
    # Subtitles begin and end with their words.
    timed = words or logprobs or form in ("srt", "vtt")
    return TranscriptionWish(
        language=options.language,
        options=replace(options, word_timestamps=timed),
        form=form,
        segments="segment" in granularities,
        words=words,
        logprobs=logprobs,
        stream=stream,
        threshold=_threshold(fields),
    )


def _options(fields: Fields, engine: WhisperEngine, usual: DecodeOptions) -> DecodeOptions:
    temperature = fields.number("temperature", 0.0, 1.0)
    keywords = fields.texts("keywords")
    prompt = fields.text("prompt")
    language, languages = _languages(fields, engine, usual)
    return replace(
        usual,
        language=language,
        languages=languages,
        prompt=usual.prompt if prompt is None else prompt,
        hotwords=usual.hotwords if keywords is None else ", ".join(keywords),
        temperatures=(temperature,) if temperature else usual.temperatures,
    )


def _languages(
    fields: Fields, engine: WhisperEngine, usual: DecodeOptions
) -> tuple[str | None, tuple[str, ...]]:
    """The language, and those that count where there is none."""
    wanted, among = fields.text("language"), fields.texts("languages")
    if wanted is None and among is None:
        return usual.language, usual.languages
    language = _checked(engine, wanted, "language")
    if language is not None:
        return language, ()
    if among is None:
        return None, usual.languages
    codes = [_checked(engine, each, "languages") for each in among]
    return None, tuple(code for code in codes if code is not None)


def _checked(engine: WhisperEngine, language: str | None, field: str) -> str | None:
    try:
        return engine.check_language(language and language_code(language))
    except ConfigError as error:
        raise Refused("invalid_value", str(error), field) from None


def _threshold(fields: Fields) -> float | None:
    if fields.value(_VAD) == "auto":
        return None
    vad = fields.child(_VAD)
    if vad is None:
        return None
    vad.only("type", "prefix_padding_ms", "silence_duration_ms", "threshold")
    vad.required("type")
    vad.choice("type", "server_vad")
    for name in ("prefix_padding_ms", "silence_duration_ms"):
        vad.whole(name, 0, 10_000)
    return vad.number("threshold", 0.0, 1.0, inside=True)


def _refuse_speakers(fields: Fields) -> None:
    """This server cannot tell speakers apart, and says so."""
    asked = [name for name in _FOR_SPEAKERS if name in fields]
    if fields.flag("diarize"):
        asked.append("diarize")
    if fields.value("response_format") == "diarized_json":
        asked.append("response_format")
    if asked:
        why = f"{asked[0]} asks for speakers, and this server cannot tell them apart"
        raise Refused("unsupported_parameter", why, asked[0])


def _subset(fields: Fields, name: str, *choices: str) -> tuple[str, ...]:
    values = fields.texts(name) or ()
    for value in values:
        if value not in choices:
            why = f"{name} can have {' and '.join(choices)} only"
            raise Refused("invalid_value", why, name)
    return values


def _typed(given: Iterable[tuple[str, str]]) -> dict[str, object]:
    """A form's text as the values that JSON would have."""
    values: dict[str, object] = {}
    vad: dict[str, object] = {}
    for name, text in given:
        plain = name.removesuffix("[]")
        if not text:
            continue
        if plain in (*_LISTS, *_FOR_SPEAKERS):
            values[plain] = (*_several(values.get(plain)), text)
        elif plain in values:
            raise Refused("invalid_form", f"{plain} is given twice", plain)
        elif plain.startswith(f"{_VAD}[") and plain.endswith("]"):
            vad[plain[len(_VAD) + 1 : -1]] = _number(text)
        else:
            values[plain] = _value(plain, text)
    if vad:
        values[_VAD] = vad
    return {
        name: list(value) if isinstance(value, tuple) else value for name, value in values.items()
    }


def _several(value: object) -> tuple[object, ...]:
    return value if isinstance(value, tuple) else ()


def _value(name: str, text: str) -> object:
    if name == "temperature":
        return _number(text)
    if name in ("stream", "diarize"):
        return _FLAGS.get(text.lower(), text)
    if name == _VAD and text.startswith("{"):
        return _json(text)
    return text


def _number(text: str) -> object:
    value = _json(text)
    return value if isinstance(value, (int, float)) else text


def _json(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
