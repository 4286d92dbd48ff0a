"""SIP's sockets: UDP and TCP on one port, TLS on another, and one inside for the workers.

Reading costs as little as it can: what is no message is dropped here, all else goes to one
function that says what becomes of it. Nothing here waits for a peer.
"""

import asyncio
import contextlib
import ipaddress
import socket
import ssl
from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache
from typing import Any, cast

from loguru import logger

from talkpath.agent.errors import ConfigError
from talkpath.agent.sip.flow import Flow, PeerUnreachable, Target
from talkpath.agent.sip_sections import PRIVATE_NETWORKS, SipConfig
from talkpath.transports.sip.connections import ConnectionLimits, Connections

__all__ = ["InsideSocket", "SipSockets"]

_RECEIVE_BUFFER = 4 << 20
"""Bytes of datagrams that wait while the loop is busy; the system may give less."""

_UNSENT = 1 << 20
_TRIES = 50
_BACKLOG = 256
_KNOWN = 1024
_KNOWN_S = 60.0

_PRIVATE = [ipaddress.ip_network(network) for network in PRIVATE_NETWORKS]


class _Datagrams(asyncio.DatagramProtocol):
    """A UDP socket: gives what comes to a function, with the sender's address."""

    def __init__(self, receive: Callable[[bytes, tuple[str, int]], None]) -> None:
        self._receive = receive
        self.closed = asyncio.get_running_loop().create_future()
        self.errors = 0

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        # Peers keep their way through NAT open with empty lines or zeros (RFC 5626, 3.5.2).
        if len(data) > 4 or data.strip(b"\r\n\0"):
            self._receive(data, addr[:2])

    def error_received(self, exc: Exception) -> None:
        self.errors += 1
        logger.debug("UDP: {}", exc)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed.set_result(None)


class _Udp:
    """A bound UDP socket in the loop's care."""

    def __init__(self, receive: Callable[[bytes, tuple[str, int]], None]) -> None:
        self._receive = receive
        self._transport: asyncio.DatagramTransport | None = None
        self._protocol: _Datagrams | None = None
        self._six = False
        self.dropped = 0

    @property
    def errors(self) -> int:
        """Datagrams that could not be sent."""
        return self.dropped + (self._protocol.errors if self._protocol else 0)

    async def start(self, bound: socket.socket) -> None:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        self._six = bound.family == socket.AF_INET6
        loop = asyncio.get_running_loop()
        self._transport, self._protocol = await loop.create_datagram_endpoint(
            lambda: _Datagrams(self._receive), sock=bound
        )

    def send(self, data: bytes, address: tuple[str, int]) -> bool:
        transport = self._transport
        # A name would be looked up, an impossible port would end the socket, and uvloop raises
        # an error where the address is of the other family.
        possible = _numeric(*address) and (":" in address[0]) == self._six
        if transport is None or transport.is_closing() or not possible:
            self.dropped += 1
            return False
        if cast(Any, transport).get_write_buffer_size() > _UNSENT:
            self.dropped += 1
            return False
        transport.sendto(data, address)
        return True

    async def stop(self) -> None:
        if self._transport and self._protocol:
            self._transport.abort()
            await self._protocol.closed
        self._transport = None


class InsideSocket:
    """A UDP socket on 127.0.0.1, on a port of the system's choice.

    Args:
        receive: gets each datagram, and who sent it.
    """

    def __init__(self, receive: Callable[[bytes, tuple[str, int]], None]) -> None:
        self._udp = _Udp(receive)
        self._address = ("127.0.0.1", 0)

    @property
    def address(self) -> tuple[str, int]:
        """Its IP address and port."""
        return self._address

    async def start(self) -> None:
        """Open it."""
        bound = _socket(socket.SOCK_DGRAM, *self._address)
        self._address = bound.getsockname()[:2]
        await self._udp.start(bound)

    def send(self, data: bytes, address: tuple[str, int]) -> bool:
        """Send a datagram; False where it could not even be tried."""
        return self._udp.send(data, address)

    async def stop(self) -> None:
        """Close it."""
        await self._udp.stop()


