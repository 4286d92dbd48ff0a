"""Settings of what is written down of calls: frozen values, checked when they are made.

How they come in from file, environment and flags is in ``talkpath.agent.config``.
"""

from dataclasses import dataclass

from talkpath.agent.errors import ConfigError

__all__ = ["CaptionsConfig", "NotesConfig"]

_FORMATS = ("text", "srt", "vtt", "json")


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionsConfig:
    """Files of captions.

    Attributes:
        folder: where each call's captions are written; empty writes none.
        format: ``text``, ``srt``, ``vtt`` or ``json``.
    """

    folder: str = ""
    format: str = "vtt"

    def __post_init__(self) -> None:
        if self.format not in _FORMATS:
            raise ConfigError(
                f"captions.format is {self.format!r}; it must be text, srt, vtt or json"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class NotesConfig:
    """Where the notes bot writes calls down.

    Attributes:
        folder: each call has a folder of its own in there.
        database: an SQLite database for all calls instead; empty writes folders.
    """

    folder: str = "notes"
    database: str = ""
