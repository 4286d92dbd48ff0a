"""An engine and a telephone for a test, and legs whose events are kept."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from talkpath.agent.sip_sections import SipConfig
from talkpath.transports.sip.baresip_engine import BaresipEngine, MediaProfile
from talkpath.transports.sip.leg import CallInfo, CallLeg, Ended, LegEvent
from tests.sip.engine.direct import DirectExchange
from tests.sip.hearing import ends_in
from tests.sip.peer import PeerCall, SipPeer
from tests.sip.waiting import SOON_S, soon

__all__ = ["Followed", "Line", "open_line"]

Event = TypeVar("Event", bound=LegEvent)


class Followed:
    """A leg, what has happened to it, and what it has heard."""

    def __init__(self, leg: CallLeg) -> None:
        self.leg = leg
        self.events: list[LegEvent] = []
        self._news = asyncio.Event()
        self._audio = bytearray()
        leg.listen(self._hear)
        self.task = asyncio.create_task(self._follow())

    @property
    def heard(self) -> NDArray[np.int16]:
        """All audio up to now."""
        return np.frombuffer(bytes(self._audio), np.int16)

    def echo(self) -> None:
        """Say back what it hears, from now on."""
        self.leg.listen(self._say)

    async def hears(self, hz: float, rate_hz: int = 8000) -> None:
        """Wait for a quarter of a second of this tone, whole: it must be said until then."""
        await soon(lambda: ends_in(self.heard, hz, rate_hz), f"{hz:g} Hz")

    async def until_heard(self, samples: int) -> None:
        """Wait until so much was heard."""
        async with asyncio.timeout(SOON_S):
            while len(self._audio) < 2 * samples:
                self._news.clear()
                await self._news.wait()

    def _hear(self, pcm: bytes) -> None:
        self._audio.extend(pcm)
        self._news.set()

    def _say(self, pcm: bytes) -> None:
        self._hear(pcm)
        self.leg.write(pcm)

    async def until(self, kind: type[Event], count: int = 1) -> Event:
        """Wait for the ``count``-th event of a kind."""
        async with asyncio.timeout(SOON_S):
            while True:
                found = [event for event in self.events if isinstance(event, kind)]
                if len(found) >= count:
                    return found[count - 1]
                self._news.clear()
                await self._news.wait()

    async def _follow(self) -> None:
        async for event in self.leg.events():
            self.events.append(event)
            self._news.set()


class Line:
    """An engine that answers, the telephone that calls it, and the legs of their calls."""

    def __init__(self, engine: BaresipEngine, exchange: DirectExchange, phone: SipPeer) -> None:
        self.engine = engine
        self.exchange = exchange
        self.phone = phone
        self.legs: asyncio.Queue[Followed] = asyncio.Queue()

    async def take(self, leg: CallLeg) -> None:
        """Answer a call."""
        followed = Followed(leg)
        await leg.answer()
        self.legs.put_nowait(followed)

    async def wait(self, leg: CallLeg) -> None:
        """Let a call ring."""
        self.legs.put_nowait(Followed(leg))

    def uri(self, profile: str = "main") -> str:
        """How the engine is called."""
        return f"sip:{self.engine.users[profile]}@127.0.0.1:{self.engine.port}"

    async def leg(self) -> Followed:
        """The next inbound call."""
        return await asyncio.wait_for(self.legs.get(), SOON_S)

    async def call(self) -> tuple[PeerCall, Followed]:
        """A call from the telephone that has been answered."""
        call = await self.phone.call(self.uri())
        assert call.status == 200, call.status
        return call, await self.leg()

    async def dial(self, uri: str = "", trunk: str = "") -> Followed:
        """A call from the engine, by default to the telephone."""
        info = CallInfo(call_id="", direction="outbound", to_uri=uri or self.phone.uri, trunk=trunk)
        return Followed(await self.engine.dial(info, {"X-Test": "1"}))

    def ended(self) -> list[str]:
        """Why calls ended, as the listener was told."""
        return [str(what[2]) for what in self.exchange.asked if what[0] == "ended"]


@contextlib.asynccontextmanager
async def open_line(
    profiles: dict[str, MediaProfile] | None = None,
    *,
    alone: bool = False,
    config: SipConfig | None = None,
) -> AsyncIterator[Line]:
    """Start an engine and a telephone.

    Args:
        profiles: of the engine; ``main`` without encryption by default.
        alone: the engine is its own peer: what it dials comes back to it.
        config: other settings.
    """
    async with SipPeer() as phone:
        exchange = DirectExchange(phone.port)
        engine = BaresipEngine(
            exchange, config or SipConfig(), profiles or {"main": MediaProfile(srtp="off")}
        )
        if alone:
            exchange.follow(engine)
        line = Line(engine, exchange, phone)
        engine.on_incoming(line.take)
        await engine.start()
        try:
            yield line
        finally:
            legs = engine.legs
            await engine.stop()
            assert all(isinstance(leg.ended, Ended) for leg in legs)
