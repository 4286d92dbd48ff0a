"""Settings of the bot that answers the telephone: frozen values, checked when they are made.

How they come in from file, environment and flags is in ``talkpath.agent.config``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from talkpath.agent.errors import ConfigError

__all__ = ["PhoneConfig"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PhoneConfig:
    """The bot ``phone``.

    Attributes:
        greeting: what it says first.
        transfers: who can be asked for, as a name that callers say and the telephone number or
            SIP address behind it; the language model sees the names alone.
        operator: the name among them to which key 0 leads; empty takes the first one.
    """

    greeting: str = "Hello, what can I do for you?"
    transfers: Mapping[str, str] = field(default_factory=dict)
    operator: str = ""

    def __post_init__(self) -> None:
        for name, target in self.transfers.items():
            if not name.strip() or not isinstance(target, str) or not target.strip():
                raise ConfigError("phone.transfers must be a table of names and addresses")
        if self.operator and self.operator not in self.transfers:
            raise ConfigError(f"phone.operator: {self.operator!r} is not among phone.transfers")
        if not self.greeting.strip():
            raise ConfigError("phone.greeting must not be empty")

    @property
    def operator_name(self) -> str:
        """Whom key 0 calls; empty where nobody can be."""
        return self.operator or next(iter(self.transfers), "")
