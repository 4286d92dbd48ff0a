"""Where SIP messages come from and go to: flows and targets, without any socket."""

from dataclasses import dataclass

from talkpath.agent.errors import TalkpathError

__all__ = ["TRANSPORTS", "Flow", "PeerUnreachable", "Target"]

TRANSPORTS = ("udp", "tcp", "tls")


class PeerUnreachable(TalkpathError):
    """A peer has no address, no connection to it could be made, or it does not answer."""


@dataclass(frozen=True, slots=True)
class Flow:
    """A way to one peer, both directions (RFC 5626).

    Attributes:
        transport: ``udp``, ``tcp`` or ``tls``.
        local: our IP address and port on it, as this machine knows them.
        remote: the peer's, as they are seen from here.
        connection: number of the connection, never used twice; 0 for UDP, which has none.
    """

    transport: str
    local: tuple[str, int]
    remote: tuple[str, int]
    connection: int = 0

    @property
    def reliable(self) -> bool:
        """Whether the transport repeats by itself what gets lost."""
        return self.transport != "udp"


@dataclass(frozen=True, slots=True)
class Target:
    """Where a request can be sent (RFC 3263).

    Attributes:
        transport: ``udp``, ``tcp`` or ``tls``.
        host: an IP address.
        port: 1 to 65535.
        server_name: the name that a certificate must be for (RFC 5922): the one that was asked
            for, not the one that DNS gave.
    """

    transport: str
    host: str
    port: int
    server_name: str = ""

    @property
    def address(self) -> tuple[str, int]:
        """IP address and port."""
        return self.host, self.port

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.transport}:{host}:{self.port}"
