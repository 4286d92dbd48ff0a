"""Carriers that bring calls over a WebSocket: their first messages, and who may call.

Nothing here does input or output. A carrier's messages are those that it documents:

==========  ====================================================  ========================
carrier     first messages                                        audio
==========  ====================================================  ========================
Twilio      ``connected``, ``start``                              mu-law, 8 kHz
Telnyx      ``connected``, ``start``                              mu-law or A-law, 8 kHz
Plivo       ``start``                                             mu-law, 8 kHz
Exotel      ``connected``, ``start``                              16-bit, 8, 16 or 24 kHz
Vonage      ``websocket:connected``                               16-bit, 8, 16 or 24 kHz
Genesys     ``open`` (AudioHook 2)                                mu-law, 8 kHz
==========  ====================================================  ========================

All that they say is checked: strings are short, there are few of them, and a call whose audio
we could not read is refused.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from talkpath.agent.errors import TalkpathError

__all__ = ["CARRIERS", "CarrierCall", "Handshake", "HandshakeError"]

CARRIERS = ("twilio", "telnyx", "plivo", "exotel", "vonage", "genesys")

_MESSAGES = 3  # the first that is a start must be among them
_MESSAGE_CHARACTERS = 16 * 1024
_ID_CHARACTERS = 256
_PARAMETERS = 64
_VALUE_CHARACTERS = 1024
_PCM_RATES_HZ = (8_000, 16_000, 24_000)
_NOBODY = "00000000-0000-0000-0000-000000000000"  # Genesys tries a connection with this call


class HandshakeError(TalkpathError):
    """The first messages of a connection are not what its carrier sends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CarrierCall:
    """A call as its carrier announced it; numbers and parameters are the caller's word.

    Attributes:
        carrier: one of ``CARRIERS``.
        call_id: the carrier's name for the call; empty where it tells none.
        stream_id: its name for this stream of audio, or empty.
        account_id: the account that the call is charged to, or empty.
        from_number: who calls, or empty.
        to_number: who was called, or empty.
        encoding: ``mulaw``, ``alaw`` or ``pcm16``.
        rate_hz: samples a second.
        parameters: what the owner of the account attached to the call.
        probe: whether nobody calls: the carrier only tries the connection.
    """

    carrier: str
    call_id: str = ""
    stream_id: str = ""
    account_id: str = ""
    from_number: str = ""
    to_number: str = ""
    encoding: str = "mulaw"
    rate_hz: int = 8_000
    parameters: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    probe: bool = False

    def body(self) -> dict[str, Any]:
        """What a bot gets as ``runner_args.body``."""
        return {
            "carrier": self.carrier,
            "call_id": self.call_id,
            "stream_id": self.stream_id,
            "account_id": self.account_id,
            "from": self.from_number,
            "to": self.to_number,
            "parameters": dict(self.parameters),
        }


class Handshake:
    """Reads the first messages of one connection.

    Args:
        carrier: who called, one of ``CARRIERS``.
    """

    def __init__(self, carrier: str) -> None:
        self._carrier = carrier
        self._read = _READERS[carrier]
        self._messages = 0

    def receive(self, message: str | bytes) -> CarrierCall | None:
        """Take the next message; the call, once it is announced.

        Raises:
            HandshakeError: this is no first message of the carrier's, or says nothing usable.
        """
        self._messages += 1
        if self._messages > _MESSAGES:
            raise HandshakeError(f"{_MESSAGES} messages and no call")
        content = self._decoded(message)
        if content.get("event") == "connected" and self._carrier in ("twilio", "telnyx", "exotel"):
            return None
        return self._read(content)

    def _decoded(self, message: str | bytes) -> dict[str, Any]:
        if isinstance(message, bytes):
            raise HandshakeError("audio before the call was announced")
        if len(message) > _MESSAGE_CHARACTERS:
            raise HandshakeError(f"a first message of {len(message)} characters")
        try:
            content = json.loads(message)
        except (ValueError, RecursionError) as error:
            raise HandshakeError("a first message that is not JSON") from error
        if not isinstance(content, dict):
            raise HandshakeError("a first message that is no JSON object")
        return content


# -- one reader a carrier --------------------------------------------------------------------


def _twilio(message: dict[str, Any]) -> CarrierCall:
    start = _start(message)
    _need_mulaw(_object(start, "mediaFormat"), "sampleRate")
    return CarrierCall(
        carrier="twilio",
        call_id=_text(start, "callSid", needed=True),
        stream_id=_text(start, "streamSid", needed=True),
        account_id=_text(start, "accountSid"),
        parameters=_parameters(start.get("customParameters")),
    )


def _telnyx(message: dict[str, Any]) -> CarrierCall:
    start = _start(message)
    media = _object(start, "media_format")
    encoding = {"PCMU": "mulaw", "PCMA": "alaw"}.get(_text(media, "encoding") or "PCMU")
    if encoding is None or _rate_hz(media, "sample_rate") != 8_000:
        raise HandshakeError("audio that is neither PCMU nor PCMA at 8000 Hz")
    return CarrierCall(
        carrier="telnyx",
        call_id=_text(start, "call_control_id", needed=True),
        stream_id=_text(message, "stream_id", needed=True),
        account_id=_text(start, "user_id"),
        from_number=_text(start, "from"),
        to_number=_text(start, "to"),
        encoding=encoding,
        parameters=_parameters(start.get("custom_parameters")),
    )


def _plivo(message: dict[str, Any]) -> CarrierCall:
    start = _start(message)
    _need_mulaw(_object(start, "mediaFormat"), "sampleRate")
    return CarrierCall(
        carrier="plivo",
        call_id=_text(start, "callId", needed=True),
        stream_id=_text(start, "streamId", needed=True),
        account_id=_text(start, "accountId"),
        parameters=_parameters(message.get("extra_headers")),
    )


