import asyncio

import pytest

from talkpath.agent.sip.flow import PeerUnreachable
from talkpath.agent.sip.message import Request, Response, parse_message
from talkpath.agent.sip.own_requests import own_request
from talkpath.agent.sip.transaction import OWN_BRANCH, Timers
from tests.sip.net.stage import Side, answer, options, soon

_QUICK = Timers(t1_s=0.05, t2_s=0.2, t4_s=0.3)


def _options() -> Request:
    own = "sip:us@127.0.0.1"
    return own_request("OPTIONS", own, from_uri=own, to_uri=own, contact=own, user_agent="talkpath")


def _well(request: Request) -> Response:
    return answer(request, 200)


async def test_requests_are_answered_by_every_transport_side_by_side() -> None:
    async with Side(_well) as there, Side(timers=_QUICK) as here:
        asked = [
            here.requests.request(_options(), there.target(transport))
            for transport in ("udp", "tcp") * 20
        ]
        assert {response.status for response in await asyncio.gather(*asked)} == {200}
        vias = [request.via for request in there.asked("OPTIONS")]
        assert len({via.parameters["branch"] for via in vias}) == 40
        assert all((via.parameters["branch"] or "").startswith(OWN_BRANCH) for via in vias)
        assert {via.transport for via in vias} == {"UDP", "TCP"}
        assert {(via.host, via.port) for via in vias} == {("127.0.0.1", here.sockets.ports["udp"])}
        await soon(lambda: len(here.requests) == 0)  # when repetitions can no longer come


async def test_a_lost_request_is_sent_again_and_answered_once() -> None:
    copies = 0

    def third_time(request: Request) -> Response | None:
        nonlocal copies
        copies += 1
        return answer(request, 200) if copies >= 3 else None

    async with Side(third_time) as there, Side(timers=_QUICK) as here:
        response = await here.requests.request(_options(), there.target())
        assert response.status == 200
        assert len({data for data, _ in there.came}) == 1
        repeated = bytes(response)
        for data, flow in list(there.came):
            assert there.sockets.send(repeated, flow), data
        await here.hears(3)
        assert not here.unclaimed


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_silence_is_an_error_and_late_responses_are_dropped(transport: str) -> None:
    async with Side() as there, Side(timers=_QUICK) as here:
        with pytest.raises(PeerUnreachable, match="did not answer OPTIONS in time"):
            await here.requests.request(_options(), there.target(transport), timeout_s=0.3)
        assert len(here.requests) == 0
        data, flow = there.came[0]
        late = parse_message(data)
        assert isinstance(late, Request)
        there.sockets.send(bytes(answer(late, 200)), flow)
        await here.hears()
        assert not here.unclaimed


async def test_a_request_can_go_back_the_way_that_its_peer_came() -> None:
    async with Side(timers=_QUICK) as here, Side(_well) as peer:
        flow = await peer.sockets.connect(here.target("tcp"))
        peer.sockets.send(options(), flow)
        back = (await here.hears())[0][1]
        assert (await here.requests.request(_options(), back)).status == 200
        await peer.sockets.stop()
        await soon(lambda: here.ended)
        with pytest.raises(PeerUnreachable, match="could not be sent"):
            await here.requests.request(_options(), back)


async def test_responses_to_others_requests_are_left_to_others() -> None:
    async with Side() as there, Side() as here:
        other = parse_message(options())
        assert isinstance(other, Request)
        flow = await there.sockets.connect(here.target())
        there.sockets.send(bytes(answer(other, 200)), flow)
        await soon(lambda: here.unclaimed)
        other.headers.set("Via", "what is this")
        there.sockets.send(bytes(answer(other, 200)), flow)
        await soon(lambda: len(here.unclaimed) == 2)


async def test_a_connection_that_ends_ends_what_waits_on_it() -> None:
    async with Side(timers=_QUICK) as here:
        async with Side() as there:
            waiting = asyncio.create_task(
                here.requests.request(_options(), there.target("tcp"), timeout_s=60)
            )
            await there.hears()
        with pytest.raises(PeerUnreachable, match="closed the connection"):
            await waiting
        with pytest.raises(PeerUnreachable, match="refused"):
            await here.requests.request(_options(), there.target("tcp"))


async def test_who_gives_up_leaves_nothing_behind() -> None:
    async with Side() as there, Side(timers=_QUICK) as here:
        waiting = asyncio.create_task(here.requests.request(_options(), there.target()))
        await there.hears()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert len(here.requests) == 0


async def test_the_end_of_the_telephone_ends_requests() -> None:
    async with Side() as there:
        async with Side(timers=_QUICK) as here:
            waiting = asyncio.create_task(here.requests.request(_options(), there.target()))
            await there.hears()
        with pytest.raises(PeerUnreachable, match="switched off"):
            await waiting
