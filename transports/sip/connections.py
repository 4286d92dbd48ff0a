"""SIP's connections: TCP and TLS, in both directions, bounded in every respect.

Peers that open connections and say nothing, say it one byte at a time, or never read what they
are told are cut off; what they can take up until then is in :class:`ConnectionLimits`.
"""

import asyncio
import itertools
import os
import socket
import ssl
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from loguru import logger

from talkpath.agent.sip.flow import Flow, PeerUnreachable, Target
from talkpath.agent.sip.framing import PONG, MessageFramer, Ping, Pong
from talkpath.agent.sip.message import SipParseError

__all__ = ["ConnectionLimits", "Connections"]

_SWEEPS = 20  # looks at all connections within the shorter of the two times
_CLOSING_S = 1.0
_NO_MORE_S = 1.0  # until connections are accepted again, where the system had no place


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLimits:
    """What connections may take up.

    Attributes:
        connections: connections of peers at once; one more is closed at once.
        per_address: of these from one address.
        idle_s: seconds without a message after which a connection is closed.
        message_s: seconds that a message's bytes may take to come.
        handshake_s: seconds that TLS may take.
        connect_s: seconds that a connection of ours may take, TLS included.
        unsent_bytes: what waits for a peer that does not read; more cuts it off.
    """

    connections: int = 1000
    per_address: int = 32
    idle_s: float = 600.0
    message_s: float = 20.0
    handshake_s: float = 5.0
    connect_s: float = 5.0
    unsent_bytes: int = 262_144


class _Connection(asyncio.Protocol):
    """One of them: frames what comes."""

    def __init__(self, owner: "Connections", number: int, transport: str, ours: bool) -> None:
        self._owner = owner
        self._number = number
        self._kind = transport
        self._framer = MessageFramer()
        self._loop = asyncio.get_running_loop()
        self.ours = ours
        self.place = ""  # the address among whose connections it counts
        self.flow: Flow | None = None
        self.transport: asyncio.Transport | None = None
        self.closed = self._loop.create_future()
        self.heard_s = self._loop.time()
        self.waiting_s: float | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)  # uvloop's are none by class
        self.transport = transport
        local, remote = (transport.get_extra_info(name) for name in ("sockname", "peername"))
        if not local or not remote:  # it was gone before it was there
            transport.abort()
            return
        self.flow = Flow(self._kind, local[:2], remote[:2], self._number)
        self._owner.opened(self)

    def data_received(self, data: bytes) -> None:
        now_s = self._loop.time()
        try:
            items = self._framer.feed(data)
        except SipParseError as error:
            logger.debug("{} closed: {}", self.flow, error)
            self.close()
            return
        if items:
            self.heard_s, self.waiting_s = now_s, None
        elif self.waiting_s is None:
            self.waiting_s = now_s
        for item in items:
            if isinstance(item, Ping):
                self.send(PONG)
            elif not isinstance(item, Pong) and self.flow:
                self._owner.receive(bytes(item), self.flow)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.closed.done():
            self.closed.set_result(None)
        self._owner.closed(self)

    def send(self, data: bytes) -> bool:
        """Send, or cut the peer off where too much waits for it already."""
        if self.transport is None or self.transport.is_closing():
            return False
        self.transport.write(data)
        if self.transport.get_write_buffer_size() > self._owner.limits.unsent_bytes:
            logger.debug("{} closed: the peer does not read", self.flow)
            self.transport.abort()
            return False
        return True

    def close(self) -> None:
        """Send what waits, and close."""
        if self.transport is not None:
            self.transport.close()

    def abort(self) -> None:
        """Close at once."""
        if self.transport is not None:
            self.transport.abort()


