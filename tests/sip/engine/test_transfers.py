"""Calls that are sent elsewhere: by us, by the peer, and two that are joined."""

import asyncio

import pytest

from talkpath.transports.sip.leg import (
    Answered,
    Ended,
    LegError,
    Transferred,
    TransferRefused,
)
from tests.sip.engine.support import open_line
from tests.sip.hearing import comes_back
from tests.sip.peer import PeerCall
from tests.sip.waiting import SOON_S, soon

_REPORT = {
    "Event": "refer",
    "Subscription-State": "terminated;reason=noresource",
    "Content-Type": "message/sipfrag;version=2.0",
}


async def _referred(call: PeerCall) -> str:
    """Wait for a REFER; returns whom it names."""
    await soon(lambda: call.asked("REFER"), "a REFER")
    return call.asked("REFER")[-1].headers.get("Refer-To") or ""


async def _report(call: PeerCall, status: int) -> str:
    """Wait for a REFER, say what became of it; returns whom it named."""
    target = await _referred(call)
    await call.request("NOTIFY", f"SIP/2.0 {status} So\r\n".encode(), _REPORT)
    return target


async def _outcome(call: PeerCall) -> bytes:
    """What the last NOTIFY says."""

    def told() -> list[bytes]:
        bodies = [request.body for request in call.asked("NOTIFY")]
        return [body for body in bodies if not body.startswith(b"SIP/2.0 100")]

    await soon(told, "what became of the transfer")
    return told()[-1]


async def test_a_call_is_transferred_once_the_peer_has_reached_the_target() -> None:
    async with open_line() as line:
        call, followed = await line.call()
        await followed.until(Answered)
        _, target = await asyncio.gather(
            followed.leg.transfer("4711", {"X-Note": "warm"}), _report(call, 200)
        )
        ended = await followed.until(Ended)

    assert target.strip("<>").startswith("sip:4711@")
    assert (ended.by, ended.status, ended.reason) == ("us", 0, "transferred")
    assert ("permit", call.call_id, "4711") in line.exchange.asked
    assert ("add_headers", call.call_id, "REFER", {"X-Note": "warm"}) in line.exchange.asked


async def test_a_peer_that_takes_a_transfer_and_leaves_has_refused_nothing() -> None:
    async with open_line() as line:
        call, followed = await line.call()
        await followed.until(Answered)
        with pytest.raises(TransferRefused, match="space"):
            await followed.leg.transfer("47 11")
        moving = asyncio.create_task(followed.leg.transfer("4711"))
        await _referred(call)
        await call.request("BYE")
        with pytest.raises(LegError, match="the peer left") as left:
            await moving
        assert not isinstance(left.value, TransferRefused)


async def test_a_transfer_that_fails_says_so_and_the_call_goes_on() -> None:
    async with open_line() as line:
        call, followed = await line.call()
        await followed.until(Answered)
        line.exchange.forbidden.add("sip:premium@127.0.0.1")
        with pytest.raises(TransferRefused) as forbidden:
            await followed.leg.transfer("sip:premium@127.0.0.1")
        assert forbidden.value.status == 403
        assert not call.asked("REFER")

        line.phone.statuses["REFER"] = 405
        with pytest.raises(TransferRefused) as refused:
            await followed.leg.transfer("4711")
        assert refused.value.status == 405

        line.phone.statuses["REFER"] = 202
        call.requests.clear()
        reporting = asyncio.create_task(_report(call, 486))
        with pytest.raises(TransferRefused) as busy:
            await followed.leg.transfer("4712")
        await reporting
        assert busy.value.status == 486

        followed.echo()
        await comes_back(call, 440)


async def test_a_peer_may_send_the_call_elsewhere_and_the_leg_goes_with_it() -> None:
    async with open_line() as line:
        call, followed = await line.call()
        followed.echo()
        await comes_back(call, 440)
        refer = await call.request("REFER", b"", {"Refer-To": f"<{line.phone.uri}>"})
        assert refer.status == 202
        other = await asyncio.wait_for(line.phone.incoming.get(), SOON_S)
        transferred = await followed.until(Transferred)
        await asyncio.wait_for(call.over.wait(), SOON_S)  # Nobody is left behind.
        await comes_back(other, 600)
        await other.request("BYE")
        ended = await followed.until(Ended)

    assert transferred.target.startswith(line.phone.uri)
    assert ended.by == "peer"
    assert call.asked("NOTIFY")[-1].body.startswith(b"SIP/2.0 200")
    assert line.ended() == ["the peer hung up"]


async def test_a_peer_whose_target_is_forbidden_or_busy_keeps_the_call() -> None:
    async with open_line() as line:
        call, followed = await line.call()
        followed.echo()
        line.exchange.forbidden.add("sip:premium@127.0.0.1")
        for target in ("sip:premium@127.0.0.1", line.phone.uri):
            line.phone.statuses["INVITE"] = 486
            call.requests.clear()
            await call.request("REFER", b"", {"Refer-To": f"<{target}>"})
            assert (await _outcome(call)).startswith((b"SIP/2.0 403", b"SIP/2.0 486"))
        await comes_back(call, 440)
        assert not [event for event in followed.events if isinstance(event, Transferred)]


async def test_two_calls_are_joined_and_left() -> None:
    async with open_line() as line:
        call, first = await line.call()
        await first.until(Answered)
        second = await line.dial()
        consulted = await line.phone.incoming.get()
        await second.until(Answered)
        with pytest.raises(LegError, match="same engine"):
            await first.leg.transfer_to(first.leg)
        target, _ = await asyncio.gather(_report(call, 200), first.leg.transfer_to(second.leg))
        await consulted.request("BYE")  # As the peer does whose call has been replaced.
        ended = await first.until(Ended), await second.until(Ended)

    assert "Replaces=" in target and consulted.call_id in target
    assert [event.by for event in ended] == ["us", "us"]
