"""What a call negotiated, read from the peer's session description."""

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Negotiated", "read_description"]

_STATIC = {"0": "PCMU/8000", "8": "PCMA/8000", "9": "G722/8000"}
"""Payload types that need no ``rtpmap`` (RFC 3551, table 4)."""


@dataclass(frozen=True, slots=True)
class Negotiated:
    """What the peer's session description says.

    Attributes:
        codec: name and clock rate as in ``rtpmap``, of the first codec that we have; or empty.
        encrypted: ``sdes``, ``dtls`` or empty.
    """

    codec: str = ""
    encrypted: str = ""


def read_description(body: str, codecs: Sequence[str]) -> Negotiated:
    """Read a peer's session description (RFC 8866).

    Args:
        body: the description; other lines around it do no harm.
        codecs: names of those that we have, in lower case.
    """
    formats: list[str] = []
    names = dict(_STATIC)
    encrypted = ""
    for line in body.splitlines():
        if line.startswith("m=audio "):
            formats = line.split()[3:]
        elif line.startswith("a=rtpmap:"):
            kind, _, name = line[len("a=rtpmap:") :].partition(" ")
            names[kind] = "/".join(name.split("/")[:2])
        elif line.startswith("a=crypto:"):
            encrypted = "sdes"
        elif line.startswith("a=fingerprint:"):
            encrypted = "dtls"
    known = (names.get(kind, "") for kind in formats)
    codec = next((name for name in known if name.split("/")[0].lower() in codecs), "")
    return Negotiated(codec=codec, encrypted=encrypted)
