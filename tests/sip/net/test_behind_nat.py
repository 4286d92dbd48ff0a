"""Registrations from behind a NAT of which the settings say nothing."""

import sys

import pytest

from talkpath.agent.sip.message import Request, Response
from talkpath.agent.sip.own_requests import own_request
from talkpath.agent.sip.transaction import Timers
from talkpath.agent.sip.trunks import Trunk
from talkpath.transports.sip.registrar_client import RegistrarClient
from tests.sip.net.nat import Nat
from tests.sip.net.stage import Side, answer, soon

_QUICK = Timers(t1_s=0.05, t2_s=0.2, t4_s=0.2)

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux has all of 127.0.0.0/8 on its loopback interface"
)


def _client(side: Side, server: str) -> RegistrarClient:
    trunk = Trunk(name="pbx", servers=(server,), user="alice", register=True, domain="pbx.test")
    client = RegistrarClient(trunk, side.requests, "talkpath test")
    side.watchers.append(client.gone)
    return client


def _says(host: str, port: int, request: Request) -> Response:
    """A registrar's answer to what came from this address; registrations hold for a second."""
    if request.method != "REGISTER":
        return answer(request, 200)
    expires_s = min(1, int(request.headers.get("Expires") or 0))
    first = request.headers.all("Contact")[0]
    response = answer(request, 200, Contact=f"{first};expires={expires_s}")
    seen = f";received={host};rport={port};"
    via = (response.headers.get("Via") or "").replace(";rport;", seen)
    response.headers.set("Via", via)
    return response


def _contacts(side: Side) -> list[list[str]]:
    return [request.headers.all("Contact") for request in side.asked("REGISTER")]


async def test_the_address_that_the_registrar_sees_is_registered_and_reached() -> None:
    async with Side() as registrar, Side(timers=_QUICK) as here:
        async with Nat(registrar.target().address) as nat:
            registrar.answer = lambda request: _says(*nat.outside, request)
            here.answer = lambda request: answer(request, 200)
            client = _client(here, "sip:{}:{}".format(*nat.inside))
            client.start()
            await soon(lambda: client.state.registered)
            inside = "<sip:alice@127.0.0.1:{}>".format(here.sockets.ports["udp"])
            outside = "<sip:alice@{}:{}>".format(*nat.outside)
            assert _contacts(registrar) == [[inside], [outside, f"{inside};expires=0"]]
            await soon(lambda: len(_contacts(registrar)) >= 4)
            assert _contacts(registrar)[2:4] == [[outside], [outside]], "and refreshed as it is"

            back = registrar.came[-1][1]
            contact = outside.strip("<>")
            request = own_request(
                "OPTIONS",
                contact,
                from_uri="sip:pbx.test",
                to_uri=contact,
                contact="sip:pbx.test",
                user_agent="registrar",
            )
            assert (await registrar.requests.request(request, back)).status == 200
            assert [one.uri for one in here.asked("OPTIONS")] == [contact]

            await nat.forget()
            later = "<sip:alice@{}:{}>".format(*nat.outside)
            await soon(lambda: [later, f"{outside};expires=0"] in _contacts(registrar))
            assert client.state.registered
            await client.stop()
            assert _contacts(registrar)[-1] == [later]
            *_, farewell = registrar.asked("REGISTER")
            assert farewell.headers.get("Expires") == "0"


async def test_a_connection_is_registered_as_it_is_seen() -> None:
    host = "203.0.113.7"
    async with Side() as registrar, Side(timers=_QUICK) as here:
        registrar.answer = lambda request: _says(host, 4711, request)
        client = _client(here, registrar.uri("tcp"))
        client.start()
        await soon(lambda: client.state.registered and len(_contacts(registrar)) >= 3)
        inside = "<sip:alice@127.0.0.1:{};transport=tcp>".format(here.sockets.ports["tcp"])
        outside = f"<sip:alice@{host}:4711;transport=tcp>"
        assert _contacts(registrar)[:3] == [
            [inside],
            [outside, f"{inside};expires=0"],
            [outside],
        ]
        await client.stop()


@pytest.mark.parametrize(
    ("transport", "known", "seen"),
    [
        ("udp", "203.0.113.9", "198.51.100.1"),  # the settings say the address
        ("tcp", "", "127.0.0.1"),  # it is a connection's own port that the registrar sees
        ("udp", "", "somewhere"),
    ],
)
async def test_nothing_is_registered_anew_without_need(
    transport: str, known: str, seen: str
) -> None:
    async with Side() as registrar, Side(timers=_QUICK, public_address=known) as here:
        registrar.answer = lambda request: _says(seen, 4711, request)
        client = _client(here, registrar.uri(transport))
        client.start()
        await soon(lambda: len(_contacts(registrar)) >= 2)
        assert client.state.registered
        await client.stop()
        assert {len(contacts) for contacts in _contacts(registrar)} == {1}
        assert len({contacts[0] for contacts in _contacts(registrar)}) == 1
