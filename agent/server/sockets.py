"""Sockets: the WebSockets of the speech-to-text server, one connection each.

A connection has a reader, which takes one message after the other and so reads no faster than
its session works, a writer behind a bounded queue, and a watch over its idleness. The codec says
what goes out. The queue holds 256 KiB and 1000 messages, and one more of any length; while half
of that waits, no more is read. Who lets it fill nonetheless, or takes nothing for
``serve.stalled_s``, does not read: what waits is dropped, and the connection closed with 1008.

=====  ====================================================================================
1000   the client ended it in the protocol's own way
1001   idle for ``serve.idle_s``
1003   the first message is no configuration (Baseten)
1008   a configuration that is refused, too many errors, or a client that does not read
1009   a message longer than ``serve.message_bytes``
1011   an internal error
1012   the server stops; nothing of what was said is lost, unless a second signal came
1013   no place: try later, or another server
=====  ====================================================================================
"""

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

from starlette.routing import BaseRoute, WebSocketRoute
from starlette.types import Message
from starlette.websockets import WebSocket, WebSocketDisconnect

from talkpath.agent.errors import ConfigError
from talkpath.agent.server.admission import Denied, client_of
from talkpath.agent.server.errors import error_response
from talkpath.agent.server.protocols.baseten import BasetenCodec
from talkpath.agent.server.protocols.codec import GOING_AWAY, Close, Codec, Send
from talkpath.agent.server.protocols.openai_realtime import RealtimeCodec
from talkpath.agent.server.protocols.together import TogetherCodec
from talkpath.agent.server.service import Service
from talkpath.agent.server.session import Session
from talkpath.agent.whisper.requests import DecodeOptions

__all__ = ["LiveStreams", "socket_routes"]

_log = logging.getLogger(__name__)

_POLICY_VIOLATION, _INTERNAL_ERROR, _SERVICE_RESTART = 1008, 1011, 1012  # RFC 6455's registry
_STOPPING = "this server is about to stop"
_MOST_BYTES, _MOST_MESSAGES = 256 * 1024, 1000
_LONG_BYTES = 2**17  # a second of audio at any rate that there is, and two of the usual ones
_CLOSE_S = 5.0  # for a close frame to leave, where nothing else did
_CLIENTS_DOING = (TimeoutError, WebSocketDisconnect)
_FLAT = "openai-beta.realtime-v1"  # as browsers say it, who cannot set headers


class _Outbox:
    """What goes out, in order, up to a bound; nothing after a close."""

    def __init__(self) -> None:
        self._waiting: deque[Send | Close] = deque()
        self._bytes = 0
        self._closed = False
        self._there = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self.full = asyncio.Event()

    def put(self, item: Send | Close) -> None:
        """Queue it, or drop everything where the bound is reached."""
        if self._closed or self.full.is_set():
            return
        if self._holds(1.0):
            self._waiting.clear()
            self.full.set()
            return
        self._closed = isinstance(item, Close)
        self._waiting.append(item)
        self._bytes += _size(item)
        self._there.set()
        if self._holds(0.5):
            self._room.clear()

    async def get(self) -> Send | Close:
        """The next one."""
        while not self._waiting:
            self._there.clear()
            await self._there.wait()
        item = self._waiting.popleft()
        self._bytes -= _size(item)
        if not self._holds(0.5):
            self._room.set()
        return item

    async def room(self) -> None:
        """Wait until less than half of the bound waits."""
        await self._room.wait()

    def _holds(self, share: float) -> bool:
        """Whether so much of the bound waits."""
        full = max(self._bytes / _MOST_BYTES, len(self._waiting) / _MOST_MESSAGES)
        return full >= share


def _size(item: Send | Close) -> int:
    return len(item.text) if isinstance(item, Send) else 0


