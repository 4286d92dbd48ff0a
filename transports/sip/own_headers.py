"""Headers that bots and programs put into messages of ours."""

from collections.abc import Collection, Mapping

from talkpath.agent.sip.message import Request, SipParseError, parse_message
from talkpath.agent.sip.trunks import RESERVED_HEADERS
from talkpath.transports.sip.leg import LegError

__all__ = ["own_headers"]


def own_headers(
    headers: Mapping[str, str], also: Collection[str] = ()
) -> tuple[tuple[str, str], ...]:
    """Check headers: they must not break their message, nor send it elsewhere.

    Args:
        headers: by name.
        also: reserved ones, in small letters, that are allowed here.

    Raises:
        LegError: one would.
    """
    request = Request(method="INVITE", uri="sip:x")
    for name, value in headers.items():
        if name.lower() in RESERVED_HEADERS and name.lower() not in also:
            raise LegError(f"the header {name} is not for bots to set")
        request.headers.set(name, value)
        try:
            back = parse_message(bytes(request)).headers.get(name)
        except SipParseError as error:
            raise LegError(f"{name!r} is no header that can be sent") from error
        if back != value.strip():
            raise LegError(f"the header {name} cannot be sent")
    return tuple(headers.items())
