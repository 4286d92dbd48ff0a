"""What names a speech-to-text server: the URL of its WebSocket, and the key that lets a client in.

The rules are the same for the settings, which tell what is wrong before anything starts, and for
the client.
"""

from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

from talkpath.agent.errors import ConfigError

__all__ = ["Server", "check_key"]

_SCHEMES = {"ws": "ws", "wss": "wss", "http": "ws", "https": "wss"}
_USUAL_PATH = "/websocket"
_LIKE = "it looks like ws://HOST:PORT; wss, http and https will do, too"


@dataclass(frozen=True, slots=True)
class Server:
    """One server.

    Attributes:
        url: of its WebSocket.
        name: host and port, for messages.
    """

    url: str
    name: str

    @classmethod
    def at(cls, url: str) -> "Server":
        """The server of a URL; one without a path means the path of talkpath's own.

        Raises:
            ConfigError: this is no WebSocket's URL.
        """
        try:
            parts = urlsplit(url)
            scheme, host, port = _SCHEMES.get(parts.scheme), parts.hostname, parts.port
            (host or "").encode("idna")
        except ValueError as error:
            raise ConfigError(f"{url!r} is no URL: {error} ({_LIKE})") from None
        if scheme is None or not host or parts.fragment:
            raise ConfigError(f"{url!r} is no URL of a speech-to-text server ({_LIKE})")
        path = _USUAL_PATH if parts.path in ("", "/") else parts.path
        name = host if port is None else f"{host}:{port}"
        return cls(urlunsplit((scheme, parts.netloc, path, parts.query, "")), name)


def check_key(key: str | None) -> None:
    """See whether a key fits into a header.

    Raises:
        ConfigError: it does not.
    """
    if key is not None and not (key.isascii() and key.isprintable()):
        raise ConfigError("an API key is visible ASCII characters only")
