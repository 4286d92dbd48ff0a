"""AudioSocket's messages: a byte that says what, two that say how long (big-endian), the rest.

The kinds are those of Asterisk's ``include/asterisk/res_audiosocket.h``; the rates above 8 kHz
came at the end of 2025 and are for the channel driver's ``c()`` option. Asterisk ends the call when
it is sent anything but audio and a hangup, and older ones do so when a header comes in pieces: a
message must be written at once.
"""

import enum
import uuid
from dataclasses import dataclass

from talkpath.transports.asterisk.errors import WrongMessage
from talkpath.transports.asterisk.formats import FORMATS, AudioFormat

__all__ = [
    "HANGUP",
    "LONGEST_BYTES",
    "Audio",
    "AudioSocketReader",
    "Digit",
    "Failure",
    "HangUp",
    "Identity",
    "Kind",
    "Message",
    "audio_message",
]

LONGEST_BYTES = 0xFFFF
"""Bytes of the longest message that can be, without its three bytes of header."""

_FAILURES = {
    0x00: "no reason given",
    0x01: "the caller hung up",
    0x02: "a frame could not be forwarded",
    0x04: "out of memory",
}
"""Reasons as the protocol's own page lists them."""


class Kind(enum.IntEnum):
    """What a message is."""

    HANGUP = 0x00
    UUID = 0x01
    DTMF = 0x03
    SLIN = 0x10
    SLIN12 = 0x11
    SLIN16 = 0x12
    SLIN24 = 0x13
    SLIN32 = 0x14
    SLIN44 = 0x15
    SLIN48 = 0x16
    SLIN96 = 0x17
    SLIN192 = 0x18
    ERROR = 0xFF


_AUDIO = {kind: FORMATS[kind.name.lower()] for kind in Kind if kind.name.startswith("SLIN")}
_KINDS = {item: kind for kind, item in _AUDIO.items()}


@dataclass(frozen=True, slots=True)
class HangUp:
    """The call is over."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose call it is.

    Attributes:
        id: the UUID that Asterisk's dialplan chose.
    """

    id: uuid.UUID


@dataclass(frozen=True, slots=True)
class Digit:
    """A key of the telephone was pressed.

    Attributes:
        key: one of ``0123456789*#ABCD``.
    """

    key: str


@dataclass(frozen=True, slots=True)
class Audio:
    """A piece of sound.

    Attributes:
        data: whole samples.
        format: what they are.
    """

    data: bytes
    format: AudioFormat


@dataclass(frozen=True, slots=True)
class Failure:
    """Asterisk could not go on.

    Attributes:
        reason: what it says of it.
    """

    reason: str


Message = HangUp | Identity | Digit | Audio | Failure

HANGUP = bytes((Kind.HANGUP, 0, 0))
"""The message that ends the call."""


def audio_message(data: bytes, audio_format: AudioFormat) -> bytes:
    """Give a message with sound in one of the signed linear formats.

    Raises:
        ValueError: there is none, or too much.
    """
    if not 1 <= len(data) <= LONGEST_BYTES:
        raise ValueError(f"a message cannot hold {len(data)} bytes of audio")
    return bytes((_KINDS[audio_format],)) + len(data).to_bytes(2, "big") + data


class AudioSocketReader:
    """Cuts a stream of bytes into messages; holds one message at most."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Message]:
        """Take bytes and give the messages that are complete now.

        Raises:
            WrongMessage: there is a message that Asterisk does not send. Where the next one
                begins is not to be trusted then: the connection should be closed.
        """
        self._buffer += data
        messages = []
        while len(self._buffer) >= 3:
            end = 3 + int.from_bytes(self._buffer[1:3], "big")
            kind = self._kind(self._buffer[0])  # told at once, not when all of it is there
            if len(self._buffer) < end:
                break
            messages.append(_message(kind, bytes(self._buffer[3:end])))
            del self._buffer[:end]
        return messages

    def _kind(self, byte: int) -> Kind:
        try:
            return Kind(byte)
        except ValueError as error:
            raise WrongMessage(f"AudioSocket has no message of kind {byte:#04x}") from error


def _message(kind: Kind, payload: bytes) -> Message:
    if kind is Kind.HANGUP:
        return HangUp()
    if kind is Kind.UUID:
        if len(payload) != 16:
            raise WrongMessage(f"a UUID of {len(payload)} bytes; it must have 16")
        return Identity(uuid.UUID(bytes=payload))
    if kind is Kind.DTMF:
        key = payload.decode("latin-1").upper()
        if len(key) != 1 or key not in "0123456789*#ABCD":
            raise WrongMessage(f"{key[:8]!r} is no key of a telephone")
        return Digit(key)
    if kind is Kind.ERROR:
        code = int.from_bytes(payload, "big")
        return Failure(_FAILURES.get(code, f"code {payload[:8].hex()}"))
    if len(payload) % 2:
        raise WrongMessage(f"{len(payload)} bytes of audio are no 16-bit samples")
    return Audio(payload, _AUDIO[kind])
