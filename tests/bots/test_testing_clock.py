"""Virtual time: when the clock stands still, jumps, or runs."""

import asyncio
import socket
import threading
import time
from collections.abc import Iterator

import pytest
from pipecat.clocks.system_clock import SystemClock
from pipecat.frames.frames import VADUserStartedSpeakingFrame

from talkpath.agent.errors import ConfigError
from talkpath.bots.testing.clock import VirtualTime, virtual_time

HOUR_S = 3600.0


@pytest.fixture
async def clock() -> VirtualTime:
    return virtual_time()


@pytest.fixture
def computing() -> list[bool]:
    return []


@pytest.fixture
def used(clock: VirtualTime, computing: list[bool]) -> Iterator[VirtualTime]:
    with clock.used(lambda: bool(computing), lambda: None, "a.bot"):
        yield clock


async def test_waiting_alone_takes_no_time(used: VirtualTime) -> None:
    loop = asyncio.get_running_loop()
    real_s, began_s = time.monotonic(), loop.time()
    await asyncio.sleep(HOUR_S)
    assert loop.time() - began_s == pytest.approx(HOUR_S)
    assert time.monotonic() - real_s < HOUR_S / 2


async def test_timers_fire_in_their_order(used: VirtualTime) -> None:
    fired: list[int] = []

    async def after(seconds: int) -> None:
        await asyncio.sleep(seconds)
        fired.append(seconds)

    await asyncio.gather(*[after(seconds) for seconds in (30, 10, 20)])
    assert fired == [10, 20, 30]


async def test_it_stands_still_while_a_thread_computes(used: VirtualTime) -> None:
    loop = asyncio.get_running_loop()
    began_s, ready, go_on = loop.time(), asyncio.Event(), threading.Event()
    timer = loop.call_later(0.001, go_on.set)  # does not come while the thread waits for it

    def compute() -> bool:
        loop.call_soon_threadsafe(ready.set)
        return go_on.wait(0.1)

    assert not await asyncio.to_thread(compute)
    assert ready.is_set()
    assert loop.time() == began_s
    timer.cancel()


async def test_it_stands_still_while_an_engine_computes(
    used: VirtualTime, computing: list[bool]
) -> None:
    loop = asyncio.get_running_loop()
    began_s, answer = loop.time(), loop.create_future()

    def answered() -> None:
        loop.call_soon_threadsafe(answer.set_result, "words")
        computing.clear()

    computing.append(True)
    threading.Timer(0.1, answered).start()
    assert await asyncio.wait_for(answer, 0.05) == "words"
    assert loop.time() == began_s


async def test_it_runs_while_a_socket_waits_for_data(used: VirtualTime) -> None:
    ours, theirs = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=ours)
    threading.Timer(0.1, theirs.sendall, [b"answer\n"]).start()
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    # In the real time that passes, not after the hour that could be jumped over.
    assert await asyncio.wait_for(reader.readline(), HOUR_S) == b"answer\n"
    assert 0 < loop.time() - began_s < HOUR_S
    writer.close()
    await writer.wait_closed()
    theirs.close()


async def test_a_server_that_nobody_calls_does_not_hold_it_up(used: VirtualTime) -> None:
    async with await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0):
        await asyncio.sleep(HOUR_S)


async def test_pipecats_clocks_follow_and_the_tests_own_do_not(used: VirtualTime) -> None:
    pipeline = SystemClock()
    pipeline.start()
    real_s, before = time.monotonic(), VADUserStartedSpeakingFrame()
    await asyncio.sleep(HOUR_S)
    assert pipeline.get_time() / 1e9 == pytest.approx(HOUR_S)
    after = VADUserStartedSpeakingFrame()
    assert after.timestamp - before.timestamp == pytest.approx(HOUR_S)
    assert time.monotonic() - real_s < HOUR_S / 2


async def test_it_goes_on_as_a_real_clock_and_never_back(clock: VirtualTime) -> None:
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    for _ in range(2):
        with clock.used(lambda: False, lambda: None, "a.bot"):
            await asyncio.sleep(HOUR_S)
        await asyncio.sleep(0.01)
    assert virtual_time() is clock
    assert HOUR_S < (loop.time() - began_s) / 2 < HOUR_S + 30
    assert VADUserStartedSpeakingFrame().timestamp == pytest.approx(time.time(), abs=30)


async def test_what_computes_without_end_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("talkpath.bots.testing.clock.STUCK_S", 0.05)
    stuck = asyncio.Event()
    with virtual_time().used(lambda: True, stuck.set, "a.bot"):
        await stuck.wait()


class OtherLoop(asyncio.BaseEventLoop):
    """Not one with a selector."""


def test_other_loops_than_asyncios_own_are_refused() -> None:
    loop = OtherLoop()
    try:
        with pytest.raises(ConfigError, match='time="real"'):
            VirtualTime(loop)
    finally:
        loop.close()