class _Connection:
    """One WebSocket that was accepted.

    Attributes:
        outcome: how it ended, for the log.
    """

    def __init__(self, socket: WebSocket, service: Service, codec: Codec) -> None:
        self._socket = socket
        self._service = service
        self._outbox = _Outbox()
        self._session = Session(service, codec, self._outbox.put)
        self._working = False
        self._idle_since_s = time.monotonic()
        self._ended = asyncio.Event()
        self.outcome = "the client left"

    async def run(self) -> None:
        """Serve the client to its end."""
        reader = asyncio.create_task(self._read(), name="reader of a stream")
        writer = asyncio.create_task(self._write(), name="writer of a stream")
        others = [
            asyncio.create_task(self._watch(), name="watch over a stream"),
            asyncio.create_task(self._outbox.full.wait(), name="bound of a stream"),
        ]
        try:
            await asyncio.wait([reader, writer, *others], return_when=asyncio.FIRST_COMPLETED)
            defect = _defect([reader, writer, *others])
            if defect is not None:
                _log.error("a stream ended in an error", exc_info=defect)
                self._end("internal_error", "internal error", _INTERNAL_ERROR)
                await asyncio.wait([writer], timeout=_CLOSE_S)
            stalled = self._outbox.full.is_set() or (
                writer.done() and isinstance(writer.exception(), TimeoutError)
            )
        finally:
            self._session.close()
            for task in (reader, writer, *others):
                task.cancel()
            await asyncio.gather(reader, writer, *others, return_exceptions=True)
            self._ended.set()
        if stalled:
            await self._give_up()

    async def drain(self, within_s: float) -> None:
        """End once its speech has, at the latest after so many seconds, with all finals out."""
        self._service.metrics.closed.add(of="stop")
        await self._session.drain(_STOPPING, _SERVICE_RESTART, within_s)
        await self._ended.wait()

    async def stop(self) -> None:
        """End now, whatever is still to come."""
        self._end("stop", _STOPPING, _SERVICE_RESTART)
        await self._ended.wait()

    async def _read(self) -> None:
        self._working = True
        await self._session.opened()
        message = await self._next()
        while message["type"] != "websocket.disconnect":
            self._working = True
            if _length(message) < _LONG_BYTES:
                await self._take(message)
                message = await self._next()
            else:
                message = await self._take_long(message)

    async def _next(self) -> Message:
        self._working, self._idle_since_s = False, time.monotonic()
        return await self._socket.receive()

    async def _take(self, message: Message) -> None:
        text = message.get("text")
        if text is not None:
            await self._session.text(text)
        else:
            await self._session.binary(message["bytes"])
        await self._outbox.room()

    async def _take_long(self, message: Message) -> Message:
        """Take one that may last for minutes, unless the client leaves; give what follows it."""
        taking = asyncio.create_task(self._take(message), name="long message of a stream")
        following = asyncio.create_task(self._socket.receive(), name="message after it")
        try:
            await asyncio.wait({taking, following}, return_when=asyncio.FIRST_COMPLETED)
            if not following.done() or following.result()["type"] != "websocket.disconnect":
                await taking
                self._working, self._idle_since_s = False, time.monotonic()
            return await following
        finally:
            taking.cancel()
            following.cancel()
            await asyncio.wait({taking, following})

    async def _write(self) -> None:
        stalled_s = self._service.config.serve.stalled_s
        while True:
            item = await self._outbox.get()
            async with asyncio.timeout(stalled_s):
                if isinstance(item, Close):
                    await self._socket.close(item.code, item.reason)
                    self.outcome = f"closed with {item.code}"
                    return
                await self._socket.send_text(item.text)

    async def _watch(self) -> None:
        """End a connection on which nothing comes."""
        idle_s = self._service.config.serve.idle_s
        while True:
            due_s = self._idle_since_s + idle_s - time.monotonic()
            if due_s > 0 or self._working:
                await asyncio.sleep(max(due_s, idle_s / 10))
                continue
            self._end("idle", f"nothing came for {idle_s:g} s", GOING_AWAY)
            await self._ended.wait()

    def _end(self, why: str, reason: str, code: int) -> None:
        self._service.metrics.closed.add(of=why)
        self._session.end(reason, code)

    async def _give_up(self) -> None:
        """Close on a client that does not read; it sees why if it begins to."""
        self.outcome = "the client does not read"
        self._service.metrics.closed.add(of="slow_reader")
        with contextlib.suppress(TimeoutError, WebSocketDisconnect, RuntimeError):
            async with asyncio.timeout(_CLOSE_S):
                await self._socket.close(_POLICY_VIOLATION, "too much waits to be read")


def _length(message: Message) -> int:
    return len(message.get("text") or message.get("bytes") or b"")


def _defect(tasks: Sequence[asyncio.Task[Any]]) -> BaseException | None:
    """What ended one of these tasks, if it is no client that left or does not read."""
    errors = (task.exception() for task in tasks if task.done())
    return next((x for x in errors if x and not isinstance(x, _CLIENTS_DOING)), None)


