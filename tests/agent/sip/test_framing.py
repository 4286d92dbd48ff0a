"""Messages in a stream, cut anywhere."""

import random

import pytest

from talkpath.agent.sip.framing import PONG, Framed, MessageFramer, Ping, Pong
from talkpath.agent.sip.message import LARGEST, Request, Response, SipParseError

INVITE = (
    b"INVITE sip:bot@example.com SIP/2.0\r\nVia: SIP/2.0/TCP 192.0.2.1;branch=z9hG4bK1\r\n"
    b"Call-ID: 1\r\nCSeq: 1 INVITE\r\nContent-Length: 4\r\n\r\nabcd"
)
FOLDED = b"SIP/2.0 200 OK\r\nCSeq: 1 INVITE\r\nl :\r\n  3\r\nSubject: l: 7\r\n\r\n\r\n\r"


def _plain(framed: list[Framed]) -> list[object]:
    return [
        (bytes(one), one.body) if isinstance(one, Request | Response) else one for one in framed
    ]


def test_a_stream_gives_the_same_messages_wherever_it_is_cut() -> None:
    stream = INVITE + FOLDED + INVITE * 2 + FOLDED
    whole = MessageFramer().feed(stream)
    kinds = ["Request", "Response", "Request", "Request", "Response"]
    assert [type(one).__name__ for one in whole] == kinds
    assert [one.body for one in whole[:2] if isinstance(one, Request | Response)] == [
        b"abcd",
        b"\r\n\r",
    ]
    rng = random.Random(7)
    for _ in range(200):
        framer, got, at = MessageFramer(), list[Framed](), 0
        while at < len(stream):
            step = rng.choice((1, 2, 3, 40, 200))
            got += framer.feed(stream[at : at + step])
            at += step
        assert _plain(got) == _plain(whole)


def test_one_line_break_is_the_answer_to_two() -> None:
    framer = MessageFramer()
    assert framer.feed(PONG) == [Pong()]
    assert framer.feed(b"\r") == []
    assert framer.feed(b"\n") == [Pong()]
    assert framer.feed(b"\r\n\r") == []
    assert framer.feed(b"\n" + PONG) == [Ping(), Pong()]
    assert [type(one) for one in framer.feed(PONG + INVITE)] == [Pong, Request]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\n" + INVITE, "line break"),
        (b"\rINVITE", "line break"),
        (INVITE.replace(b"Content-Length: 4\r\n", b""), "needs one Content-Length"),
        (INVITE.replace(b"Length: 4", b"Length: 4, 4"), "needs one Content-Length"),
        (INVITE.replace(b"Length: 4", b"Length: -4"), "needs one Content-Length"),
        (INVITE.replace(b"Call-ID: 1", b"l: 5"), "needs one Content-Length"),
        (INVITE.replace(b"Call-ID: 1", b"l: x"), "no number"),
        (INVITE.replace(b"Length: 4", b"Length: 70000"), "bytes"),
        (b"GET / HTTP/1.1\r\nContent-Length: 0\r\n\r\n", "neither"),
        (b"\x16\x03\x01" * 20_000, "do not end"),
        (b"A: " + b"b" * 33_000 + b"\r\n\r\n", "too long"),
    ],
)
def test_what_is_not_sip_breaks_the_stream_for_good(data: bytes, why: str) -> None:
    framer = MessageFramer()
    for _ in range(2):
        with pytest.raises(SipParseError, match=why):
            framer.feed(data)
            framer.feed(b"")
    with pytest.raises(SipParseError, match=why):
        framer.feed(INVITE)


def test_a_message_may_be_as_large_as_the_limit() -> None:
    head = b"MESSAGE sip:a@b.example SIP/2.0\r\nl: %d\r\n\r\n"
    size = LARGEST - len(head % LARGEST)
    (message,) = MessageFramer().feed(head % size + b"x" * size)
    assert isinstance(message, Request) and len(message.body) == size
    with pytest.raises(SipParseError, match="bytes"):
        MessageFramer(100).feed(head % 90)
