"""A DNS server on loopback that knows what it is told."""

import asyncio
import socket
from collections.abc import Iterable
from typing import Self, cast

import dns.asyncresolver
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset

__all__ = ["DnsServer"]


class DnsServer(asyncio.DatagramProtocol):
    """Answers from a zone.

    Args:
        zone: lines such as ``example.com. A 127.0.0.1``.
        silent: types of questions that get no answer at all.
    """

    def __init__(self, zone: Iterable[str], silent: Iterable[str] = ()) -> None:
        self._records: dict[tuple[dns.name.Name, str], list[str]] = {}
        self.change(zone)
        self._silent = set(silent)
        self.asked: list[str] = []

    def change(self, zone: Iterable[str]) -> None:
        """Know something else from now on."""
        self._records.clear()
        for line in zone:
            name, kind, data = line.split(maxsplit=2)
            self._records.setdefault((dns.name.from_text(name), kind), []).append(data)

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        await loop.create_datagram_endpoint(lambda: self, local_addr=("127.0.0.1", 0))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._transport.abort()

    @property
    def resolver(self) -> dns.asyncresolver.Resolver:
        """Asks this server."""
        resolver = dns.asyncresolver.Resolver(configure=False)
        resolver.nameservers = ["127.0.0.1"]
        own: socket.socket = self._transport.get_extra_info("socket")
        resolver.port = own.getsockname()[1]
        return resolver

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # asyncio's own is no subclass of what it is typed as.
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        query = dns.message.from_wire(data)
        question = query.question[0]
        kind = dns.rdatatype.to_text(question.rdtype)
        self.asked.append(f"{question.name} {kind}")
        if kind in self._silent:
            return
        response = dns.message.make_response(query)
        response.flags |= dns.flags.RA
        found = self._records.get((question.name, kind))
        if found:
            response.answer.append(dns.rrset.from_text(question.name, 60, "IN", kind, *found))
        elif not any(name == question.name for name, _ in self._records):
            response.set_rcode(dns.rcode.NXDOMAIN)
        self._transport.sendto(response.to_wire(), addr)
