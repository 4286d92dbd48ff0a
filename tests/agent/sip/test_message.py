"""SIP messages: what is read, what is written, and what is refused."""

import time

import pytest

from talkpath.agent.sip.message import (
    LARGEST,
    Headers,
    Message,
    Request,
    Response,
    SipParseError,
    parse_message,
    split_list,
)

START = b"INVITE sip:bot@example.com:5070;x=y SIP/2.0\r\n"
INVITE = (
    START + b"Via: SIP/2.0/UDP 192.0.2.1:5062;branch=z9hG4bK1;rport\r\nVia: SIP/2.0/UDP a, "
    b"SIP/2.0/UDP b\r\nf: Alice <sip:alice@example.com>;TAG=1\r\nTo: <sip:bot@example.com>\r\n"
    b"Contact: <sip:alice@192.0.2.1>, <sip:b@c>\r\nCall-ID: abc\r\nCSeq: 7\t INVITE\r\n"
    b"Subject: a\r\n\t b\r\nl: 3\r\n\r\nabcdef"
)


def _message(*lines: bytes, start: bytes = START) -> Request | Response:
    return parse_message(start + b"".join(line + b"\r\n" for line in lines) + b"\r\n")


def test_a_request_is_read() -> None:
    message = parse_message(b"\r\n\r\n" + INVITE)
    assert isinstance(message, Request)
    assert (message.method, message.uri) == ("INVITE", "sip:bot@example.com:5070;x=y")
    assert (message.target.user, message.target.port) == ("bot", 5070)
    assert (message.call_id, message.cseq, message.body) == ("abc", (7, "INVITE"), b"abc")
    assert (message.from_.name, message.to.uri.user) == ("Alice", "bot")
    assert (message.tag("From"), message.tag("To")) == ("1", None)
    assert (message.via.host, message.via.port) == ("192.0.2.1", 5062)
    assert message.contact.uri.host == "192.0.2.1"
    assert message.headers.get("s") == "a b"
    assert message.headers.get("Content-Length") is None


def test_a_response_is_read() -> None:
    message = _message(b"CSeq: 1 INVITE", start=b"SIP/2.0 183 Session in Progress\r\n")
    assert isinstance(message, Response)
    assert (message.status, message.reason) == (183, "Session in Progress")
    assert bytes(message) == (
        b"SIP/2.0 183 Session in Progress\r\nCSeq: 1 INVITE\r\nContent-Length: 0\r\n\r\n"
    )


def test_what_is_passed_on_leaves_as_it_came() -> None:
    message = parse_message(INVITE)
    again = parse_message(bytes(message))
    assert list(again.headers) == list(message.headers) and again.body == b"abc"
    odd = _message(b"X-Odd: \xff\xfe caf\xc3\xa9")
    assert b"X-Odd: \xff\xfe caf\xc3\xa9\r\n" in bytes(odd)


def test_a_copy_is_changed_on_its_own() -> None:
    for message in (parse_message(INVITE), Response(Headers([("A", "1")]), b"x", 200, "OK")):
        copy = message.copy()
        copy.headers.push("Via", "new")
        assert copy.headers.get("Via") == "new" != message.headers.get("Via")
        assert copy.body == message.body


def test_headers_match_in_any_case_and_short() -> None:
    headers = Headers([("v", "a, b"), ("X", "1"), ("VIA", "c")])
    assert headers.all("Via") == ["a", "b", "c"] and "via" in headers and "Y" not in headers
    assert headers.pop("Via") == "a" and headers.all("v") == ["b", "c"]
    headers.push("Via", "z")
    assert list(headers) == [("Via", "z"), ("Via", "b"), ("Via", "c"), ("X", "1")]
    headers.set("via", "only")
    headers.set("New", "1", "2")
    headers.set("X")
    assert list(headers) == [("via", "only"), ("New", "1"), ("New", "2")]
    assert headers.pop("Y") is None
    headers.push("First", "1")
    assert next(iter(headers)) == ("First", "1")


def test_lists_are_split_outside_of_quotes_and_brackets() -> None:
    assert split_list(r'"a, \", b" <x,y>;p=1, , c,') == [r'"a, \", b" <x,y>;p=1', "c"]
    assert split_list("  ") == []


