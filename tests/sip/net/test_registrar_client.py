import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from talkpath.agent.metrics import render_prometheus
from talkpath.agent.sip.message import Request, Response
from talkpath.agent.sip.registration import Backoff
from talkpath.agent.sip.transaction import Timers
from talkpath.agent.sip.trunks import Trunk
from talkpath.transports.sip.keepalive import Keepalive
from talkpath.transports.sip.network_metrics import NetworkMetrics
from talkpath.transports.sip.registrar_client import RegistrarClient, Registrars
from tests.certificate import Certificate
from tests.sip.net.dns_server import DnsServer
from tests.sip.net.stage import SOON_S, Side, answer, logged, soon

_QUICK = Timers(t1_s=0.05, t2_s=0.2, t4_s=0.2)
_SOON = Backoff(base_s=0.1, most_s=0.4)


def _trunk(*servers: str) -> Trunk:
    return Trunk(
        name="pbx",
        servers=servers,
        user="alice",
        password="secret",
        register=True,
        domain="pbx.test",
    )


def _grants(request: Request, most_s: int = 600) -> Response:
    expires_s = min(most_s, int(request.headers.get("Expires") or 0))
    return answer(request, 200, Contact=f"{request.headers.get('Contact')};expires={expires_s}")


def _grants_a_second(request: Request) -> Response:
    return _grants(request, 1)


def _grants_two_seconds(request: Request) -> Response:
    return _grants(request, 2)


@contextlib.asynccontextmanager
async def _client(
    side: Side, trunk: Trunk, dns: DnsServer | None = None, *, answer_s: float = 10.0
) -> AsyncIterator[RegistrarClient]:
    client = RegistrarClient(
        trunk,
        side.requests,
        "talkpath test",
        backoff=_SOON,
        answer_s=answer_s,
        resolver=dns.resolver if dns else None,
    )
    side.watchers.append(client.gone)
    client.start()
    try:
        yield client
    finally:
        await client.stop()


def _expires(side: Side) -> list[str | None]:
    return [request.headers.get("Expires") for request in side.asked("REGISTER")]


async def test_a_trunk_is_registered_refreshed_and_unregistered() -> None:
    async with Side(_grants_a_second) as registrar, Side(timers=_QUICK) as here:
        async with _client(here, _trunk(registrar.uri())) as client:
            await soon(lambda: client.state.registered)
            assert client.state.remaining_s <= 1
            await soon(lambda: len(_expires(registrar)) >= 3)
        asked = list(registrar.asked("REGISTER"))
        assert len({request.call_id for request in asked}) == 1
        assert [request.cseq[0] for request in asked] == list(range(1, len(asked) + 1))
        assert {*_expires(registrar)[:-1]} == {"600"} and _expires(registrar)[-1] == "0"
        first = asked[0]
        port = here.sockets.ports["udp"]
        assert first.uri == "sip:pbx.test"
        assert str(first.contact.uri) == f"sip:alice@127.0.0.1:{port}"
        assert str(first.to.uri) == str(first.from_.uri) == "sip:alice@pbx.test"
        assert first.headers.get("User-Agent") == "talkpath test"


async def test_a_registrar_that_wants_a_longer_time_gets_it() -> None:
    def lengthens(request: Request) -> Response:
        if int(request.headers.get("Expires") or 0) in range(1, 1800):
            return answer(request, 423, Min_Expires="1800")
        return _grants(request, 1800)

    async with Side(lengthens) as registrar, Side(timers=_QUICK) as here:
        async with _client(here, _trunk(registrar.uri())) as client:
            await soon(lambda: client.state.registered)
            assert client.state.remaining_s > 1700
        assert _expires(registrar) == ["600", "1800", "0"]


async def test_when_a_server_dies_the_next_one_takes_over_and_back() -> None:
    grants = _grants_two_seconds
    async with Side(grants) as first, Side(grants) as second, Side(timers=_QUICK) as here:
        both = _trunk(first.uri(), second.uri("tcp"))
        async with _client(here, both, answer_s=0.5) as client:
            await soon(lambda: client.state.registered)
            assert client.state.server == first.uri()
            first.answer = None
            await soon(lambda: list(second.asked("REGISTER")))
            await soon(lambda: client.state.server == second.uri("tcp"))
            await soon(lambda: client.state.registered and client.state.failures == 0)
            first.answer = grants
            before = len(_expires(first))
            await second.sockets.stop()
            await soon(lambda: len(_expires(first)) > before)
            await soon(lambda: client.state.registered and client.state.failures == 0)
            assert client.state.server == first.uri()


async def test_all_machines_behind_one_name_are_tried() -> None:
    def busy(request: Request) -> Response:
        return answer(request, 503)

    async with Side(_grants) as good, Side(busy) as bad, Side(timers=_QUICK) as here:
        zone = [
            f"_sip._udp.pbx.test. SRV 1 0 {bad.sockets.ports['udp']} one.pbx.test.",
            f"_sip._udp.pbx.test. SRV 2 0 {good.sockets.ports['udp']} one.pbx.test.",
            "one.pbx.test. A 127.0.0.1",
        ]
        async with DnsServer(zone) as dns, _client(here, _trunk("sip:pbx.test"), dns) as client:
            await soon(lambda: client.state.registered)
            assert _expires(bad) == ["600"]
        assert _expires(bad) == ["600"], "what is known to work is asked first"
        assert _expires(good) == ["600", "0"]


