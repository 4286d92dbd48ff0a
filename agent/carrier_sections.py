"""Settings of carriers that bring calls over a WebSocket: frozen values, checked when made.

How they come in from file, environment and flags is in ``talkpath.agent.config``. Keys of the
carriers' own interfaces have the names that the carriers gave them (``TWILIO_AUTH_TOKEN``).
"""

import re
from dataclasses import dataclass, field

from talkpath.agent.errors import ConfigError

__all__ = ["CarriersConfig"]

_TOKEN = r"[A-Za-z0-9._~-]{16,200}"
_URL = r"https?://[A-Za-z0-9.\-\[\]:]+"


@dataclass(frozen=True, slots=True, kw_only=True)
class CarriersConfig:
    """Calls that carriers bring over a WebSocket.

    Attributes:
        token: secret that a carrier shows when it calls: at least 16 letters, digits and
            ``._~-``. Without it only Twilio is let in, by its signature, if
            ``TWILIO_AUTH_TOKEN`` is set.
        url: the server's URL as carriers see it (``https://bot.example.org``); empty takes the
            host by which they called.
    """

    token: str = field(default="", repr=False)
    url: str = ""

    def __post_init__(self) -> None:
        if self.token and not re.fullmatch(_TOKEN, self.token):
            raise ConfigError(
                "carriers.token must be at least 16 letters, digits and any of . _ ~ -"
            )
        if self.url and not re.fullmatch(_URL, self.url):
            raise ConfigError(
                f"carriers.url is {self.url!r}; it must look like https://bot.example.org"
            )
