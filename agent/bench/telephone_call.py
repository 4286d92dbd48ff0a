"""The caller of ``talkpath bench telephone``: SIP and RTP by hand, over UDP.

It measures, so it has none of a telephone's comforts: no jitter buffer, no concealment. Packets
leave when they are due; each one that comes is noted with the time at which the kernel had it.
"""

import asyncio
import secrets
import socket
import struct
import sys
import time
from collections.abc import Sequence
from typing import cast

from talkpath.agent.bench.telephone import PACKET_S, Arrival, CallRecord, TelephoneCodec
from talkpath.agent.sip.message import (
    Headers,
    Request,
    Response,
    SipParseError,
    parse_message,
)

__all__ = ["call"]

_RESEND_S = 0.5  # T1 (RFC 3261, 17.1.1.1)
_ANSWER_S = 20.0
_END_S = 3.0
_LINGER_S = 0.4  # what is under way at the end still comes
_TIMESTAMPS = 35  # SO_TIMESTAMPNS, which the socket module does not name
_BUFFER = 1 << 20
_RTP = struct.Struct("!BBHII")


async def call(
    host: str,
    port: int,
    codec: TelephoneCodec,
    packets: Sequence[bytes],
    *,
    user: str = "bench",
) -> CallRecord:
    """Call, send these packets at the pace of speech, hang up.

    Args:
        host: the telephone's address.
        port: its UDP port of SIP.
        codec: the only one that is offered.
        packets: the sound, in packets of 20 ms.
        user: who is called.
    """
    record = CallRecord()
    loop = asyncio.get_running_loop()
    sound = _socket(host)
    ear = _Ear(record)
    transport, dialog = await loop.create_datagram_endpoint(
        lambda: _Dialog(user, codec, sound.getsockname()), remote_addr=(host, port)
    )
    loop.add_reader(sound, ear.hear, sound)
    try:
        async with asyncio.timeout(_ANSWER_S):
            there = await dialog.invite()
        await _speak(sound, there, codec, packets, record, dialog)
        await asyncio.sleep(_LINGER_S)
        async with asyncio.timeout(_END_S):
            await dialog.bye()
    except TimeoutError:
        record.failure = "no answer came"
    except (OSError, SipParseError, _Refused) as error:
        record.failure = str(error)
    finally:
        loop.remove_reader(sound)
        sound.close()
        transport.close()
    record.arrivals.sort(key=lambda arrival: arrival.sequence)
    record.lost = ear.lost
    return record


class _Refused(Exception):
    """The call was refused, or hung up by the other side."""


async def _speak(
    sound: socket.socket,
    there: tuple[str, int],
    codec: TelephoneCodec,
    packets: Sequence[bytes],
    record: CallRecord,
    dialog: "_Dialog",
) -> None:
    source = secrets.randbits(32)
    step = round(PACKET_S * codec.clock_hz)
    began = time.monotonic()
    for number, payload in enumerate(packets):
        await asyncio.sleep(max(0.0, began + number * PACKET_S - time.monotonic()))
        if dialog.over:
            raise _Refused("the call was hung up")
        head = _RTP.pack(0x80, codec.payload_type, number & 0xFFFF, number * step, source)
        record.sent_s.append(time.time())
        sound.sendto(head + payload, there)


