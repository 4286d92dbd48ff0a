"""Which bot takes a call: by the dialled number, or by what a header says."""

import urllib.parse
from collections.abc import Sequence
from dataclasses import dataclass

from talkpath.agent.errors import ConfigError
from talkpath.agent.sip.message import Headers
from talkpath.agent.sip.patterns import matches, plain_number
from talkpath.agent.sip.trunks import Trunk

__all__ = ["Routes"]


@dataclass(frozen=True, slots=True)
class _Route:
    """``header`` is empty where the dialled number counts."""

    header: str
    pattern: str
    bot: str


class Routes:
    """The settings' routes.

    Args:
        routes: ``PATTERN=BOT`` by dialled number or name, ``Header:PATTERN=BOT`` by the whole
            value of a header; ``*`` matches anything, capitals are as good as small letters.
        default_bot: takes what no route and no trunk has a bot for; empty for none.

    Raises:
        ConfigError: that is no route.
    """

    def __init__(self, routes: Sequence[str], default_bot: str) -> None:
        self._routes = [_read(route) for route in routes]
        self._default = default_bot

    def bot_for(self, request_number: str, headers: Headers, trunk: Trunk | None) -> str | None:
        """The bot of the first route that fits, else the trunk's, else the default; or None.

        Args:
            request_number: the user part of the request's target.
            headers: of the INVITE.
            trunk: where it comes from.
        """
        number = _folded(urllib.parse.unquote(request_number))
        for route in self._routes:
            values = [number] if not route.header else _values(headers, route.header)
            if any(matches(route.pattern, value) for value in values):
                return route.bot
        return (trunk.bot if trunk is not None else "") or self._default or None


def _read(route: str) -> _Route:
    what, _, bot = route.rpartition("=")
    header, _, pattern = what.rpartition(":")
    if not pattern or not bot.strip():
        raise ConfigError(f"sip.routes: {route!r} is not PATTERN=BOT or Header:PATTERN=BOT")
    return _Route(header.strip(), _folded(pattern), bot.strip())


def _folded(text: str) -> str:
    return plain_number(text.strip()).casefold()


def _values(headers: Headers, name: str) -> list[str]:
    """The lines of a header as they came, commas and all."""
    one = headers.get(name)
    return [] if one is None else [_folded(one), *map(_folded, headers.all(name))]
