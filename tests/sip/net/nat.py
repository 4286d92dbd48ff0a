"""A NAT: what goes through it comes from another address, and the way back ends with it."""

import asyncio
from collections.abc import Callable
from typing import Any, Self, cast

__all__ = ["Nat"]

Address = tuple[str, int]


class Nat:
    """Stands between one client and one server, UDP, all on loopback.

    Args:
        server: where the client's datagrams go; they come there from 127.0.0.2.
    """

    def __init__(self, server: Address) -> None:
        self._server = server
        self._client: Address | None = None

    async def __aenter__(self) -> Self:
        self._inside = await _socket("127.0.0.1", self._out)
        self._outside = await _socket("127.0.0.2", self._back)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._inside.abort()
        self._outside.abort()

    @property
    def inside(self) -> Address:
        """What the client takes for the server."""
        return cast(Address, self._inside.get_extra_info("sockname"))

    @property
    def outside(self) -> Address:
        """What the server takes for the client."""
        return cast(Address, self._outside.get_extra_info("sockname"))

    async def forget(self) -> None:
        """Take another port outside, as a NAT does after a silence."""
        before, self._outside = self._outside, await _socket("127.0.0.2", self._back)
        before.abort()

    def _out(self, data: bytes, client: Address) -> None:
        self._client = client
        self._outside.sendto(data, self._server)

    def _back(self, data: bytes, _: Address) -> None:
        if self._client:
            self._inside.sendto(data, self._client)


class _End(asyncio.DatagramProtocol):
    def __init__(self, receive: Callable[[bytes, Address], None]) -> None:
        self._receive = receive

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        self._receive(data, addr)


async def _socket(
    host: str, receive: Callable[[bytes, Address], None]
) -> asyncio.DatagramTransport:
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: _End(receive), (host, 0))
    return transport
