"""A client's socket: how it is opened, how audio goes over it, and what its end means."""

import asyncio
import json
import ssl

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from talkpath.agent.client.stream import RemoteStream
from talkpath.agent.server_url import Server

__all__ = ["Lost", "Refused", "meaning_of", "now_s", "open_socket", "send_audio"]

_CONNECT_S = 5.0
_CLOSE_S = 1.0
_QUESTION_S = 2.0  # without audio
_DEAD_S = 10.0  # without an answer; audio that is on the way to a slow server takes 4 s
_LONGEST_MESSAGE = 2**22
# Of RFC 6455, section 7.4.1. Before anything else is said, they mean: never.
_REFUSALS = (1003, 1008)
# Of HTTP's 4xx, those that mean: not now.
_NOT_NOW = (408, 425, 429)


class Lost(Exception):
    """A server cannot be reached, or has gone; the text says why."""


class Refused(Exception):
    """A server will not take this client or its configuration; the text says why."""


def now_s() -> float:
    """The event loop's clock."""
    return asyncio.get_running_loop().time()


async def open_socket(
    server: Server, api_key: str | None, tls: ssl.SSLContext | None
) -> ClientConnection:
    """Connect to a server.

    Raises:
        Lost: it cannot be reached now.
        Refused: it will not take this client.
    """
    try:
        return await connect(
            server.url,
            additional_headers=None if api_key is None else {"Authorization": f"Api-Key {api_key}"},
            compression=None,
            open_timeout=_CONNECT_S,
            close_timeout=_CLOSE_S,
            ping_interval=None,  # the questions of the stream tell more
            max_size=_LONGEST_MESSAGE,
            ssl=(tls or True) if server.url.startswith("wss:") else None,
        )
    except InvalidStatus as error:
        status, body = error.response.status_code, error.response.body
        text = f"HTTP status {status}{_reason(body)}"
        if 400 <= status < 500 and status not in _NOT_NOW:
            raise Refused(text) from error
        raise Lost(text) from error
    except TimeoutError as error:
        raise Lost(f"no answer within {_CONNECT_S:g} s") from error
    except ssl.SSLCertVerificationError as error:
        # Another try finds the same certificate, or it is an attack.
        why = error.verify_message or str(error)
        raise Refused(f"its certificate is not trusted here ({why})") from error
    except (OSError, WebSocketException) as error:
        raise Lost(f"cannot be reached ({error})") from error


async def send_audio(socket: ClientConnection, stream: RemoteStream, news: asyncio.Event) -> None:
    """Send what there is to send, and see whether the server is alive.

    Args:
        socket: open.
        stream: says what to send.
        news: is set whenever it may have something to say.

    Raises:
        Lost: the server, or the way to it, is not what it should be.
    """
    overdue_since_s: float | None = None
    while True:
        news.clear()
        frame = stream.to_send(now_s())
        if frame is not None:
            await _send(socket, frame)
        else:
            await _wait(stream, news)
        if stream.too_late:
            raise Lost("the network is slower than the audio")
        if stream.unanswered_s(now_s()) > _DEAD_S:
            raise Lost(f"no answer for {_DEAD_S:g} s")
        if not stream.overdue:
            overdue_since_s = None
        elif overdue_since_s is None:
            overdue_since_s = now_s()
        elif now_s() - overdue_since_s > _DEAD_S:
            raise Lost("no final came of what was said")


async def _send(socket: ClientConnection, frame: str | bytes) -> None:
    try:
        async with asyncio.timeout(_DEAD_S):
            await socket.send(frame)
    except TimeoutError:
        raise Lost(f"it took nothing for {_DEAD_S:g} s") from None


async def _wait(stream: RemoteStream, news: asyncio.Event) -> None:
    """Wait for more to send; without any for a while, ask whether the server is there."""
    try:
        async with asyncio.timeout(_QUESTION_S):
            await news.wait()
    except TimeoutError:
        stream.ask()


def meaning_of(closed: ConnectionClosed, told: str, *, ready: bool) -> Lost | Refused:
    """What the end of a connection means.

    Args:
        closed: the end.
        told: the server's last error, or nothing.
        ready: whether the server had taken the configuration.
    """
    if closed.rcvd is None:
        return Lost("the connection broke")
    code, reason = closed.rcvd.code, told or closed.rcvd.reason
    if code in _REFUSALS and not ready:
        return Refused(reason or f"closed with {code}")
    return Lost(f"closed with {code}{f' ({reason})' if reason else ''}")


def _reason(body: bytes | bytearray | None) -> str:
    """What a refusal in OpenAI's shape says."""
    try:
        return f": {json.loads(body or b'')['error']['message']}"
    except (ValueError, KeyError, TypeError):
        return ""
