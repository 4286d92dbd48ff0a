"""A telephone for tests: SIP over UDP and audio in PCMU, all of it on one event loop.

It says what a test wants it to say, right or wrong, and keeps what it was told::

    async with SipPeer() as phone:
        call = await phone.call("sip:bot@127.0.0.1:5080")   # INVITE ... 200, ACK
        await call.media.say(pcm)                           # 8 kHz, at the pace of speech
        await call.request("BYE")
"""

import asyncio
import secrets
import struct
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from talkpath.agent.audio import mulaw_to_float
from talkpath.agent.sip.message import Headers, Request, Response, parse_message
from tests.sip.waiting import SOON_S

__all__ = ["Media", "PeerCall", "SipPeer", "decode", "description"]

PACKET = 160
"""Samples a packet: 20 ms at 8 kHz."""

_KEYS = "0123456789*#ABCD"

_LEVELS = np.round(mulaw_to_float(bytes(range(256))) * 32768).astype(np.int32)
_ORDER = np.argsort(_LEVELS, kind="stable").astype(np.uint8)
_BETWEEN = (_LEVELS[_ORDER][1:] + _LEVELS[_ORDER][:-1]) / 2

Address = tuple[str, int]


HOST = "127.0.0.1"


def description(
    port: int,
    direction: str = "sendrecv",
    formats: Mapping[int, str] | None = None,
    extra: str = "",
    host: str = HOST,
) -> bytes:
    """A session description; ``formats`` are payload types and their rtpmap."""
    formats = {0: "PCMU/8000", 101: "telephone-event/8000"} if formats is None else formats
    lines = [
        "v=0",
        f"o=- {secrets.randbelow(10**9)} {time.monotonic_ns()} IN IP4 {host}",
        "s=-",
        f"c=IN IP4 {host}",
        "t=0 0",
        f"m=audio {port} RTP/AVP {' '.join(map(str, formats))}",
        *(f"a=rtpmap:{kind} {name}" for kind, name in formats.items()),
        f"a={direction}",
    ]
    return ("\r\n".join(lines) + "\r\n" + extra).encode()


def decode(payload: bytes) -> NDArray[np.int16]:
    """The samples of PCMU."""
    return _LEVELS[np.frombuffer(payload, np.uint8)].astype(np.int16)


class _Port(asyncio.DatagramProtocol):
    """A UDP socket of the system's choice that hands on what it gets."""

    def __init__(self, take: Callable[[bytes, Address], None]) -> None:
        self._take = take
        self.transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Address) -> None:
        self._take(data, addr)

    @classmethod
    async def open(cls, take: Callable[[bytes, Address], None], host: str) -> Self:
        loop = asyncio.get_running_loop()
        _, port = await loop.create_datagram_endpoint(lambda: cls(take), (host, 0))
        return port

    @property
    def number(self) -> int:
        assert self.transport is not None
        number: int = self.transport.get_extra_info("sockname")[1]
        return number

    def send(self, data: bytes, to: Address) -> None:
        assert self.transport is not None
        self.transport.sendto(data, to)

    def close(self) -> None:
        if self.transport is not None:
            self.transport.close()


class Media:
    """RTP of one call (RFC 3550), in PCMU.

    Attributes:
        packets: what came: time of arrival (``time.perf_counter``) and packet.
        to: where packets go; None before an answer says it.
    """

    def __init__(self, host: str = HOST) -> None:
        self.host = host
        self.packets: list[tuple[float, bytes]] = []
        self.to: Address | None = None
        self.lose: Callable[[], bool] = lambda: False
        self._port: _Port | None = None
        self._sequence = secrets.randbelow(1000)
        self._stamp = secrets.randbelow(10**6)
        self._ssrc = secrets.randbits(32)

    async def open(self) -> None:
        """Have a socket."""
        self._port = await _Port.open(
            lambda data, _: self.packets.append((time.perf_counter(), data)), self.host
        )

    @property
    def port(self) -> int:
        """Its number."""
        assert self._port is not None
        return self._port.number

    def close(self) -> None:
        """Give the socket back."""
        if self._port is not None:
            self._port.close()

    def send(
        self, payload: bytes, kind: int = 0, *, mark: bool = False, step: int = PACKET
    ) -> float:
        """Send one packet now; returns when that was."""
        assert self._port is not None
        head = struct.pack(
            "!BBHII", 0x80, kind | mark << 7, self._sequence & 0xFFFF, self._stamp, self._ssrc
        )
        self._sequence += 1
        self._stamp = (self._stamp + step) & 0xFFFFFFFF
        if self.to is not None and not self.lose():
            self._port.send(head + payload, self.to)
        return time.perf_counter()

    async def say(self, pcm: NDArray[np.int16]) -> list[float]:
        """Send 8 kHz audio at the pace of speech; returns when each packet went."""
        data = _ORDER[np.searchsorted(_BETWEEN, pcm)].tobytes()
        start, times = time.perf_counter(), []
        for i in range(0, len(data), PACKET):
            await asyncio.sleep(max(0.0, start + i / 8000 - time.perf_counter()))
            times.append(self.send(data[i : i + PACKET].ljust(PACKET, b"\xff")))
        return times

    async def press(self, key: str, duration_ms: int = 100, *, ends: int = 3) -> None:
        """Send a key as an event (RFC 4733): marked, repeated, its end three times."""
        steps = duration_ms // 20
        for i in range(1, steps + ends):
            last = i >= steps
            event = struct.pack("!BBH", _KEYS.index(key), last << 7 | 10, min(i, steps) * PACKET)
            self.send(event, 101, mark=i == 1, step=0)
            await asyncio.sleep(0.02 if not last else 0.001)
        self._stamp += steps * PACKET

    def heard(self) -> NDArray[np.int16]:
        """All audio that came, in the order of arrival."""
        data = b"".join(packet[12:] for _, packet in self.packets if packet[1] & 0x7F == 0)
        return decode(data)

    def keys(self) -> str:
        """The keys that came as events."""
        stamps: dict[bytes, str] = {}
        for _, packet in self.packets:
            if packet[1] & 0x7F == 101:
                stamps[packet[4:8]] = _KEYS[packet[12]]
        return "".join(stamps.values())


