"""An engine in a process of its own: many calls, at once and in a row, and its death."""

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.sip.engine.support import tone
from tests.sip.peer import PeerCall, SipPeer

_ROOT = Path(__file__).parents[3]


class _Child:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.uri = ""

    async def says(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        said: dict[str, Any] = json.loads(
            await asyncio.wait_for(self.process.stdout.readline(), 30)
        )
        return said

    async def do(self, command: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{command}\n".encode())
        await self.process.stdin.drain()

    async def figures(self) -> dict[str, Any]:
        await self.do("figures")
        return await self.says()


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
        await asyncio.wait_for(process.wait(), 15)


def _longest_gap_ms(call: PeerCall, samples: int) -> float:
    """The longest time without sound in what came back of a tone, but at its ends."""
    heard = call.media.heard()[1600 : samples - 800]
    quiet = np.abs(heard[: len(heard) // 80 * 80].reshape(-1, 80)).max(axis=1) < 1000
    longest = run = 0
    for silent in quiet:
        run = run + 1 if silent else 0
        longest = max(longest, run)
    return longest * 10.0


async def test_twenty_calls_at_once_all_hear_themselves_and_leave_nothing_behind() -> None:
    async with _child() as child, SipPeer() as phone:
        before = await child.figures()
        calls = await asyncio.gather(*(phone.call(child.uri) for _ in range(20)))
        assert [call.status for call in calls] == [200] * 20
        pcm = tone(440, 3.0)
        await asyncio.gather(*(call.media.say(pcm) for call in calls))
        during = await child.figures()
        await asyncio.gather(*(call.request("BYE") for call in calls))
        await asyncio.sleep(0.5)
        after = await child.figures()

    gaps = sorted(_longest_gap_ms(call, len(pcm)) for call in calls)
    assert gaps[len(gaps) // 2] <= 40, gaps
    assert (before["calls"], during["calls"], after["calls"]) == (0, 20, 0)
    assert (before["pumping"], during["pumping"], after["pumping"]) == (False, True, False)
    assert len(after["underruns_ms"]) == 20
    assert after["threads"] <= before["threads"] + 1
    assert after["descriptors"] == before["descriptors"]


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
        figures = []
        for _ in range(3):
            async with SipPeer() as phone:
                await asyncio.gather(*(in_a_row(phone, child, 10) for _ in range(5)))
            await asyncio.sleep(0.3)
            figures.append(await child.figures())

    assert [figure["calls"] for figure in figures] == [0, 0, 0]
    assert figures[2]["threads"] <= figures[0]["threads"] + 1
    assert figures[2]["descriptors"] == figures[0]["descriptors"]
    assert figures[2]["memory_kb"] - figures[0]["memory_kb"] < 100 * 20


@pytest.mark.parametrize("end", ["die", "freeze"])
async def test_the_death_of_the_stack_ends_its_calls_and_is_told(end: str) -> None:
    async with _child() as child, SipPeer() as phone:
        call = await phone.call(child.uri)
        assert call.status == 200
        start = time.monotonic()
        await child.do(end)
        said = await child.says()
        took_s = time.monotonic() - start
        code = await asyncio.wait_for(child.process.wait(), 15)

    assert said == {"dead": True, "reasons": ["the SIP stack died"]}
    assert code == 70
    assert took_s < 20