def _exotel(message: dict[str, Any]) -> CarrierCall:
    start = _start(message)
    rate_hz = _rate_hz(_object(start, "media_format"), "sample_rate")
    if rate_hz not in _PCM_RATES_HZ:
        raise HandshakeError(f"audio at {rate_hz} Hz")
    return CarrierCall(
        carrier="exotel",
        call_id=_text(start, "call_sid", needed=True),
        stream_id=_text(start, "stream_sid", needed=True),
        account_id=_text(start, "account_sid"),
        from_number=_text(start, "from"),
        to_number=_text(start, "to"),
        encoding="pcm16",
        rate_hz=rate_hz,
        parameters=_parameters(start.get("custom_parameters")),
    )


def _vonage(message: dict[str, Any]) -> CarrierCall:
    if message.get("event") != "websocket:connected":
        raise HandshakeError("a first message that announces no call")
    kind = _text(message, "content-type", needed=True)
    match = re.fullmatch(r"audio/l16; ?rate=(\d{4,5})", kind)
    if match is None or (rate_hz := int(match[1])) not in _PCM_RATES_HZ:
        raise HandshakeError(f"audio of the type {kind!r}")
    own = {"event", "content-type", "headers"}
    rest = {name: value for name, value in message.items() if name not in own}
    return CarrierCall(
        carrier="vonage",
        call_id=_text(message, "uuid"),
        encoding="pcm16",
        rate_hz=rate_hz,
        parameters=_parameters(message.get("headers") or rest),
    )


def _genesys(message: dict[str, Any]) -> CarrierCall:
    if message.get("type") != "open" or message.get("version") != "2":
        raise HandshakeError("a first message that opens no session of AudioHook 2")
    details = _object(message, "parameters")
    media = details.get("media")
    offers = media if isinstance(media, list) else []
    if not any(_is_genesys_mulaw(offer) for offer in offers[:16]):
        raise HandshakeError("no offer of PCMU at 8000 Hz")
    participant = _object(details, "participant")
    call_id = _text(details, "conversationId", needed=True)
    return CarrierCall(
        carrier="genesys",
        call_id=call_id,
        stream_id=_text(message, "id", needed=True),
        account_id=_text(details, "organizationId"),
        from_number=_text(participant, "ani"),
        to_number=_text(participant, "dnis"),
        parameters=_parameters(details.get("inputVariables")),
        probe=call_id == _NOBODY,
    )


_READERS: Mapping[str, Callable[[dict[str, Any]], CarrierCall]] = {
    "twilio": _twilio,
    "telnyx": _telnyx,
    "plivo": _plivo,
    "exotel": _exotel,
    "vonage": _vonage,
    "genesys": _genesys,
}


# -- what they have in common ----------------------------------------------------------------


def _start(message: dict[str, Any]) -> dict[str, Any]:
    if message.get("event") != "start":
        raise HandshakeError("a first message that announces no call")
    return _object(message, "start", needed=True)


def _object(content: Mapping[str, Any], name: str, *, needed: bool = False) -> dict[str, Any]:
    value = content.get(name)
    if value is None and not needed:
        return {}
    if not isinstance(value, dict):
        raise HandshakeError(f"{name} is no JSON object")
    return value


def _text(content: Mapping[str, Any], name: str, *, needed: bool = False) -> str:
    value = content.get(name)
    if value is None and not needed:
        return ""
    if not isinstance(value, str) or len(value) > _ID_CHARACTERS or (needed and not value):
        raise HandshakeError(f"{name} is no short text")
    return value


def _rate_hz(media: Mapping[str, Any], name: str) -> int:
    """A rate that some carriers write as a number and some as text; 8 kHz where it is left out."""
    value = media.get(name, 8_000)
    if isinstance(value, str) and re.fullmatch(r"\d{4,5}", value):
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise HandshakeError(f"{name} is no sample rate")
    return value


def _need_mulaw(media: Mapping[str, Any], rate_name: str) -> None:
    encoding = _text(media, "encoding") or "audio/x-mulaw"
    if encoding != "audio/x-mulaw" or _rate_hz(media, rate_name) != 8_000:
        raise HandshakeError(f"audio that is {encoding!r} where mu-law at 8000 Hz is needed")


def _is_genesys_mulaw(offer: Any) -> bool:
    return (
        isinstance(offer, dict)
        and (offer.get("type"), offer.get("format"), offer.get("rate")) == ("audio", "PCMU", 8_000)
        and isinstance(channels := offer.get("channels"), list)
        and "external" in channels
    )


def _parameters(value: Any) -> Mapping[str, str]:
    """Names and values; Plivo sends them as one text, ``a=1;b=2`` or JSON."""
    if isinstance(value, str):
        value = _from_text(value)
    if value is None:
        value = {}
    if not isinstance(value, dict) or len(value) > _PARAMETERS:
        raise HandshakeError(f"parameters that are no object of at most {_PARAMETERS} texts")
    texts = {}
    for name, item in value.items():
        text = item if isinstance(item, str) else json.dumps(item)
        if len(name) > _ID_CHARACTERS or len(text) > _VALUE_CHARACTERS:
            raise HandshakeError("a parameter that is too long")
        texts[name] = text
    return MappingProxyType(texts)


def _from_text(text: str) -> Any:
    if text.lstrip().startswith("{"):
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            raise HandshakeError("parameters that are not JSON") from error
    pairs = (part.partition("=") for part in re.split("[,;&]", text) if part.strip())
    return {name.strip(): value.strip() for name, _, value in pairs}
