"""SIP messages: bytes in, a request or a response out, and back (RFC 3261, section 7).

What is not asked for is not looked at: headers keep their order and their text, so a message
that is passed on leaves as it came. Addresses, URIs and the like inside headers are parsed by
``sipmessage`` where somebody asks for them.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import sipmessage

from talkpath.agent.errors import TalkpathError

__all__ = [
    "COMPACT",
    "LARGEST",
    "Headers",
    "Message",
    "Request",
    "Response",
    "SipParseError",
    "parse_message",
    "split_list",
]

LARGEST = 65_535
"""Bytes of the largest message: what fits into a UDP datagram."""

_MOST_HEADERS = 256
_LONGEST_LINE = 8192

COMPACT = {
    "a": "accept-contact",
    "b": "referred-by",
    "c": "content-type",
    "d": "request-disposition",
    "e": "content-encoding",
    "f": "from",
    "i": "call-id",
    "j": "reject-contact",
    "k": "supported",
    "l": "content-length",
    "m": "contact",
    "o": "event",
    "r": "refer-to",
    "s": "subject",
    "t": "to",
    "u": "allow-events",
    "v": "via",
    "x": "session-expires",
    "y": "identity",
}
"""Short names of headers (the registry of SIP parameters at IANA)."""


class SipParseError(TalkpathError):
    """Bytes that are no SIP message, or a header that is not what its name says."""


def _key(name: str) -> str:
    lower = name.lower()
    return COMPACT.get(lower, lower)


class Headers:
    """Headers in their order, with names that match in any case and in their short form."""

    def __init__(self, items: Iterable[tuple[str, str]] = ()) -> None:
        self._items: list[tuple[str, str]] = list(items)

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._items)

    def __contains__(self, name: str) -> bool:
        return self.get(name) is not None

    def copy(self) -> "Headers":
        """A copy that can be changed on its own."""
        return Headers(self._items)

    def get(self, name: str) -> str | None:
        """The first value of a header, or None."""
        key = _key(name)
        return next((value for own, value in self._items if _key(own) == key), None)

    def all(self, name: str) -> list[str]:
        """All values of a header, those of a comma-separated list apart."""
        key = _key(name)
        lines = (value for own, value in self._items if _key(own) == key)
        return [item for line in lines for item in split_list(line)]

    def set(self, name: str, *values: str) -> None:
        """Replace a header where it first stands, or add it at the end; no value removes it."""
        key = _key(name)
        place = next((i for i, (own, _) in enumerate(self._items) if _key(own) == key), None)
        place = len(self._items) if place is None else place
        rest = [item for item in self._items[place:] if _key(item[0]) != key]
        self._items[place:] = [(name, value) for value in values] + rest

    def push(self, name: str, value: str) -> None:
        """Put a value before all others of its name, as ``Via`` and ``Record-Route`` want it."""
        key = _key(name)
        place = next((i for i, (own, _) in enumerate(self._items) if _key(own) == key), 0)
        self._items.insert(place, (name, value))

    def pop(self, name: str) -> str | None:
        """Take away the first value of a header, of a list only its first item."""
        values = self.all(name)
        if not values:
            return None
        self.set(name, *values[1:])
        return values[0]


@dataclass(slots=True)
class Message:
    """What requests and responses have in common.

    Attributes:
        headers: without ``Content-Length``, which is always the body's own.
        body: bytes, often a session description.
    """

    headers: Headers = field(default_factory=Headers)
    body: bytes = b""

    @property
    def call_id(self) -> str:
        """``Call-ID``.

        Raises:
            SipParseError: there is none. The same holds for the properties that follow.
        """
        return self._need("Call-ID")

    @property
    def cseq(self) -> tuple[int, str]:
        """Number and method of ``CSeq``."""
        number, _, method = self._need("CSeq").partition(" ")
        if not (number.isascii() and number.isdigit() and len(number) <= 10):
            raise SipParseError("CSeq has no number")
        if int(number) >= 2**31 or not method.strip():
            raise SipParseError("CSeq is not a number below 2**31 and a method")
        return int(number), method.strip()

    @property
    def from_(self) -> sipmessage.Address:
        """``From``."""
        return self._address("From")

    @property
    def to(self) -> sipmessage.Address:
        """``To``."""
        return self._address("To")

    @property
    def contact(self) -> sipmessage.Address:
        """The first ``Contact``."""
        return self._address("Contact")

    @property
    def via(self) -> sipmessage.Via:
        """The top ``Via``."""
        values = self.headers.all("Via")
        if not values:
            raise SipParseError("Via is missing")
        try:
            return sipmessage.Via.parse(values[0])
        except ValueError as error:
            raise SipParseError(f"Via cannot be read: {error}") from error

    def tag(self, name: str) -> str | None:
        """The tag of ``From`` or ``To``, or None."""
        return self._address(name).parameters.get("tag")

    def _need(self, name: str) -> str:
        value = self.headers.get(name)
        if not value:
            raise SipParseError(f"{name} is missing")
        return value

    def _address(self, name: str) -> sipmessage.Address:
        values = split_list(self._need(name))
        try:
            return sipmessage.Address.parse(values[0])
        except (ValueError, IndexError) as error:
            raise SipParseError(f"{name} cannot be read: {error}") from error

    def _bytes(self, start: str) -> bytes:
        lines = [start, *(f"{name}: {value}" for name, value in self.headers)]
        lines.append(f"Content-Length: {len(self.body)}")
        text = "\r\n".join(lines) + "\r\n\r\n"
        return text.encode("utf-8", "surrogateescape") + self.body


@dataclass(slots=True)
class Request(Message):
    """A request.

    Attributes:
        method: as it came; methods tell capitals from small letters.
        uri: the request's target, as text.
    """

    method: str = ""
    uri: str = ""

    @property
    def target(self) -> sipmessage.URI:
        """The request's target.

        Raises:
            SipParseError: it is none of SIP's or a telephone's.
        """
        try:
            return sipmessage.URI.parse(self.uri)
        except ValueError as error:
            raise SipParseError(f"the request's URI cannot be read: {error}") from error

    def __bytes__(self) -> bytes:
        return self._bytes(f"{self.method} {self.uri} SIP/2.0")

    def copy(self) -> "Request":
        """A copy whose headers can be changed on their own."""
        return Request(self.headers.copy(), self.body, self.method, self.uri)


@dataclass(slots=True)
class Response(Message):
    """A response.

    Attributes:
        status: 100 to 699.
        reason: a phrase.
    """

    status: int = 0
    reason: str = ""

    def __bytes__(self) -> bytes:
        return self._bytes(f"SIP/2.0 {self.status} {self.reason}")

    def copy(self) -> "Response":
        """A copy whose headers can be changed on their own."""
        return Response(self.headers.copy(), self.body, self.status, self.reason)


def parse_message(data: bytes) -> Request | Response:
    """Read one message.

    Args:
        data: one datagram, or as much of a stream as ``Content-Length`` says.

    Raises:
        SipParseError: it is none; nothing else is ever raised.
    """
    if len(data) > LARGEST:
        raise SipParseError(f"a message of {len(data)} bytes")
    head, blank, body = data.lstrip(b"\r\n").partition(b"\r\n\r\n")
    if not blank:
        raise SipParseError("the headers do not end")
    start, *lines = _unfolded(head.decode("utf-8", "surrogateescape").split("\r\n"))
    headers = Headers(_header(line) for line in lines)
    length = _length(headers, len(body))
    headers.set("Content-Length")
    first, _, rest = start.partition(" ")
    second, _, third = rest.partition(" ")
    if first == "SIP/2.0":
        if (
            len(second) != 3
            or not (second.isascii() and second.isdigit())
            or second[0] not in "123456"
        ):
            raise SipParseError("no status of three digits")
        return Response(headers, body[:length], int(second), third)
    if third != "SIP/2.0" or not first or not second:
        raise SipParseError("neither a request nor a response")
    if not first.isascii() or not all(c.isalnum() or c in "-.!%*_+`'~" for c in first):
        raise SipParseError("a method that is no token")
    return Request(headers, body[:length], first, second)


def split_list(value: str) -> list[str]:
    """The items of a comma-separated list; commas in quotes and angle brackets part nothing."""
    if "," not in value:
        return [value.strip()] if value.strip() else []
    items, start, quoted, angle, skip = [], 0, False, False, False
    for i, char in enumerate(value):
        if skip:
            skip = False
        elif quoted:
            skip, quoted = char == "\\", char != '"'
        elif char == '"':
            quoted = True
        elif char in "<>":
            angle = char == "<"
        elif char == "," and not angle:
            items.append(value[start:i].strip())
            start = i + 1
    items.append(value[start:].strip())
    return [item for item in items if item]


def _unfolded(lines: list[str]) -> list[str]:
    """Lines whose continuations, which begin with a blank, are joined to them."""
    whole: list[str] = []
    for line in lines:
        if line[:1] in (" ", "\t") and whole:
            whole[-1] += " " + line.strip()
        else:
            whole.append(line)
        if len(whole) > _MOST_HEADERS or len(whole[-1]) > _LONGEST_LINE:
            raise SipParseError("more headers, or longer ones, than anybody needs")
    return whole


def _header(line: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    name = name.rstrip()
    if (
        not colon
        or not name
        or not name.isascii()
        or any(c in name for c in ' \t()<>@,;\\"/[]?={}')
    ):
        raise SipParseError("a line that is no header")
    value = value.strip()
    if "\n" in value or "\r" in value or "\0" in value:
        raise SipParseError(f"{name} has a line break or a zero in it")
    return name, value


def _length(headers: Headers, there: int) -> int:
    """How much of the body counts."""
    values = {value.strip() for value in headers.all("Content-Length")}
    if not values:
        return there
    value = values.pop()
    if values or not (value.isascii() and value.isdigit() and len(value) <= 6):
        raise SipParseError("Content-Length is no number")
    if int(value) > there:
        raise SipParseError("the body is shorter than Content-Length says")
    return int(value)
