"""What a carrier is told over HTTP: bring the call's audio to a WebSocket, or say that we are busy.

Twilio reads TwiML, Telnyx TeXML, Plivo XML of its own, Vonage an NCCO, Exotel a JSON object with
the address. Genesys asks nothing: its address stands in its settings.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from xml.sax.saxutils import escape, quoteattr

from talkpath.agent.carrier_access import Facts

__all__ = ["ASKING", "Document", "busy_document", "read_facts", "stream_document"]

_XML = "application/xml"
_JSON = "application/json"
_PARAMETERS = 64
_CHARACTERS = 256
_DECLARATION = '<?xml version="1.0" encoding="UTF-8"?>\n'


@dataclass(frozen=True, slots=True)
class Document:
    """An answer to a carrier: its media type and its text."""

    media_type: str
    text: str


def _twilio(url: str) -> Document:
    stream = f"<Stream url={quoteattr(url)}/>"
    return Document(_XML, f"{_DECLARATION}<Response><Connect>{stream}</Connect></Response>")


def _telnyx(url: str) -> Document:
    stream = (
        f'<Stream url={quoteattr(url)} track="inbound_track" codec="PCMU" '
        'bidirectionalMode="rtp" bidirectionalCodec="PCMU"/>'
    )
    return Document(_XML, f"{_DECLARATION}<Response><Connect>{stream}</Connect></Response>")


def _plivo(url: str) -> Document:
    stream = (
        '<Stream bidirectional="true" keepCallAlive="true" audioTrack="inbound" '
        f'contentType="audio/x-mulaw;rate=8000">{escape(url)}</Stream>'
    )
    return Document(_XML, f"{_DECLARATION}<Response>{stream}</Response>")


def _exotel(url: str) -> Document:
    return Document(_JSON, json.dumps({"url": url}))


def _vonage(url: str) -> Document:
    endpoint = {"type": "websocket", "uri": url, "content-type": "audio/l16;rate=16000"}
    return Document(_JSON, json.dumps([{"action": "connect", "endpoint": [endpoint]}]))


_STREAMS: Mapping[str, Callable[[str], Document]] = {
    "twilio": _twilio,
    "telnyx": _telnyx,
    "plivo": _plivo,
    "exotel": _exotel,
    "vonage": _vonage,
}

ASKING = tuple(_STREAMS)
"""The carriers that ask over HTTP what to do with a call."""

_BUSY = {
    "twilio": '<Reject reason="busy"/>',
    "telnyx": '<Reject reason="busy"/>',
    "plivo": '<Hangup reason="busy"/>',
}

# What each calls the call, its caller, and the number called.
_NAMES = {
    "twilio": ("CallSid", "From", "To"),
    "telnyx": ("CallSid", "From", "To"),
    "plivo": ("CallUUID", "From", "To"),
    "exotel": ("CallSid", "CallFrom", "CallTo"),
    "vonage": ("uuid", "from", "to"),
}


def stream_document(carrier: str, url: str) -> Document:
    """Tell one of ``ASKING`` to bring the call to a WebSocket's URL."""
    return _STREAMS[carrier](url)


def busy_document(carrier: str) -> Document | None:
    """Tell a carrier that no further call is taken; None where only a failure says that."""
    if carrier not in _BUSY:
        return None
    return Document(_XML, f"{_DECLARATION}<Response>{_BUSY[carrier]}</Response>")


def read_facts(
    carrier: str, query: Iterable[tuple[str, str]], form: Iterable[tuple[str, str]]
) -> Facts:
    """Take from a request what the bot wants to know; what is too long is left out.

    Args:
        carrier: one of ``ASKING``.
        query: names and values in the URL; those that are not the carrier's own and not the
            token become parameters.
        form: names and values in the body.
    """
    asked = {name: value for name, value in query if max(len(name), len(value)) <= _CHARACTERS}
    told = {name: value for name, value in form if len(value) <= _CHARACTERS}
    names = _NAMES[carrier]
    call_id, from_number, to_number = (told.get(name) or asked.get(name, "") for name in names)
    rest = [item for item in asked.items() if item[0] not in (*names, "token")]
    return Facts(carrier, call_id, from_number, to_number, dict(rest[:_PARAMETERS]))
