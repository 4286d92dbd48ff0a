"""A network path that loses and delays: between a telephone and the product, in this process.

Calls go to the path's own SIP port. It passes messages on, and puts ports of its own into their
session descriptions, so that the audio of both sides comes through it.
"""

import asyncio
import contextlib
import random
import re
from collections.abc import AsyncIterator, Callable
from typing import cast

__all__ = ["LossyPath", "lossy_path"]

Address = tuple[str, int]

_AUDIO = re.compile(rb"(?m)^m=audio (\d+) ")
_RTCP = re.compile(rb"(?m)^a=rtcp:[^\r]*\r\n")
_LENGTH = re.compile(rb"(?mi)^(content-length|l)[ \t]*:[ \t]*\d+")


class _Port(asyncio.DatagramProtocol):
    """One UDP port of 127.0.0.1."""

    def __init__(self, take: Callable[[bytes, Address], None]) -> None:
        self._take = take

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)
        self.number: int = transport.get_extra_info("sockname")[1]

    def datagram_received(self, data: bytes, addr: Address) -> None:
        self._take(data, addr)

    def error_received(self, exc: Exception) -> None:
        """Whoever was there has hung up."""


class LossyPath:
    """What goes over one way, audio only; signalling passes whole.

    Args:
        there: SIP address of the product.
        loss: share of the packets that are lost, each by itself.
        jitter_s: each packet waits a random time up to this.
        seed: of both.

    Attributes:
        passed: packets of audio, both ways.
        dropped: those that were lost.
    """

    def __init__(self, there: Address, loss: float, jitter_s: float, seed: int) -> None:
        self._there, self._loss, self._jitter_s = there, loss, jitter_s
        self._draw = random.Random(seed)
        self._here: Address | None = None
        self._open: list[_Port] = []
        self._phone: Address | None = None
        self._product: Address | None = None
        self.passed = self.dropped = 0

    @property
    def port(self) -> int:
        """Of SIP, for the telephone."""
        return self._signalling.number

    async def open(self) -> None:
        """Take the ports: one of SIP, and those of the audio of one call."""
        self._signalling = await self._new(self._pass_signal)
        # What the product sends its sound to, and what the telephone does.
        self._facing_product = await self._new(lambda data, _: self._pass(data, to_product=False))
        self._facing_phone = await self._new(lambda data, _: self._pass(data, to_product=True))

    def close(self) -> None:
        """Give the ports back."""
        for port in self._open:
            port.transport.close()

    def settle(self, loss: float, jitter_s: float) -> None:
        """Be a better path, or a worse one, from now on."""
        self._loss, self._jitter_s = loss, jitter_s

    async def _new(self, take: Callable[[bytes, Address], None]) -> _Port:
        loop = asyncio.get_running_loop()
        _, port = await loop.create_datagram_endpoint(
            lambda: _Port(take), local_addr=("127.0.0.1", 0)
        )
        self._open.append(port)
        return port

    def _pass_signal(self, data: bytes, source: Address) -> None:
        to_product = source != self._there
        if to_product:
            self._here = source
        audio = _AUDIO.search(data)
        if audio and to_product:
            self._phone = ("127.0.0.1", int(audio[1]))
            data = _described(data, self._facing_product.number)
        elif audio:
            self._product = ("127.0.0.1", int(audio[1]))
            data = _described(data, self._facing_phone.number)
        target = self._there if to_product else self._here
        if target is not None:
            self._signalling.transport.sendto(data, target)

    def _pass(self, data: bytes, *, to_product: bool) -> None:
        # It leaves from the port that answers are sent to.
        sender = self._facing_product if to_product else self._facing_phone
        target = self._product if to_product else self._phone
        if target is None:
            return
        if self._draw.random() < self._loss:
            self.dropped += 1
            return
        self.passed += 1
        wait_s = self._draw.uniform(0, self._jitter_s)
        loop = asyncio.get_running_loop()
        loop.call_later(wait_s, self._forward, sender, data, target)

    @staticmethod
    def _forward(sender: _Port, data: bytes, target: Address) -> None:
        if not sender.transport.is_closing():
            sender.transport.sendto(data, target)


def _described(message: bytes, port: int) -> bytes:
    """The same message with another port for its audio."""
    head, _, body = message.partition(b"\r\n\r\n")
    body = _RTCP.sub(b"", _AUDIO.sub(b"m=audio %d " % port, body))
    head = _LENGTH.sub(b"Content-Length: %d" % len(body), head)
    return head + b"\r\n\r\n" + body


@contextlib.asynccontextmanager
async def lossy_path(
    port: int, *, loss: float = 0.0, jitter_s: float = 0.0, seed: int = 6
) -> AsyncIterator[LossyPath]:
    """A path to the product's SIP port on 127.0.0.1, for one call."""
    path = LossyPath(("127.0.0.1", port), loss, jitter_s, seed)
    await path.open()
    try:
        yield path
    finally:
        path.close()
