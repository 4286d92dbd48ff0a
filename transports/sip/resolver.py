"""From a SIP address to the machines that serve it (RFC 3263): NAPTR, SRV and address records.

A parameter ``maddr`` is not followed: the address that a dial plan permits is the one that is
called.
"""

import asyncio
import ipaddress
import random
import socket
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import dns.asyncresolver
import dns.exception
import dns.resolver
import sipmessage
from loguru import logger

from talkpath.agent.sip.flow import TRANSPORTS, PeerUnreachable, Target

__all__ = ["Service", "resolve", "weighted"]

_QUERY_S = 3.0
_ALL_S = 10.0
_MOST = 16
"""Services, and targets, that are looked at; DNS may name thousands."""

_PORTS = {"udp": 5060, "tcp": 5060, "tls": 5061}
_SERVICES = {"sips+d2t": "tls", "sip+d2t": "tcp", "sip+d2u": "udp"}
_PREFIXES = {"tls": "_sips._tcp", "tcp": "_sip._tcp", "udp": "_sip._udp"}


@dataclass(frozen=True, slots=True)
class Service:
    """A line of SRV (RFC 2782): lower priorities first, by weight among equals."""

    priority: int
    weight: int
    port: int
    host: str


def weighted(
    services: Iterable[Service], draw: Callable[[int, int], int] = random.randint
) -> list[Service]:
    """The order in which services are tried (RFC 2782).

    Args:
        services: in any order.
        draw: gives a random number between two others, both included.
    """
    # Those without a weight come first, so that they have a small chance to be taken.
    left = sorted(services, key=lambda one: (one.priority, one.weight))
    ordered = []
    while left:
        equals = [one for one in left if one.priority == left[0].priority]
        wanted = draw(0, sum(one.weight for one in equals))
        for one in equals:
            wanted -= one.weight
            if wanted <= 0:
                break
        ordered.append(one)
        left.remove(one)
    return ordered


async def resolve(
    uri: sipmessage.URI,
    *,
    secure: bool = False,
    resolver: dns.asyncresolver.Resolver | None = None,
) -> list[Target]:
    """Where to send a request for an address.

    Where DNS leaves the transport open, TLS comes before TCP and UDP if there are SRV records
    for it; without any, it is UDP (TLS for ``sips``).

    Args:
        uri: a SIP address; its ``transport`` and port are respected.
        secure: whether nothing but TLS will do, as with ``sips``.
        resolver: asks DNS; None takes the system's settings, and its file of hosts.

    Returns:
        At least one, in the order in which they are to be tried.

    Raises:
        PeerUnreachable: there is none.
    """
    host = uri.host.strip("[]").rstrip(".")
    wanted = _wanted(uri, secure or uri.scheme == "sips")
    if _numeric(host):
        transport = wanted or "udp"
        return [Target(transport, host, uri.port or _PORTS[transport], host)]
    try:
        async with asyncio.timeout(_ALL_S):
            lookup = _Lookup(host, resolver or await asyncio.to_thread(_system), resolver is None)
            targets = await lookup.targets(wanted, uri.port)
    except TimeoutError:
        raise PeerUnreachable(f"nobody says in time where {host} is") from None
    if not targets:
        raise PeerUnreachable(f"{host} has no address")
    return list(dict.fromkeys(targets))[:_MOST]


class _Lookup:
    """The questions about one name."""

    def __init__(
        self, name: str, resolver: dns.asyncresolver.Resolver | None, system: bool
    ) -> None:
        self._name = name
        # Names without a dot are those of a local network: no zone has services for them.
        self._resolver = resolver if "." in name else None
        self._use_system = system or resolver is None

    async def targets(self, wanted: str, port: int | None) -> list[Target]:
        """All of them, for a transport or, where it is empty, for any."""
        if port:
            return await self._plain(wanted or "udp", self._name, port)
        # Only what the address leaves open is for NAPTR to say.
        found = await self._by_naptr(wanted) if wanted in ("", "tls") else []
        found = found or await self._by_services([wanted] if wanted else list(_PREFIXES))
        if found:
            return found
        transport = wanted or "udp"
        return await self._plain(transport, self._name, _PORTS[transport])

    async def _by_naptr(self, only: str) -> list[Target]:
        records = sorted(
            (record.order, record.preference, service, record.replacement.to_text())
            for record in await self._ask(self._name, "NAPTR")
            if record.flags.decode("ascii", "replace").lower() == "s"
            and (service := record.service.decode("ascii", "replace").lower()) in _SERVICES
            and only in ("", _SERVICES[service])
        )
        found = []
        for _, _, service, name in records[:_MOST]:
            found += await self._services(_SERVICES[service], name)
        return found

    async def _by_services(self, transports: list[str]) -> list[Target]:
        found = await asyncio.gather(
            *(self._services(one, f"{_PREFIXES[one]}.{self._name}") for one in transports)
        )
        return [target for targets in found for target in targets]

    async def _services(self, transport: str, name: str) -> list[Target]:
        services = [
            Service(record.priority, record.weight, record.port, record.target.to_text(True))
            for record in await self._ask(name, "SRV")
        ]
        # A single dot for a host says that the service is not offered.
        known = [one for one in weighted(services) if one.host not in ("", ".")][:_MOST]
        found = await asyncio.gather(*(self._plain(transport, s.host, s.port) for s in known))
        return [target for targets in found for target in targets]

    async def _plain(self, transport: str, host: str, port: int) -> list[Target]:
        addresses = [host] if _numeric(host) else await self._addresses(host)
        return [Target(transport, address, port, self._name) for address in addresses]

    async def _addresses(self, host: str) -> list[str]:
        four, six = await asyncio.gather(self._ask(host, "A"), self._ask(host, "AAAA"))
        found = [record.address for record in (*four, *six)]
        if found or not self._use_system:
            return found
        loop = asyncio.get_running_loop()
        try:
            known = await loop.getaddrinfo(host, None, type=socket.SOCK_DGRAM)
        except OSError as error:
            logger.debug("{}: {}", host, error)
            return []
        return [str(address[0]) for *_, address in known]

    async def _ask(self, name: str, kind: str) -> Sequence[Any]:
        """The records of a name; none where there are none, or nobody answers."""
        if self._resolver is None:
            return ()
        try:
            answer = await self._resolver.resolve(name, kind, lifetime=_QUERY_S, search=False)
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            return ()
        except (dns.exception.DNSException, OSError) as error:
            logger.debug("DNS, {} of {}: {}", kind, name, error)
            return ()
        return list(answer)


def _wanted(uri: sipmessage.URI, secure: bool) -> str:
    """The transport that the address itself demands, or an empty string.

    Raises:
        PeerUnreachable: it is one that we do not have, or not secure where it must be.
    """
    if uri.scheme == "tel" or not uri.host:
        raise PeerUnreachable(f"{uri} names no machine")
    named = (uri.parameters.get("transport") or "").lower()
    if named not in ("", *TRANSPORTS) or (secure and named == "udp"):
        raise PeerUnreachable(f"{uri} cannot be reached by {named}")
    return "tls" if secure else named


def _system() -> dns.asyncresolver.Resolver | None:
    try:
        return dns.asyncresolver.Resolver()
    except dns.resolver.NoResolverConfiguration:
        return None


def _numeric(host: str) -> bool:
    try:
        return bool(ipaddress.ip_address(host))
    except ValueError:
        return False
