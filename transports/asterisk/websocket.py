"""Calls by Asterisk's ``chan_websocket``: Asterisk connects to the server's ``/asterisk``.

The other way, a program connects to Asterisk (``WebSocket/INCOMING``) and takes the call there:
:func:`join_call`. Asterisk before 2026 hangs up when it is sent a ping of the WebSocket: none are
sent, and one who has been silent for long is asked for its status instead.
"""

import asyncio
import base64
import binascii
import contextlib
import hmac
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Protocol

from fastapi import WebSocket
from loguru import logger
from starlette.responses import PlainTextResponse
from starlette.websockets import WebSocketDisconnect, WebSocketState
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from talkpath.agent.asterisk_sections import AsteriskConfig
from talkpath.agent.errors import AudioError, TalkpathError
from talkpath.agent.web_server import PINGS
from talkpath.transports.asterisk.calls import ChannelCalls
from talkpath.transports.asterisk.channel import (
    STALLED_S,
    Channel,
    Order,
    Pressed,
    Sound,
)
from talkpath.transports.asterisk.errors import WrongMessage
from talkpath.transports.asterisk.formats import format_named
from talkpath.transports.asterisk.playout import FramePlayout
from talkpath.transports.asterisk.websocket_messages import (
    Command,
    Digit,
    Failure,
    MediaStart,
    Other,
    command,
    parse_event,
)
from talkpath.transports.sessions import Bot, Limits, Refused, Sessions, until_over

__all__ = ["LEAD_S", "PROTOCOL", "AsteriskCalls", "MediaChannel", "join_call"]

PROTOCOL = "media"
"""The WebSocket's subprotocol."""

LEAD_S = 0.04
"""Seconds of sound with Asterisk and not heard yet. They bridge pauses of the event loop."""

_START_S = 5.0  # seconds until MEDIA_START must be there
_EARLY = 50  # messages of sound that may come before it (asterisk/asterisk#1712)
_SILENT_S = 20.0  # seconds without a message after which a peer is asked for its status
_UNANSWERED = 3  # and how often
_TRY_AGAIN_LATER = 1013  # RFC 6455 registry of close codes
_COMMANDS = {
    Order.ANSWER: Command.ANSWER,
    Order.PAUSE: Command.PAUSE_MEDIA,
    Order.CONTINUE: Command.CONTINUE_MEDIA,
    Order.FLUSH: Command.FLUSH_MEDIA,
}

_Message = MutableMapping[str, Any]


class _Socket(Protocol):
    """A WebSocket, whoever has connected."""

    async def receive(self) -> str | bytes | None:
        """The next message; None once the connection is closed."""

    async def send(self, message: str | bytes) -> None:
        """Send a message; OSError once the connection is closed."""

    async def close(self, code: int = 1000) -> None:
        """Close the connection, if it is open."""


class _Served:
    """A connection to our server."""

    def __init__(self, websocket: WebSocket) -> None:
        self._websocket = websocket

    async def receive(self) -> str | bytes | None:
        message = await self._websocket.receive()
        if message["type"] != "websocket.receive":
            return None
        text: str | None = message.get("text")
        return message["bytes"] if text is None else text

    async def send(self, message: str | bytes) -> None:
        try:
            if isinstance(message, str):
                await self._websocket.send_text(message)
            else:
                await self._websocket.send_bytes(message)
        except (WebSocketDisconnect, RuntimeError) as error:
            raise ConnectionResetError("the connection is closed") from error

    async def close(self, code: int = 1000) -> None:
        states = (self._websocket.client_state, self._websocket.application_state)
        if states == (WebSocketState.CONNECTED, WebSocketState.CONNECTED):
            with contextlib.suppress(WebSocketDisconnect, RuntimeError):  # it was faster
                await self._websocket.close(code)


