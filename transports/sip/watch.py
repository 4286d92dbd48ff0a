"""A call leg with somebody who watches: what was heard, what was said, and what happened."""

# ruff: noqa: D102  what each method does is said in ``CallLeg``

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Protocol

from loguru import logger

from talkpath.transports.sip.leg import (
    CallInfo,
    CallLeg,
    CallQuality,
    Ended,
    Held,
    KeyPressed,
    LegEvent,
    Resumed,
)

__all__ = ["WatchedLeg", "Watcher"]

_MOST_WAITING = 256
"""Events that wait for a bot which does not read them; further keys and holds are dropped."""


class Watcher(Protocol):
    """Who watches. Nothing here may block."""

    def happened(self, event: LegEvent) -> None:
        """Something happened."""
        ...

    def heard(self, pcm: bytes) -> None:
        """The peer said this."""
        ...

    def said(self, pcm: bytes) -> None:
        """This was given to the leg to be said."""
        ...

    def unsaid(self, ms: float) -> None:
        """The last milliseconds of that were not said."""
        ...


class WatchedLeg:
    """The same leg, whose events are followed whether the bot reads them or not.

    Args:
        leg: the call.
        watcher: who watches.
    """

    def __init__(self, leg: CallLeg, watcher: Watcher) -> None:
        self._leg = leg
        self._watcher = watcher
        self._events: asyncio.Queue[LegEvent] = asyncio.Queue()
        self._hear: Callable[[bytes], None] = lambda pcm: None
        leg.listen(self._listen)

    async def follow(self) -> Ended:
        """Follow the leg's events to the end, and give that."""
        ended: Ended | None = None
        async for event in self._leg.events():
            self._watcher.happened(event)
            many = self._events.qsize() >= _MOST_WAITING
            if many and isinstance(event, KeyPressed | Held | Resumed):
                logger.warning("an event is dropped: the bot does not read its events")
                continue
            self._events.put_nowait(event)  # a peer cannot send any number of the others
            if isinstance(event, Ended):
                ended = event
        assert ended is not None, "the last event of a leg is Ended"
        return ended

    @property
    def info(self) -> CallInfo:
        return self._leg.info

    @property
    def rate_hz(self) -> int:
        return self._leg.rate_hz

    async def events(self) -> AsyncIterator[LegEvent]:
        while True:
            event = await self._events.get()
            yield event
            if isinstance(event, Ended):
                return

    def listen(self, hear: Callable[[bytes], None]) -> None:
        self._hear = hear

    def write(self, pcm: bytes) -> int:
        taken = self._leg.write(pcm)
        if taken:
            self._watcher.said(pcm[:taken])
        return taken

    @property
    def queued_ms(self) -> float:
        return self._leg.queued_ms

    def flush(self) -> None:
        before_ms = self._leg.queued_ms
        self._leg.flush()
        self._watcher.unsaid(before_ms - self._leg.queued_ms)

    def quality(self) -> CallQuality:
        return self._leg.quality()

    async def early_media(self) -> None:
        await self._leg.early_media()

    async def answer(self, headers: Mapping[str, str] | None = None) -> None:
        await self._leg.answer(headers)

    async def reject(
        self, status: int = 486, reason: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        await self._leg.reject(status, reason, headers)

    async def hang_up(self, headers: Mapping[str, str] | None = None) -> None:
        await self._leg.hang_up(headers)

    async def hold(self) -> None:
        await self._leg.hold()

    async def resume(self) -> None:
        await self._leg.resume()

    async def send_keys(self, keys: str) -> None:
        await self._leg.send_keys(keys)

    async def transfer(self, target: str, headers: Mapping[str, str] | None = None) -> None:
        await self._leg.transfer(target, headers)

    async def transfer_to(self, other: CallLeg) -> None:
        await self._leg.transfer_to(other._leg if isinstance(other, WatchedLeg) else other)

    def _listen(self, pcm: bytes) -> None:
        self._watcher.heard(pcm)
        self._hear(pcm)
