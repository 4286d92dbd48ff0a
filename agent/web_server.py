"""Web server: uvicorn inside our event loop, with an end for every connection.

Uvicorn's own protocols wait for some peers forever: for one that connects and says nothing, and
for one that does not read what it was sent. These do not. Peers that vanish are found out by the
keepalive of the listening socket (``bind`` in ``web.py``).

HTTP is parsed by h11, also where httptools is installed: that one takes headers without an end,
600 MB of them in 1.4 s from a caller without a key, and speeds up no message of a WebSocket.
"""

import asyncio
import contextlib
import signal
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, cast

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

__all__ = ["PINGS", "HttpProtocol", "SocketProtocol", "WebServer", "running"]

PINGS = "talkpath.pings"
"""Key of a WebSocket's extensions: whether its peer is sent pings."""

_GRACE_S = 3  # for responses and closing handshakes under way


class HttpProtocol(H11Protocol):
    """Uvicorn's HTTP, with an end also for a peer that never finishes to ask.

    A connection without a request under way is dropped after ``silent_s`` to twice as many
    seconds; after an answer, uvicorn's own five seconds come first.
    """

    silent_s = 20.0
    _watch: asyncio.TimerHandle | None = None
    _seen: object = ()  # the last request at the last look

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A peer connected."""
        super().connection_made(cast(asyncio.Transport, transport))
        self._watch = self.loop.call_later(self.silent_s, self._look)

    def handle_websocket_upgrade(self, event: Any) -> None:
        """The connection is a WebSocket's from here on, which says itself when it ends."""
        self._stop_looking()
        super().handle_websocket_upgrade(event)

    def _look(self) -> None:
        last = cast(Any, self.cycle)
        if (last is None or last.response_complete) and last is self._seen:
            self.transport.abort()
            return
        self._seen = last
        self._watch = self.loop.call_later(self.silent_s, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is closed."""
        self._stop_looking()
        super().connection_lost(exc)

    def _stop_looking(self) -> None:
        if self._watch is not None:
            self._watch.cancel()


class SocketProtocol(WebSocketsSansIOProtocol):
    """Uvicorn's WebSocket, with an end also for a peer that does not read.

    Once the application is done with a connection, uvicorn waits for the peer to take what is
    still to be sent, for as long as that takes. Here the rest is dropped after ``linger_s``
    seconds, which are more than the ten that uvicorn gives to the closing handshake.

    A handshake that the application answers with a response of HTTP is complete; uvicorn's
    log calls it an error otherwise.

    An application that sets ``scope["extensions"][PINGS]`` to False before it accepts a
    connection has no pings sent there.
    """

    linger_s = 15.0
    _abort: asyncio.TimerHandle | None = None

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        # Its log at DEBUG has every header, keys among them, and every transcript.
        self.conn.debug = False

    def start_keepalive(self) -> None:
        """The connection is accepted."""
        if self.scope["extensions"].get(PINGS, True):
            super().start_keepalive()

    async def send(self, message: Any) -> None:
        """The application has something to send."""
        await super().send(message)
        if self.initial_response is not None and self.close_sent:
            self.handshake_complete = True

    def on_task_complete(self, task: asyncio.Task[None]) -> None:
        """The application is done."""
        super().on_task_complete(task)
        if not self.disconnected:
            self._abort = self.loop.call_later(self.linger_s, self.transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is closed."""
        if self._abort is not None:
            self._abort.cancel()
        super().connection_lost(exc)


class WebServer(uvicorn.Server):
    """Uvicorn inside our event loop: signals are ours, and work under way ends first.

    Args:
        config: uvicorn's.
        finish: awaited after SIGINT or SIGTERM, before the listening socket and connections
            are closed; a second signal cancels it.
    """

    def __init__(
        self, config: uvicorn.Config, finish: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        super().__init__(config)
        self._finish = finish
        self._finishing: asyncio.Future[None] | None = None

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """SIGINT and SIGTERM end :meth:`serve`, a second one without waiting.

        Uvicorn's own way raises the signal again afterwards, which would keep whoever
        called us from cleaning up.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        loop = asyncio.get_running_loop()
        signals = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.getsignal(number) for number in signals}
        try:
            for number in signals:
                try:
                    loop.add_signal_handler(number, self._stop)
                except NotImplementedError:  # Windows
                    signal.signal(number, lambda *_: loop.call_soon_threadsafe(self._stop))
            yield
        finally:
            for number, handler in before.items():
                with contextlib.suppress(NotImplementedError):
                    loop.remove_signal_handler(number)
                signal.signal(number, handler)

    def _stop(self) -> None:
        self.force_exit = self.should_exit
        self.should_exit = True
        if self.force_exit and self._finishing is not None:
            self._finishing.cancel()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End what is under way, then the connections that it ran on."""
        try:
            if self._finish is not None and not self.force_exit:
                self._finishing = asyncio.ensure_future(self._finish())
                await asyncio.wait({self._finishing})
                if not self._finishing.cancelled():
                    self._finishing.result()
        finally:
            await super().shutdown(sockets)


@contextlib.asynccontextmanager
async def running(
    app: ASGIApp,
    listener: socket.socket,
    *,
    message_bytes: int,
    finish: Callable[[], Awaitable[None]] | None = None,
    tls: ssl.SSLContext | None = None,
    deflate: bool = True,
    pings: bool = True,
    lifespan: bool = True,
) -> AsyncIterator[asyncio.Task[None]]:
    """Serve an application inside the block; a signal ends it before.

    Args:
        app: what is served.
        listener: a bound socket, which is closed with the server.
        message_bytes: longest message of a WebSocket; a longer one closes it with 1009.
        finish: awaited before connections are closed, see :class:`WebServer`.
        tls: certificate and key; None serves without.
        deflate: whether messages of WebSockets may be compressed.
        pings: whether a peer that does not answer WebSocket's pings for 20 s is closed.
        lifespan: whether the application is told of start and end; one that is told is not told
            of an end by a second signal, and logs a traceback then.

    Yields:
        The task that runs the server. It ends by itself after SIGINT or SIGTERM.
    """
    config = uvicorn.Config(
        app,
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=_GRACE_S,
        http=HttpProtocol,
        ws=SocketProtocol,
        ws_max_size=message_bytes,
        ws_per_message_deflate=deflate,
        ws_ping_interval=20.0 if pings else None,
        lifespan="auto" if lifespan else "off",
    )
    config.load()
    config.ssl = tls
    server = WebServer(config, finish)
    task = asyncio.create_task(server.serve([listener]), name="server")
    try:
        yield task
    finally:
        server.should_exit = True
        await task