def test_ipv6_addresses_may_stand_without_brackets_where_they_came_from() -> None:
    via = b"Via: SIP/2.0/TCP [2001:db8::9]:5060;branch=z; received = 2001:db8::1;rport=7"
    assert _message(via).via.parameters["received"] == "[2001:db8::1]"
    plain = _message(b"Via: SIP/2.0/TCP a;received=192.0.2.1;branch=b").via
    assert plain.parameters["received"] == "192.0.2.1"


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "do not end"),
        (b"x" * (LARGEST + 1), "bytes"),
        (b"\r\n\r\n", "do not end"),
        (START, "do not end"),
        (b"SIP/2.0 20 OK\r\n\r\n", "three digits"),
        (b"SIP/2.0 700 OK\r\n\r\n", "three digits"),
        (b"SIP/2.0 2\xc2\xb20 OK\r\n\r\n", "three digits"),
        (b"SIP/2.0 200 OK\nX: y\r\n\r\n", "control character"),
        (b"INVITE sip:a\nVia:x SIP/2.0\r\n\r\n", "control character"),
        (b"INVITE  SIP/2.0\r\n\r\n", "neither"),
        (b"INVITE sip:a HTTP/1.1\r\n\r\n", "neither"),
        (b" sip:a SIP/2.0\r\n\r\n", "no token"),
        (b"IN(VITE sip:a SIP/2.0\r\n\r\n", "no token"),
        (b"INVITE sip:" + b"a" * 2100 + b" SIP/2.0\r\n\r\n", "too long"),
        (START + b"no header\r\n\r\n", "no header"),
        (START + b": x\r\n\r\n", "no header"),
        (START + b"A\nVia: x\r\n\r\n", "no header"),
        (START + b"A b: x\r\n\r\n", "no header"),
        (START + b"A: x\ny\r\n\r\n", "control character"),
        (START + b"A: x\ry\r\n\r\n", "control character"),
        (START + b"A: x\0y\r\n\r\n", "control character"),
        (START + b"A: x\r\n" * 300 + b"\r\n", "than anybody needs"),
        (START + b"A: " + b"x" * 9000 + b"\r\n\r\n", "than anybody needs"),
        (START + b"A: x\r\n" + b" y\r\n" * 5000 + b"\r\n", "than anybody needs"),
        (START + b"To: a\r\nt: b\r\n\r\n", "only one of"),
        (START + b"Call-ID: a\r\ni: b\r\n\r\n", "only one of"),
        (START + b"CSeq: 1 BYE\r\n\r\n", "another method"),
        (START + b"CSeq:\r\n\r\n", "another method"),
        (START + b"l: 1\r\nl: 2\r\n\r\n12", "no number"),
        (START + b"l: 1234567\r\n\r\n12", "no number"),
        (START + b"l: 3\r\n\r\n12", "shorter"),
    ],
)
def test_what_is_no_message_is_refused(data: bytes, why: str) -> None:
    with pytest.raises(SipParseError, match=why):
        parse_message(data)


@pytest.mark.parametrize(
    ("header", "name", "why"),
    [
        (b"X: y", "call_id", "Call-ID is missing"),
        (b"Call-ID:", "call_id", "Call-ID is missing"),
        (b"X: y", "via", "Via is missing"),
        (b"Via: SIP/2.0/UDP a:99999", "via", "a port that does not exist"),
        (b"Via: SIP/2.0/UDP a;;", "via", "Via cannot be read"),
        (b"CSeq: -1 INVITE", "cseq", "no number"),
        (b"CSeq: 2147483648 INVITE", "cseq", "below"),
        (b"From: ,", "from_", "From is empty"),
        (b"From: <sip:a@b>;self=1", "from_", "From cannot be read"),
        (b"To: <sip:a@b:0>", "to", "a port that does not exist"),
        (b"Contact: *", "contact", "Contact cannot be read"),
        (b"To: <tel:+" + b"1" * 8000 + b"!>", "to", "does not end"),
        (b"To: <sip:a@b:" + b"9" * 8000 + b">", "to", "To cannot be read|does not exist"),
    ],
)
def test_a_header_that_is_not_what_its_name_says_is_refused(
    header: bytes, name: str, why: str
) -> None:
    message = _message(header)
    with pytest.raises(SipParseError, match=why):
        getattr(message, name)


def test_the_cseq_of_a_response_is_read_with_care() -> None:
    for value in (b"1", b"1 A B", b"1 A(B)"):
        with pytest.raises(SipParseError, match="and a method"):
            _ = _message(b"CSeq: " + value, start=b"SIP/2.0 200 OK\r\n").cseq


@pytest.mark.parametrize(
    "uri", ["http://a", "sip:a b", "<sip:a>", "sip:a:0", "tel:" + "1" * 99 + "!"]
)
def test_a_target_that_cannot_be_called_is_refused(uri: str) -> None:
    with pytest.raises(SipParseError, match="the request's URI"):
        _ = Request(uri=uri).target


@pytest.mark.parametrize("value", ["a\r\nVia: b", "a\nb", "a\rb"])
def test_nobody_can_write_a_header_into_a_header(value: str) -> None:
    for message in (Request(method="BYE", uri=value), Response(Headers([("X", value)]), b"", 200)):
        with pytest.raises(SipParseError, match="line break"):
            bytes(message)


@pytest.mark.parametrize(
    "value",
    [
        b'"' * 8000,
        b'<sip:a@b>;a="' * 600,
        b"<sip:a@b>" + b';a="x;a=' * 900 + b"\x80",
        b"<sip:" + b"a." * 3900 + b"!>",
        b"<sip:a@[" + b"a:" * 3900 + b"!>",
        b"<sip:" + b"%41" * 2600 + b":!>",
        b"<tel:" + b"1-" * 3900 + b"!>",
        b"a " * 3900 + b"<",
        b"SIP/2.0/UDP a;received=" + b"a" * 7000,
        b"SIP/2.0/UDP " + b"a-" * 3900 + b"!",
        b" ;" * 3900,
    ],
)
def test_no_header_takes_long_to_be_read(value: bytes) -> None:
    names = (b"From", b"To", b"Contact", b"Via")
    message = _message(*(name + b": " + value for name in names))
    began_s = time.process_time()
    for name in ("from_", "to", "contact", "via"):
        try:
            getattr(message, name)
        except SipParseError:
            pass
    assert time.process_time() - began_s < 1.0  # what explodes takes minutes; usual are 10 ms


def test_a_message_without_anything_is_one_still() -> None:
    assert list(Message().headers) == [] and Message().body == b""
