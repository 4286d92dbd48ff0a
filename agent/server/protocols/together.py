"""Together's dialect of the Realtime protocol.

It is configured by the query of the URL, and its voice activity detection also by an event that
goes both ways, ``transcription_session.updated``. Samples are ``pcm_s16le_16000``.

In what it differs from OpenAI's, besides that:

- **Deltas** have all words of the utterance so far, the unsettled ones included, and each
  replaces the one before it, as Together's guide says. They stand in ``delta`` and, for clients
  that look there, in ``transcript``.
- **Long speech** is cut at ``max_speech_duration_s``, and each piece is an item. Nothing longer
  than 28 s can be had. Where the client commits, what it commits is one item.
- ``transcription_session.updated`` sets what it names; of the rest, the defaults hold.
- Of the query, ``intent`` may be ``transcription``, and ``language`` a code or ``auto``, which the
  original does not have. With ``turn_detection=none`` the other parameters of the detection are
  checked and have no effect.

Items, errors, commits, clearing and closing are as in ``openai_realtime``, and the events say as
much as OpenAI's: the original sends fewer fields.

Sources: Together's OpenAPI description (togethercomputer/openapi, ``/realtime``), its guides to
streaming transcription and voice activity detection, and what Pipecat's client sends and reads.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from talkpath.agent.errors import ConfigError
from talkpath.agent.server.protocols.codec import (
    Command,
    Configure,
    SessionSettings,
    TurnDetection,
    VoiceActivity,
)
from talkpath.agent.server.protocols.fields import Fields, Refused, known_language
from talkpath.agent.server.protocols.items_codec import ItemsCodec
from talkpath.agent.server.protocols.realtime import BUFFER_EVENTS, Dialect, Event, Items
from talkpath.agent.whisper.requests import DecodeOptions

__all__ = ["TogetherCodec", "TogetherVad"]

_UPDATE = "transcription_session.updated"
_FORMAT = "pcm_s16le_16000"
_MODEL = "openai/whisper-large-v3"
_NUMBERS = (
    "threshold",
    "min_silence_duration_ms",
    "min_speech_duration_ms",
    "max_speech_duration_s",
    "speech_pad_ms",
)
_PARAMETERS = ("intent", "model", "input_audio_format", "language", "turn_detection", *_NUMBERS)
_LONGEST_UTTERANCE_S = SessionSettings().longest_utterance_s


@dataclass(frozen=True, slots=True, kw_only=True)
class TogetherVad:
    """Voice activity detection, in Together's words and with its defaults.

    Attributes:
        threshold: probability from which a window counts as speech.
        min_silence_duration_ms: silence before speech counts as ended.
        min_speech_duration_ms: speech before it counts as begun.
        max_speech_duration_s: longer speech is cut into pieces.
        speech_pad_ms: audio before and after it that belongs to it.
    """

    threshold: float = 0.3
    min_silence_duration_ms: int = 500
    min_speech_duration_ms: int = 250
    max_speech_duration_s: float = 5.0
    speech_pad_ms: int = 250


class TogetherCodec(ItemsCodec):
    """Together's protocol on one socket.

    Args:
        model: the name to show.
        vad: voice activity detection; None leaves it to the client to commit.
        decode: language, prompt and the rest.
        name: what the ids of this session begin with; by default random.
    """

    def __init__(
        self,
        *,
        model: str = _MODEL,
        vad: TogetherVad | None = TogetherVad(),
        decode: DecodeOptions | None = None,
        name: str | None = None,
    ) -> None:
        self._model = model
        self._vad = vad
        self._decode = decode or DecodeOptions()
        super().__init__(Items(Dialect(whole_deltas=True, pieces_apart=True), name))

    @classmethod
    def from_query(
        cls,
        query: Mapping[str, str],
        *,
        decode: DecodeOptions | None = None,
        languages: Collection[str] = (),
        name: str | None = None,
    ) -> "TogetherCodec":
        """A codec as the query of the URL asks for it.

        Args:
            query: the parameters, decoded, without those that are the server's own.
            decode: what the server's own settings ask for; a given language goes over it.
            languages: codes that the model knows; empty leaves it to the engine to refuse one.
            name: what the ids of this session begin with; by default random.

        Raises:
            ConfigError: a parameter that there is not, or a wrong value; the message names it.
        """
        try:
            return cls(
                model=Fields(dict(query)).text("model") or _MODEL,
                vad=_vad_of(query),
                decode=_decode_of(query, decode or DecodeOptions(), languages),
                name=name,
            )
        except Refused as refused:
            raise ConfigError(f"in the query, {refused.message}") from None

    def opened(self) -> list[Command]:
        """The socket is open."""
        session = {
            "id": self._items.session_id,
            "object": "realtime.session",
            "modalities": ["audio"],
            "model": self._model,
        }
        return [self._configure(), self._items.send("session.created", session=session)]

    def _update(self, event: Event) -> list[Command]:
        if event.kind != _UPDATE:
            known = ", ".join((_UPDATE, *BUFFER_EVENTS))
            why = f"there is no such event here: a session takes only {known}"
            raise Refused("invalid_value", why, "type")
        event.fields.only("type", "event_id", "session")
        event.fields.required("session")
        fields = Fields(event.fields.value("session"), "session")
        fields.only("turn_detection")
        if "turn_detection" in fields:
            turns = fields.child("turn_detection")
            self._vad = None if turns is None else _read_vad(turns)
        return [self._configure(), self._items.send(_UPDATE, session=self._shown())]

    def _configure(self) -> Configure:
        settings = _settings(self._vad, self._decode)
        self._items.configure(settings)
        return Configure(settings)

    def _shown(self) -> dict[str, object]:
        if self._vad is None:
            return {"turn_detection": None}
        numbers = {name: getattr(self._vad, name) for name in _NUMBERS}
        return {"turn_detection": {"type": "server_vad", **numbers}}


def _settings(vad: TogetherVad | None, decode: DecodeOptions) -> SessionSettings:
    """What is asked for, in no protocol's words."""
    settings = SessionSettings(decode=decode, partials=True, turns=TurnDetection.CLIENT)
    if vad is None:
        return settings
    activity = VoiceActivity(
        threshold=vad.threshold,
        min_speech_s=vad.min_speech_duration_ms / 1000,
        min_silence_s=vad.min_silence_duration_ms / 1000,
        pad_s=vad.speech_pad_ms / 1000,
    )
    return replace(
        settings,
        turns=TurnDetection.SILENCE,
        longest_utterance_s=vad.max_speech_duration_s,
        activity=activity,
    )


