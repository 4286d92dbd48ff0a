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


class _TlsAccepted(asyncio.Protocol):
    """A peer's connection before TLS: counted like any other, so that silence costs little."""

    def __init__(self, owner: "Connections", context: ssl.SSLContext) -> None:
        self._owner = owner
        self._context = context

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)  # uvloop's are none by class
        transport.pause_reading()  # TLS must see the first byte
        self._owner.handshake(transport, self._context)


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
        self._handshakes: dict[asyncio.Task[None], asyncio.Transport] = {}
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

    def secured_tls(self) -> asyncio.Protocol:
        """The protocol of a peer's connection whose TLS the loop sees to."""
        return _Connection(self, next(self._numbers), "tls", ours=False)

    def accepted_tls(self, context: ssl.SSLContext) -> asyncio.Protocol:
        """The protocol of a peer's connection with TLS."""
        return _TlsAccepted(self, context)

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

    def handshake(self, transport: asyncio.Transport, context: ssl.SSLContext) -> None:
        """Give a peer's new connection TLS, if there is a place for it."""
        remote = transport.get_extra_info("peername")
        if not remote or not self._take_place(remote[0]):
            transport.abort()
            return
        task = asyncio.create_task(self._handshake(transport, context, remote[0]))
        self._handshakes[task] = transport
        task.add_done_callback(self._handshakes.pop)

    async def _handshake(
        self, transport: asyncio.Transport, context: ssl.SSLContext, address: str
    ) -> None:
        connection = _Secured(self, next(self._numbers), "tls", ours=False)
        try:
            secured = await asyncio.get_running_loop().start_tls(
                transport,
                connection,
                context,
                server_side=True,
                ssl_handshake_timeout=self.limits.handshake_s,
                ssl_shutdown_timeout=_CLOSING_S,
            )
        except OSError as error:
            logger.debug("no TLS with {}: {}", address, error)
            secured = None
        finally:
            self._leave_place(address)
        if secured is None:
            transport.abort()
        else:
            connection.secured(secured)

    def opened(self, connection: _Connection) -> None:
        """Count a connection, or close it where there are too many."""
        assert connection.flow is not None
        if not connection.ours and not self._take_place(connection.flow.remote[0]):
            connection.abort()
            return
        _keep_alive(connection.transport)
        self._open[connection.flow.connection] = connection

    def closed(self, connection: _Connection) -> None:
        """Forget a connection, and say that it is gone."""
        flow = connection.flow
        if flow is None or self._open.pop(flow.connection, None) is None:
            return
        if not connection.ours:
            self._leave_place(flow.remote[0])
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
        for task, transport in list(self._handshakes.items()):
            task.cancel()
            transport.abort()
        tasks = [*self._handshakes, *self._connecting.values()]
        for connecting in self._connecting.values():
            connecting.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        ends = [connection.closed for connection in self._open.values()]
        for connection in self._open.values():
            connection.close()
        if ends:
            await asyncio.wait(ends, timeout=_CLOSING_S)
        for connection in list(self._open.values()):
            connection.abort()
        await asyncio.gather(*ends)


class _Secured(_Connection):
    """A peer's connection with TLS: what comes before TLS is known to be up waits."""

    def __init__(self, owner: Connections, number: int, transport: str, ours: bool) -> None:
        super().__init__(owner, number, transport, ours)
        self._early: list[bytes] = []

    def secured(self, transport: asyncio.Transport) -> None:
        """TLS is up."""
        if self.closed.done():
            transport.abort()
            return
        self.connection_made(transport)
        early, self._early = self._early, []
        if early and not transport.is_closing():
            self.data_received(b"".join(early))

    def data_received(self, data: bytes) -> None:
        if self.flow is None:
            self._early.append(data)
        else:
            super().data_received(data)


def _keep_alive(transport: Any) -> None:
    """Let the system find out about peers that vanished."""
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
