"""What the edge changes in messages that pass it: pure functions on headers and addresses."""

import ipaddress
import re
from collections.abc import Iterable

import sipmessage

from talkpath.agent.sip.message import Headers, Request, Response
from talkpath.agent.sip_sections import PRIVATE_NETWORKS

__all__ = [
    "DEFAULT_PORTS",
    "REASONS",
    "add_received",
    "host_port",
    "is_ip",
    "is_private",
    "reply_address",
    "respond",
    "set_headers",
    "sip_host",
    "uri_address",
]

DEFAULT_PORTS = {"udp": 5060, "tcp": 5060, "tls": 5061}
"""RFC 3261, 19.1.2."""

REASONS = {
    100: "Trying",
    180: "Ringing",
    183: "Session Progress",
    200: "OK",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    420: "Bad Extension",
    480: "Temporarily Unavailable",
    481: "Call/Transaction Does Not Exist",
    482: "Loop Detected",
    483: "Too Many Hops",
    486: "Busy Here",
    487: "Request Terminated",
    488: "Not Acceptable Here",
    500: "Server Internal Error",
    503: "Service Unavailable",
    603: "Decline",
}
"""Phrases of RFC 3261, 21, for the statuses that are said here."""


_PRIVATE = tuple(map(ipaddress.ip_network, PRIVATE_NETWORKS))
_ECHOED = ("via", "v", "from", "f", "to", "t", "call-id", "i", "cseq")


def sip_host(address: str) -> str:
    """An IP address as it stands in a URI or a ``Via``: version 6 in brackets."""
    return f"[{address}]" if ":" in address else address


def host_port(host: str, port: int) -> str:
    """Host and port as they stand in a URI or a ``Via``."""
    return f"{sip_host(host)}:{port}"


def uri_address(uri: sipmessage.URI) -> tuple[str, int]:
    """Host and port that a SIP URI names, the port by default that of its transport."""
    transport = (uri.parameters.get("transport") or "udp").lower()
    secure = uri.scheme == "sips" or transport == "tls"
    port = uri.port or DEFAULT_PORTS["tls" if secure else "udp"]
    return uri.host.strip("[]"), port


def add_received(via: str, host: str, port: int) -> str:
    """Note in a ``Via`` where its request came from (RFC 3261, 18.2.1; RFC 3581)."""
    noted = re.sub(r";\s*(received|rport)\s*(=[^;]*)?(?=;|$)", "", via, flags=re.IGNORECASE)
    return f"{noted};received={host};rport={port}"


def reply_address(via: sipmessage.Via, host: str, port: int) -> tuple[str, int]:
    """Where responses over UDP go (RFC 3261, 18.2.2; RFC 3581).

    Args:
        via: the top one of the request, as it came.
        host: address that the request came from.
        port: its port, which is right only where the peer asks for that by ``rport``.
    """
    if "rport" in via.parameters:
        return host, port
    return host, via.port or DEFAULT_PORTS["udp"]


def respond(
    request: Request,
    status: int,
    reason: str = "",
    *,
    tag: str = "",
    headers: Iterable[tuple[str, str]] = (),
) -> Response:
    """Answer a request without its stack (RFC 3261, 8.2.6).

    Args:
        request: what is answered.
        status: 100 to 699.
        reason: a phrase; the usual one by default.
        tag: for ``To``, where it has none.
        headers: more of them.
    """
    kept = Headers(item for item in request.headers if item[0].lower() in _ECHOED)
    response = Response(kept, b"", status, reason or REASONS.get(status, "Refused"))
    to = response.headers.get("To")
    if to and tag and status > 100 and request.tag("To") is None:
        response.headers.set("To", f"{to};tag={tag}")
    set_headers(response, headers)
    return response


def set_headers(message: Request | Response, headers: Iterable[tuple[str, str]]) -> None:
    """Put headers into a message, in place of those of the same name; a name may repeat."""
    values: dict[str, list[str]] = {}
    for name, value in headers:
        values.setdefault(name, []).append(value)
    for name, several in values.items():
        message.headers.set(name, *several)


def is_ip(host: str) -> bool:
    """Whether a host is an address, not a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def is_private(address: str) -> bool:
    """Whether an address can be reached within its own network only."""
    if not is_ip(address):
        return False
    parsed = ipaddress.ip_address(address)
    return any(parsed.version == net.version and parsed in net for net in _PRIVATE)
