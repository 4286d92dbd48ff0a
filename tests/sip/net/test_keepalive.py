import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

from talkpath.agent.sip.message import Request, Response
from talkpath.agent.sip.transaction import Timers
from talkpath.agent.sip.trunks import Trunk
from talkpath.transports.sip.keepalive import Keepalive
from tests.sip.net.dns_server import DnsServer
from tests.sip.net.stage import Side, answer, soon

_QUICK = Timers(t1_s=0.05, t2_s=0.2, t4_s=0.2)


def _well(request: Request) -> Response:
    return answer(request, 200)


def _busy(request: Request) -> Response:
    return answer(request, 503)


def _unknown(request: Request) -> Response:
    return answer(request, 404)


@contextlib.asynccontextmanager
async def _keepalive(
    side: Side,
    *trunks: Trunk,
    every_s: float = 0.05,
    dns: DnsServer | None = None,
    learnt: dict[str, Sequence[str]] | None = None,
) -> AsyncIterator[Keepalive]:
    keepalive = Keepalive(
        trunks,
        side.requests,
        "talkpath test",
        every_s,
        learn=None if learnt is None else learnt.__setitem__,
        answer_s=0.3,
        resolver=dns.resolver if dns else None,
    )
    await keepalive.start()
    try:
        yield keepalive
    finally:
        await keepalive.stop()


async def test_calls_go_to_what_lives_and_to_the_dead_last() -> None:
    async with Side(_unknown) as first, Side(_well) as second, Side(timers=_QUICK) as here:
        trunk = Trunk(name="pbx", servers=(first.uri(), second.uri("tcp")), user="alice")
        in_order = [first.target(), second.target("tcp")]
        async with _keepalive(here, trunk) as keepalive:
            assert keepalive.alive(trunk) == in_order, "all live until they prove dead"
            await soon(lambda: all(state.round_trip_s for state in keepalive.states))
            first.answer = None
            await soon(lambda: keepalive.alive(trunk) == in_order[::-1])
            first.answer = _unknown
            await soon(lambda: keepalive.alive(trunk) == in_order)
            first.answer = _busy
            await soon(lambda: keepalive.alive(trunk) == in_order[::-1])
            await second.sockets.stop()
            await soon(lambda: not any(state.alive for state in keepalive.states))
            assert keepalive.alive(trunk) == in_order, "a call may try them all the same"
        asked = next(first.asked("OPTIONS"))
        assert asked.uri == "sip:127.0.0.1"
        assert asked.from_.uri.user == "alice"
        assert asked.headers.get("User-Agent") == "talkpath test"


async def test_one_slow_trunk_does_not_hold_up_another() -> None:
    async with Side() as mute, Side(_well) as good, Side(timers=_QUICK) as here:
        slow = Trunk(name="slow", servers=(mute.uri(),))
        quick = Trunk(name="quick", servers=(good.uri(),))
        async with _keepalive(here, slow, quick, every_s=0.01):
            await mute.hears(1)
            before = len(good.came)
            await soon(lambda: len(good.came) > before + 5)


async def test_names_are_looked_up_again_and_addresses_passed_on() -> None:
    learnt: dict[str, Sequence[str]] = {}
    async with Side(_well) as server, Side(timers=_QUICK) as here:
        port = server.sockets.ports["udp"]
        trunk = Trunk(name="pbx", servers=(f"sip:pbx.test:{port}",))
        async with (
            DnsServer(["pbx.test. A 127.0.0.1"]) as dns,
            _keepalive(here, trunk, dns=dns, learnt=learnt) as keepalive,
        ):
            assert learnt == {"pbx": ["127.0.0.1"]}
            dns.change(["pbx.test. A 127.0.0.1", "pbx.test. A 127.0.0.2"])
            await soon(lambda: len(keepalive.alive(trunk)) == 2)
            await soon(lambda: keepalive.alive(trunk)[-1].host == "127.0.0.2")
            assert set(learnt["pbx"]) == {"127.0.0.1", "127.0.0.2"}
            dns.change([])
            asked = len(dns.asked)
            await soon(lambda: len(dns.asked) > asked + 4)
            assert len(keepalive.alive(trunk)) == 2, "better those of before than none"


async def test_without_options_all_live_and_nobody_is_asked() -> None:
    async with Side(_well) as server, Side(timers=_QUICK) as here:
        trunk = Trunk(name="pbx", servers=(server.uri(),))
        inbound = Trunk(name="inbound", addresses=("192.0.2.0/24",))
        async with _keepalive(here, trunk, inbound, every_s=0) as keepalive:
            assert keepalive.alive(trunk) == [server.target()]
            assert keepalive.alive(inbound) == []
            await asyncio.sleep(0.1)
        assert not server.came
