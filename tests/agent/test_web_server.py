"""Connections have an end, whatever the peer does."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import aiohttp
import pytest
import websockets
from starlette.types import ASGIApp, Receive, Scope, Send

from talkpath.agent import web, web_server

WAIT_S = 60


class _Watched(web_server.SocketProtocol):
    """The protocol, telling when a connection is lost."""

    lost: "asyncio.Queue[Exception | None]"

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.lost.put_nowait(exc)


@pytest.fixture
def lost(monkeypatch: pytest.MonkeyPatch) -> "asyncio.Queue[Exception | None]":
    queue: asyncio.Queue[Exception | None] = asyncio.Queue()
    monkeypatch.setattr(web_server, "SocketProtocol", _Watched)
    monkeypatch.setattr(_Watched, "lost", queue, raising=False)
    return queue


@contextlib.asynccontextmanager
async def _running(app: ASGIApp) -> AsyncIterator[int]:
    """Serve an application; gives the port."""
    with contextlib.closing(web.bind("127.0.0.1", 0)) as listener:
        web.listen(listener)
        port: int = listener.getsockname()[1]
        async with web_server.running(
            app, listener, message_bytes=4096, deflate=False, pings=False
        ):
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
    lost: "asyncio.Queue[Exception | None]", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_Watched, "linger_s", 0.3)
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
    lost: "asyncio.Queue[Exception | None]", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_Watched, "linger_s", WAIT_S)
    async with _running(_sending(1_000_000, WAIT_S)) as port, asyncio.timeout(WAIT_S):
        async with websockets.connect(f"ws://127.0.0.1:{port}", max_size=None) as client:
            assert len(await client.recv()) == 1_000_000
            with pytest.raises(websockets.ConnectionClosedError) as closed:
                await client.recv()
            assert closed.value.rcvd is not None and closed.value.rcvd.code == 1008
        assert await lost.get() is None


# -- peers that say nothing ------------------------------------------------------------------


async def _hello(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers HTTP and echoes one message of a WebSocket."""
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"hello"})
    elif scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        message = await receive()
        await send({"type": "websocket.send", "text": message["text"]})


@pytest.mark.parametrize(
    "said", [b"", b"GET / HTTP/1.1\r\nHost: me\r\n", b"GET / HTTP/1.1\r\nHost: me\r\n\r\nGET"]
)
async def test_a_peer_that_never_finishes_to_ask_is_given_up(
    said: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web_server.HttpProtocol, "silent_s", 0.1)
    async with _running(_hello) as port, asyncio.timeout(WAIT_S):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(said)
        with contextlib.suppress(ConnectionError):
            while await reader.read(65_536):
                pass
        writer.close()


@pytest.mark.parametrize(
    ("start", "more"),
    [
        (b"GET /", b"a"),
        (b"GET / HTTP/1.1\r\nHost: me\r\nX-A: ", b"a"),
        (b"GET / HTTP/1.1\r\nHost: me\r\n", b"X-A: b\r\n"),
        (b"POST / HTTP/1.1\r\nHost: me\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"X-A: b\r\n"),
    ],
    ids=["path", "header", "headers", "trailers"],
)
async def test_a_request_without_an_end_is_not_kept(start: bytes, more: bytes) -> None:
    # Also where httptools is installed, which has no bounds.
    async with _running(_hello) as port, asyncio.timeout(WAIT_S):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(start)
        sent = 0
        with pytest.raises(ConnectionError):
            while sent < 64 * 2**20:  # the kernels hold some of it
                writer.write(more * 8192)
                sent += len(more) * 8192
                await writer.drain()
        writer.close()


async def test_who_asks_now_and_then_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    connections: list[web_server.HttpProtocol] = []

    class Watched(web_server.HttpProtocol):
        silent_s = 3600.0  # the test looks itself

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            connections.append(self)

    monkeypatch.setattr(web_server, "HttpProtocol", Watched)
    async with _running(_hello) as port, asyncio.timeout(WAIT_S):
        url = f"http://127.0.0.1:{port}"
        async with aiohttp.ClientSession() as http:
            for _ in range(4):
                async with http.get(url) as response:
                    assert await response.text() == "hello"
                connections[0]._look()
            assert len(connections) == 1
            async with http.ws_connect(url) as socket:
                # Nobody looks after the upgrade: the connection may be gone by then, and with TLS
                # what is left of it cannot even be asked.
                watch = connections[-1]._watch
                assert watch is not None and watch.cancelled()
                await socket.send_str("still here")
                assert await socket.receive_str() == "still here"
