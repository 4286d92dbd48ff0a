"""Which codec a call has, read from the peer's session description."""

from collections.abc import Sequence

__all__ = ["first_codec"]

_STATIC = {"0": "PCMU/8000", "8": "PCMA/8000", "9": "G722/8000"}
"""Payload types that need no ``rtpmap`` (RFC 3551, table 4)."""


def first_codec(description: str, codecs: Sequence[str]) -> str:
    """The first codec of a description (RFC 8866) that we have, which is the one we send in.

    Args:
        description: lines that are none of a description's do no harm.
        codecs: names of those that we have, in lower case.

    Returns:
        Name and clock rate in Hz, as ``PCMU/8000``; empty where there is none.
    """
    formats: list[str] = []
    names = dict(_STATIC)
    for line in description.splitlines():
        if line.startswith("m=audio "):
            formats = line.split()[3:]
        elif line.startswith("a=rtpmap:"):
            kind, _, name = line[len("a=rtpmap:") :].partition(" ")
            names[kind] = "/".join(name.split("/")[:2])
    known = (names.get(kind, "") for kind in formats)
    return next((name for name in known if name.split("/")[0].lower() in codecs), "")