def _socket(host: str) -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.setblocking(False)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
    if sys.platform == "linux":
        made.setsockopt(socket.SOL_SOCKET, _TIMESTAMPS, 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:  # the side that faces it
        probe.connect((host, 9))
        made.bind((probe.getsockname()[0], 0))
    return made


class _Ear:
    """Notes what comes."""

    def __init__(self, record: CallRecord) -> None:
        self._record = record
        self._first: int | None = None
        self._last = 0

    @property
    def lost(self) -> int:
        """Numbers that are missing up to the last one."""
        if self._first is None:
            return 0
        return self._last - self._first + 1 - len(self._record.arrivals)

    def hear(self, sound: socket.socket) -> None:
        """Read all that is there."""
        while True:
            try:
                data, extras, _, _ = sound.recvmsg(2048, 64)
            except BlockingIOError:
                return
            if len(data) <= _RTP.size:
                continue
            at_s = time.time()
            for level, kind, value in extras:
                if level == socket.SOL_SOCKET and kind == _TIMESTAMPS and len(value) == 16:
                    seconds, nanoseconds = struct.unpack("qq", value)
                    at_s = seconds + nanoseconds / 1e9
            number = self._unwrapped(_RTP.unpack_from(data)[2])
            self._record.arrivals.append(Arrival(at_s, number, data[_RTP.size :]))

    def _unwrapped(self, sequence: int) -> int:
        if self._first is None:
            self._first = self._last = sequence
        number = self._last + (sequence - self._last + 0x8000) % 0x10000 - 0x8000
        self._last = max(self._last, number)
        return number


class _Dialog(asyncio.DatagramProtocol):
    """One call's signalling: INVITE, ACK, BYE."""

    def __init__(self, user: str, codec: TelephoneCodec, sound: tuple[str, int]) -> None:
        self._user, self._codec, self._sound = user, codec, sound
        self._call_id, self._tag = secrets.token_hex(8), secrets.token_hex(4)
        self._responses: asyncio.Queue[Response] = asyncio.Queue()
        self._to = ""
        self._target = ""
        self._routes: list[str] = []
        self._ack = b""
        self.over = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)
        self._here = "{}:{}".format(*transport.get_extra_info("sockname"))
        self._there = "{}:{}".format(*transport.get_extra_info("peername"))
        self._target = f"sip:{self._user}@{self._there}"
        self._to = f"<{self._target}>"

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        message = parse_message(data)
        if message.call_id != self._call_id:
            return
        if isinstance(message, Request):
            self._answer(message)
        elif message.cseq[1] == "INVITE" and message.status >= 200 and self._ack:
            self._transport.sendto(self._ack)  # it had not come
        else:
            self._responses.put_nowait(message)

    async def invite(self) -> tuple[str, int]:
        """Call; gives where the sound goes to."""
        request = self._request("INVITE", 1, self._description())
        answer = await self._final(request)
        self._to = answer.headers.get("To") or self._to
        if answer.status >= 300:
            ack = self._request("ACK", 1)
            ack.headers.set("Via", request.headers.get("Via") or "")
            self._transport.sendto(bytes(ack))
            raise _Refused(f"the call was refused with {answer.status} {answer.reason}")
        self._target = str(answer.contact.uri)
        self._routes = answer.headers.all("Record-Route")[::-1]
        self._ack = bytes(self._request("ACK", 1))
        self._transport.sendto(self._ack)
        return _media(answer.body.decode("utf-8", "replace"))

    async def bye(self) -> None:
        """Hang up."""
        if not self.over:
            await self._final(self._request("BYE", 2))

    async def _final(self, request: Request) -> Response:
        """Send it until it is answered for good."""
        data = bytes(request)
        wait_s: float | None = _RESEND_S
        self._transport.sendto(data)
        while True:
            try:
                async with asyncio.timeout(wait_s):
                    response = await self._responses.get()
            except TimeoutError:
                assert wait_s is not None
                wait_s *= 2
                self._transport.sendto(data)
                continue
            if response.cseq[1] != request.method:
                continue
            if response.status >= 200:
                return response
            wait_s = None  # it has it

    def _request(self, method: str, number: int, body: str = "") -> Request:
        headers = Headers(
            [
                ("Via", f"SIP/2.0/UDP {self._here};branch=z9hG4bK{secrets.token_hex(8)};rport"),
                ("Max-Forwards", "70"),
                *(("Route", route) for route in self._routes),
                ("From", f"<sip:bench@{self._here}>;tag={self._tag}"),
                ("To", self._to),
                ("Call-ID", self._call_id),
                ("CSeq", f"{number} {method}"),
                ("Contact", f"<sip:bench@{self._here}>"),
            ]
        )
        if body:
            headers.set("Content-Type", "application/sdp")
        return Request(headers, body.encode(), method, self._target)

    def _answer(self, request: Request) -> None:
        """A BYE ends the call; nothing else is wanted of a caller that measures."""
        ends = request.method == "BYE"
        self.over |= ends
        if request.method == "ACK":
            return
        names = ("Via", "From", "To", "Call-ID", "CSeq")
        headers = [item for item in request.headers if item[0].title() in names]
        status, reason = (200, "OK") if ends else (488, "Not Acceptable Here")
        self._transport.sendto(bytes(Response(Headers(headers), b"", status, reason)))

    def _description(self) -> str:
        address, port = self._sound
        codec = self._codec
        lines = [
            "v=0",
            f"o=- 1 1 IN IP4 {address}",
            "s=-",
            f"c=IN IP4 {address}",
            "t=0 0",
            f"m=audio {port} RTP/AVP {codec.payload_type} 101",
            f"a=rtpmap:{codec.payload_type} {codec.rtpmap}",
            "a=rtpmap:101 telephone-event/8000",
            "a=ptime:20",
            "a=sendrecv",
        ]
        return "\r\n".join(lines) + "\r\n"


def _media(description: str) -> tuple[str, int]:
    """Address and port of the first stream."""
    address, port = "", 0
    for line in description.splitlines():
        if line.startswith("c=IN IP4 "):
            address = line.split()[-1]
        elif line.startswith("m=audio "):
            port = int(line.split()[1])
    if not (address and port):
        raise SipParseError("the answer has no address for the sound")
    return address, port
