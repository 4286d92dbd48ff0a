"""OpenAI's Realtime protocol, as far as its transcription sessions speak it.

A client sends JSON in text frames and gets JSON in text frames. It may use the current shape
(``session.update``, everything under ``audio.input``) or the older flat one
(``transcription_session.update``); it is answered in the one that it used.

Where the original leaves a choice, or this server cannot do the same:

- **Session.** The first event is ``session.created`` with what holds without an update: PCM at
  24 kHz, voice activity detection. An update changes the fields that it has; null puts one back
  to its default, except ``turn_detection``, where null means that the client commits, and
  ``noise_reduction``, where it means none. Every update takes effect for what is said after it.
- **Model.** Any name is taken: there is one model, the server's. The two that commit by hand in
  the original (``gpt-realtime-whisper``, ``gpt-live-transcribe``) do so here as long as
  ``turn_detection`` is not given; unlike the original, they may be given it.
- **Of no effect**, but checked and repeated: ``noise_reduction``. ``create_response`` and
  ``interrupt_response`` are checked and not repeated, since nobody responds.
- **delay** sets how much speech lies between two looks at it: the more, the surer its words.
- **Items.** Each commit, by voice activity or by the client, makes one item with one end, however
  long it is; silence and noise end in ``.completed`` with an empty transcript. If a part of an
  item cannot be decoded, the item ends in ``.failed``; what its other parts said went out in
  deltas. A commit of less than 100 ms is refused.
- **Deltas** are words that have settled, and at the end the rest. They are never taken back. If
  the final says something else than they did, it has no further delta and its ``transcript``
  holds; else all deltas together are the transcript.
- **logprobs**, where they are included, come with ``.completed``, a word each: the logarithm of
  the mean probability of its tokens. There are none with deltas.
- **Clear** forgets what is not committed. An item that had begun gets no end.
- **Closing.** Items that wait for their transcript end in ``.failed``; then come an ``error`` of
  type ``server_error`` with the reason, and the close frame, 1001.
- **Conversation.** A committed item is announced once more as the conversation's, by
  ``conversation.item.added`` and ``.done``, in the older shape by ``.created``. It cannot be
  retrieved, changed or deleted, and there are no other events about it.

Sources: the types of the ``openai`` package, OpenAI's guide to Realtime transcription, and what
the clients of Pipecat and LiveKit send and read.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from talkpath.agent.errors import ConfigError
from talkpath.agent.server.protocols.codec import (
    Command,
    Configure,
    Encoding,
    SessionSettings,
    TurnDetection,
    VoiceActivity,
)
from talkpath.agent.server.protocols.fields import Fields, Refused, known_language
from talkpath.agent.server.protocols.items_codec import ItemsCodec
from talkpath.agent.server.protocols.realtime import BUFFER_EVENTS, Dialect, Event, Items
from talkpath.agent.whisper.requests import DecodeOptions

__all__ = ["RealtimeCodec"]

_LOGPROBS = "item.input_audio_transcription.logprobs"
_ANNOUNCED, _ANNOUNCED_FLAT = ("added", "done"), ("created",)
_UPDATES = ("session.update", "transcription_session.update")
_BY_HAND = ("gpt-realtime-whisper", "gpt-live-transcribe")
_FORMATS: Mapping[str, tuple[Encoding, int]] = {
    "audio/pcm": (Encoding.PCM_S16LE, 24_000),
    "audio/pcmu": (Encoding.MULAW, 8_000),
    "audio/pcma": (Encoding.ALAW, 8_000),
}
_FLAT_FORMATS = {"pcm16": "audio/pcm", "g711_ulaw": "audio/pcmu", "g711_alaw": "audio/pcma"}
_WAITS_S = {"low": 8.0, "medium": 4.0, "high": 2.0, "auto": 4.0}
_THRESHOLDS = {"low": 0.7, "medium": 0.5, "high": 0.3, "auto": 0.5}
_INTERVALS_S = {"minimal": 0.25, "low": 0.5, "medium": 1.0, "high": 2.0, "xhigh": 4.0}
_USUAL_INTERVAL_S = 0.5
_LONGEST_PADDING_MS = 2_000
_LONGEST_SILENCE_MS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class _ServerVad:
    """A pause ends an utterance."""

    threshold: float = 0.5
    prefix_padding_ms: int = 300
    silence_duration_ms: int = 500

    @property
    def activity(self) -> VoiceActivity:
        return VoiceActivity(
            threshold=self.threshold,
            min_silence_s=self.silence_duration_ms / 1000,
            pad_s=self.prefix_padding_ms / 1000,
        )

    def shown(self) -> dict[str, object]:
        return {
            "type": "server_vad",
            "threshold": self.threshold,
            "prefix_padding_ms": self.prefix_padding_ms,
            "silence_duration_ms": self.silence_duration_ms,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class _SemanticVad:
    """A pause ends it after what sounds complete, and a long wait after anything."""

    eagerness: str = "auto"

    @property
    def activity(self) -> VoiceActivity:
        return VoiceActivity(
            pad_s=_ServerVad().activity.pad_s,
            semantic_wait_s=_WAITS_S[self.eagerness],
            semantic_threshold=_THRESHOLDS[self.eagerness],
        )

    def shown(self) -> dict[str, object]:
        return {"type": "semantic_vad", "eagerness": self.eagerness}


_Turns = _ServerVad | _SemanticVad | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Transcription:
    """How a session wants its words; None where it does not say."""

    model: str
    language: str | None = None
    languages: tuple[str, ...] | None = None
    prompt: str | None = None
    keywords: tuple[str, ...] | None = None
    delay: str | None = None

    def shown(self) -> dict[str, object]:
        """As an event repeats it: what was given, and what the older shape always has."""
        shown: dict[str, object] = {
            "model": self.model,
            "language": self.language,
            "prompt": self.prompt or "",
        }
        if self.languages:
            shown["languages"] = list(self.languages)
        if self.keywords:
            shown["keywords"] = list(self.keywords)
        if self.delay:
            shown["delay"] = self.delay
        return shown


@dataclass(frozen=True, slots=True, kw_only=True)
class _Session:
    """What holds at a time. ``given_turns`` counts once ``turns_given``."""

    transcription: _Transcription
    format: str = "audio/pcm"
    noise_reduction: Mapping[str, object] | None = None
    given_turns: _Turns = None
    turns_given: bool = False
    logprobs: bool = False

    @property
    def turns(self) -> _Turns:
        if self.turns_given:
            return self.given_turns
        return None if self.transcription.model.startswith(_BY_HAND) else _ServerVad()

    def shown_turns(self) -> dict[str, object] | None:
        turns = self.turns
        return turns.shown() if turns else None

    def shown_include(self) -> list[str] | None:
        return [_LOGPROBS] if self.logprobs else None

    def settings(self, decode: DecodeOptions) -> SessionSettings:
        """The same in no protocol's words.

        Args:
            decode: what the server's own settings ask for.

        Raises:
            ConfigError: the languages contradict each other.
        """
        encoding, sample_rate_hz = _FORMATS[self.format]
        turns = self.turns
        detection = TurnDetection.CLIENT
        if turns:
            semantic = isinstance(turns, _SemanticVad)
            detection = TurnDetection.SEMANTIC if semantic else TurnDetection.SILENCE
        wanted = self.transcription
        return SessionSettings(
            encoding=encoding,
            sample_rate_hz=sample_rate_hz,
            decode=_decode_options(wanted, decode, logprobs=self.logprobs),
            partials=True,
            partial_interval_s=_INTERVALS_S.get(wanted.delay or "", _USUAL_INTERVAL_S),
            turns=detection,
            activity=turns.activity if turns else VoiceActivity(),
        )


def _decode_options(
    wanted: _Transcription, usual: DecodeOptions, *, logprobs: bool
) -> DecodeOptions:
    """What a session asks for, over what holds where it does not."""
    language, languages = wanted.language, wanted.languages or ()
    if not language and not languages:
        language, languages = usual.language, usual.languages
    return replace(
        usual,
        language=language,
        languages=languages,
        prompt=usual.prompt if wanted.prompt is None else wanted.prompt,
        hotwords=usual.hotwords if wanted.keywords is None else ", ".join(wanted.keywords),
        # Nothing else gives the probabilities of words.
        word_timestamps=usual.word_timestamps or logprobs,
    )


class RealtimeCodec(ItemsCodec):
    """OpenAI's Realtime protocol on one socket, for transcription.

    Args:
        model: the name to show until the client gives one.
        flat: whether the first event is in the older shape, as for a client that asks for
            ``OpenAI-Beta: realtime=v1``.
        decode: what the server's own settings ask for; a client's wishes go over it.
        languages: codes that the model knows; empty leaves it to the engine to refuse one.
        name: what the ids of this session begin with; by default random.
    """

    def __init__(
        self,
        *,
        model: str = "whisper-1",
        flat: bool = False,
        decode: DecodeOptions | None = None,
        languages: Collection[str] = (),
        name: str | None = None,
    ) -> None:
        super().__init__(Items(Dialect(), name))
        self._flat = flat
        self._decode = decode or DecodeOptions()
        self._languages = languages
        self._usual_model = model
        self._session = _Session(transcription=_Transcription(model=model))

    def opened(self) -> list[Command]:
        """The socket is open."""
        kind = "transcription_session.created" if self._flat else "session.created"
        return self._apply(self._session, kind, flat=self._flat)

    def _update(self, event: Event) -> list[Command]:
        if event.kind not in _UPDATES:
            known = ", ".join((*_UPDATES, *BUFFER_EVENTS))
            why = f"a transcription session takes only {known}"
            raise Refused("invalid_value", f"there is no such event here: {why}", "type")
        event.fields.only("type", "event_id", "session")
        event.fields.required("session")
        fields = Fields(event.fields.value("session"), "session")
        flat = event.kind == "transcription_session.update"
        session = self._read_flat(fields) if flat else self._read(fields)
        return self._apply(session, event.kind + "d", flat=flat)

    def _apply(self, session: _Session, kind: str, *, flat: bool) -> list[Command]:
        try:
            settings = session.settings(self._decode)
        except ConfigError as error:
            raise Refused("invalid_value", str(error), _path(flat, "transcription")) from None
        self._session = session
        announced = _ANNOUNCED_FLAT if flat else _ANNOUNCED
        self._items.configure(settings, logprobs=session.logprobs, announced=announced)
        shown = self._shown_flat() if flat else self._shown()
        return [Configure(settings), self._items.send(kind, session=shown)]

    def _read(self, fields: Fields) -> _Session:
        """A session as the current shape changes it."""
        fields.only("type", "audio", "include")
        fields.required("type")
        fields.choice("type", "transcription")
        session = self._read_include(fields, self._session)
        audio = fields.child("audio")
        if audio is None:
            return session
        audio.only("input")
        source = audio.child("input")
        if source is None:
            return session
        source.only("format", "noise_reduction", "transcription", "turn_detection")
        if "format" in source:
            session = replace(session, format=_read_format(source.child("format")))
        names = ("noise_reduction", "transcription", "turn_detection")
        return self._read_input(source, session, *names)

    def _read_flat(self, fields: Fields) -> _Session:
        """A session as the older shape changes it."""
        names = ("input_audio_noise_reduction", "input_audio_transcription", "turn_detection")
        fields.only("input_audio_format", *names, "include", "modalities")
        _check_modalities(fields)
        session = self._read_include(fields, self._session)
        if "input_audio_format" in fields:
            name = fields.choice("input_audio_format", *_FLAT_FORMATS) or "pcm16"
            session = replace(session, format=_FLAT_FORMATS[name])
        return self._read_input(fields, session, *names)

    def _read_input(
        self, fields: Fields, session: _Session, noise: str, transcription: str, turns: str
    ) -> _Session:
        """What both shapes have, under the names that it has in one."""
        if noise in fields:
            reduction = _read_noise_reduction(fields.child(noise), session.noise_reduction)
            session = replace(session, noise_reduction=reduction)
        if transcription in fields:
            wanted = self._read_transcription(fields.child(transcription), session.transcription)
            session = replace(session, transcription=wanted)
        if turns in fields:
            given = _read_turns(fields.child(turns), session.turns)
            session = replace(session, given_turns=given, turns_given=True)
        return session

    def _read_include(self, fields: Fields, session: _Session) -> _Session:
        if "include" not in fields:
            return session
        include = fields.texts("include") or ()
        unknown = [name for name in include if name != _LOGPROBS]
        if unknown:
            path = fields.path_of("include")
            raise Refused("invalid_value", f"{path} can have {_LOGPROBS} only", path)
        return replace(session, logprobs=bool(include))

    def _read_transcription(self, fields: Fields | None, now: _Transcription) -> _Transcription:
        if fields is None:
            return _Transcription(model=self._usual_model)
        fields.only("model", "language", "languages", "prompt", "keywords", "delay")
        new: dict[str, Any] = {}
        if "model" in fields:
            new["model"] = fields.text("model") or self._usual_model
        if "prompt" in fields:
            new["prompt"] = fields.text("prompt")
        if "keywords" in fields:
            new["keywords"] = fields.texts("keywords")
        if "delay" in fields:
            new["delay"] = fields.choice("delay", *_INTERVALS_S)
        if "language" in fields:
            new["language"] = self._known(fields, "language", fields.text("language"))
        if "languages" in fields:
            given = fields.texts("languages") or ()
            codes = (self._known(fields, "languages", text) for text in given)
            new["languages"] = tuple(dict.fromkeys(code for code in codes if code))
        return replace(now, **new)

    def _known(self, fields: Fields, name: str, text: str | None) -> str | None:
        """The code of a language that the model knows; an empty one counts as none."""
        code = known_language(text, self._languages) if text else None
        if text and code is None:
            path = fields.path_of(name)
            raise Refused("invalid_value", f"{path} must be a code that Whisper knows", path)
        return code

    def _shown(self) -> dict[str, object]:
        """The session as the current shape shows it."""
        session = self._session
        shape: dict[str, object] = {"type": session.format}
        if session.format == "audio/pcm":
            shape["rate"] = _FORMATS[session.format][1]
        return {
            "type": "transcription",
            "object": "realtime.transcription_session",
            "id": self._items.session_id,
            "audio": {
                "input": {
                    "format": shape,
                    "noise_reduction": session.noise_reduction,
                    "transcription": session.transcription.shown(),
                    "turn_detection": session.shown_turns(),
                }
            },
            "include": session.shown_include(),
        }

    def _shown_flat(self) -> dict[str, object]:
        """The session as the older shape shows it."""
        session = self._session
        names = {shape: name for name, shape in _FLAT_FORMATS.items()}
        return {
            "object": "realtime.transcription_session",
            "id": self._items.session_id,
            "input_audio_format": names[session.format],
            "input_audio_noise_reduction": session.noise_reduction,
            "input_audio_transcription": session.transcription.shown(),
            "turn_detection": session.shown_turns(),
            "include": session.shown_include(),
            "client_secret": None,
        }


def _path(flat: bool, name: str) -> str:
    return f"session.input_audio_{name}" if flat else f"session.audio.input.{name}"


def _check_modalities(fields: Fields) -> None:
    """Older clients may say what a model answers with; nothing answers here."""
    for name in fields.texts("modalities") or ():
        if name not in ("text", "audio"):
            path = fields.path_of("modalities")
            raise Refused("invalid_value", f"{path} can have text and audio only", path)


def _read_format(fields: Fields | None) -> str:
    if fields is None:
        return "audio/pcm"
    fields.required("type")
    name = fields.choice("type", *_FORMATS) or ""
    # The others have one rate, which is not said.
    fields.only("type", *(["rate"] if name == "audio/pcm" else []))
    rate_hz = fields.whole("rate", 1, 192_000)
    if rate_hz not in (None, _FORMATS[name][1]):
        path = fields.path_of("rate")
        raise Refused("invalid_value", f"{path} must be {_FORMATS[name][1]}", path)
    return name


def _read_noise_reduction(
    fields: Fields | None, now: Mapping[str, object] | None
) -> Mapping[str, object] | None:
    if fields is None:
        return None
    fields.only("type", "strength")
    given = {
        "type": fields.choice("type", "near_field", "far_field"),
        "strength": fields.number("strength", 0.0, 1.0),
    }
    return {**(now or {}), **{name: value for name, value in given.items() if value is not None}}


def _read_turns(fields: Fields | None, now: _Turns) -> _Turns:
    if fields is None:
        return None
    usual = now.shown()["type"] if now else "server_vad"
    kind = fields.choice("type", "server_vad", "semantic_vad") or usual
    # What is not given stays as it is, unless it is another kind's.
    if kind == "semantic_vad":
        return _read_semantic_vad(fields, now if isinstance(now, _SemanticVad) else None)
    return _read_server_vad(fields, now if isinstance(now, _ServerVad) else None)


def _read_server_vad(fields: Fields, now: _ServerVad | None) -> _ServerVad:
    names = ("threshold", "prefix_padding_ms", "silence_duration_ms")
    fields.only("type", *names, "create_response", "interrupt_response", "idle_timeout_ms")
    _check_responses(fields)
    if fields.value("idle_timeout_ms") is not None:
        path = fields.path_of("idle_timeout_ms")
        raise Refused("invalid_value", f"{path} must be null: nothing here answers", path)
    usual = _ServerVad()
    given = {
        "threshold": fields.number("threshold", 0.0, 1.0, inside=True),
        "prefix_padding_ms": fields.whole("prefix_padding_ms", 0, _LONGEST_PADDING_MS),
        "silence_duration_ms": fields.whole("silence_duration_ms", 0, _LONGEST_SILENCE_MS),
    }
    new: dict[str, Any] = {
        name: getattr(usual, name) if value is None else value
        for name, value in given.items()
        if name in fields
    }
    return replace(now or usual, **new)


def _read_semantic_vad(fields: Fields, now: _SemanticVad | None) -> _SemanticVad:
    fields.only("type", "eagerness", "create_response", "interrupt_response")
    _check_responses(fields)
    eagerness = fields.choice("eagerness", *_WAITS_S)
    if "eagerness" not in fields:
        return now or _SemanticVad()
    return _SemanticVad(eagerness=eagerness or "auto")


def _check_responses(fields: Fields) -> None:
    fields.flag("create_response")
    fields.flag("interrupt_response")
