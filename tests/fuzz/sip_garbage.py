"""SIP messages that are broken, hostile, or nearly right: mutations of real ones."""

import random
from collections.abc import Sequence

from tests.agent.sip.torture_messages import TORTURE, torture_bytes

__all__ = ["Mutator"]

_SDP = (
    b"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n"
    b"m=audio 40000 RTP/AVP 0 101\r\na=rtpmap:0 PCMU/8000\r\na=sendrecv\r\n"
)
_USUAL = (
    b"%s sip:+4930123@talk.example.com;user=phone SIP/2.0\r\n"
    b"Via: SIP/2.0/UDP 192.0.2.1:5062;branch=z9hG4bK77;rport;received=2001:db8::1\r\n"
    b'Max-Forwards: 70\r\nFrom: "Alice \\" A" <sip:alice@example.com>;tag=1\r\n'
    b"To: <sip:+4930123@talk.example.com>\r\nCall-ID: 77@x\r\nCSeq: 1 %s\r\n"
    b"Contact: <sip:alice@192.0.2.1:5062;transport=udp>;expires=60\r\n"
    b"Record-Route: <sip:a;lr>, <sip:b;lr>\r\nUser-Agent: Phone 1.0\r\n"
    b'Authorization: Digest username="alice", realm="talkpath", nonce="%s", uri="sip:x", '
    b'response="00", algorithm=MD5, cnonce="c", qop=auth, nc=00000001\r\n'
    b"Refer-To: <sip:bob@pbx.example.com?Replaces=1%%3Bto-tag%%3D2>\r\n"
    b"Content-Type: application/sdp\r\nContent-Length: %d\r\n\r\n%s"
)
_CHALLENGE = (
    b"SIP/2.0 401 Unauthorized\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1\r\n"
    b"From: <sip:a@b>;tag=1\r\nTo: <sip:c@d>;tag=2\r\nCall-ID: 1\r\nCSeq: 1 REGISTER\r\n"
    b'WWW-Authenticate: Digest realm="r", nonce="n", algorithm=SHA-256, qop="auth,auth-int"\r\n'
    b'WWW-Authenticate: Digest realm="r", nonce="n", opaque="", stale=TRUE\r\nl: 0\r\n\r\n'
)

# What has broken parsers of SIP: quotes that do not end, parameters of parameters, numbers beyond
# any type, digits of other scripts, zeros, folded lines, and all that ends a line or nearly.
_TOKENS = (
    b'"',
    b'\\"',
    b"<",
    b">",
    b";",
    b";;",
    b";self=1",
    b";tag=",
    b";tag=2;TAG=3",
    b",",
    b",,",
    b"@",
    b"%",
    b"%00",
    b"%0d%0a",
    b"%zz",
    b":" * 9,
    b"[::1]",
    b"[::ffff:1.2.3.4",
    b"*",
    b"\0",
    b"\n",
    b"\r",
    b"\r\n",
    b"\r\n ",
    b"\r\n\r\n",
    b"\t",
    b" " * 30,
    b"\xff\xfe",
    "٣".encode(),
    "\u2028".encode(),
    b"-1",
    b"4294967296",
    b"9" * 400,
    b"9" * 5000,
    b"tel:+49",
    b"tel:" + b"1" * 300,
    b"sip:",
    b"SIP/2.0",
    b"sips:a:b@c:0;maddr=x?y=z",
    b"stale=true",
    b"qop=",
    b"nc=ffffffff",
    b"a=" * 200,
    b'a="' * 200,
    b"a." * 300,
    b"z" * 3000,
)
_LINES = (
    b"Content-Length: 0",
    b"l: 99999",
    b"l: -1",
    b"Via: x",
    b"v: SIP/2.0/TLS [::1]:99999;branch=",
    b"f: <sip:a@b>;tag",
    b"Contact: *",
    b"CSeq: 1 ACK",
    b"Authorization: Digest",
    b'Authorization: Digest realm="talkpath", nonce="1-2-3", nc=x',
    b"User-Agent: friendly-scanner",
    b"Max-Forwards: 99999999999",
    b" folded",
)


class Mutator:
    """Makes messages.

    Args:
        rng: makes the choices.
        more: messages to begin with, as often as those that are there anyway.
    """

    def __init__(self, rng: random.Random, more: Sequence[bytes] = ()) -> None:
        self._rng = rng
        self._more = more
        self._seeds = [torture_bytes(torture.name) for torture in TORTURE] + [
            _usual(method) for method in (b"INVITE", b"OPTIONS", b"REGISTER", b"REFER", b"BYE")
        ]
        self._seeds += [_CHALLENGE, _CHALLENGE.replace(b"401", b"407")]

    def message(self) -> bytes:
        """One message, changed in one to six places."""
        seeds = self._more if self._more and self._rng.random() < 0.5 else self._seeds
        data = bytearray(self._rng.choice(seeds))
        for _ in range(self._rng.randint(1, 6)):
            self._rng.choice(
                (self._flip, self._cut, self._insert, self._repeat, self._token, self._line)
            )(data)
        return bytes(data)

    def _at(self, data: bytearray) -> int:
        return self._rng.randrange(len(data) + 1)

    def _flip(self, data: bytearray) -> None:
        if data:
            data[self._rng.randrange(len(data))] = self._rng.randrange(256)

    def _cut(self, data: bytearray) -> None:
        at = self._at(data)
        del data[at : at + self._rng.choice((1, 2, 5, 20, 100))]

    def _insert(self, data: bytearray) -> None:
        at = self._at(data)
        data[at:at] = self._rng.randbytes(self._rng.randint(1, 30))

    def _repeat(self, data: bytearray) -> None:
        at = self._at(data)
        piece = data[at : at + self._rng.randint(1, 200)]
        data[at:at] = piece * self._rng.choice((1, 1, 2, 50))

    def _token(self, data: bytearray) -> None:
        at = self._at(data)
        data[at:at] = self._rng.choice(_TOKENS)

    def _line(self, data: bytearray) -> None:
        """Lines change places, or one more comes in."""
        lines = data.split(b"\r\n")
        if self._rng.random() < 0.5:
            some = lines[1 : self._rng.randint(1, len(lines))]
            self._rng.shuffle(some)
            lines[1 : 1 + len(some)] = some
        lines.insert(self._rng.randint(1, len(lines)), bytearray(self._rng.choice(_LINES)))
        data[:] = b"\r\n".join(lines)


def _usual(method: bytes) -> bytes:
    nonce = b"0-00000000-00"
    return _USUAL % (method, method, nonce, len(_SDP), _SDP)
