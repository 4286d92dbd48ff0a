"""Calls by AudioSocket: Asterisk connects by TCP, tells the call's UUID, and then sends sound.

We keep the time: a frame of 20 ms goes out every 20 ms, silence included, so that the telephone
behind Asterisk has a steady stream. The protocol has no password: who may connect is a matter of
addresses.
"""

import asyncio
import contextlib
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

from loguru import logger

from talkpath.agent.asterisk_sections import AsteriskConfig
from talkpath.agent.config import Config
from talkpath.agent.errors import AudioError
from talkpath.transports.asterisk.audiosocket_messages import (
    HANGUP,
    Audio,
    AudioSocketReader,
    Digit,
    Failure,
    HangUp,
    Identity,
    Message,
    audio_message,
)
from talkpath.transports.asterisk.calls import ChannelCalls
from talkpath.transports.asterisk.channel import Channel, Order, Pressed, Sound
from talkpath.transports.asterisk.errors import WrongMessage
from talkpath.transports.asterisk.formats import FORMATS, AudioFormat
from talkpath.transports.asterisk.playout import FramePlayout
from talkpath.transports.opening import opened
from talkpath.transports.sessions import Bot, Limits, Refused, Sessions, until_over

__all__ = ["AudioSocketCalls", "AudioSocketChannel", "serve_audiosocket"]

_FRAME_S = 0.02
_IDENTITY_S = 5.0  # seconds until the UUID must be there
_FORMAT_S = 0.5  # seconds until the first sound tells the rate; 8 kHz where there is none
_READ_BYTES = 16 * 1024
_UNSENT_BYTES = 8 * 1024  # half a second at 8 kHz: a peer that does not read is noticed
_LOST_S = 20  # seconds without an acknowledgement after which a connection is lost


class _Messages:
    """A connection's messages, one after the other."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self._cutter = AudioSocketReader()
        self._messages: list[Message] = []

    async def next(self) -> Message | None:
        """The next message; None once the connection is closed."""
        while not self._messages:
            data = await self._reader.read(_READ_BYTES)
            if not data:
                return None
            self._messages = self._cutter.feed(data)
        return self._messages.pop(0)

    def back(self, message: Message) -> None:
        """Let a message be the next one."""
        self._messages.insert(0, message)


class AudioSocketChannel(Channel):
    """One call by AudioSocket.

    Args:
        call_id: its UUID.
        messages: what Asterisk sends after that.
        writer: where to send.
        audio_format: what is sent.
    """

    def __init__(
        self,
        call_id: str,
        messages: _Messages,
        writer: asyncio.StreamWriter,
        audio_format: AudioFormat,
    ) -> None:
        playout = FramePlayout(
            frame_bytes=round(_FRAME_S * audio_format.rate_hz) * audio_format.sample_bytes,
            frame_s=_FRAME_S,
            lead_s=0.0,
            silence=audio_format.silence,
            steady=True,
        )
        super().__init__(call_id, audio_format, playout)
        self._messages = messages
        self._writer = writer
        self._ended = False

    async def run(self) -> None:
        """Read from Asterisk until the call is over."""
        try:
            while (message := await self._messages.next()) is not None:
                if isinstance(message, HangUp):
                    return
                await self._take(message)
        except WrongMessage as error:
            self.complain(f"the call is ended: {error}")
        except OSError as error:
            self.complain(f"the connection is lost: {error}")
        finally:
            self.over()

    async def _take(self, message: Message) -> None:
        match message:
            case Audio(data, audio_format):
                try:
                    await self.hear(Sound(data, audio_format))
                except AudioError as error:
                    self.complain(f"dropped a message: {error}")
            case Digit(key):
                await self.hear(Pressed(key))
            case Failure(reason):
                # Asterisk closes the connection itself where it cannot go on.
                self.complain(f"Asterisk tells of an error: {reason}")
            case Identity():
                raise WrongMessage("a second UUID")

    async def send(self, frame: bytes) -> None:
        """Send a frame of sound, in one piece."""
        self._writer.write(audio_message(frame, self.audio_format))
        await self._writer.drain()

    def order(self, what: Order) -> None:
        """There is nothing that Asterisk could be told; it has next to nothing in hand."""

    async def tell(self) -> None:
        """Nothing waits."""

    async def hang_up(self) -> None:
        """End the call, if it is not over."""
        if self._ended:
            return
        self._ended = True
        if not self.gone.is_set():
            self._writer.write(HANGUP)
        self.over()
        await _close(self._writer)


class AudioSocketCalls:
    """Takes connections: each is a session of the bot.

    Args:
        calls: what becomes of them.
        config: who may call.
    """

    def __init__(self, calls: ChannelCalls, config: AsteriskConfig) -> None:
        self._calls = calls
        self._config = config

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until its call ends."""
        try:
            await self._serve(reader, writer)
        finally:
            await _close(writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host = (writer.get_extra_info("peername") or ("",))[0]
        if not self._config.allows(host):
            logger.warning("an AudioSocket from {} is refused (asterisk.allow)", host)
            return
        _tune(writer)
        messages = _Messages(reader)
        try:
            with self._calls.slot():
                channel = await _begin(messages, writer)
                session = self._calls.start(channel, {"call_id": channel.call_id})
        except (Refused, WrongMessage, OSError) as error:
            logger.warning("an AudioSocket from {} is refused: {}", host, error)
            writer.write(HANGUP)
            return
        await until_over(session)


async def _begin(messages: _Messages, writer: asyncio.StreamWriter) -> AudioSocketChannel:
    """Wait for the UUID, and for the first sound."""
    try:
        async with asyncio.timeout(_IDENTITY_S):
            identity = await messages.next()
    except TimeoutError:
        raise WrongMessage(f"no UUID within {_IDENTITY_S:.0f} s") from None
    if not isinstance(identity, Identity):
        raise WrongMessage("the first message is not the UUID")
    audio_format = FORMATS["slin"]
    try:
        async with asyncio.timeout(_FORMAT_S):
            first = await messages.next()
    except TimeoutError:
        first = None
    if isinstance(first, Audio):
        audio_format = first.format
    if first is not None:
        messages.back(first)
    return AudioSocketChannel(str(identity.id), messages, writer, audio_format)


def _tune(writer: asyncio.StreamWriter) -> None:
    """Send at once, hold little back, and notice when the peer is gone."""
    writer.transport.set_write_buffer_limits(high=_UNSENT_BYTES)
    connection: socket.socket = writer.get_extra_info("socket")
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _UNSENT_BYTES)
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _LOST_S * 1000)


