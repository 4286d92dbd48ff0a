"""Peers whose certificate is wrong, or that speak no TLS, are refused, and one line says why."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import sipmessage

from talkpath.agent.sip.flow import PeerUnreachable
from talkpath.agent.sip.message import Request, Response
from talkpath.agent.sip.registration import Backoff
from talkpath.agent.sip.trunks import Trunk
from talkpath.transports.sip.keepalive import Keepalive
from talkpath.transports.sip.registrar_client import RegistrarClient
from talkpath.transports.sip.resolver import resolve
from tests.certificate import Certificate
from tests.sip.net.dns_server import DnsServer
from tests.sip.net.stage import Side, answer, logged, soon

_NO_TLS = r"does not speak TLS|cannot be reached|closed"
_NEVER = Backoff(base_s=3600.0, most_s=3600.0)


@pytest.fixture
async def nothing_else(caplog: pytest.LogCaptureFixture) -> AsyncIterator[None]:
    """The loop itself complains of nothing, in its log or to its handler of exceptions."""
    complaints: list[object] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, said: complaints.append(said))
    yield
    assert not complaints
    assert not [record for record in caplog.records if record.levelname != "DEBUG"]


def _well(request: Request) -> Response:
    return answer(request, 200, Contact=f"{request.headers.get('Contact')};expires=600")


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("date", "has no certificate to trust: certificate has expired"),
        ("name", "has no certificate to trust: Hostname mismatch"),
        ("issuer", "has no certificate to trust: self"),
    ],
)
async def test_a_trunk_with_a_wrong_certificate_hears_nothing_and_one_line_says_why(
    wrong: str, says: str, certificate: Certificate, tmp_path: Path, nothing_else: None
) -> None:
    expired = Certificate(tmp_path, "expired", days=-1)
    shown = expired if wrong == "date" else certificate
    trust = None if wrong == "issuer" else shown
    zone = ["pbx.test. A 127.0.0.1"]
    async with Side(_well, tls=shown) as pbx, Side(trust=trust) as here, DnsServer(zone) as dns:
        host = "pbx.test" if wrong == "name" else "127.0.0.1"
        server = f"sips:{host}:{pbx.sockets.ports['tls']}"
        trunk = Trunk(name="pbx", servers=(server,), user="alice", register=True)
        client = RegistrarClient(
            trunk, here.requests, "talkpath", backoff=_NEVER, resolver=dns.resolver
        )
        with logged() as lines:
            client.start()
            await soon(lambda: client.state.failures)
        assert says in client.state.reason
        assert [says in line for line in lines] == [True]
        await client.stop()
        keepalive = Keepalive([trunk], here.requests, "talkpath", 60, resolver=dns.resolver)
        with logged() as lines:
            await keepalive.start()
            await soon(lambda: not all(state.alive for state in keepalive.states))
        assert [says in line for line in lines] == [True]
        await keepalive.stop()
        assert not pbx.came


@contextlib.asynccontextmanager
async def _server(data: bytes) -> AsyncIterator[int]:
    """A port at which every connection is told this, and closed."""

    async def tell(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(data)
        await writer.drain()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    server = await asyncio.start_server(tell, "127.0.0.1", 0, family=socket.AF_INET)
    yield server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize("data", [b"SIP/2.0 400 Speak plainly\r\n\r\n", b""])
async def test_who_does_not_speak_tls_is_not_spoken_to(data: bytes, nothing_else: None) -> None:
    async with Side() as here, _server(data) as port:
        (target,) = await resolve(sipmessage.URI.parse(f"sip:127.0.0.1:{port};transport=tls"))
        with pytest.raises(PeerUnreachable, match=_NO_TLS):
            await here.sockets.connect(target)
        assert here.sockets.connections == 0


async def test_sips_is_tls_or_nothing() -> None:
    for parameter in ("", ";transport=tls", ";transport=tcp"):
        (target,) = await resolve(sipmessage.URI.parse(f"sips:127.0.0.1{parameter}"))
        assert (target.transport, target.port) == ("tls", 5061)
    with pytest.raises(PeerUnreachable, match="cannot be reached by udp"):
        await resolve(sipmessage.URI.parse("sips:127.0.0.1;transport=udp"))
    zone = ["_sip._udp.pbx.test. SRV 1 0 5060 pbx.test.", "pbx.test. A 127.0.0.1"]
    async with DnsServer(zone) as dns:
        (target,) = await resolve(sipmessage.URI.parse("sips:pbx.test"), resolver=dns.resolver)
        assert (target.transport, target.server_name) == ("tls", "pbx.test")