class SipSockets:
    """The sockets that peers know.

    Args:
        host: the address or name to bind to; ``0.0.0.0`` or ``::`` stands for all.
        config: ports, certificate, and the address that peers see.
        receive: gets each message, and the flow on which it came.
        gone: hears of each connection that has ended, those that ``stop`` ends included.
        limits: what connections may take up.
    """

    def __init__(
        self,
        host: str,
        config: SipConfig,
        receive: Callable[[bytes, Flow], None],
        gone: Callable[[Flow], None],
        limits: ConnectionLimits | None = None,
    ) -> None:
        self._host = host
        self._config = config
        self._receive = receive
        self._limits = limits or ConnectionLimits()
        self._udp = _Udp(self._datagram)
        self._connections = Connections(receive, gone, self._limits)
        self._servers: list[asyncio.Server] = []
        self._ports: dict[str, int] = {}
        self._flows: OrderedDict[tuple[str, int], tuple[Flow, float]] = OrderedDict()
        self._own: OrderedDict[str, tuple[str, float]] = OrderedDict()
        self._trust: ssl.SSLContext | None = None

    @property
    def ports(self) -> dict[str, int]:
        """The port of each transport that is served: ``udp``, ``tcp`` and perhaps ``tls``."""
        return dict(self._ports)

    @property
    def public_address(self) -> str:
        """Our address as peers beyond a NAT see it, if the settings say it."""
        return self._config.public_address

    @property
    def connections(self) -> int:
        """Connections that are open."""
        return len(self._connections)

    @property
    def refused(self) -> int:
        """Connections that were refused, because there were too many."""
        return self._connections.refused

    @property
    def udp_errors(self) -> int:
        """Datagrams that could not be sent or answered."""
        return self._udp.errors

    async def start(self) -> None:
        """Open all of them.

        Raises:
            ConfigError: the address or port is taken, or the certificate cannot be read.
        """
        context = self._served() if self._config.tls_cert else None
        self._host = await _address(self._host)
        bound: list[socket.socket] = []
        try:
            datagrams, stream = self._pair()
            bound += [datagrams, stream]
            if context:
                bound.append(_listener(self._host, self._config.tls_port))
        except OSError as error:
            _close(bound)
            ports = f"{self._host}, port {self._config.port}"
            if context:
                ports += f" or {self._config.tls_port} (TLS)"
            raise ConfigError(
                f"cannot listen for SIP on {ports}: {error.strerror}; --sip-port chooses another"
            ) from error
        self._ports = dict(
            zip(("udp", "tcp", "tls"), (s.getsockname()[1] for s in bound), strict=False)
        )
        loop = asyncio.get_running_loop()
        await self._udp.start(datagrams)
        connections = self._connections
        self._servers.append(
            await loop.create_server(connections.accepted_tcp, sock=stream, backlog=_BACKLOG)
        )
        if context:
            bound[2].listen(_BACKLOG)
            connections.serve_tls(bound[2], context)
        connections.start()

    def send(self, data: bytes, flow: Flow) -> bool:
        """Send a message on a flow, at once or as soon as the peer takes it.

        Returns:
            Whether it is under way: False where the flow has ended or the peer does not read.
        """
        if flow.connection:
            return self._connections.send(data, flow)
        return self._udp.send(data, flow.remote)

    def keep(self, flow: Flow) -> None:
        """Leave a connection open although its peer is silent, as in a call."""
        self._connections.keep(flow.connection)

    async def connect(self, target: Target) -> Flow:
        """The flow to a target: for TCP and TLS an open connection of ours to it, or a new one.

        Raises:
            PeerUnreachable: there is no way, or the peer's certificate is not one to trust.
        """
        if target.transport == "udp":
            return self._flow(target.address)
        if target.transport == "tls" and self._trust is None:
            self._trust = await asyncio.to_thread(self._trusted)
        context = self._trust if target.transport == "tls" else None
        local = "" if _any(self._host) else self._host
        return await self._connections.connect(target, context, local)

    def local_address_towards(self, remote: str) -> str:
        """The address of this machine under which a peer, an IP address, reaches it.

        Raises:
            PeerUnreachable: there is no route to the peer.
        """
        if self._config.public_address and not _private(remote):
            return self._config.public_address
        return self._source(remote)

    def advertised(self, flow: Flow) -> str:
        """What the peer at the end of a flow is to take for our address: ``host:port``.

        Raises:
            PeerUnreachable: there is no route to the peer.
        """
        host = self.local_address_towards(flow.remote[0])
        # Without TLS of our own the peer can but come back on the connection that there is.
        port = self._ports.get(flow.transport, flow.local[1])
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    async def stop(self) -> None:
        """Close everything; nothing is sent or received afterwards."""
        for server in self._servers:
            server.close()
        await self._connections.stop()
        for server in self._servers:
            await server.wait_closed()
        self._servers.clear()
        await self._udp.stop()

    def _datagram(self, data: bytes, remote: tuple[str, int]) -> None:
        try:
            flow = self._flow(remote)
        except PeerUnreachable:
            self._udp.dropped += 1  # nobody could answer it
            return
        self._receive(data, flow)

    def _flow(self, remote: tuple[str, int]) -> Flow:
        """The flow of UDP to a peer; the last ones are kept, each for a while."""
        now_s = asyncio.get_running_loop().time()
        known = self._flows.get(remote)
        if known and now_s < known[1]:
            return known[0]
        flow = Flow("udp", (self._source(remote[0]), self._ports["udp"]), remote)
        _remember(self._flows, remote, (flow, now_s + _KNOWN_S))
        return flow

    def _source(self, remote: str) -> str:
        """The address that packets to a peer leave from; asked anew once a minute."""
        if not _any(self._host):
            return self._host
        now_s = asyncio.get_running_loop().time()
        known = self._own.get(remote)
        if known and now_s < known[1]:
            return known[0]
        family = socket.AF_INET6 if ":" in remote else socket.AF_INET
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.setblocking(False)
                probe.connect((remote, 9))  # sends nothing
                source: str = probe.getsockname()[0]
        except OSError as error:
            raise PeerUnreachable(f"there is no route to {remote}: {error.strerror}") from error
        _remember(self._own, remote, (source, now_s + _KNOWN_S))
        return source

    def _pair(self) -> tuple[socket.socket, socket.socket]:
        """A UDP and a TCP socket on the same port."""
        for _ in range(_TRIES):
            datagrams = _socket(socket.SOCK_DGRAM, self._host, self._config.port)
            try:
                return datagrams, _listener(self._host, datagrams.getsockname()[1])
            except OSError:
                datagrams.close()
                if self._config.port:
                    raise
        raise OSError(0, "no port is free for both UDP and TCP")

    def _served(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        config = self._config
        try:
            context.load_cert_chain(config.tls_cert, config.tls_key or None, password=str)
        except (OSError, ValueError) as error:
            files = " and ".join(filter(None, (config.tls_cert, config.tls_key)))
            message = f"sip.tls_cert or sip.tls_key cannot be used: {error} ({files})"
            raise ConfigError(message) from error
        return context

    def _trusted(self) -> ssl.SSLContext:
        try:
            context = ssl.create_default_context(cafile=self._config.tls_ca or None)
        except (OSError, ValueError) as error:
            raise ConfigError(f"sip.tls_ca cannot be used: {error}") from error
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        return context


async def _address(host: str) -> str:
    """The IP address of what is to be bound to."""
    if not host or _numeric(host, 1):
        return host
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, None, type=socket.SOCK_DGRAM)
    except OSError as error:
        message = f"cannot listen for SIP on {host}: {error.strerror}"
        raise ConfigError(message) from error
    return str(found[0][4][0])


def _socket(kind: socket.SocketKind, host: str, port: int) -> socket.socket:
    bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, kind)
    with contextlib.ExitStack() as stack:
        stack.callback(bound.close)
        bound.setblocking(False)
        if kind is socket.SOCK_STREAM:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
        stack.pop_all()
    return bound


def _listener(host: str, port: int) -> socket.socket:
    return _socket(socket.SOCK_STREAM, host, port)


def _close(sockets: list[socket.socket]) -> None:
    for one in sockets:
        one.close()


def _remember(known: OrderedDict[Any, Any], key: Any, value: Any) -> None:
    known[key] = value
    known.move_to_end(key)
    if len(known) > _KNOWN:
        known.popitem(last=False)


def _any(host: str) -> bool:
    return host in ("", "0.0.0.0", "::")


@lru_cache(_KNOWN)
def _numeric(host: str, port: int) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return 0 < port < 65536


@lru_cache(_KNOWN)
def _private(address: str) -> bool:
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    return any(ip in network for network in _PRIVATE)
