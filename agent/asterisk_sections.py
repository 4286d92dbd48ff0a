"""Settings of the bridges to Asterisk: frozen values, checked when they are made."""

import ipaddress
from dataclasses import dataclass, field

from talkpath.agent.errors import ConfigError
from talkpath.agent.sip_sections import PRIVATE_NETWORKS

__all__ = ["AsteriskConfig"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AsteriskConfig:
    """Calls that Asterisk brings by ``chan_websocket`` or AudioSocket.

    Attributes:
        user: name that Asterisk gives with the password (``username`` in its
            ``websocket_client.conf``).
        password: what ``chan_websocket`` must give, wherever it calls from; without one, only
            the networks of ``allow`` may come in.
        allow: networks that calls may come from where there is no password: AudioSocket knows
            none at all.
    """

    user: str = "asterisk"
    password: str = field(default="", repr=False)
    allow: tuple[str, ...] = PRIVATE_NETWORKS

    def __post_init__(self) -> None:
        if not self.user or ":" in self.user:
            raise ConfigError("asterisk.user must be a name without a colon")
        for network in self.allow:
            try:
                ipaddress.ip_network(network)
            except ValueError as error:
                raise ConfigError(f"asterisk.allow: {network!r} is no network") from error

    def allows(self, address: str) -> bool:
        """Whether calls from an IP address need no password."""
        try:
            peer = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            return False
        if isinstance(peer, ipaddress.IPv6Address) and peer.ipv4_mapped is not None:
            peer = peer.ipv4_mapped
        return any(peer in ipaddress.ip_network(network) for network in self.allow)
