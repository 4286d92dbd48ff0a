"""Requests that belong to no call, as the listener itself makes them: REGISTER and OPTIONS."""

import secrets
from collections.abc import Iterable

from talkpath.agent.sip.message import Headers, Request

__all__ = ["new_call_id", "own_request"]


def new_call_id() -> str:
    """A ``Call-ID``, or a tag, that nobody else has."""
    return secrets.token_hex(12)


def own_request(
    method: str,
    uri: str,
    *,
    from_uri: str,
    to_uri: str,
    contact: str,
    user_agent: str,
    call_id: str = "",
    cseq: int = 1,
    extra: Iterable[tuple[str, str]] = (),
) -> Request:
    """A request outside a dialog, without ``Via``.

    Args:
        method: in capitals.
        uri: its target.
        from_uri: who asks, a URI.
        to_uri: whom it is about, a URI.
        contact: where we are, a URI.
        user_agent: who we say we are.
        call_id: empty takes a new one.
        cseq: grows with each request of the same ``Call-ID``.
        extra: further headers.
    """
    headers = Headers(
        [
            ("Max-Forwards", "70"),
            ("From", f"<{from_uri}>;tag={new_call_id()}"),
            ("To", f"<{to_uri}>"),
            ("Call-ID", call_id or new_call_id()),
            ("CSeq", f"{cseq} {method}"),
            ("Contact", f"<{contact}>"),
            ("User-Agent", user_agent),
            *extra,
        ]
    )
    return Request(headers, b"", method, uri)