class LiveStreams:
    """The connections that are open."""

    def __init__(self) -> None:
        self._connections: set[_Connection] = set()

    async def drain(self, within_s: float) -> None:
        """End all of them; nothing that was said is lost.

        Args:
            within_s: seconds until speech that goes on is ended; its final still goes out.
        """
        ends = await asyncio.gather(
            *(connection.drain(within_s) for connection in tuple(self._connections)),
            return_exceptions=True,  # a defect in one of them is not to end the others
        )
        for end in ends:
            if isinstance(end, Exception):
                _log.error("a stream could not be ended in good order", exc_info=end)

    async def stop(self, within_s: float) -> None:
        """End all of them now; finals that are still to come are lost.

        Args:
            within_s: seconds that clients have to take the news.
        """
        ends = [asyncio.create_task(connection.stop()) for connection in self._connections]
        if ends:
            _, late = await asyncio.wait(ends, timeout=within_s)
            for end in late:
                end.cancel()

    async def serve(self, socket: WebSocket, service: Service, codec: Codec, protocol: str) -> None:
        """Accept a client and serve it to its end, if there is a place for it."""
        await socket.accept(_subprotocol(socket))
        try:
            client = client_of(socket.scope)
            with service.admission.stream(client):
                service.metrics.streams.add(of=protocol)
                connection = _Connection(socket, service, codec)
                self._connections.add(connection)
                began_s = time.monotonic()
                try:
                    await connection.run()
                finally:
                    self._connections.discard(connection)
                    open_s = time.monotonic() - began_s
                    how = connection.outcome
                    _log.info("stream ended: %s, %s, %.1f s, %s", protocol, client, open_s, how)
        except Denied as denied:
            service.metrics.denied.add(of="stream")
            for item in codec.closing(str(denied), denied.close_code):
                if isinstance(item, Send):
                    await socket.send_text(item.text)
                elif isinstance(item, Close):
                    await socket.close(item.code, item.reason)


def socket_routes(service: Service, streams: LiveStreams) -> list[BaseRoute]:
    """The WebSockets' routes.

    ============================================  =============================================
    ``/websocket``                                Baseten's protocol
    ``/environments/production/websocket``        the same
    ``/v1/realtime``                              OpenAI's Realtime protocol; with the parameter
                                                  ``input_audio_format``, Together's dialect
    ============================================  =============================================
    """

    async def baseten(socket: WebSocket) -> None:
        codec = BasetenCodec(service.engine.languages)
        await streams.serve(socket, service, codec, "baseten")

    async def realtime(socket: WebSocket) -> None:
        try:
            protocol, codec = _realtime_codec(socket, service)
        except ConfigError as error:
            refusal = error_response(400, str(error), code="invalid_value")
            await socket.send_denial_response(refusal)
            return
        await streams.serve(socket, service, codec, protocol)

    return [
        WebSocketRoute("/websocket", baseten),
        WebSocketRoute("/environments/production/websocket", baseten),
        WebSocketRoute("/v1/realtime", realtime),
    ]


def _realtime_codec(socket: WebSocket, service: Service) -> tuple[str, Codec]:
    """The dialect that a client speaks, and its codec.

    Raises:
        ConfigError: a parameter of the query is wrong.
    """
    query = dict(socket.query_params)
    engine, whisper = service.engine, service.config.whisper
    decode = DecodeOptions.of(whisper, engine.check_language(whisper.language))
    if "input_audio_format" in query:
        codec = TogetherCodec.from_query(query, decode=decode, languages=engine.languages)
        return "together", codec
    if query.get("intent", "transcription") != "transcription":
        raise ConfigError("in the query, intent must be transcription: nothing here answers")
    flat = "realtime=v1" in socket.headers.get("openai-beta", "") or _FLAT in _offered(socket)
    return "openai", RealtimeCodec(
        model=query.get("model") or service.model,
        flat=flat,
        decode=decode,
        languages=engine.languages,
    )


def _offered(socket: WebSocket) -> list[str]:
    offered: list[str] = socket.scope.get("subprotocols", [])
    return offered


def _subprotocol(socket: WebSocket) -> str | None:
    """The subprotocol to answer with: browsers insist on one of those that they offered."""
    return next((name for name in _offered(socket) if not name.startswith("openai-")), None)
