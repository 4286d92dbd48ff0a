"""Settings: frozen values, and one way in from file, environment and flags.

A setting is named ``section.key``. From weakest to strongest it comes from the
default below, a TOML file (``[section]`` with ``key = value``), the environment
(``TALKPATH_SECTION_KEY``), and the command line's flags.
"""

import dataclasses
import os
import tomllib
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from talkpath.agent.errors import ConfigError
from talkpath.agent.server_url import Server, check_key

__all__ = [
    "Config",
    "ReplyConfig",
    "ServeConfig",
    "ServerConfig",
    "SpeechConfig",
    "VoiceConfig",
    "WhisperConfig",
    "load_config",
]

_ENV_PREFIX = "TALKPATH_"
_FLAGS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
_NOT_SETTINGS = (
    "TALKPATH_FUZZ_SECONDS",
    "TALKPATH_FUZZ_SEED",
    "TALKPATH_HOME",
    "TALKPATH_REQUIRE_TOOLS",
)


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class WhisperConfig:
    """Speech to text.

    Attributes:
        model: name in the model store, or the path of a CTranslate2 model folder.
        device: ``auto`` (CUDA where there is one), ``cpu`` or ``cuda``.
        compute_type: CTranslate2's type of weights; ``auto`` is int8 on a CPU, float16 on CUDA.
        language: a Whisper language code, or ``auto`` to detect it.
        language_mode: where it is detected, ``utterance`` does so anew in each, and ``stream``
            once, from the first second of speech; that one is kept.
        languages: where it is detected, only these codes count; empty means all.
        task: ``transcribe``, or ``translate`` into English (not with English-only models).
        prompt: text that the model takes for what was said before: names, spelling, style.
        hotwords: words to expect.
        beam_size: hypotheses kept while decoding finals, 1 to 10; 1 is greedy.
        workers: decoding threads; 0 means one a core on a CPU and two on CUDA.
        partial_interval_s: seconds of speech between partials.
        max_streams: streams admitted at once; one more is refused with ``EngineOverloaded``.
        servers: WebSockets of ``talkpath serve`` where bots' speech becomes text, in the order in
            which they are tried; empty runs the model in this process.
        api_key: the key for them.
    """

    model: str = "base"
    device: str = "auto"
    compute_type: str = "auto"
    language: str = "auto"
    language_mode: str = "utterance"
    languages: tuple[str, ...] = ()
    task: str = "transcribe"
    prompt: str = ""
    hotwords: str = ""
    beam_size: int = 1
    workers: int = 0
    partial_interval_s: float = 0.5
    max_streams: int = 256
    servers: tuple[str, ...] = ()
    api_key: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        _require(
            self.device in ("auto", "cpu", "cuda"),
            f"whisper.device is {self.device!r}; it must be auto, cpu or cuda",
        )
        _require(
            self.language_mode in ("utterance", "stream"),
            f"whisper.language_mode is {self.language_mode!r}; it must be utterance or stream",
        )
        _require(
            self.task in ("transcribe", "translate"),
            f"whisper.task is {self.task!r}; it must be transcribe or translate",
        )
        _require(1 <= self.beam_size <= 10, "whisper.beam_size must lie between 1 and 10")
        _require(self.workers >= 0, "whisper.workers must be 0 or more")
        _require(
            0.1 <= self.partial_interval_s <= 30,
            "whisper.partial_interval_s must lie between 0.1 and 30 seconds",
        )
        _require(self.max_streams >= 1, "whisper.max_streams must be 1 or more")
        try:
            for url in self.servers:
                Server.at(url)
        except ConfigError as error:
            raise ConfigError(f"whisper.servers: {error}") from None
        try:
            check_key(self.api_key)
        except ConfigError as error:
            raise ConfigError(f"whisper.api_key: {error}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechConfig:
    """Voice activity.

    Attributes:
        threshold: Silero probability from which a window of 32 ms counts as speech.
        start_s: seconds of speech before speech counts as started.
        early_pause_s: seconds of silence before the speculative final is asked for. One window
            is enough: over the reference clips 19 of 66 speculations were in vain, against 15
            of 62 after two windows, and the 95th percentile of the time to the final fell from
            0.39 to 0.34 s (two cores, ``base`` int8); wrong words 15 and 13 of 414.
        stop_s: seconds of silence before speech counts as stopped.
    """

    threshold: float = 0.5
    start_s: float = 0.2
    early_pause_s: float = 0.032
    stop_s: float = 0.2

    def __post_init__(self) -> None:
        _require(0 < self.threshold < 1, "speech.threshold must lie between 0 and 1")
        _require(0 <= self.start_s <= 2, "speech.start_s must lie between 0 and 2 seconds")
        _require(
            0.032 <= self.early_pause_s <= self.stop_s <= 10,
            "speech.early_pause_s must be at least 0.032 and speech.stop_s at least that",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyConfig:
    """The language model that answers.

    Attributes:
        url: base URL of an OpenAI-compatible server (``OPENAI_BASE_URL`` counts too);
            None runs ``model`` from the model store in this process.
        api_key: key for that server (``OPENAI_API_KEY`` counts too).
        model: model name, at that server or in the model store.
        max_tokens: longest reply in tokens.
        prompt: the system message.
    """

    url: str | None = None
    api_key: str | None = field(default=None, repr=False)
    model: str = "smollm2-135m"
    max_tokens: int = 120
    prompt: str = (
        "You are a friendly voice assistant. Your words are spoken aloud: answer in one or two "
        "short sentences of plain English, without lists, symbols or emoji."
    )

    def __post_init__(self) -> None:
        _require(self.max_tokens >= 1, "reply.max_tokens must be 1 or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class VoiceConfig:
    """The voice that speaks.

    Attributes:
        model: a Piper voice in the model store, or the path of an ``.onnx`` file.
    """

    model: str = "piper-en-us-joe"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """Where callers come in.

    Attributes:
        host: address to listen on.
        port: TCP port; 0 lets the system choose.
        transport: ``webrtc``, ``websocket`` or ``sip``.
        ice_servers: STUN and TURN URLs, given to the page and used by the server.
        max_sessions: sessions at once; one more is refused with status 503.
    """

    host: str = "127.0.0.1"
    port: int = 7860
    transport: str = "webrtc"
    ice_servers: tuple[str, ...] = ()
    max_sessions: int = 32

    def __post_init__(self) -> None:
        _require(0 <= self.port <= 65535, "server.port must lie between 0 and 65535")
        _require(
            self.transport in ("webrtc", "websocket", "sip"),
            f"server.transport is {self.transport!r}; it must be webrtc, websocket or sip",
        )
        _require(self.max_sessions >= 1, "server.max_sessions must be 1 or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeConfig:
    """The speech-to-text server (``talkpath serve``). Its streams are ``whisper.max_streams``.

    Attributes:
        host: address to listen on.
        port: TCP port; 0 lets the system choose.
        api_keys: keys that let a client in; with none, here and in the file, anybody may come in,
            and the server listens on a loopback address only.
        api_keys_file: file of more keys, one a line, or empty.
        insecure_no_auth: whether a server without keys may listen on other addresses.
        allow_origins: pages of these origins may call, besides the server's own and those on
            the same machine; ``*`` means all.
        tls_cert: file of the certificate chain in PEM; empty serves without TLS.
        tls_key: file of its private key in PEM; empty where the certificate's has it.
        max_streams_per_key: streams that one key may have at once; 0 means as many as there are.
        max_uploads: recordings worked on at once; one more is refused with status 503.
        max_uploads_per_key: those of one key; one more is refused with status 429. 0 means as many
            as there are.
        message_bytes: longest message of a WebSocket; a longer one closes it with 1009.
        upload_bytes: longest recording; a longer one is refused with status 413.
        recording_s: seconds of sound of the longest recording: silence takes next to no bytes.
        idle_s: seconds without a message after which a WebSocket is closed.
        stalled_s: seconds in which a client takes nothing of what is sent, after which its
            WebSocket is closed.
        ahead_s: seconds of audio that a client may be ahead of real time; beyond them it is read
            at the speed of speech.
        drain_s: seconds that streams have to end by themselves once the server is to stop.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    api_keys: tuple[str, ...] = field(default=(), repr=False)
    api_keys_file: str = ""
    insecure_no_auth: bool = False
    allow_origins: tuple[str, ...] = ()
    tls_cert: str = ""
    tls_key: str = ""
    max_streams_per_key: int = 0
    max_uploads: int = 8
    max_uploads_per_key: int = 0
    message_bytes: int = 16 * 2**20
    upload_bytes: int = 2**30
    recording_s: float = 86_400.0
    idle_s: float = 300.0
    stalled_s: float = 20.0
    ahead_s: float = 60.0
    drain_s: float = 30.0

    def __post_init__(self) -> None:
        _require(0 <= self.port <= 65535, "serve.port must lie between 0 and 65535")
        _require(all(self.api_keys), "serve.api_keys must not have an empty key")
        _require(
            bool(self.tls_cert) or not self.tls_key, "serve.tls_key is of no use without tls_cert"
        )
        _require(self.max_streams_per_key >= 0, "serve.max_streams_per_key must be 0 or more")
        _require(self.max_uploads >= 0, "serve.max_uploads must be 0 or more")
        _require(self.max_uploads_per_key >= 0, "serve.max_uploads_per_key must be 0 or more")
        _require(self.message_bytes >= 4096, "serve.message_bytes must be 4096 or more")
        _require(self.upload_bytes >= 4096, "serve.upload_bytes must be 4096 or more")
        _require(self.recording_s > 0, "serve.recording_s must be more than 0")
        _require(self.idle_s > 0, "serve.idle_s must be more than 0")
        _require(self.stalled_s > 0, "serve.stalled_s must be more than 0")
        _require(self.ahead_s >= 1, "serve.ahead_s must be 1 or more")
        _require(self.drain_s >= 0, "serve.drain_s must be 0 or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """All settings of one process."""

    whisper: WhisperConfig = field(default_factory=WhisperConfig)
    speech: SpeechConfig = field(default_factory=SpeechConfig)
    reply: ReplyConfig = field(default_factory=ReplyConfig)
    voice: VoiceConfig = field(default_factory=VoiceConfig)
    server: ServerConfig = field(default_factory=ServerConfig)
    serve: ServeConfig = field(default_factory=ServeConfig)


def load_config(
    flags: Mapping[str, Any] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    file: Path | None = None,
) -> Config:
    """Put the settings together.

    Args:
        flags: values by ``section.key``; None means not given.
        environ: environment variables, ``os.environ`` by default.
        file: a TOML file, or None.

    Raises:
        ConfigError: the file cannot be read, or a name or a value is wrong.
    """
    environ = os.environ if environ is None else environ
    merged: dict[str, Any] = {}
    if file is not None:
        merged.update(_from_file(file))
    merged.update(_from_environment(environ))
    merged.update({name: value for name, value in (flags or {}).items() if value is not None})
    sections: dict[str, dict[str, Any]] = {}
    known = _settings()
    for name, value in merged.items():
        if name not in known:
            raise ConfigError(f"there is no setting {name!r}")
        section, key = name.split(".")
        sections.setdefault(section, {})[key] = _coerce(name, known[name], value)
    return Config(
        **{
            item.name: typing.cast(type, item.type)(**sections.get(item.name, {}))
            for item in dataclasses.fields(Config)
        }
    )


def _settings() -> dict[str, Any]:
    """Type of every setting by its name."""
    return {
        f"{section.name}.{item.name}": item.type
        for section in dataclasses.fields(Config)
        for item in dataclasses.fields(typing.cast(type, section.type))
    }


def _secrets() -> set[str]:
    """Names of the settings whose values nobody is shown."""
    return {
        f"{section.name}.{item.name}"
        for section in dataclasses.fields(Config)
        for item in dataclasses.fields(typing.cast(type, section.type))
        if not item.repr
    }


def _from_file(file: Path) -> dict[str, Any]:
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"cannot read the settings file {file}: {error}") from error
    values: dict[str, Any] = {}
    for section, entries in content.items():
        if not isinstance(entries, dict):
            raise ConfigError(f"{file}: {section!r} must stand in a section")
        values.update({f"{section}.{key}": value for key, value in entries.items()})
    return values


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    variables = {_ENV_PREFIX + name.replace(".", "_").upper(): name for name in _settings()}
    for variable in environ:
        if variable.startswith(_ENV_PREFIX) and variable not in (*variables, *_NOT_SETTINGS):
            raise ConfigError(f"there is no setting for the environment variable {variable}")
    for variable, name in variables.items():
        if environ.get(variable):
            values[name] = environ[variable]
    for name, variable in (("reply.url", "OPENAI_BASE_URL"), ("reply.api_key", "OPENAI_API_KEY")):
        if name not in values and environ.get(variable):
            values[name] = environ[variable]
    return values


def _coerce(name: str, kind: Any, value: Any) -> Any:
    """Turn a string from the environment, or a value from TOML, into the setting's type."""
    if isinstance(kind, types.UnionType):
        kind = next(option for option in typing.get_args(kind) if option is not type(None))
    if typing.get_origin(kind) is tuple:
        if isinstance(value, str):
            value = [part.strip() for part in value.split(",") if part.strip()]
        if isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value):
            return tuple(value)
    elif kind is bool:
        if isinstance(value, bool):
            return value
        if isinstance(value, str) and value.lower() in _FLAGS:
            return _FLAGS[value.lower()]
    elif isinstance(value, kind) and not isinstance(value, bool):
        return value
    elif kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    elif isinstance(value, str):
        try:
            return kind(value)
        except ValueError:
            pass
    wanted = "a list of strings" if typing.get_origin(kind) is tuple else f"of type {kind.__name__}"
    shown = "has a wrong value" if name in _secrets() else f"is {value!r}"
    raise ConfigError(f"{name} {shown}; it must be {wanted}")
