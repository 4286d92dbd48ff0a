"""Voices by configuration: Piper, any server that speaks as OpenAI's does, any other service."""

import dataclasses
import importlib
import inspect
from typing import Any

from pipecat.services.tts_service import TTSService

from talkpath.agent.config import VoiceConfig
from talkpath.agent.errors import ConfigError
from talkpath.agent.voice import Voice
from talkpath.processors.openai_voice import OpenAIVoice
from talkpath.processors.piper_voice import PiperVoice

__all__ = ["make_voice"]

_OPENAI_MODEL = "gpt-4o-mini-tts"
_OPENAI_VOICE = "alloy"


def make_voice(config: VoiceConfig, piper: Voice | None = None) -> TTSService:
    """Make the voice of one session.

    Args:
        config: which service, and what it is told.
        piper: the Piper voice, for ``piper``; for ``openai`` the one that stands in, if any.

    Raises:
        ConfigError: there is no such service, or it refuses its options.
    """
    if config.service == "piper":
        if config.options:
            raise ConfigError("voice.options are for other services than piper")
        assert piper is not None
        return PiperVoice(piper)
    if config.service == "openai":
        return OpenAIVoice(
            url=config.url,
            api_key=config.api_key,
            model=config.model or _OPENAI_MODEL,
            voice=config.voice or _OPENAI_VOICE,
            options=config.options,
            stand_in=piper,
        )
    return _other(config)


def _other(config: VoiceConfig) -> TTSService:
    service = _class_of(config.service)
    arguments = _arguments(service, config)
    try:
        return service(**arguments)
    except Exception as error:  # a constructor may raise anything
        # The words of an error may hold a value, and that may be a key.
        kind = type(error).__name__
        raise ConfigError(
            f"{config.service} does not take voice.options and the key: {kind}"
        ) from error


def _class_of(name: str) -> type[TTSService]:
    module_name, _, class_name = name.partition(":")
    try:
        found = getattr(importlib.import_module(module_name), class_name, None)
    except Exception as error:  # a module may raise anything when it is imported
        raise ConfigError(f"voice.service: {module_name} cannot be imported: {error}") from error
    if found is None:
        raise ConfigError(f"voice.service: {module_name} has no {class_name}")
    if not inspect.isclass(found) or not issubclass(found, TTSService) or inspect.isabstract(found):
        raise ConfigError(f"voice.service: {name} is no TTS service of Pipecat's")
    return found


def _arguments(service: type[TTSService], config: VoiceConfig) -> dict[str, Any]:
    """Sort what the settings say into the constructor's arguments and the service's settings."""
    takes = {
        name
        for base in service.__mro__
        if "__init__" in vars(base)
        for name in inspect.signature(base.__init__).parameters  # type: ignore[misc]
    } - {"self", "args", "kwargs", "settings", "model", "voice", "params"}
    kind = getattr(service, "Settings", None)
    has = {item.name for item in dataclasses.fields(kind)} if kind is not None else set()
    wanted = {
        "api_key": config.api_key,
        _url_name(takes): config.url,
        "model": config.model,
        "voice": config.voice,
        **config.options,
    }
    arguments: dict[str, Any] = {}
    settings: dict[str, Any] = {}
    for name, value in wanted.items():
        if value is None:
            continue
        if name in has:  # first: many constructors still take the same, but deprecate it
            settings[name] = value
        elif name in takes:
            arguments[name] = value
        else:
            raise ConfigError(f"{config.service} has no {name}: see voice.options")
    if settings and kind is not None:
        arguments["settings"] = kind(**settings)
    return arguments


def _url_name(takes: set[str]) -> str:
    """Services call their server's address differently."""
    return next((name for name in ("base_url", "url", "server_url") if name in takes), "url")
