"""Two sides on loopback, and what they say to each other."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Self

from loguru import logger

from talkpath.agent.sip.flow import Flow, Target
from talkpath.agent.sip.message import Headers, Request, Response, parse_message
from talkpath.agent.sip.transaction import Timers
from talkpath.agent.sip_sections import SipConfig
from talkpath.transports.sip.connections import ConnectionLimits
from talkpath.transports.sip.requests import Requests
from talkpath.transports.sip.sockets import SipSockets
from tests.certificate import Certificate
from tests.sip.waiting import SOON_S, soon

__all__ = ["SOON_S", "Side", "answer", "logged", "options", "soon"]

Answer = Callable[[Request], Response | None]


def options(size: int = 0) -> bytes:
    """A message that has a length."""
    return bytes(
        Request(
            Headers(
                [
                    ("Via", "SIP/2.0/UDP 127.0.0.1;branch=z9hG4bKpeer"),
                    ("From", "<sip:a@127.0.0.1>;tag=1"),
                    ("To", "<sip:b@127.0.0.1>"),
                    ("Call-ID", "one"),
                    ("CSeq", "1 OPTIONS"),
                ]
            ),
            b"x" * size,
            "OPTIONS",
            "sip:b@127.0.0.1",
        )
    )


def answer(request: Request, status: int, **headers: str) -> Response:
    """A response to a request; underscores in headers' names are hyphens."""
    kept = [
        (name, value)
        for name, value in request.headers
        if name in ("Via", "From", "To", "Call-ID", "CSeq")
    ]
    added = [(name.replace("_", "-"), value) for name, value in headers.items()]
    return Response(Headers([*kept, *added]), b"", status, "as the test wants it")


@contextlib.contextmanager
def logged(level: str = "INFO") -> Iterator[list[str]]:
    """What is logged inside the block, of this level or above."""
    lines: list[str] = []
    sink = logger.add(lambda message: lines.append(str(message)), level=level, format="{message}")
    try:
        yield lines
    finally:
        logger.remove(sink)


class Side:
    """Sockets that remember what came, answer as they are told, and send requests.

    Args:
        answer: what to say to each request; None says nothing.
        limits: of connections.
        timers: of requests.
        host: to bind to.
        tls: the certificate that is shown, and the only one that is trusted.
        trust: the only one that is trusted.
        public_address: ours, behind NAT.
    """

    def __init__(
        self,
        answer: Answer | None = None,
        *,
        limits: ConnectionLimits | None = None,
        timers: Timers | None = None,
        host: str = "127.0.0.1",
        tls: Certificate | None = None,
        trust: Certificate | None = None,
        public_address: str = "",
    ) -> None:
        trusted = trust or tls
        config = SipConfig(
            port=0,
            tls_port=0,
            tls_cert=str(tls.cert) if tls else "",
            tls_key=str(tls.key) if tls else "",
            tls_ca=str(trusted.cert) if trusted else "",
            public_address=public_address,
        )
        self.came: list[tuple[bytes, Flow]] = []
        self.ended: list[Flow] = []
        self.unclaimed: list[Response] = []
        self.answer = answer
        self.sockets = SipSockets(host, config, self._receive, self._gone, limits)
        self.requests = Requests(self.sockets, timers)
        self.watchers: list[Callable[[Flow], None]] = [self.requests.gone, self.ended.append]

    async def __aenter__(self) -> Self:
        await self.sockets.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.requests.stop()
        await self.sockets.stop()

    def target(self, transport: str = "udp") -> Target:
        """Where the other side finds this one."""
        return Target(transport, "127.0.0.1", self.sockets.ports[transport], "127.0.0.1")

    def uri(self, transport: str = "udp") -> str:
        """The same, as an address."""
        return f"sip:127.0.0.1:{self.sockets.ports[transport]};transport={transport}"

    def asked(self, method: str) -> Iterator[Request]:
        """The requests that came, of one method; what came again, as by UDP it may, once."""
        for data in dict.fromkeys(data for data, _ in self.came):
            message = parse_message(data)
            if isinstance(message, Request) and message.method == method:
                yield message

    async def hears(self, count: int = 1) -> list[tuple[bytes, Flow]]:
        """Wait for messages; gives all that came."""
        await soon(lambda: len(self.came) >= count)
        return self.came

    def _receive(self, data: bytes, flow: Flow) -> None:
        self.came.append((data, flow))
        message = parse_message(data)
        if isinstance(message, Response):
            if not self.requests.receive(message, flow):
                self.unclaimed.append(message)
        elif self.answer and (response := self.answer(message)):
            self.sockets.send(bytes(response), flow)

    def _gone(self, flow: Flow) -> None:
        for watcher in self.watchers:
            watcher(flow)
