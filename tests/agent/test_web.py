"""What both servers have of the web: sockets that notice dead peers, and ends of connections."""

import asyncio
import contextlib
import socket
import sys
from collections.abc import AsyncIterator

import pytest
import websockets
from starlette.types import ASGIApp, Receive, Scope, Send

from talkpath.agent import web
from talkpath.agent.errors import ConfigError

WAIT_S = 60


class _Watched(web.SocketProtocol):
    """The protocol, with a shorter patience, telling when a connection is lost."""

    linger_s = 0.3
    lost: "asyncio.Queue[Exception | None]"

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.lost.put_nowait(exc)


@pytest.fixture
def lost(monkeypatch: pytest.MonkeyPatch) -> "asyncio.Queue[Exception | None]":
    queue: asyncio.Queue[Exception | None] = asyncio.Queue()
    monkeypatch.setattr(web, "SocketProtocol", _Watched)
    monkeypatch.setattr(_Watched, "lost", queue, raising=False)
    return queue


@contextlib.asynccontextmanager
async def _running(app: ASGIApp) -> AsyncIterator[int]:
    """Serve an application; gives the port."""
    with contextlib.closing(web.bind("127.0.0.1", 0)) as listener:
        web.listen(listener)
        port: int = listener.getsockname()[1]
        async with web.running(app, listener, message_bytes=4096, deflate=False, pings=False):
            yield port


def _sending(size: int, goodbye_s: float) -> ASGIApp:
    """A WebSocket that sends a long message, tries so long to say goodbye, and ends."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "websocket":
            return
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "bytes": b"x" * size})
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(goodbye_s):
                await send({"type": "websocket.close", "code": 1008})

    return app


async def _handshake(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A client that reads no more than the server's yes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
    writer.write(
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    assert b"101" in await reader.readline()
    return reader, writer


async def test_a_peer_that_does_not_read_is_given_up(
    lost: "asyncio.Queue[Exception | None]",
) -> None:
    size = 64_000_000  # more than both kernels keep
    async with _running(_sending(size, 0.1)) as port, asyncio.timeout(WAIT_S):
        reader, writer = await _handshake(port)
        await lost.get()
        # What the kernels held is still there, and no more comes.
        rest = 0
        with contextlib.suppress(ConnectionError):
            while block := await reader.read(65_536):
                rest += len(block)
        assert rest < size
        writer.close()


async def test_a_peer_that_reads_gets_all_and_is_not_cut_off(
    lost: "asyncio.Queue[Exception | None]",
) -> None:
    async with _running(_sending(1_000_000, WAIT_S)) as port, asyncio.timeout(WAIT_S):
        async with websockets.connect(f"ws://127.0.0.1:{port}", max_size=None) as client:
            assert len(await client.recv()) == 1_000_000
            with pytest.raises(websockets.ConnectionClosedError) as closed:
                await client.recv()
            assert closed.value.rcvd is not None and closed.value.rcvd.code == 1008
        assert await lost.get() is None


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere accepted sockets do not inherit")
def test_accepted_connections_are_watched_by_keepalive() -> None:
    with (
        contextlib.closing(web.bind("127.0.0.1", 0)) as listener,
        socket.socket() as client,
    ):
        web.listen(listener)
        client.connect(listener.getsockname())
        listener.setblocking(True)
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 20
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) == 10
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT) == 3
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 60_000


def test_a_port_that_was_taken_between_binding_and_listening_is_one_sentence() -> None:
    with contextlib.closing(web.bind("127.0.0.1", 0)) as ours:
        port = ours.getsockname()[1]
        with contextlib.closing(web.bind("127.0.0.1", port)) as theirs:
            web.listen(theirs)
            with pytest.raises(ConfigError, match=f"cannot listen at 127.0.0.1 port {port}"):
                web.listen(ours)


@pytest.mark.parametrize(
    ("host", "tls", "url"),
    [
        ("127.0.0.1", False, "http://127.0.0.1:{}"),
        ("::1", True, "https://[::1]:{}"),
        ("stt.example", True, "https://stt.example:{}"),
    ],
)
def test_a_url_names_the_port_that_the_system_chose(host: str, tls: bool, url: str) -> None:
    with contextlib.closing(web.bind("127.0.0.1", 0)) as listener:
        expected = url.format(listener.getsockname()[1])
        assert web.url_of(listener, host, tls=tls) == expected


def test_origins_are_compared_as_browsers_send_them() -> None:
    given = ("https://App.Example/", "http://localhost:3000", "*", "null", "http://[::1]:1")
    assert web.check_origins(given) == (
        "https://app.example",
        "http://localhost:3000",
        "*",
        "null",
        "http://[::1]:1",
    )
