"""Packets in order and without a wait, on a line that loses and shuffles them."""

import random
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

import pytest
from aiortc.rtp import is_rtcp

from talkpath.transports.webrtc.packet_order import PacketOrder
from tests.browser import eventually
from tests.transports.stage import StageBot, served, settled
from tests.transports.test_signalling import Caller, calling


@dataclass
class Packet:
    sequence_number: int


def passed_on(numbers: Iterable[int]) -> list[list[int]]:
    """What each arrival lets through."""
    order: PacketOrder[Packet] = PacketOrder()
    return [[packet.sequence_number for packet in order.add(Packet(number))] for number in numbers]


def test_packets_in_order_go_on_at_once_also_where_the_numbers_begin_anew() -> None:
    numbers = [65_534, 65_535, 0, 1]
    assert passed_on(numbers) == [[number] for number in numbers]


def test_a_packet_that_was_overtaken_comes_in_its_place() -> None:
    assert passed_on([1, 3, 4, 2, 5]) == [[1], [], [], [2, 3, 4], [5]]
    assert passed_on([65_535, 1, 0, 2]) == [[65_535], [], [0, 1], [2]]


def test_after_a_loss_nothing_stays_behind() -> None:
    assert passed_on([1, 3, 4, 5, 6, 7]) == [[1], [], [], [3, 4, 5], [6], [7]]
    assert passed_on([1, 3, 5, 6, 7]) == [[1], [], [], [3], [5, 6, 7]]
    assert passed_on([1, 40, 41, 42, 43]) == [[1], [], [], [40, 41, 42], [43]]


def test_what_comes_too_late_or_twice_is_left_out() -> None:
    assert passed_on([1, 2, 2, 4, 5, 6, 3, 7]) == [[1], [2], [], [], [], [4, 5, 6], [], [7]]


def test_a_sender_that_begins_anew_is_followed() -> None:
    assert passed_on([10, 12, 30_000, 30_001]) == [[10], [], [12, 30_000], [30_001]]
    assert passed_on([30_000, 10, 11]) == [[30_000], [10], [11]]


@pytest.mark.parametrize("seed", range(20))
def test_on_any_line_packets_come_in_order_and_those_in_time_all_come(seed: int) -> None:
    chance = random.Random(seed)
    numbers = [(place + 65_000) % 65_536 for place in range(1_000)]
    kept = [place for place in range(len(numbers)) if place > 990 or chance.random() > 0.05]
    # Nobody is overtaken by more than two, which are fewer than may overtake.
    delays = {place: place + chance.choice([0, 0, 0, 1.5, 2.5]) for place in kept}
    delays[kept[0]] = -1.0  # the first one is the beginning, whatever comes after it
    arrived = [numbers[place] for place in sorted(kept, key=delays.__getitem__)]
    out = [number for ready in passed_on(arrived) for number in ready]
    places = {number: place for place, number in enumerate(numbers)}
    assert [places[number] for number in out] == kept


class Line:
    """Lets a caller's packets through, loses them, or lets one be overtaken.

    Attributes:
        plan: what happens to the packets to come: "." goes through, "x" is lost, "<" is
            overtaken by the next. Behind it everything is lost; without one all goes through.
    """

    def __init__(self, caller: Caller) -> None:
        self.plan: list[str] | None = None
        transport = caller.pc.getSenders()[0].transport
        self._send: Callable[[bytes], Awaitable[None]] = transport._send_rtp
        self._overtaken: list[bytes] = []
        transport._send_rtp = self._pass  # type: ignore[method-assign]

    async def _pass(self, data: bytes) -> None:
        if self.plan is None or is_rtcp(data):
            await self._send(data)
            return
        match self.plan.pop(0) if self.plan else "x":
            case ".":
                await self._send(data)
                for late in self._overtaken:
                    await self._send(late)
                self._overtaken.clear()
            case "<":
                self._overtaken.append(data)


async def test_a_loss_costs_the_call_the_lost_packet_and_no_delay() -> None:
    bot = StageBot()
    async with served(bot) as url, calling(url) as [caller]:
        line = Line(caller)
        await caller.connect()
        scene = await bot.scene()
        await eventually(lambda: scene.ears.heard_s > 0.1, "the caller's silence")
        line.plan = []
        await settled(lambda: scene.ears.heard_s)
        before_s = scene.ears.heard_s
        plan = "." * 20 + "x" + "." * 20 + "<" + "." * 20 + "xx" + "." * 20
        line.plan = list(plan)
        await eventually(lambda: not line.plan, "the end of the plan")
        await settled(lambda: scene.ears.heard_s)
        heard = round((scene.ears.heard_s - before_s) / 0.02)
        assert heard == len(plan) - plan.count("x")