class Connections:
    """All connections.

    Args:
        receive: gets each message, and the flow on which it came.
        gone: hears of each flow that has ended.
        limits: what they may take up.
    """

    def __init__(
        self,
        receive: Callable[[bytes, Flow], None],
        gone: Callable[[Flow], None],
        limits: ConnectionLimits,
    ) -> None:
        self.receive = receive
        self.limits = limits
        self._gone = gone
        self._numbers = itertools.count(1)
        self._open: dict[int, _Connection] = {}
        self._places: Counter[str] = Counter()  # connections of each address, handshakes too
        self._targets: dict[Target, int] = {}
        self._connecting: dict[Target, asyncio.Task[Flow]] = {}
        self._handshakes: set[asyncio.Task[None]] = set()
        self._listener: socket.socket | None = None
        self._accepting: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._stopped = False
        self.refused = 0

    def __len__(self) -> int:
        return len(self._open)

    def start(self) -> None:
        """Begin to look after idle ones."""
        self._sweep()

    def accepted_tcp(self) -> asyncio.Protocol:
        """The protocol of a peer's connection without TLS."""
        return _Connection(self, next(self._numbers), "tcp", ours=False)

    def serve_tls(self, listener: socket.socket, context: ssl.SSLContext) -> None:
        """Take peers' connections with TLS from a socket that listens; ``stop`` closes it.

        They are accepted here, not by the loop's own server, so that each counts before its
        handshake: silence costs little then.
        """
        self._listener = listener
        self._accepting = asyncio.create_task(self._accept(listener, context), name="TLS")

    def send(self, data: bytes, flow: Flow) -> bool:
        """Send on a connection; False where it is gone."""
        connection = self._open.get(flow.connection)
        return connection is not None and connection.send(data)

    async def connect(self, target: Target, context: ssl.SSLContext | None, local: str) -> Flow:
        """The flow to a target: that of an open connection of ours, or a new one.

        Raises:
            PeerUnreachable: there is no connection, or the peer is not who it should be.
        """
        number = self._targets.get(target, 0)
        if number in self._open:
            flow = self._open[number].flow
            assert flow is not None
            return flow
        task = self._connecting.get(target)
        if task is None:
            task = asyncio.create_task(self._connect(target, context, local), name=f"to {target}")
            self._connecting[target] = task
            task.add_done_callback(lambda done: self._connected(target, done))
        # Several may wait for one connection: who gives up does not take it from the others.
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            waiting = asyncio.current_task()
            if not task.cancelled() or (waiting and waiting.cancelling()):
                raise
            raise PeerUnreachable("the telephone is being switched off") from None

    def _connected(self, target: Target, task: asyncio.Task[Flow]) -> None:
        del self._connecting[target]
        if not task.cancelled():
            task.exception()  # those who wait have it; nobody may be left to

    async def _connect(self, target: Target, context: ssl.SSLContext | None, local: str) -> Flow:
        number = next(self._numbers)
        connection = _Connection(self, number, target.transport, ours=True)
        try:
            async with asyncio.timeout(self.limits.connect_s):
                await asyncio.get_running_loop().create_connection(
                    lambda: connection,
                    target.host,
                    target.port,
                    ssl=context,
                    server_hostname=(target.server_name or target.host) if context else None,
                    local_addr=(local, 0) if local else None,
                )
        except TimeoutError:
            connection.abort()
            raise PeerUnreachable(f"{target} did not take a connection in time") from None
        except ssl.SSLCertVerificationError as error:
            message = f"{target} has no certificate to trust: {error.verify_message}"
            raise PeerUnreachable(message) from error
        except ssl.SSLError as error:
            raise PeerUnreachable(f"{target} does not speak TLS as we do: {error}") from error
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else str(error)
            raise PeerUnreachable(f"{target} cannot be reached: {reason}") from error
        if connection.flow is None or number not in self._open:
            raise PeerUnreachable(f"{target} closed the connection at once")
        self._targets[target] = number
        return connection.flow

    async def _accept(self, listener: socket.socket, context: ssl.SSLContext) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(0)  # one a round: a flood of them must not hold up the loop
            try:
                accepted, remote = await loop.sock_accept(listener)
            except ConnectionError:  # it was gone before it was there
                continue
            except OSError as error:  # the system has no more sockets, or no memory
                logger.error("TLS connections cannot be accepted: {}", error)
                await asyncio.sleep(_NO_MORE_S)
                continue
            if not self._take_place(remote[0]):
                accepted.close()
                continue
            task = asyncio.create_task(self._handshake(accepted, context, remote[0]))
            self._handshakes.add(task)
            task.add_done_callback(self._handshakes.discard)

    async def _handshake(
        self, accepted: socket.socket, context: ssl.SSLContext, address: str
    ) -> None:
        """Give a peer's new connection TLS; it has its place already."""
        connection = _Connection(self, next(self._numbers), "tls", ours=False)
        connection.place = address
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: connection,
                accepted,
                ssl=context,
                ssl_handshake_timeout=self.limits.handshake_s,
                ssl_shutdown_timeout=_CLOSING_S,
            )
        except OSError as error:
            logger.debug("no TLS with {}: {}", address, error)
        finally:
            if connection.flow is None:  # else it is left when the connection ends
                self._leave_place(address)

    def opened(self, connection: _Connection) -> None:
        """Count a connection, or close it where there are too many."""
        assert connection.flow is not None
        address = connection.flow.remote[0]
        if not connection.ours and not connection.place:
            if not self._take_place(address):
                connection.abort()
                return
            connection.place = address
        _keep_alive(connection.transport)
        self._open[connection.flow.connection] = connection

    def closed(self, connection: _Connection) -> None:
        """Forget a connection, and say that it is gone."""
        flow = connection.flow
        if flow is None or self._open.pop(flow.connection, None) is None:
            return
        if connection.place:
            self._leave_place(connection.place)
        for target in [t for t, number in self._targets.items() if number == flow.connection]:
            del self._targets[target]
        self._gone(flow)

    def _take_place(self, address: str) -> bool:
        full = self._places.total() >= self.limits.connections
        if self._stopped or full or self._places[address] >= self.limits.per_address:
            self.refused += 1
            return False
        self._places[address] += 1
        return True

    def _leave_place(self, address: str) -> None:
        self._places[address] -= 1
        if not self._places[address]:
            del self._places[address]

    def keep(self, number: int) -> None:
        """Take a connection for one that is in use, whether or not its peer says anything."""
        connection = self._open.get(number)
        if connection is not None:
            connection.heard_s = asyncio.get_running_loop().time()

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        now_s, limits = loop.time(), self.limits
        for connection in list(self._open.values()):
            since_s = connection.waiting_s
            if since_s is not None and now_s - since_s > limits.message_s:
                connection.abort()
            elif now_s - connection.heard_s > limits.idle_s:
                connection.close()
        wait_s = min(limits.idle_s, limits.message_s) / _SWEEPS
        self._timer = loop.call_later(wait_s, self._sweep)

    async def stop(self) -> None:
        """Close all of them; nothing is left of them afterwards."""
        self._stopped = True
        if self._timer:
            self._timer.cancel()
        if self._listener and self._accepting:
            self._accepting.cancel()
            await asyncio.wait([self._accepting])  # the last handshakes begin meanwhile
            self._listener.close()
        tasks = [*self._handshakes, *self._connecting.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        ends = [connection.closed for connection in self._open.values()]
        for connection in self._open.values():
            connection.close()
        if ends:
            await asyncio.wait(ends, timeout=_CLOSING_S)
        for connection in list(self._open.values()):
            connection.abort()
        await asyncio.gather(*ends)


def _keep_alive(transport: Any) -> None:
    """Let the system find out about peers that vanished."""
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