class _Joined:
    """A connection to Asterisk."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection

    async def receive(self) -> str | bytes | None:
        try:
            return await self._connection.recv()
        except ConnectionClosed:
            return None

    async def send(self, message: str | bytes) -> None:
        try:
            await self._connection.send(message)
        except ConnectionClosed as error:
            raise ConnectionResetError("the connection is closed") from error

    async def close(self, code: int = 1000) -> None:
        await self._connection.close(code)


class MediaChannel(Channel):
    """One call by ``chan_websocket``.

    Args:
        socket: its connection.
        start: what Asterisk began with.

    Raises:
        AudioError: the channel has a format that is not taken here.
    """

    def __init__(self, socket: _Socket, start: MediaStart) -> None:
        audio_format = format_named(start.format)
        samples = audio_format.rate_hz * start.frame_ms // 1000
        playout = FramePlayout(
            frame_bytes=start.frame_bytes or samples * audio_format.sample_bytes,
            frame_s=start.frame_ms / 1000,
            lead_s=LEAD_S,
            silence=audio_format.silence,
            steady=False,
        )
        super().__init__(start.channel_id or start.channel, audio_format, playout)
        self._socket = socket
        self._json = start.json
        self._commands: deque[Command] = deque()
        self._paused = False
        self._ended = False

    async def run(self) -> None:
        """Read from Asterisk until the call is over."""
        unanswered = 0
        try:
            while not self.gone.is_set():
                try:
                    async with asyncio.timeout(_SILENT_S):
                        message = await self._socket.receive()
                except TimeoutError:
                    unanswered += 1
                    if unanswered > _UNANSWERED:
                        self.complain("Asterisk does not answer any more")
                        return
                    await self._send_command(Command.GET_STATUS)
                    continue
                if message is None:
                    return
                unanswered = 0
                await self.take(message)
        except OSError as error:
            self.complain(f"the connection is lost: {error}")
        finally:
            self.over()

    async def take(self, message: str | bytes) -> None:
        """Take one message; one that makes no sense is told in the log and loses nothing else."""
        try:
            if isinstance(message, bytes):
                await self.hear(Sound(message, self.audio_format))
            else:
                await self._take_event(message)
        except (WrongMessage, AudioError) as error:
            self.complain(f"dropped a message: {error}")

    async def _take_event(self, text: str) -> None:
        match parse_event(text):
            case Other("MEDIA_XOFF"):
                self.playout.stop()
            case Other("MEDIA_XON"):
                self.playout.go()
                self.news.set()
            case Digit(key):
                await self.hear(Pressed(key))
            case Failure(reason):
                self.complain(f"Asterisk refused a command: {reason[:200]}")
            case event:
                logger.debug("call {}: {}", self.call_id, type(event).__name__)

    async def send(self, frame: bytes) -> None:
        """Send a frame of sound."""
        await self._socket.send(frame)

    async def tell(self) -> None:
        """Send the commands that wait."""
        while self._commands:
            await self._send_command(self._commands.popleft())

    async def _send_command(self, what: Command) -> None:
        await self._socket.send(command(what, as_json=self._json))

    def order(self, what: Order) -> None:
        """Note a command; Asterisk ignores ANSWER where it has answered by itself."""
        if what is Order.PAUSE:
            if self._paused or self.playout.played_s <= asyncio.get_running_loop().time():
                return
            self._paused = True
        elif what is Order.CONTINUE:
            if not self._paused:
                return
            self._paused = False
        self._commands.append(_COMMANDS[what])

    async def hang_up(self) -> None:
        """End the call, if it is not over."""
        if self._ended:
            return
        self._ended = True
        try:
            if not self.gone.is_set():
                async with asyncio.timeout(STALLED_S):
                    await self._send_command(Command.HANGUP)
        except (OSError, TimeoutError) as error:
            logger.debug("call {}: nobody to hang up on: {}", self.call_id, error)
        finally:
            self.over()
            await self._socket.close()


async def _begin(socket: _Socket) -> tuple[MediaChannel, MediaStart]:
    """Wait for the first event.

    Raises:
        TalkpathError: it does not come, makes no sense, or its format is not taken here.
    """
    early: deque[bytes] = deque(maxlen=_EARLY)
    try:
        async with asyncio.timeout(_START_S):
            while isinstance(message := await socket.receive(), bytes):
                early.append(message)
    except TimeoutError:
        raise WrongMessage(f"no MEDIA_START within {_START_S:.0f} s") from None
    if message is None:
        raise WrongMessage("the connection was closed before MEDIA_START")
    event = parse_event(message)
    if not isinstance(event, MediaStart):
        raise WrongMessage("the first event is not MEDIA_START")
    channel = MediaChannel(socket, event)
    for sound in early:
        await channel.take(sound)
    return channel, event


async def _converse(calls: ChannelCalls, socket: _Socket, variables: dict[str, str]) -> None:
    """Carry a call from its first event to its end."""
    try:
        channel, start = await _begin(socket)
    except TalkpathError as error:
        logger.warning("a call from Asterisk is refused: {}", error)
        await socket.close(1008)
        return
    body = {
        "call_id": channel.call_id,
        "channel": start.channel,
        "channel_id": start.channel_id,
        "connection_id": start.connection_id,
        "variables": {**start.variables, **variables},
    }
    try:
        with calls.slot():
            session = calls.start(channel, body)
    except Refused as refusal:
        logger.warning("call {}: {}", channel.call_id, refusal)
        await socket.close(_TRY_AGAIN_LATER)
        return
    await until_over(session)


class AsteriskCalls:
    """ASGI endpoint for Asterisk's WebSockets: each is a session of the bot.

    Args:
        calls: what becomes of them.
        config: who may call.
    """

    def __init__(self, calls: ChannelCalls, config: AsteriskConfig) -> None:
        self._calls = calls
        self._config = config

    async def __call__(
        self,
        scope: _Message,
        receive: Callable[[], Awaitable[_Message]],
        send: Callable[[_Message], Awaitable[None]],
    ) -> None:
        """Serve one connection until its call ends."""
        websocket = WebSocket(scope, receive, send)
        if not self._may_call(websocket):
            logger.warning(
                "a WebSocket to /asterisk from {} is refused: no or a wrong password",
                websocket.client.host if websocket.client else "nowhere",
            )
            challenge = {"WWW-Authenticate": 'Basic realm="talkpath"'}
            refusal = PlainTextResponse("Who are you?", 401, challenge)
            await websocket.send_denial_response(refusal)
            return
        scope["extensions"][PINGS] = False
        offered = scope.get("subprotocols", [])
        await websocket.accept(PROTOCOL if PROTOCOL in offered else None)
        variables = dict(websocket.query_params)
        await _converse(self._calls, _Served(websocket), variables)

    def _may_call(self, websocket: WebSocket) -> bool:
        config = self._config
        if config.password:
            given = _credentials(websocket.headers.get("authorization", ""))
            wanted = f"{config.user}:{config.password}".encode()
            return given is not None and hmac.compare_digest(given, wanted)
        # A proxy on this machine brings people from everywhere.
        proxied = {"forwarded", "x-forwarded-for", "x-real-ip"} & set(websocket.headers)
        client = websocket.client
        return client is not None and not proxied and config.allows(client.host)


def _credentials(header: str) -> bytes | None:
    scheme, _, value = header.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        return base64.b64decode(value.strip(), validate=True)
    except (binascii.Error, ValueError):
        return None


async def join_call(
    bot: Bot,
    url: str,
    *,
    sessions: Sessions,
    limits: Limits | None = None,
    user: str = "",
    password: str = "",
) -> None:
    """Take a call that waits in Asterisk (``WebSocket/INCOMING``), until its end.

    Args:
        bot: called once.
        url: ``ws://host:8088/media/CONNECTION_ID``, with the channel's
            ``MEDIA_WEBSOCKET_CONNECTION_ID`` (ARI's ``externalMedia`` tells it).
        sessions: where it runs.
        limits: times granted.
        user: name for Asterisk's HTTP server, where it asks for one.
        password: its password.

    Raises:
        TalkpathError: Asterisk is not there, or has no such call.
    """
    headers = {}
    if user:
        token = base64.b64encode(f"{user}:{password}".encode()).decode()
        headers["Authorization"] = f"Basic {token}"
    try:
        connection = await connect(
            url,
            subprotocols=[PROTOCOL],  # type: ignore[list-item]  # a NewType of str
            additional_headers=headers,
            compression=None,
            ping_interval=None,
            proxy=None,
        )
    except (OSError, WebSocketException, TimeoutError) as error:
        raise TalkpathError(f"cannot take the call at {url}: {error}") from error
    async with connection:
        await _converse(ChannelCalls(bot, sessions, limits or Limits()), _Joined(connection), {})