async def _close(writer: asyncio.StreamWriter) -> None:
    """Close a connection; one whose peer does not read is cut off."""
    if writer.transport.is_closing():
        return
    writer.close()
    try:
        async with asyncio.timeout(1.0):
            await writer.wait_closed()
    except TimeoutError:
        writer.transport.abort()
    except OSError as error:
        logger.debug("a connection ended with {}", error)


async def serve_audiosocket(
    bot: Bot,
    config: Config,
    *,
    prepare: Callable[[], Awaitable[None]] | None = None,
    name: str | None = None,
    limits: Limits | None = None,
    on_listening: Callable[[str], None] | None = None,
) -> None:
    """Serve callers until SIGINT, SIGTERM or cancellation; sessions are ended first.

    Args:
        bot: called once for every session.
        config: ``config.server`` says where to listen and how many calls there may be,
            ``config.asterisk`` who may call.
        prepare: awaited before the first caller is let in; callers before are refused.
        name: the bot's name, by default its module's.
        limits: sizes and times granted; the defaults are good.
        on_listening: called with the address (``tcp://HOST:PORT``) instead of writing it to
            standard output.

    Raises:
        ConfigError: the port is taken.
    """
    sessions = Sessions(config.server.max_sessions)
    calls = ChannelCalls(bot, sessions, limits or Limits())
    port = opened(
        bot, config.server, scheme="tcp", prepare=prepare, name=name, on_listening=on_listening
    )
    async with port as listener:
        try:
            server = await asyncio.start_server(
                AudioSocketCalls(calls, config.asterisk), sock=listener, limit=2 * _READ_BYTES
            )
            async with server, _stopped() as stopped:
                await stopped.wait()
                server.close()
                await sessions.aclose()
        finally:
            await sessions.aclose()


@contextlib.asynccontextmanager
async def _stopped() -> AsyncIterator[asyncio.Event]:
    """An event that SIGINT and SIGTERM set."""
    loop, stopped = asyncio.get_running_loop(), asyncio.Event()
    numbers = [signal.SIGINT, signal.SIGTERM]
    try:
        for number in numbers:
            loop.add_signal_handler(number, stopped.set)
    except (NotImplementedError, RuntimeError, ValueError):  # Windows, or not the main thread
        numbers.clear()
    try:
        yield stopped
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
