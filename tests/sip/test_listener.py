"""A listener in a program of one's own: calls made and taken, who decides, and audio behind NAT."""

import asyncio
import socket
import textwrap
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from talkpath.agent.config import load_config
from talkpath.agent.errors import ConfigError
from talkpath.agent.metrics import render_prometheus
from talkpath.transports.sip.dispatch import Reject, load_dispatch
from talkpath.transports.sip.leg import LegError, TransferRefused
from talkpath.transports.sip.listener import Listener
from talkpath.transports.sip.outbound import CallFailed
from tests.sip.hearing import comes_back
from tests.sip.peer import SipPeer, description
from tests.sip.waiting import SOON_S, soon

DISPATCH = """
from talkpath.transports.sip.dispatch import Reject

async def dispatch(call):
    match call.headers.get("X-Want"):
        case "nothing":
            return None
        case "refusal":
            return Reject(603, "Not Today", {"X-Why": "closed"})
        case "stranger":
            return "no-such-bot"
        case "fault":
            raise RuntimeError("a fault of the user's")
        case _:
            return "loopback"
"""


@asynccontextmanager
async def listening(*bots: str, **settings: object) -> AsyncIterator[Listener]:
    defaults = {"port": 0, "requests_per_s": 1000.0}
    own = {f"sip.{name}": value for name, value in {**defaults, **settings}.items()}
    server = {"server.port": 0, "server.host": "0.0.0.0"}
    listener = Listener(load_config({**own, **server}, environ={}), bots or ["loopback"])
    await listener.start()
    try:
        yield listener
    finally:
        await listener.stop()


async def test_calls_are_made_taken_refused_and_ended(tmp_path: Path) -> None:
    """One listener for all of it: its worker takes seconds to start."""
    file = tmp_path / "who.py"
    file.write_text(DISPATCH)
    async with (
        listening(
            dispatch=f"{file}:dispatch",
            allow=("127.0.0.0/8", f"{_own_address()}/32"),
            dial_plan=("+49*", "sip:friend@127.0.0.1*"),
        ) as listener,
        SipPeer() as phone,
    ):
        await _made(listener, phone)
        await _not_answered(listener, phone)
        await _decided(listener, phone)
        async with SipPeer(_own_address()) as another:
            await _over_the_network(listener, another)
        await _ended_by_the_listener(listener, phone)
        # The last figures come from the worker, a moment later.
        await soon(lambda: not listener.calls and not listener.metrics.active)
        text = render_prometheus(listener.metrics)
        assert 'talkpath_calls_ended_total{outcome="busy"} 1' in text
        assert 'talkpath_calls_refused_total{reason="603"} 1' in text


async def _made(listener: Listener, phone: SipPeer) -> None:
    """An outbound call: ringing, answered, its audio both ways, its end and figures."""
    dialled = await listener.dial(phone.uri, headers={"X-Own": "yes"}, by_user=True)
    incoming = await asyncio.wait_for(phone.incoming.get(), SOON_S)
    await soon(lambda: incoming.requests)
    assert incoming.requests[0].headers.get("X-Own") == "yes"
    assert incoming.requests[0].headers.get("X-Talkpath-Dial") is None
    await dialled.ringing()
    await dialled.answered()
    (state,) = listener.calls
    assert (state.stage, state.info.direction, state.info.bot) == ("up", "outbound", "loopback")
    assert state.info.to_uri == phone.uri
    await comes_back(incoming)
    await incoming.request("BYE")
    reason, quality = await dialled.ended()
    assert reason and quality.received > 10 and quality.codec == "PCMU/8000"
    with pytest.raises(LegError, match="no call"):
        await listener.hang_up(dialled.call_id)


async def _not_answered(listener: Listener, phone: SipPeer) -> None:
    phone.statuses["INVITE"] = 486
    dialled = await listener.dial(phone.uri, by_user=True)
    with pytest.raises(CallFailed) as failed:
        await dialled.answered()
    assert failed.value.status == 486
    await dialled.ended()
    # A password that nobody has: the line is free again, too.
    phone.statuses["INVITE"] = 401
    dialled = await listener.dial(phone.uri, by_user=True)
    with pytest.raises(CallFailed) as failed:
        await dialled.answered()
    assert failed.value.status == 401
    await soon(lambda: not listener.calls)
    del phone.statuses["INVITE"]
    while not phone.incoming.empty():
        phone.incoming.get_nowait()
    for wrong, bot, trunk in (
        (phone.uri, "", ""),  # the dial plan does not have it
        ("+301", "", ""),  # a number, and no trunk to call it by
        (phone.uri, "nobody", ""),
        (phone.uri, "", "none"),
    ):
        with pytest.raises(LegError):
            await listener.dial(wrong, bot=bot, trunk=trunk)
    gone = await listener.dial("sip:x@127.0.0.1:1;transport=tcp", by_user=True)
    with pytest.raises(CallFailed) as failed:
        await gone.answered()
    assert failed.value.status == 503


async def _decided(listener: Listener, phone: SipPeer) -> None:
    """The user's function is asked about each call before it rings."""
    uri = f"sip:600@127.0.0.1:{listener.ports['udp']}"
    for want, status in (("refusal", 603), ("stranger", 500), ("fault", 500)):
        refused = await phone.call(uri, headers={"X-Want": want})
        assert refused.status == status
        assert not any(response.status == 180 for response in refused.provisional)
        if want == "refusal":
            assert refused.response is not None
            assert refused.response.headers.get("X-Why") == "closed"
    again = next(reversed(phone.calls.values()))  # it tries once more in the same name
    assert (await again.invite(description(again.media.port))).status == 200
    await asyncio.sleep(1.5)  # the first try is long forgotten
    assert not again.over.is_set()
    await again.request("BYE")
    taken = await phone.call(uri, headers={"X-Want": "nothing"})
    assert taken.status == 200
    await taken.request("BYE")


