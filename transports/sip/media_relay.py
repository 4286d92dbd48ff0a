"""Audio through the listener, for peers behind NAT: it goes back to where it comes from.

baresip sends audio to the address in the peer's session description; behind NAT that is one which
nobody outside can reach. A relay takes the peer's packets on a public port, learns from them where
the peer really is (latching, as RFC 7362 describes it), and passes both directions on unread, so
that encrypted audio stays encrypted. Only calls that need it go through one: each costs the
listener two more packets for every packet.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Collection
from typing import Any, cast

from loguru import logger

from talkpath.agent.errors import TalkpathError

__all__ = ["MediaRelay", "MediaRelays"]

_QUIET_S = 1.0
"""Silence from the known address after which another one is believed: the peer has moved, as after
a change of network. Who sends while the peer does is none of ours. Before the first packet from
where the peer is expected, others have to keep on for as long."""

_ATTEMPTS = 64


class _Port(asyncio.DatagramProtocol):
    def __init__(self, receive: Callable[[bytes, tuple[str, int]], None]) -> None:
        self._receive = receive
        self.transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not all of asyncio's datagram transports are of the class of that name.
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        self._receive(data, (addr[0], addr[1]))

    def error_received(self, exc: Exception) -> None:
        logger.debug("audio could not be delivered: {}", exc)

    def send(self, data: bytes, address: tuple[str, int] | None) -> None:
        if self.transport is not None and address is not None and not self.transport.is_closing():
            self.transport.sendto(data, address)


class _Path:
    """One of RTP and RTCP: a port outside, a port inside.

    Args:
        expected: hosts that the peer probably sends from.
        clock: seconds, monotonic.
    """

    def __init__(self, expected: Collection[str], clock: Callable[[], float]) -> None:
        self.outside = _Port(self._from_peer)
        self.inside = _Port(self._from_worker)
        self.peer: tuple[str, int] | None = None
        self.worker: tuple[str, int] | None = None
        self.latched = False
        self._trusted = set(expected)
        self._clock = clock
        self._quiet_since_s = clock()

    def _from_peer(self, data: bytes, address: tuple[str, int]) -> None:
        now_s = self._clock()
        if not self.latched or address != self.peer:
            if not self._is_at_home(address[0]) and now_s - self._quiet_since_s < _QUIET_S:
                return
            if not self.latched:
                self._trusted.add(address[0])
            self.peer, self.latched = address, True
        self._quiet_since_s = now_s
        self.inside.send(data, self.worker)

    def _is_at_home(self, host: str) -> bool:
        """Whether a host is where the peer belongs, and the one that is believed is not."""
        elsewhere = not self.latched or self.peer is None or self.peer[0] not in self._trusted
        return host in self._trusted and elsewhere

    def _from_worker(self, data: bytes, address: tuple[str, int]) -> None:
        if address == self.worker:
            self.outside.send(data, self.peer)

    def close(self) -> None:
        for port in (self.outside, self.inside):
            if port.transport is not None:
                port.transport.close()


class MediaRelay:
    """The relay of one call.

    Attributes:
        outside_port: the port that the peer is told; RTCP is the next one.
        inside_port: the port that the worker is told, on 127.0.0.1; RTCP is the next one.
    """

    def __init__(self, rtp: _Path, rtcp: _Path, outside_port: int, inside_port: int) -> None:
        self._paths = (rtp, rtcp)
        self.outside_port = outside_port
        self.inside_port = inside_port

    def aim(self, host: str, port: int) -> None:
        """Send to the address of the peer's description, until it is seen where the peer is."""
        for i, path in enumerate(self._paths):
            if not path.latched:
                path.peer = (host, port + i)

    def answer(self, port: int) -> None:
        """Give what the peer sends to this port of the worker's."""
        for i, path in enumerate(self._paths):
            path.worker = ("127.0.0.1", port + i)

    def close(self) -> None:
        """Free the ports."""
        for path in self._paths:
            path.close()


class MediaRelays:
    """Makes relays.

    Args:
        host: address to take peers' audio on.
        ports: first and last port for it; used from the end, since workers use the beginning.
        limit: relays at once.
    """

    def __init__(self, host: str, ports: tuple[int, int], limit: int) -> None:
        self._host = host
        self._first, self._last = ports
        self._limit = limit
        self._next = self._last
        self._relays: dict[str, MediaRelay] = {}

    def __len__(self) -> int:
        return len(self._relays)

    async def open(self, call_id: str, expected: Collection[str] = ()) -> MediaRelay:
        """The relay of a call, made if there is none yet.

        Args:
            call_id: of the call.
            expected: hosts that the peer probably sends from; other ones are believed later.

        Raises:
            TalkpathError: no port is free, or there are too many relays.
        """
        if call_id in self._relays:
            return self._relays[call_id]
        if len(self._relays) >= self._limit:
            raise TalkpathError(f"all {self._limit} relays of audio are in use")
        clock = asyncio.get_running_loop().time
        rtp, rtcp = _Path(expected, clock), _Path(expected, clock)
        try:
            outside = await self._pair(self._host, rtp.outside, rtcp.outside, self._port)
            inside = await self._pair("127.0.0.1", rtp.inside, rtcp.inside, lambda: 0)
        except BaseException:
            rtp.close()
            rtcp.close()
            raise
        relay = MediaRelay(rtp, rtcp, outside, inside)
        self._relays[call_id] = relay
        return relay

    def get(self, call_id: str) -> MediaRelay | None:
        """The relay of a call, or None."""
        return self._relays.get(call_id)

    def close(self, call_id: str) -> None:
        """Free the relay of a call, if it has one."""
        relay = self._relays.pop(call_id, None)
        if relay is not None:
            relay.close()

    def close_all(self) -> None:
        """Free all ports."""
        for call_id in list(self._relays):
            self.close(call_id)

    def _port(self) -> int:
        """The next even port of the range, downwards and around."""
        self._next -= 2
        if self._next < self._first:
            self._next = self._last - 1
        return self._next - self._next % 2

    async def _pair(self, host: str, one: _Port, two: _Port, choose: Callable[[], int]) -> int:
        """Bind two ports in a row, the first of them even (RFC 3550, 11)."""
        loop = asyncio.get_running_loop()
        for _ in range(_ATTEMPTS):
            sockets: list[socket.socket] = []
            try:
                sockets.append(_bound(host, choose()))
                port: int = sockets[0].getsockname()[1]
                if port % 2:
                    raise OSError("an odd port")
                sockets.append(_bound(host, port + 1))
            except OSError:  # taken, or odd: the next one
                for each in sockets:
                    each.close()
                continue
            for protocol, each in zip((one, two), sockets, strict=True):
                await loop.create_datagram_endpoint(_always(protocol), sock=each)
            return port
        raise TalkpathError("no ports are free for audio")


def _always(port: _Port) -> Callable[[], _Port]:
    return lambda: port


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_DGRAM)
    try:
        made.setblocking(False)
        made.bind((host, port))
    except OSError:
        with contextlib.suppress(OSError):
            made.close()
        raise
    return made
