"""Messages out of a stream: what TCP and TLS carry (RFC 3261, section 18.3).

A datagram is one message; a stream is cut at each message's ``Content-Length``. Between messages
peers keep the connection alive with line breaks: two ask for one in return (RFC 5626, section
4.4.1).
"""

import re
from dataclasses import dataclass

from talkpath.agent.sip.message import LARGEST, Request, Response, SipParseError, parse_message

__all__ = ["PING", "PONG", "Framed", "MessageFramer", "Ping", "Pong"]

PING = b"\r\n\r\n"
"""Asks whether the connection lives."""

PONG = b"\r\n"
"""Says that it does."""

_LONGEST_HEAD = 32_768
_LENGTH = re.compile(rb"\r\n(?:content-length|l)[ \t]*:[ \t]*([0-9]{1,6})[ \t]*(?=\r\n)", re.I)
_FOLDED = re.compile(rb"\r\n[ \t]+")


@dataclass(frozen=True, slots=True)
class Ping:
    """The peer asks whether the connection lives: answer with ``PONG``."""


@dataclass(frozen=True, slots=True)
class Pong:
    """The peer says that the connection lives."""


Framed = Request | Response | Ping | Pong


class MessageFramer:
    """Cuts one direction of one connection into messages.

    Holds at most one unfinished message, of at most ``largest`` bytes.

    Args:
        largest: bytes of the largest message.
    """

    def __init__(self, largest: int = LARGEST) -> None:
        self._largest = largest
        self._held = bytearray()
        self._looked = 0  # up to here the headers' end is not
        self._whole = 0  # bytes of the message at the beginning; 0 before its headers' end
        self._broken: str | None = None

    def feed(self, data: bytes) -> list[Framed]:
        """Take what came; give what is complete with it.

        Raises:
            SipParseError: this is not SIP, or a message without its length. Where the next
                message begins is unknown then, so the connection has to be closed: the error
                comes again with each call. What was complete before it is lost.
        """
        if self._broken is not None:
            raise SipParseError(self._broken)
        self._held += data
        try:
            return self._complete()
        except SipParseError as error:
            self._broken = str(error)
            self._held.clear()
            raise

    def _complete(self) -> list[Framed]:
        found: list[Framed] = []
        while self._held:
            if not self._whole and self._held[0] in b"\r\n":
                mark = self._line_break()
                if mark is None:
                    break
                found.append(mark)
                continue
            whole = self._whole = self._whole or self._find_end()
            if not whole or len(self._held) < whole:
                break
            found.append(parse_message(bytes(self._held[:whole])))
            self._drop(whole)
        return found

    def _line_break(self) -> Ping | Pong | None:
        """What the line breaks at the beginning mean; None before that is known."""
        if self._held.startswith(PING):
            self._drop(len(PING))
            return Ping()
        if PING.startswith(self._held) and self._held != PONG:
            return None
        if not self._held.startswith(PONG):
            raise SipParseError("a broken line break between messages")
        self._drop(len(PONG))
        return Pong()

    def _find_end(self) -> int:
        """Bytes of the message at the beginning; 0 before its headers end."""
        end = self._held.find(b"\r\n\r\n", self._looked)
        if end < 0:
            if len(self._held) > _LONGEST_HEAD:
                raise SipParseError("headers that do not end")
            self._looked = max(0, len(self._held) - 3)
            return 0
        if end > _LONGEST_HEAD:
            raise SipParseError("headers that are too long")
        head = _FOLDED.sub(b" ", bytes(self._held[: end + 2]))
        lengths = {int(value) for value in _LENGTH.findall(head)}
        if len(lengths) != 1:
            raise SipParseError("a message in a stream needs one Content-Length")
        whole = end + 4 + lengths.pop()
        if whole > self._largest:
            raise SipParseError(f"a message of {whole} bytes")
        return whole

    def _drop(self, count: int) -> None:
        del self._held[:count]
        self._looked = self._whole = 0
