"""The errors that talkpath raises on purpose.

::

    TalkpathError
    ├── ConfigError          a setting that does not exist or has an impossible value
    ├── MissingDependency    an optional package that is needed here is not installed
    ├── AudioError           audio that cannot be read or has a format we do not take
    ├── ModelError
    │   ├── UnknownModel     no model of this name
    │   └── ModelUnavailable a known model that no source could provide
    └── EngineError
        ├── EngineOverloaded the engine is full: no further stream or request now
        ├── EngineClosed     the engine was closed
        ├── DecodeFailed     the model failed on one request; others go on
        ├── AudioLost        no server was in reach for so long that audio had to be dropped
        └── ServersRefused   no server of the list will ever take this client

Every message is one sentence for the user that says what is wrong and, where
there is one, what to do. Anything else that escapes is a defect.
"""

__all__ = [
    "AudioError",
    "AudioLost",
    "ConfigError",
    "DecodeFailed",
    "EngineClosed",
    "EngineError",
    "EngineOverloaded",
    "MissingDependency",
    "ModelError",
    "ModelUnavailable",
    "ServersRefused",
    "TalkpathError",
    "UnknownModel",
]


class TalkpathError(Exception):
    """Base of all errors of talkpath."""


class ConfigError(TalkpathError):
    """A setting that does not exist or has an impossible value."""


class MissingDependency(TalkpathError):
    """An optional package that is needed here is not installed."""


class AudioError(TalkpathError):
    """Audio that cannot be read or has a format we do not take."""


class ModelError(TalkpathError):
    """Something about a model's name, source or files."""


class UnknownModel(ModelError):
    """No model of this name."""


class ModelUnavailable(ModelError):
    """A known model that no source could provide."""


class EngineError(TalkpathError):
    """The speech-to-text engine could not do what was asked."""


class EngineOverloaded(EngineError):
    """The engine is full: no further stream or request now."""


class EngineClosed(EngineError):
    """The engine was closed."""


class DecodeFailed(EngineError):
    """The model failed on one request; other requests go on."""


class AudioLost(EngineError):
    """No speech-to-text server was in reach for so long that audio had to be dropped."""


class ServersRefused(EngineError):
    """No speech-to-text server of the list will ever take this client: a wrong key, or so."""
