"""Servers: which of a list to try next, and how long to wait before it. No socket, no clock."""

import random
from collections.abc import Sequence

from talkpath.agent.errors import ConfigError
from talkpath.agent.server_url import Server

__all__ = ["Servers"]

_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.25, 8.0


class Servers:
    """A list of servers, tried in turn.

    After a loss the next one is tried at once. When each was tried in vain, there is a wait of
    0.25 s before the next round, then twice as long, up to 8 s; of all waits a random half is
    left out, so that the clients of a server that died do not come back as one.

    Args:
        urls: one or more.
        draw: gives numbers from 0 to 1.

    Raises:
        ConfigError: there is none, or one is no WebSocket's URL.
    """

    def __init__(self, urls: Sequence[str], draw: random.Random | None = None) -> None:
        if not urls:
            raise ConfigError("a client needs the URL of at least one speech-to-text server")
        self._servers = [Server.at(url) for url in urls]
        self._draw = draw or random.Random()
        self._reasons: dict[str, str] = {}
        self._problems: dict[tuple[str, str], str] = {}
        self._at = 0
        self._losses = 0  # since a server was of use

    @property
    def current(self) -> Server | None:
        """The one to try now; None where all have refused."""
        for step in range(len(self._servers)):
            server = self._servers[(self._at + step) % len(self._servers)]
            if server.url not in self._reasons:
                self._at += step
                return server
        return None

    @property
    def refusals(self) -> str:
        """Why each that refused did so, for users."""
        names = {server.url: server.name for server in self._servers}
        return "; ".join(f"{names[url]}: {why}" for url, why in self._reasons.items())

    def wait_s(self) -> float:
        """Seconds to wait before the next try."""
        rounds = (self._losses - 1) // max(len(self._servers) - len(self._reasons), 1)
        if rounds < 1:
            return 0.0
        longest: float = min(_FIRST_WAIT_S * 2.0 ** min(rounds - 1, 20), _LONGEST_WAIT_S)
        return longest * (1 - self._draw.random() / 2)

    def lost(self) -> None:
        """It could not be reached, or went away."""
        self._at += 1
        self._losses += 1

    def refused(self, server: Server, why: str) -> None:
        """It will never take this client."""
        self._reasons[server.url] = why

    def is_news(self, server: Server, kind: str, problem: str) -> bool:
        """Whether a problem is another one than the last of its kind since ``taken``."""
        before = self._problems.get((server.url, kind))
        self._problems[server.url, kind] = problem
        return problem != before

    def taken(self, server: Server) -> None:
        """It has taken the stream: a problem after that is a new one."""
        for url, kind in list(self._problems):
            if url == server.url:
                del self._problems[url, kind]

    def useful(self) -> None:
        """It did what it is there for."""
        self._losses = 0