def _read_vad(fields: Fields) -> TogetherVad:
    """The detection that a client asks for; what it does not say has its default.

    Raises:
        Refused: a field that there is not, or a wrong value.
    """
    fields.only("type", *_NUMBERS)
    fields.choice("type", "server_vad")
    longest_s = fields.number("max_speech_duration_s", 1.0, 3600.0)
    given = {
        "threshold": fields.number("threshold", 0.0, 1.0, inside=True),
        "min_silence_duration_ms": fields.whole("min_silence_duration_ms", 0, 10_000),
        "min_speech_duration_ms": fields.whole("min_speech_duration_ms", 0, 2_000),
        # No utterance is longer than the engine's own limit, whatever is allowed.
        "max_speech_duration_s": longest_s and min(longest_s, _LONGEST_UTTERANCE_S),
        "speech_pad_ms": fields.whole("speech_pad_ms", 0, 2_000),
    }
    new: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    return replace(TogetherVad(), **new)


def _vad_of(query: Mapping[str, str]) -> TogetherVad | None:
    """The detection that a query asks for."""
    fields = Fields(dict(query))
    fields.only(*_PARAMETERS)
    fields.choice("intent", "transcription")
    fields.choice("input_audio_format", _FORMAT)
    kind = fields.choice("turn_detection", "server_vad", "none")
    vad = _read_vad(Fields({name: _number(query[name]) for name in _NUMBERS if name in query}))
    return None if kind == "none" else vad


def _number(text: str) -> object:
    """A value of a query as one of JSON, which is stricter about numbers than Python."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return value if isinstance(value, (int, float)) else text


def _decode_of(
    query: Mapping[str, str], usual: DecodeOptions, languages: Collection[str]
) -> DecodeOptions:
    """What a query asks for, over what holds where it does not."""
    language = query.get("language")
    if not language:
        return usual
    if language == "auto":
        return replace(usual, language=None)
    code = known_language(language, languages)
    if code is None:
        raise Refused("invalid_value", "language must be a code that Whisper knows, or auto")
    return replace(usual, language=code, languages=())