async def test_a_registrar_that_is_somewhere_else_is_followed() -> None:
    def challenges(request: Request) -> Response:
        if request.headers.get("Authorization"):
            return _grants(request)
        return answer(request, 401, WWW_Authenticate='Digest realm="pbx", nonce="a", qop="auth"')

    async with Side() as first, Side(challenges) as second, Side(timers=_QUICK) as here:
        location = f"sip:127.0.0.1:{second.sockets.ports['tcp']}"
        first.answer = lambda request: answer(request, 302, Contact=f"<{location};transport=tcp>")
        async with _client(here, _trunk(first.uri())) as client:
            await soon(lambda: client.state.registered)
            assert client.state.server == first.uri()
        assert _expires(first) == ["600"]
        assert _expires(second) == ["600", "600", "0"]
        assert {request.uri for request in second.asked("REGISTER")} == {location}
        assert {str(request.to.uri) for request in second.asked("REGISTER")} == {
            "sip:alice@pbx.test"
        }


async def test_nobody_is_sent_around_in_circles_nor_from_tls_to_udp(
    certificate: Certificate,
) -> None:
    async with Side(tls=certificate) as registrar, Side(trust=certificate, timers=_QUICK) as here:
        registrar.answer = lambda request: answer(
            request, 301, Contact=f"<{registrar.uri()};q=1>, <{registrar.uri()}>"
        )
        async with _client(here, _trunk(registrar.uri())) as client:
            await soon(lambda: "from one server to the next" in client.state.reason)
        before = len(_expires(registrar))
        async with _client(here, _trunk(registrar.uri("tls"))) as client:
            await soon(lambda: "cannot be reached by udp" in client.state.reason)
        asked = [flow.transport for _, flow in registrar.came[before:]]
        assert {*asked} == {"tls"}


async def test_a_registrar_that_asks_for_time_gets_it() -> None:
    async with Side() as registrar, Side(timers=_QUICK) as here:
        registrar.answer = lambda request: answer(request, 503, Retry_After="50 (overload)")
        backoff = Backoff(base_s=0.01, most_s=60.0)
        trunk = _trunk(registrar.uri())
        client = RegistrarClient(trunk, here.requests, "talkpath test", backoff=backoff)
        with logged() as lines:
            client.start()
            await soon(lambda: client.state.failures)
        assert [line for line in lines if "503" in line and "next attempt in 50 s" in line]
        assert _expires(registrar) == ["600"]
        await client.stop()


async def test_a_refusal_is_tried_again_later_and_says_why() -> None:
    def refuses(request: Request) -> Response:
        return answer(request, 403)

    async with Side(refuses) as registrar, Side(timers=_QUICK) as here:
        async with _client(here, _trunk(registrar.uri())) as client:
            await soon(lambda: client.state.failures >= 2)
            assert not client.state.registered
            assert "403" in client.state.reason
            registrar.answer = lambda request: answer(request, 401)
            await soon(lambda: "refused" in client.state.reason)
            registrar.answer = lambda request: answer(request, 200, Expires="0")
            await soon(lambda: "does not keep" in client.state.reason)
            registrar.answer = lambda request: answer(request, 200, Contact="<a> b")
            await soon(lambda: "cannot be read" in client.state.reason)
            registrar.answer = _grants
            await soon(lambda: client.state.registered)
            assert (client.state.failures, client.state.reason) == (0, "")


async def test_a_name_that_nobody_knows_is_tried_again() -> None:
    async with Side(_grants) as registrar, Side(timers=_QUICK) as here, DnsServer([]) as dns:
        uri = f"sip:pbx.test:{registrar.sockets.ports['udp']}"
        async with _client(here, _trunk(uri), dns) as client:
            await soon(lambda: "no address" in client.state.reason)
            dns.change(["pbx.test. A 127.0.0.1"])
            await soon(lambda: client.state.registered)


@pytest.mark.parametrize("quiet", [False, True])
async def test_the_end_waits_for_no_registrar(quiet: bool) -> None:
    async with Side(_grants) as registrar, Side(timers=_QUICK) as here:
        async with _client(here, _trunk(registrar.uri("tcp")), answer_s=0.5) as client:
            await soon(lambda: client.state.registered)
            if quiet:
                registrar.answer = None
            else:
                await registrar.sockets.stop()


async def test_only_trunks_that_want_it_are_registered() -> None:
    async with Side(_grants) as registrar, Side(timers=_QUICK) as here:
        plain = Trunk(name="carrier", servers=(registrar.uri(),))
        registrars = Registrars([plain, _trunk(registrar.uri())], here.requests, "talkpath")
        keepalive = Keepalive([plain], here.requests, "talkpath", 0)
        metrics = NetworkMetrics(here.sockets, registrars, keepalive)
        assert "talkpath_sip_trunks_unregistered 1" in render_prometheus(metrics)
        await keepalive.start()
        registrars.start()
        await soon(lambda: all(state.registered for state in registrars.states))
        assert [state.trunk for state in registrars.states] == ["pbx"]
        figures = render_prometheus(metrics)
        for line in ("trunks_registered 1", "trunks_unregistered 0", "servers_alive 1"):
            assert f"talkpath_sip_{line}\n" in figures
        await keepalive.stop()
        await asyncio.wait_for(registrars.stop(), SOON_S)
        assert _expires(registrar) == ["600", "0"]
