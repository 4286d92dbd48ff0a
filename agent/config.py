"""Settings: frozen values, and one way in from file, environment and flags.

A setting is named ``section.key``. From weakest to strongest it comes from the
default below, a TOML file (``[section]`` with ``key = value``), the environment
(``TALKPATH_SECTION_KEY``), and the command line's flags.
"""

import dataclasses
import difflib
import json
import os
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from talkpath.agent.asterisk_sections import AsteriskConfig
from talkpath.agent.bot_sections import (
    IdleConfig,
    ReceptionistConfig,
    RouterConfig,
    SurveyConfig,
)
from talkpath.agent.carrier_sections import CarriersConfig
from talkpath.agent.errors import ConfigError
from talkpath.agent.note_sections import CaptionsConfig, NotesConfig
from talkpath.agent.phone_sections import PhoneConfig
from talkpath.agent.sections import (
    ReplyConfig,
    ServeConfig,
    ServerConfig,
    SpeechConfig,
    TurnConfig,
    VoiceConfig,
    WhisperConfig,
)
from talkpath.agent.sip_sections import SipConfig

__all__ = [
    "AsteriskConfig",
    "CaptionsConfig",
    "CarriersConfig",
    "Config",
    "IdleConfig",
    "NotesConfig",
    "PhoneConfig",
    "ReceptionistConfig",
    "ReplyConfig",
    "RouterConfig",
    "ServeConfig",
    "ServerConfig",
    "SipConfig",
    "SpeechConfig",
    "SurveyConfig",
    "TurnConfig",
    "VoiceConfig",
    "WhisperConfig",
    "dump_config",
    "load_config",
]

_ENV_PREFIX = "TALKPATH_"
_OPENAI_HOST = "api.openai.com"
_FLAGS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
_WANTED = {
    tuple: "a list of strings",
    Mapping: "a table of strings and numbers (in the environment, as JSON)",
}
_NOT_SETTINGS = (
    "TALKPATH_FUZZ_SECONDS",
    "TALKPATH_FUZZ_SEED",
    "TALKPATH_HOME",
    "TALKPATH_REQUIRE_TOOLS",
    "TALKPATH_TEST_SPEECH",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """All settings of one process."""

    whisper: WhisperConfig = field(default_factory=WhisperConfig)
    speech: SpeechConfig = field(default_factory=SpeechConfig)
    turn: TurnConfig = field(default_factory=TurnConfig)
    reply: ReplyConfig = field(default_factory=ReplyConfig)
    voice: VoiceConfig = field(default_factory=VoiceConfig)
    idle: IdleConfig = field(default_factory=IdleConfig)
    receptionist: ReceptionistConfig = field(default_factory=ReceptionistConfig)
    survey: SurveyConfig = field(default_factory=SurveyConfig)
    router: RouterConfig = field(default_factory=RouterConfig)
    phone: PhoneConfig = field(default_factory=PhoneConfig)
    captions: CaptionsConfig = field(default_factory=CaptionsConfig)
    notes: NotesConfig = field(default_factory=NotesConfig)
    server: ServerConfig = field(default_factory=ServerConfig)
    serve: ServeConfig = field(default_factory=ServeConfig)
    sip: SipConfig = field(default_factory=SipConfig)
    asterisk: AsteriskConfig = field(default_factory=AsteriskConfig)
    carriers: CarriersConfig = field(default_factory=CarriersConfig)


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
    known = _settings()
    merged: dict[str, Any] = {}
    given: list[tuple[str, Mapping[str, Any]]] = [
        (f"{file}: ", _from_file(file) if file is not None else {}),
        *((f"{_variable(name)}: ", {name: text}) for name, text in _from_environment(environ)),
        ("", {name: value for name, value in (flags or {}).items() if value is not None}),
    ]
    for source, values in given:
        for name, value in values.items():
            if name not in known:
                raise ConfigError(f"{source}there is no setting {name!r}{_meant(name, known)}")
            merged[name] = _coerce(source, name, known[name], value)
    _take_openais(merged, environ)
    sections: dict[str, dict[str, Any]] = {}
    for name, value in merged.items():
        section, key = name.split(".")
        sections.setdefault(section, {})[key] = value
    return Config(
        **{
            item.name: typing.cast(type, item.type)(**sections.get(item.name, {}))
            for item in dataclasses.fields(Config)
        }
    )


def dump_config(config: Config) -> dict[str, Any]:
    """All settings by ``section.key``, passwords and keys too, for a process of our own.

    Every value is one that JSON has; ``load_config`` takes them as flags.
    """
    values: dict[str, Any] = {}
    for name in _settings():
        section, key = name.split(".")
        value = getattr(getattr(config, section), key)
        values[name] = dict(value) if isinstance(value, Mapping) else value
    return values


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


def _from_environment(environ: Mapping[str, str]) -> list[tuple[str, str]]:
    variables = {_variable(name): name for name in _settings()}
    for variable in environ:
        if variable.startswith(_ENV_PREFIX) and variable not in (*variables, *_NOT_SETTINGS):
            hint = _meant(variable, variables)
            raise ConfigError(f"there is no setting for the environment variable {variable}{hint}")
    return [
        (name, environ[variable]) for variable, name in variables.items() if environ.get(variable)
    ]


def _variable(name: str) -> str:
    return _ENV_PREFIX + name.replace(".", "_").upper()


def _meant(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f", did you mean {close[0]!r}?" if close else ""


def _take_openais(values: dict[str, Any], environ: Mapping[str, str]) -> None:
    """Let OpenAI's own variables count where nothing else was said; their key is theirs alone."""
    base_url, key = environ.get("OPENAI_BASE_URL"), environ.get("OPENAI_API_KEY")
    if base_url:
        values.setdefault("reply.url", base_url)
    if not key:
        return
    url = values.get("reply.url")
    if url is not None and (url == base_url or _is_openais(url)):
        values.setdefault("reply.api_key", key)
    if values.get("voice.service") == "openai" and "voice.url" not in values:
        values.setdefault("voice.api_key", key)


def _is_openais(url: Any) -> bool:
    try:
        return urlsplit(str(url)).hostname == _OPENAI_HOST
    except ValueError:
        return False


def _coerce(source: str, name: str, kind: Any, value: Any) -> Any:
    """Turn a string from the environment, or a value from TOML, into the setting's type."""
    if isinstance(kind, types.UnionType):
        kind = next(option for option in typing.get_args(kind) if option is not type(None))
    if typing.get_origin(kind) is Mapping:
        value = _from_json(value)
        if isinstance(value, dict) and all(map(_is_plain, value.values())):
            return value
    elif typing.get_origin(kind) is tuple:
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
    wanted = _WANTED.get(typing.get_origin(kind)) or f"of type {kind.__name__}"
    shown = "has a wrong value" if name in _secrets() else f"is {value!r}"
    raise ConfigError(f"{source}{name} {shown}; it must be {wanted}")


def _from_json(value: Any) -> Any:
    """Read what stands in the environment; what a file has is a table already."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return None


def _is_plain(value: Any) -> bool:
    return isinstance(value, (str, int, float, bool))
