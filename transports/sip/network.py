"""The network, as the listener has it: sockets, trunks that are kept alive, and ways to peers."""

from collections.abc import Callable, Mapping, Sequence

from loguru import logger

from talkpath.agent.config import Config
from talkpath.agent.sip.edge_actions import Face
from talkpath.agent.sip.flow import Flow, PeerUnreachable
from talkpath.agent.sip.message import Request, Response
from talkpath.agent.sip.rewriting import host_port
from talkpath.agent.sip.trunks import Trunk
from talkpath.transports.sip.keepalive import Keepalive
from talkpath.transports.sip.network_metrics import NetworkMetrics
from talkpath.transports.sip.reach import Reach
from talkpath.transports.sip.registrar_client import Registrars
from talkpath.transports.sip.requests import Requests
from talkpath.transports.sip.sockets import SipSockets

__all__ = ["Network"]

_EVERYWHERE = ("", "0.0.0.0", "::")
_DOCUMENTED = "192.0.2.1"
"""An address for documentation (RFC 5737): the default route leads there."""


class Network:
    """What peers are reached by, and this machine by peers.

    Args:
        config: all settings.
        trunks: registered with, and asked whether they live, once they are ``announced``.
        hear: takes each message of a peer: its bytes, and the flow that it came by.
        learn: told of a trunk's addresses: its name, and the addresses.

    Attributes:
        metrics: connections, trunks, servers.
    """

    def __init__(
        self,
        config: Config,
        trunks: Sequence[Trunk],
        hear: Callable[[bytes, Flow], None],
        learn: Callable[[str, Sequence[str]], None],
    ) -> None:
        sip = config.sip
        self._public_host = sip.public_address or config.server.host
        self._sockets = SipSockets(config.server.host, sip, hear, self._gone)
        self._requests = Requests(self._sockets)
        self._registrars = Registrars(trunks, self._requests, sip.user_agent)
        self._keepalive = Keepalive(
            trunks, self._requests, sip.user_agent, sip.keepalive_s, learn=learn
        )
        self._reach = Reach(self._sockets, self._keepalive)
        self.metrics = NetworkMetrics(self._sockets, self._registrars, self._keepalive)

    async def start(self) -> None:
        """Listen.

        Raises:
            TalkpathError: a port is taken, or a certificate cannot be read.
        """
        await self._sockets.start()

    async def announce(self) -> None:
        """Let the trunks know that calls are taken."""
        self._registrars.start()
        await self._keepalive.start()

    async def renounce(self) -> None:
        """Let registrars know that no calls are taken any more."""
        await self._registrars.stop()

    async def stop(self) -> None:
        """Close everything."""
        await self._registrars.stop()
        await self._keepalive.stop()
        await self._requests.stop()
        await self._sockets.stop()

    @property
    def ports(self) -> Mapping[str, int]:
        """Port by transport: ``udp``, ``tcp`` and, with a certificate, ``tls``."""
        return self._sockets.ports

    @property
    def host(self) -> str:
        """The host in our own addresses."""
        if self._public_host not in _EVERYWHERE:
            return self._public_host
        try:
            return self._sockets.local_address_towards(_DOCUMENTED)  # nothing is sent there
        except PeerUnreachable:
            return "127.0.0.1"  # this machine reaches no other one

    @property
    def addresses(self) -> list[str]:
        """Where peers find this machine, for people to read."""
        host, ports = self.host, self.ports
        plain = f"sip:{host_port(host, ports['udp'])} (udp, tcp)"
        secure = f"sips:{host_port(host, ports['tls'])} (tls)" if "tls" in ports else ""
        return [plain, secure] if secure else [plain]

    def face(self, flow: Flow) -> Face:
        """What the peer of a flow sees of this machine."""
        host = self._sockets.local_address_towards(flow.remote[0])
        return Face(host, self.ports.get(flow.transport, flow.local[1]), host)

    def send(self, data: bytes, flow: Flow) -> bool:
        """Send a message; False where the flow is a connection that is gone."""
        return self._sockets.send(data, flow)

    def keep(self, flow: Flow) -> None:
        """A call goes on by a flow."""
        self._sockets.keep(flow)

    def takes(self, response: Response, flow: Flow) -> bool:
        """Whether a response is for a request of the listener's own, which has it now."""
        return self._requests.receive(response, flow)

    async def request(self, request: Request, flow: Flow) -> None:
        """Make a request of the listener's own.

        Raises:
            PeerUnreachable: nobody answers.
        """
        await self._requests.request(request, flow)

    async def flow(self, uri: str, trunk: Trunk | None, transport: str = "") -> Flow:
        """A way to a peer; see ``Reach.flow``.

        Raises:
            PeerUnreachable: there is none.
        """
        return await self._reach.flow(uri, trunk, transport)

    def _gone(self, flow: Flow) -> None:
        """A connection has closed: calls on it go on, and are looked for anew when needed."""
        self._requests.gone(flow)
        self._registrars.gone(flow)
        logger.debug("{} connection to {} is closed", flow.transport, flow.remote[0])
