"""An engine in a process of its own: many calls, at once and in a row, and its death."""

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.sip.hearing import comes_back, tone
from tests.sip.peer import SipPeer
from tests.sip.waiting import SOON_S

_ROOT = Path(__file__).parents[3]


class _Child:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.uri = ""

    async def says(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        said: dict[str, Any] = json.loads(
            await asyncio.wait_for(self.process.stdout.readline(), SOON_S)
        )
        return said

    async def do(self, command: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{command}\n".encode())
        await self.process.stdin.drain()

    async def figures(self) -> dict[str, Any]:
        await self.do("figures")
        return await self.says()

    async def idle(self, before: dict[str, Any]) -> dict[str, Any]:
        """Its figures once nothing is left of its calls; fails where that does not come."""
        underruns_ms: list[float] = []
        for _ in range(int(SOON_S / 0.1)):
            figures = await self.figures()
            underruns_ms += figures["underruns_ms"]  # each call's is told once
            if (
                not (figures["calls"] or figures["pumping"])
                and figures["threads"] <= before["threads"] + 1
                and figures["descriptors"] == before["descriptors"]
            ):
                return figures | {"underruns_ms": underruns_ms}
            await asyncio.sleep(0.1)
        raise AssertionError(f"{figures} is not {before}")


@contextlib.asynccontextmanager
async def _child() -> AsyncIterator[_Child]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.sip.engine.child",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        cwd=_ROOT,
    )
    child = _Child(process)
    try:
        ready = await child.says()
        child.uri = f"sip:{ready['user']}@127.0.0.1:{ready['port']}"
        yield child
    finally:
        if process.returncode is None:
            await child.do("stop")
        await asyncio.wait_for(process.wait(), SOON_S)


async def test_twenty_calls_at_once_all_hear_themselves_and_leave_nothing_behind() -> None:
    async with _child() as child, SipPeer() as phone:
        before = await child.figures()
        calls = await asyncio.gather(*(phone.call(child.uri) for _ in range(20)))
        assert [call.status for call in calls] == [200] * 20
        await asyncio.gather(*(comes_back(call, 440) for call in calls))
        during = await child.figures()
        await asyncio.gather(*(call.request("BYE") for call in calls))
        after = await child.idle(before)

    assert (before["calls"], during["calls"]) == (0, 20)
    assert (before["pumping"], during["pumping"]) == (False, True)
    assert len(after["underruns_ms"]) == 20


async def test_calls_in_a_row_leave_threads_descriptors_and_memory_flat() -> None:
    """150 calls. The stack keeps what it sent for 32 s (RFC 3261, timers H and J): 12 kB a call."""
    pcm = tone(440, 0.04)

    async def in_a_row(phone: SipPeer, child: _Child, count: int) -> None:
        for _ in range(count):
            call = await phone.call(child.uri)
            assert call.status == 200
            await call.media.say(pcm)
            assert (await call.request("BYE")).status == 200
            call.media.close()

    async with _child() as child:
        before = await child.figures()
        memory_kb = []
        for _ in range(3):
            async with SipPeer() as phone:
                await asyncio.gather(*(in_a_row(phone, child, 10) for _ in range(5)))
            memory_kb.append((await child.idle(before))["memory_kb"])

    assert memory_kb[2] - memory_kb[0] < 100 * 20


@pytest.mark.parametrize("end", ["die", "freeze"])
async def test_the_death_of_the_stack_ends_its_calls_and_is_told(end: str) -> None:
    async with _child() as child, SipPeer() as phone:
        call = await phone.call(child.uri)
        assert call.status == 200
        await child.do(end)
        said = await child.says()
        code = await asyncio.wait_for(child.process.wait(), SOON_S)

    assert said == {"dead": True, "reasons": ["the SIP stack died"]}
    assert code == 70
