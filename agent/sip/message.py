"""SIP messages: bytes in, a request or a response out, and back (RFC 3261, section 7).

What is not asked for is not looked at: headers keep their order and their text, so a message
that is passed on leaves as it came. Addresses, URIs and the like inside headers are parsed by
``sipmessage`` where somebody asks for them.
"""

import re
import string
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

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
    "read_uri",
    "split_list",
]

LARGEST = 65_535
"""Bytes of the largest message: what fits into a UDP datagram."""

_MOST_HEADERS = 256
_LONGEST_LINE = 8192
_LONGEST_URI = 2048
_ONCE = ("call-id", "cseq", "from", "to", "max-forwards")
_TOKEN = frozenset(string.ascii_letters + string.digits + "-.!%*_+`'~")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
# sipmessage takes time in the square of a telephone number's length: 1.6 s for 8000 digits.
_ENDLESS_NUMBER = re.compile(r"tel:[-+.()*#0-9A-Fa-f]{65}")
_BARE_IPV6 = re.compile(r"(;\s*received\s*=\s*)([0-9A-Fa-f]*:[0-9A-Fa-f:.]*)", re.I)

_T = TypeVar("_T")

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
        number, *method = self._need("CSeq").split()
        if not (number.isascii() and number.isdigit() and len(number) <= 10):
            raise SipParseError("CSeq has no number")
        if int(number) >= 2**31 or len(method) != 1 or not _is_token(method[0]):
            raise SipParseError("CSeq is not a number below 2**31 and a method")
        return int(number), method[0]

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
        # RFC 3261 has IPv6 addresses without brackets there, sipmessage only with them.
        via = _read("Via", sipmessage.Via.parse, _BARE_IPV6.sub(r"\1[\2]", values[0]))
        _check_port("Via", via.port)
        return via

    def tag(self, name: str) -> str | None:
        """The tag of ``From`` or ``To``, or None."""
        parameters = self._address(name).parameters
        return next((value for key, value in parameters.items() if key.lower() == "tag"), None)

    def _need(self, name: str) -> str:
        value = self.headers.get(name)
        if not value:
            raise SipParseError(f"{name} is missing")
        return value

    def _address(self, name: str) -> sipmessage.Address:
        values = split_list(self._need(name))
        if not values:
            raise SipParseError(f"{name} is empty")
        address = _read(name, sipmessage.Address.parse, values[0])
        _check_port(name, address.uri.port)
        return address

    def _bytes(self, start: str) -> bytes:
        """The message to be sent.

        Raises:
            SipParseError: somebody put a line break into a header, which would begin another.
        """
        lines = [start, *(f"{name}: {value}" for name, value in self.headers)]
        lines.append(f"Content-Length: {len(self.body)}")
        text = "\r\n".join(lines) + "\r\n\r\n"
        if not text.count("\r") == text.count("\n") == len(lines) + 1:
            raise SipParseError("a header with a line break in it")
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
        uri = _read("the request's URI", sipmessage.URI.parse, self.uri)
        _check_port("the request's URI", uri.port)
        return uri

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
    if _CONTROL.search(start):
        raise SipParseError("a first line with a control character")
    headers = Headers(_header(line) for line in lines)
    keys = [_key(name) for name, _ in headers]
    if any(keys.count(name) > 1 for name in _ONCE):  # who takes which is anybody's guess
        raise SipParseError("a header twice that there is only one of")
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
    if third != "SIP/2.0" or not second:
        raise SipParseError("neither a request nor a response")
    if not _is_token(first):
        raise SipParseError("a method that is no token")
    if len(second) > _LONGEST_URI:
        raise SipParseError("the request's URI is too long")
    if "CSeq" in headers and (headers.get("CSeq") or "").split()[1:] != [first]:
        raise SipParseError("CSeq has another method than the request")
    return Request(headers, body[:length], first, second)


def read_uri(text: str) -> sipmessage.URI:
    """Read a URI.

    Raises:
        SipParseError: it is none of SIP's or a telephone's; nothing else is ever raised.
    """
    return _read("a URI", sipmessage.URI.parse, text)


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


def _is_token(text: str) -> bool:
    return bool(text) and _TOKEN.issuperset(text)


def _read(name: str, parse: Callable[[str], _T], value: str) -> _T:
    """What ``sipmessage`` makes of a value."""
    if _ENDLESS_NUMBER.search(value):
        raise SipParseError(f"{name} has a telephone number that does not end")
    try:
        return parse(value)
    except (ValueError, TypeError) as error:  # TypeError: it trips over a parameter named "self"
        raise SipParseError(f"{name} cannot be read: {error}") from error


def _check_port(name: str, port: int | None) -> None:
    if port is not None and not 0 < port <= 65535:
        raise SipParseError(f"{name} has a port that does not exist")


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
    name = name.rstrip(" \t")
    if not colon or not _is_token(name):
        raise SipParseError("a line that is no header")
    value = value.strip(" \t")
    if _CONTROL.search(value):  # a C library behind us would end the text at a zero
        raise SipParseError(f"{name} has a control character in it")
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
