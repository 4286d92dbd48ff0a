"""What a call negotiated, read from the stack's trace of SIP messages.

The stack's events tell neither the codec nor whether the audio is encrypted; its messages do.
"""

import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

__all__ = ["Negotiated", "SipTrace", "read_description"]

_STATIC = {"0": "PCMU/8000", "8": "PCMA/8000", "9": "G722/8000"}
"""Payload types that need no ``rtpmap`` (RFC 3551, table 4)."""

_CALL_ID = re.compile(r"^(?:call-id|i)\s*:\s*(\S+)", re.IGNORECASE | re.MULTILINE)


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


class SipTrace(logging.Handler):
    """Reads the peers' session descriptions from the stack's trace; the messages go no further.

    Args:
        tell: told of each description: Call-ID, and the message with it. Called
            on a thread of the stack's.
    """

    def __init__(self, tell: Callable[[str, str], None]) -> None:
        super().__init__(logging.DEBUG)
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        """Take one message: a line with its direction, and the message itself."""
        direction, _, text = record.getMessage().partition("\n")
        call_id = _CALL_ID.search(text)
        if direction.startswith("RX") and "\nm=audio " in text and call_id is not None:
            self._tell(call_id[1], text)
