"""The control channel, over real socket pairs."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from talkpath.transports.sip.control import LONGEST, ControlChannel, Handler
from talkpath.transports.sip.leg import LegError, TransferRefused
from tests.sip.waiting import SOON_S, soon


@asynccontextmanager
async def pair(
    ours: dict[str, Handler] | None = None, theirs: dict[str, Handler] | None = None
) -> AsyncIterator[tuple[ControlChannel, ControlChannel]]:
    left, right = socket.socketpair()
    one, other = ControlChannel(left, ours or {}, "it"), ControlChannel(right, theirs or {}, "us")
    await one.start()
    await other.start()
    before = asyncio.all_tasks()
    try:
        yield one, other
    finally:
        await one.stop()
        await other.stop()
    assert asyncio.all_tasks() <= before


async def echo(**fields: Any) -> dict[str, Any]:
    return fields


async def test_both_ends_ask_and_are_answered_however_many_at_once() -> None:
    enough = asyncio.Event()

    async def slow() -> dict[str, Any]:
        await enough.wait()
        return {"slept": True}

    async with pair({"echo": echo}, {"echo": echo, "slow": slow}) as (one, other):
        waiting = asyncio.create_task(one.ask("slow"))
        answers = await asyncio.gather(
            *(one.ask("echo", number=n) for n in range(50)),
            *(other.ask("echo", number=n, text="Grüße\n") for n in range(50)),
        )
        assert [answer["number"] for answer in answers] == [*range(50), *range(50)]
        assert answers[-1]["text"] == "Grüße\n"
        assert not waiting.done()
        enough.set()
        assert (await waiting)["slept"]


async def test_what_is_told_is_handled_in_its_order() -> None:
    heard: list[int] = []

    async def note(number: int) -> None:
        heard.append(number)

    async with pair(theirs={"note": note, "echo": echo}) as (one, _):
        for number in range(100):
            await one.tell("note", number=number)
        await one.ask("echo")
        assert heard == list(range(100))


async def test_an_error_there_is_an_error_here() -> None:
    async def busy() -> None:
        raise LegError("the line is busy")

    async def refuse() -> None:
        raise TransferRefused("the dial plan forbids it", 403)

    async def defect() -> None:
        raise ZeroDivisionError

    theirs: dict[str, Handler] = {"busy": busy, "refuse": refuse, "defect": defect, "echo": echo}
    async with pair(theirs=theirs) as (one, _):
        with pytest.raises(LegError, match="the line is busy"):
            await one.ask("busy")
        with pytest.raises(TransferRefused, match="dial plan") as refused:
            await one.ask("refuse")
        assert refused.value.status == 403
        for kind in ("defect", "unheard_of"):
            with pytest.raises(LegError, match=kind):
                await one.ask(kind)
        await one.tell("unheard_of")
        assert await one.ask("echo", still="there") == {"still": "there"}


async def test_an_answer_that_does_not_come_in_time_is_an_error() -> None:
    async def never() -> None:
        await asyncio.Event().wait()

    async with pair(theirs={"never": never}) as (one, _):
        with pytest.raises(LegError, match="did not answer"):
            await one.ask("never", 0.02)


async def test_who_waits_is_told_when_the_channel_closes() -> None:
    async def never() -> None:
        await asyncio.Event().wait()

    async with pair(theirs={"never": never}) as (one, other):
        waiting = asyncio.create_task(one.ask("never"))
        await asyncio.sleep(0)
        await other.stop()
        with pytest.raises(LegError, match="cannot be reached"):
            await waiting
        await one.closed.wait()
        for say in (one.ask("echo"), one.tell("echo"), other.tell("echo")):
            with pytest.raises(LegError, match="cannot be reached"):
                await say


async def test_what_was_said_last_arrives_though_the_channel_closes() -> None:
    heard: list[str] = []

    async def ended(call_id: str) -> None:
        heard.append(call_id)

    async with pair(theirs={"ended": ended}) as (one, other):
        await one.tell("ended", call_id="last words")
        await one.stop()
        await other.closed.wait()
        await soon(lambda: heard == ["last words"])


async def test_a_message_that_is_too_long_is_not_sent() -> None:
    async with pair(theirs={"echo": echo}) as (one, _):
        with pytest.raises(LegError, match="too long"):
            await one.tell("echo", text="x" * LONGEST)
        fits = "x" * (LONGEST - 100)
        assert (await one.ask("echo", text=fits))["text"] == fits


@pytest.mark.parametrize(
    "line", [b"no json\n", b"[1]\n", b'"word"\n', b"{}\n", b"x" * (LONGEST + 10)]
)
async def test_a_peer_that_talks_nonsense_is_cut_off(line: bytes) -> None:
    left, right = socket.socketpair()
    channel = ControlChannel(left, {})
    await channel.start()
    with right:
        right.setblocking(False)
        await asyncio.get_running_loop().sock_sendall(right, line)
        await asyncio.wait_for(channel.closed.wait(), SOON_S)
    await channel.stop()


async def test_a_peer_that_does_not_read_is_noticed_and_costs_a_bounded_buffer() -> None:
    left, right = socket.socketpair()
    channel = ControlChannel(left, {})
    await channel.start()
    with right:
        with pytest.raises(LegError, match="does not read"):
            for _ in range(100):
                await channel.tell("note", text="x" * 1_000_000)
        await asyncio.wait_for(channel.stop(), SOON_S)