async def _behind_nat(listener: Listener, phone: SipPeer) -> None:
    """Audio goes back to where it comes from, whatever the description says."""
    uri = f"sip:600@127.0.0.1:{listener.ports['udp']}"
    nobody = description(9).replace(b"127.0.0.1", b"127.0.0.9")
    call = await phone.call(uri, body=nobody)
    assert call.status == 200
    await comes_back(call)
    await call.request("BYE")


async def _over_the_network(listener: Listener, phone: SipPeer) -> None:
    """Both ways with a peer that is not on the loopback interface, if there is another one."""
    call = await phone.call(f"sip:600@{phone.host}:{listener.ports['udp']}")
    assert call.status == 200 and phone.host.encode() in call.response.body
    await comes_back(call)
    await call.request("BYE")
    dialled = await listener.dial(phone.uri, by_user=True)
    incoming = await asyncio.wait_for(phone.incoming.get(), SOON_S)
    await dialled.answered()
    await comes_back(incoming)
    await incoming.request("BYE")


def _own_address() -> str:
    """An address of this machine's that is not the loopback's, where there is one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:  # no network at all
            return "127.0.0.1"
        found: str = probe.getsockname()[0]
        return found


async def _ended_by_the_listener(listener: Listener, phone: SipPeer) -> None:
    uri = f"sip:600@127.0.0.1:{listener.ports['udp']}"
    await soon(lambda: not listener.calls, "the end of those before")
    call = await phone.call(uri)
    (state,) = listener.calls
    await listener.hang_up(state.info.call_id)
    await asyncio.wait_for(call.over.wait(), SOON_S)


async def test_audio_goes_back_to_where_it_comes_from_where_it_must() -> None:
    async with listening(symmetric_rtp="always") as listener, SipPeer() as phone:
        await _behind_nat(listener, phone)


EARLY = """
import asyncio
from pathlib import Path
from talkpath.bots import loopback

MODELS = ()

async def bot(runner_args):
    await runner_args.leg.early_media()
    while not Path(__file__).with_name("answer").exists():
        await asyncio.sleep(0.05)
    await loopback.bot(runner_args)
"""

REFUSING = """
MODELS = ()

async def bot(runner_args):
    await runner_args.leg.reject(404, "Nobody Of This Name", {"X-Why": "unknown"})
"""


async def test_a_caller_hears_before_the_answer_and_is_refused_with_any_status(
    tmp_path: Path,
) -> None:
    early, refusing = tmp_path / "early.py", tmp_path / "refusing.py"
    early.write_text(EARLY)
    refusing.write_text(REFUSING)
    bots = [str(early), str(refusing)]
    async with (
        listening(*bots, routes=(f"404={refusing}",)) as listener,
        SipPeer() as phone,
    ):
        port = listener.ports["udp"]
        calling = asyncio.create_task(phone.call(f"sip:600@127.0.0.1:{port}"))
        await soon(lambda: any(len(one.media.packets) > 20 for one in phone.calls.values()))
        assert not calling.done()
        (tmp_path / "answer").touch()
        call = await calling
        progress = next(one for one in call.provisional if one.status == 183)
        assert progress.body == call.response.body and call.status == 200
        await comes_back(call)
        (tmp_path / "answer").unlink()
        await call.request("BYE")
        refused = await phone.call(f"sip:404@127.0.0.1:{port}")
        assert (refused.status, refused.response.reason) == (404, "Nobody Of This Name")
        assert refused.response.headers.get("X-Why") == "unknown"
        given_up = asyncio.create_task(phone.call(f"sip:600@127.0.0.1:{port}"))
        await soon(lambda: any(not one.status and one.provisional for one in phone.calls.values()))
        (ringing,) = [one for one in phone.calls.values() if not one.status]
        ringing.cancel()
        assert (await given_up).status == 487


async def test_a_transfer_must_be_in_the_dial_plan() -> None:
    """What a worker may send a call to, asked as a worker asks it."""
    async with listening(dial_plan=("+49*", "sip:friend@127.0.0.1:5555")) as listener:
        permit = listener.desk.permit
        async with SipPeer() as phone:
            call = await phone.call(f"sip:600@127.0.0.1:{listener.ports['udp']}")
            call_id = call.call_id
            (worker,) = listener.supervisor.workers
            friend = await permit(worker, call_id=call_id, target="sip:friend@127.0.0.1:5555")
            assert friend == {"target": "sip:friend@127.0.0.1:5555"}
            number = await permit(worker, call_id=call_id, target="+49 30 1234")
            assert number == {"target": f"sip:+49301234@127.0.0.1:{phone.port}"}
            for wrong in ("+301", "sip:friend@127.0.0.1:6666", "mailto:x", ""):
                with pytest.raises((TransferRefused, LegError)):
                    await permit(worker, call_id=call_id, target=wrong)
            await call.request("BYE")


@pytest.mark.parametrize(
    ("source", "where", "error"),
    [
        ("", "nothing.txt", "must be file.py:function"),
        ("", "absent.py:dispatch", "no file"),
        ("import nothing_of_this_name", "{}:dispatch", "cannot be loaded"),
        ("def dispatch(call): ...", "{}:dispatch", "async def"),
    ],
)
def test_a_wrong_dispatch_function_is_told_at_once(
    tmp_path: Path, source: str, where: str, error: str
) -> None:
    file = tmp_path / "who.py"
    file.write_text(textwrap.dedent(source))
    with pytest.raises(ConfigError, match=error):
        load_dispatch(where.format(file))


def test_a_refusal_has_a_status_of_refusals() -> None:
    with pytest.raises(ValueError, match="300 to 699"):
        Reject(200)