class PeerCall:
    """One call of a ``SipPeer``.

    Attributes:
        response: the last final response to an INVITE.
        requests: what the other side asked in this call.
        media: its audio.
    """

    def __init__(self, peer: "SipPeer", call_id: str, uri: str, to: Address) -> None:
        self.call_id = call_id
        self.media = Media(peer.host)
        self.response = Response()
        self.provisional: list[Response] = []
        self.requests: list[Request] = []
        self.over = asyncio.Event()
        self.peer = peer
        self.local, self.remote = "", ""
        self.uri = uri
        self.to = to
        self.sequence = 0
        self.branch = ""
        self.answers: asyncio.Queue[Response] = asyncio.Queue()

    @property
    def status(self) -> int:
        """Status of the last final response to an INVITE."""
        return self.response.status

    def asked(self, method: str) -> list[Request]:
        """What the other side asked by this method."""
        return [request for request in self.requests if request.method == method]

    async def invite(self, body: bytes, headers: Mapping[str, str] | None = None) -> Response:
        """Send an INVITE or, within the call, a re-INVITE, and acknowledge its answer."""
        given = {"Content-Type": "application/sdp"} if body else {}
        response = await self.request("INVITE", body, {**given, **(headers or {})})
        self.response = response
        if response.status < 300:
            self.remote = response.headers.get("To") or ""
            self._follow(response.body)
        self.acknowledge(response)
        return response

    def acknowledge(self, response: Response) -> None:
        """Send the ACK; that of a refusal belongs to the INVITE (RFC 3261, 17.1.1.3)."""
        branch = self.branch if response.status >= 300 else ""
        self.peer.send(self.make("ACK", response.cseq[0], branch=branch), self.to)

    def cancel(self) -> None:
        """Give up an INVITE that rings."""
        self.peer.send(self.make("CANCEL", self.sequence, branch=self.branch), self.to)

    async def hold(self) -> Response:
        """Put the other side on hold."""
        return await self.invite(description(self.media.port, "sendonly", host=self.peer.host))

    async def resume(self) -> Response:
        """Talk again."""
        return await self.invite(description(self.media.port, host=self.peer.host))

    async def key(self, key: str) -> Response:
        """Send a key by INFO."""
        body = f"Signal={key}\r\nDuration=160\r\n".encode()
        return await self.request("INFO", body, {"Content-Type": "application/dtmf-relay"})

    async def request(
        self, method: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Response:
        """Send a request within the call; returns the final response to it.

        Raises:
            TimeoutError: none came within a minute.
        """
        self.sequence += 1
        number = self.sequence
        branch = f"z9hG4bK{secrets.token_hex(8)}"
        if method == "INVITE":
            self.branch = branch
        message = self.make(method, number, body, headers, branch=branch)
        async with asyncio.timeout(SOON_S):
            while True:
                self.peer.send(message, self.to)
                try:
                    return await self._final((number, method), 1.0)
                except TimeoutError:
                    continue  # Sent again, as over UDP it must be.

    async def _final(self, cseq: tuple[int, str], timeout_s: float) -> Response:
        while True:
            response = await asyncio.wait_for(
                self.answers.get(), None if self.provisional else timeout_s
            )
            if response.cseq != cseq:
                continue
            if response.status >= 200:
                return response
            self.provisional.append(response)

    def take(self, request: Request, source: Address) -> None:
        """Answer what the other side asks."""
        self.requests.append(request)
        if request.method == "ACK":
            return
        body, given = b"", {}
        if request.method == "INVITE":
            self._follow(request.body)
            held = b"a=sendonly" in request.body or b"a=inactive" in request.body
            body = description(
                self.media.port, "recvonly" if held else "sendrecv", host=self.peer.host
            )
            given = {"Content-Type": "application/sdp"}
        status = self.peer.statuses.get(request.method, 200)
        self.peer.answer(request, source, status, body if status < 300 else b"", given, self)
        if request.method in ("BYE", "CANCEL"):
            self.over.set()

    def _follow(self, body: bytes) -> None:
        for line in body.decode().splitlines():
            if line.startswith("m=audio "):
                self.media.to = (self.peer.host, int(line.split()[1]))

    def make(
        self,
        method: str,
        number: int,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        *,
        branch: str = "",
    ) -> Request:
        """A request within the call; a branch of its own unless another is given."""
        branch = branch or f"z9hG4bK{secrets.token_hex(8)}"
        lines = [
            ("Via", f"SIP/2.0/UDP {self.peer.host}:{self.peer.port};branch={branch};rport"),
            ("Max-Forwards", "70"),
            ("From", self.local),
            ("To", self.remote),
            ("Call-ID", self.call_id),
            ("CSeq", f"{number} {method}"),
            ("Contact", f"<sip:phone@{self.peer.host}:{self.peer.port}>"),
            ("Supported", "replaces"),
            *(headers or {}).items(),
        ]
        return Request(Headers(lines), body, method, self.uri)


class SipPeer:
    """A telephone at a UDP port of its own, that calls and can be called.

    Args:
        host: its address.

    Attributes:
        statuses: by method, with which status its requests are answered; 200 otherwise.
        calls: by Call-ID.
        incoming: calls that have come.
    """

    def __init__(self, host: str = HOST) -> None:
        self.host = host
        self.statuses: dict[str, int] = {"REFER": 202}
        self.calls: dict[str, PeerCall] = {}
        self.incoming: asyncio.Queue[PeerCall] = asyncio.Queue()
        self._port: _Port | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._port = await _Port.open(self._take, self.host)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for call in self.calls.values():
            call.media.close()
        if self._port is not None:
            self._port.close()

    @property
    def port(self) -> int:
        """Its UDP port."""
        assert self._port is not None
        return self._port.number

    @property
    def uri(self) -> str:
        """How it can be called."""
        return f"sip:phone@{self.host}:{self.port}"

    async def call(
        self,
        uri: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        to: Address | None = None,
    ) -> PeerCall:
        """Call; returns once there is a final answer.

        Args:
            uri: ``sip:user@127.0.0.1:port``.
            body: a session description other than PCMU's; empty offers none.
            headers: more headers.
            to: where to send; by default where the URI says.
        """
        host, _, port = uri.partition("@")[2].partition(":")
        call = PeerCall(self, secrets.token_hex(8), uri, to or (host, int(port or 5060)))
        call.local = f"<{self.uri}>;tag={secrets.token_hex(4)}"
        call.remote = f"<{uri}>"
        self.calls[call.call_id] = call
        await call.media.open()
        await call.invite(
            description(call.media.port, host=self.host) if body is None else body, headers
        )
        return call

    def send(self, message: Request | Response, to: Address) -> None:
        """Send a message as it is."""
        assert self._port is not None
        self._port.send(bytes(message), to)

    def answer(
        self,
        request: Request,
        to: Address,
        status: int,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        call: PeerCall | None = None,
    ) -> None:
        """Answer a request."""
        own = request.headers.get("To") or ""
        if "tag=" not in own and call is not None and call.local:
            own = call.local  # It comes again, and is answered as it was.
        elif "tag=" not in own:
            own += f";tag={secrets.token_hex(4)}"
        if call is not None and not call.local:
            call.local, call.remote = own, request.headers.get("From") or ""
        lines = [(name, value) for name, value in request.headers if name.lower() == "via"]
        lines += [
            ("From", request.headers.get("From") or ""),
            ("To", own),
            ("Call-ID", request.call_id),
            ("CSeq", request.headers.get("CSeq") or ""),
            ("Contact", f"<{self.uri}>"),
            ("Supported", "replaces"),
            *(headers or {}).items(),
        ]
        for value in request.headers.all("Record-Route"):
            lines.append(("Record-Route", value))
        self.send(Response(Headers(lines), body, status, "As Asked"), to)

    def _take(self, data: bytes, source: Address) -> None:
        message = parse_message(data)
        call = self.calls.get(message.call_id)
        if isinstance(message, Response):
            if call is not None:
                call.answers.put_nowait(message)
            return
        if call is not None:
            call.take(message, source)
        elif message.method == "INVITE":
            task = asyncio.ensure_future(self._called(message, source))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        elif message.method != "ACK":
            self.answer(message, source, self.statuses.get(message.method, 200))

    async def _called(self, request: Request, source: Address) -> None:
        uri = str(request.contact.uri)
        call = PeerCall(self, request.call_id, uri, source)
        self.calls[call.call_id] = call
        await call.media.open()
        self.incoming.put_nowait(call)
        call.take(request, source)
