"""The control channel: what listener and worker say to each other beside SIP.

One JSON object a line over a Unix socket pair, ``type`` and its fields. A request has a number
``n``; it is answered by ``answer`` or ``error`` with the same number. Either side may ask.
"""

import asyncio
import contextlib
import json
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from loguru import logger

from talkpath.agent.errors import TalkpathError
from talkpath.transports.sip.leg import LegError, TransferRefused

__all__ = ["LONGEST", "ControlChannel", "Handler"]

Handler = Callable[..., Awaitable[Mapping[str, Any] | None]]
"""Takes a message's fields as keywords; what it returns goes into the answer."""

LONGEST = 1 << 20
"""Bytes of the longest message, its line break included."""

_UNREAD = 8 << 20  # bytes that may wait for the other side to read them
_FLUSH_S = 1.0  # what was said before the end has this long to get across
_AT_ONCE = 2048  # messages of the other side's that may be worked on at the same time


class ControlChannel:
    """One end of the channel.

    Messages are handled at once and each in a task of its own, which start in the messages' order.
    When more are under way than anybody needs, further requests are answered with an error, and
    others are dropped with a warning. A peer that does not read is noticed when 8 MiB wait for it:
    then ``tell`` and ``ask`` raise. A peer that does not speak the protocol is cut off.

    Args:
        sock: this end of a Unix stream socket pair; the channel owns it from now on.
        handlers: by type, what the other side may say.
        name: of the other side, for the log.

    Attributes:
        closed: set when nothing can be said any more, whoever closed it.
    """

    def __init__(
        self, sock: socket.socket, handlers: Mapping[str, Handler], name: str = "the other process"
    ) -> None:
        self.closed = asyncio.Event()
        self._socket = sock
        self._handlers = dict(handlers)
        self._name = name
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None
        self._handling: set[asyncio.Task[None]] = set()
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._last = 0

    async def start(self) -> None:
        """Begin to listen. Handlers run from here on."""
        self._socket.setblocking(False)
        reader, self._writer = await asyncio.open_unix_connection(sock=self._socket, limit=LONGEST)
        self._reading = asyncio.create_task(self._read(reader), name=f"control of {self._name}")

    async def stop(self) -> None:
        """Close it, and end what is still being handled."""
        self._close()
        tasks = [*self._handling, *([self._reading] if self._reading else [])]
        for task in tasks:
            if task is not asyncio.current_task():
                task.cancel()
        await asyncio.gather(
            *(task for task in tasks if task is not asyncio.current_task()), return_exceptions=True
        )
        if self._writer is None:
            self._socket.close()
            return
        try:
            async with asyncio.timeout(_FLUSH_S):
                await self._writer.wait_closed()
        except TimeoutError:  # the other side does not read
            self._writer.transport.abort()
        except OSError:  # the other side went first
            pass

    async def tell(self, type: str, **fields: Any) -> None:
        """Say something that needs no answer.

        Raises:
            LegError: the channel is closed, the other side does not read, or this is too long.
        """
        self.tell_now(type, **fields)

    def tell_now(self, type: str, **fields: Any) -> None:
        """The same, for whoever cannot wait: nothing is ever waited for."""
        self._send({**fields, "type": type})

    async def ask(self, type: str, timeout_s: float = 5.0, **fields: Any) -> dict[str, Any]:
        """Say something, and wait for the answer's fields.

        Raises:
            LegError: the other side's own error, no answer in time, or as for ``tell``.
            TransferRefused: the other side raised it.
        """
        self._last += 1
        number = self._last
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        try:
            self._send({**fields, "type": type, "n": number})
            async with asyncio.timeout(timeout_s):
                return await answer
        except TimeoutError as error:
            raise LegError(f"{self._name} did not answer within {timeout_s:g} s") from error
        finally:
            self._waiting.pop(number, None)
            answer.cancel()

    def _send(self, message: Mapping[str, Any]) -> None:
        if self.closed.is_set() or self._writer is None:
            raise LegError(f"{self._name} cannot be reached any more")
        line = json.dumps(message).encode() + b"\n"
        if len(line) > LONGEST:
            raise LegError(f"a message of {len(line)} bytes is too long for {self._name}")
        if self._writer.transport.get_write_buffer_size() > _UNREAD:
            raise LegError(f"{self._name} does not read what it is told")
        self._writer.write(line)

    def _close(self) -> None:
        self.closed.set()
        if self._writer is not None:
            self._writer.close()
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(LegError(f"{self._name} cannot be reached any more"))

    async def _read(self, reader: asyncio.StreamReader) -> None:
        try:
            while line := await reader.readline():
                self._take(json.loads(line))
        except ConnectionError:  # the other process is gone
            pass
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            logger.error("{} says what cannot be understood: {}", self._name, error)
        finally:
            self._close()

    def _take(self, message: dict[str, Any]) -> None:
        kind, number = message.pop("type"), message.pop("n", None)
        if kind in ("answer", "error"):
            answer = self._waiting.get(number)
            if answer is None or answer.done():  # it came too late
                return
            if kind == "answer":
                answer.set_result(message)
            else:
                answer.set_exception(_error_of(message))
            return
        if len(self._handling) >= _AT_ONCE:
            self._refuse(kind, number)
            return
        work = self._handle(kind, number, message)
        task = asyncio.create_task(work, name=f"{kind} of {self._name}")
        self._handling.add(task)
        task.add_done_callback(self._handling.discard)

    def _refuse(self, kind: str, number: int | None) -> None:
        logger.warning("{} says more than can be handled; {} is dropped", self._name, kind)
        if number is not None:
            with contextlib.suppress(LegError):
                self._send({"type": "error", "n": number, "message": "there is too much to do"})

    async def _handle(self, kind: str, number: int | None, fields: dict[str, Any]) -> None:
        try:
            handler = self._handlers.get(kind)
            if handler is None:
                raise LegError(f"nobody here knows what {kind} is")
            result = {**(await handler(**fields) or {}), "type": "answer"}
        except TalkpathError as error:
            result = {"type": "error", "message": str(error)}
            if isinstance(error, TransferRefused):
                result["refused"] = error.status
            if number is None:
                logger.warning("{} of {}: {}", kind, self._name, error)
        except Exception as error:
            logger.exception("{} of {} failed", kind, self._name)
            result = {"type": "error", "message": f"{kind} failed: {type(error).__name__}: {error}"}
        if number is None:
            return
        try:
            self._send({**result, "n": number})
        except LegError as error:
            logger.debug("an answer to {} came to nothing: {}", self._name, error)


def _error_of(message: Mapping[str, Any]) -> LegError:
    text = str(message["message"])
    if "refused" in message:
        return TransferRefused(text, int(message["refused"]))
    return LegError(text)
