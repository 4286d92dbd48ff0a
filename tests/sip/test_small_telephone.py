"""A telephone of few calls, each in a process of its own: limits, ringing, and a death."""

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.sip.hearing import comes_back
from tests.sip.peer import PeerCall, SipPeer
from tests.sip.sipp import ack, invite, media, receive, request, send, sipp
from tests.sip.telephone import Telephone, telephone
from tests.sip.waiting import SOON_S

_BRANCH = "z9hG4bK-[pid]-[call_number]"


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Telephone]:
    """Two calls at once, each with a worker; they ring for a second."""
    log = tmp_path_factory.mktemp("small") / "log"
    with telephone("loopback", log, max_calls=2, calls_per_worker=1, ring_s=1) as running:
        yield running


async def test_a_caller_may_give_up_while_it_rings(small: Telephone, tmp_path: Path) -> None:
    first = request("INVITE", 1, media(), first=True, branch=_BRANCH)
    cancel = request("CANCEL", 1, first=True, branch=_BRANCH)
    result = await sipp(
        tmp_path,
        small.port,
        *(send(first), receive(100, optional=True), receive(180)),
        *(send(cancel), receive(200), receive(487), ack()),
    )
    assert (result.code, result.failed) == (0, 0), result.log


async def test_a_call_too_many_is_refused_and_the_others_go_on(
    small: Telephone, tmp_path: Path
) -> None:
    async with SipPeer() as phone:
        # Both at once, though there may be one worker only: the other call rings meanwhile.
        calls = await asyncio.gather(_answered(phone, small), _answered(phone, small))
        assert all(180 in [early.status for early in each.provisional] for each in calls)
        result = await sipp(
            tmp_path, small.port, invite(), receive(100, optional=True), receive(503), ack()
        )
        assert (result.code, result.failed) == (0, 0), result.log
        for each in calls:
            await comes_back(each)
            assert (await each.request("BYE")).status == 200


async def test_a_dead_worker_takes_only_its_own_call_along(small: Telephone) -> None:
    async with SipPeer() as phone:
        calls = [await _answered(phone, small), await _answered(phone, small)]
        os.kill(small.workers()[0].pid, signal.SIGKILL)
        ended = [asyncio.create_task(each.over.wait()) for each in calls]
        done, alive = await asyncio.wait(ended, timeout=SOON_S, return_when=asyncio.FIRST_COMPLETED)
        assert len(done) == 1, "the caller of the dead worker must get a BYE"
        other = calls[ended.index(alive.pop())]
        await comes_back(other)
        assert (await other.request("BYE")).status == 200
        for task in ended:
            task.cancel()
        anew = await _answered(phone, small)
        await comes_back(anew)
        assert (await anew.request("BYE")).status == 200
    assert psutil.pid_exists(small.process.pid)


async def _answered(phone: SipPeer, small: Telephone) -> PeerCall:
    """A call; while a worker is being started for it, it rings."""
    call = await phone.call(small.uri())
    assert call.status == 200
    return call
