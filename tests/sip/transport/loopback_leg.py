"""A call leg in memory: its far end is a program, and the loop's clock is its pace.

Packets of 20 ms leave every 20 ms once the call is up, whole ones; where there is nothing to say,
silence. So it also runs in virtual time.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from talkpath.transports.sip.leg import (
    Answered,
    CallInfo,
    CallLeg,
    CallQuality,
    Ended,
    KeyPressed,
    LegError,
    LegEvent,
    MediaStarted,
    TransferRefused,
)

__all__ = ["PACKET_S", "LoopbackLeg"]

PACKET_S = 0.02
_QUEUE_S = 0.2
_KEYS = frozenset("0123456789*#ABCD")


class LoopbackLeg:
    """One call.

    Args:
        rate_hz: of the codec.
        direction: ``inbound`` or ``outbound``.
        headers: of its INVITE.

    Attributes:
        heard: what the far end was sent, packets put together, silence included.
        underruns: packets that had to be filled up in the middle of audio.
        acts: what the bot's end did, by name and argument.
        refuses: reason why a transfer is refused, or empty.
    """

    def __init__(
        self,
        rate_hz: int = 8000,
        *,
        call_id: str = "call-1@peer.example",
        direction: str = "inbound",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self._info = CallInfo(
            call_id=call_id,
            direction=direction,
            from_uri="sip:+4930123@peer.example",
            from_name="Ann",
            to_uri="sip:100@bot.example",
            number="100",
            headers=headers or {},
        )
        self._codec_hz = rate_hz
        self._rate_hz = 0
        self._events: asyncio.Queue[LegEvent] = asyncio.Queue()
        self._hear: Callable[[bytes], None] = lambda pcm: None
        self._queue = bytearray()
        self._mouth = bytearray()
        self._talking: asyncio.Task[None] | None = None
        self._over = False
        self._answered = False
        self.heard = bytearray()
        self.underruns = 0
        self.most_queued_ms = 0.0
        self.acts: list[tuple[str, Any]] = []
        self.refuses = ""
        self.ended = asyncio.Event()

    # The far end

    def establish(self) -> None:
        """The call is up: audio flows."""
        self._answered = True
        self.start_media(self._codec_hz)
        self.happens(Answered())

    def start_media(self, rate_hz: int) -> None:
        """Audio flows at this rate from now on."""
        self._rate_hz = rate_hz
        self.happens(MediaStarted(rate_hz))
        if self._talking is None:
            self._talking = asyncio.create_task(self._talk())

    def say(self, pcm: bytes) -> None:
        """Speak behind what is being said."""
        self._mouth += pcm

    def press(self, key: str) -> None:
        self.happens(KeyPressed(key, 100))

    def leave(self) -> None:
        """The far end hangs up."""
        self._end("peer", 0, "BYE")

    def happens(self, event: LegEvent) -> None:
        self._events.put_nowait(event)

    def did(self, name: str) -> list[Any]:
        """The arguments of all that the bot's end did under this name."""
        return [argument for act, argument in self.acts if act == name]

    async def _talk(self) -> None:
        loop = asyncio.get_running_loop()
        due_s = loop.time()
        while not self._over:
            size = 2 * round(PACKET_S * self._rate_hz)
            spoken = bytes(self._mouth[:size]).ljust(size, b"\0")
            del self._mouth[:size]
            self._hear(spoken)
            packet = bytes(self._queue[:size])
            del self._queue[:size]
            self.underruns += 0 < len(packet) < size
            self.heard += packet.ljust(size, b"\0")
            due_s += PACKET_S
            await asyncio.sleep(due_s - loop.time())

    def _end(self, by: str, status: int, reason: str) -> None:
        if not self._over:
            self._over = True
            self.happens(Ended(by, status, reason, self.quality()))
            self.ended.set()

    def _must_live(self) -> None:
        if self._over:
            raise LegError("the call is over")

    # The bot's end

    @property
    def info(self) -> CallInfo:
        return self._info

    @property
    def rate_hz(self) -> int:
        return self._rate_hz

    async def events(self) -> AsyncIterator[LegEvent]:
        while True:
            event = await self._events.get()
            yield event
            if isinstance(event, Ended):
                return

    def listen(self, hear: Callable[[bytes], None]) -> None:
        self._hear = hear

    def write(self, pcm: bytes) -> int:
        if not self._rate_hz or self._over:
            return 0
        free = 2 * round(_QUEUE_S * self._rate_hz) - len(self._queue)
        self._queue += pcm[:free]
        self.most_queued_ms = max(self.most_queued_ms, self.queued_ms)
        return min(len(pcm), free)

    @property
    def queued_ms(self) -> float:
        return 1000 * len(self._queue) / 2 / self._rate_hz if self._rate_hz else 0.0

    def flush(self) -> None:
        self._queue.clear()

    def quality(self) -> CallQuality:
        return CallQuality(codec=f"PCMU/{self._codec_hz}", received=98, lost=2, sent=100, mos=4.2)

    async def early_media(self) -> None:
        self._must_live()
        self.start_media(self._codec_hz)

    async def answer(self, headers: Mapping[str, str] | None = None) -> None:
        self._must_live()
        self.acts.append(("answer", headers))
        self.establish()

    async def reject(
        self, status: int = 486, reason: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        self._must_live()
        if self._answered:
            raise LegError("the call was answered")
        self.acts.append(("reject", status))
        self._end("us", status, reason)

    async def hang_up(self, headers: Mapping[str, str] | None = None) -> None:
        if not self._over:
            self.acts.append(("hang_up", dict(headers or {})))
            self._end("us", 0, "hung up")

    async def hold(self) -> None:
        self.acts.append(("hold", None))

    async def resume(self) -> None:
        self.acts.append(("resume", None))

    async def send_keys(self, keys: str) -> None:
        if not set(keys) <= _KEYS:
            raise ValueError(keys)
        self._must_live()
        self.acts.append(("send_keys", keys))

    async def transfer(self, target: str, headers: Mapping[str, str] | None = None) -> None:
        self._must_live()
        self.acts.append(("transfer", target))
        if self.refuses:
            raise TransferRefused(self.refuses, 603)

    async def transfer_to(self, other: CallLeg) -> None:
        self._must_live()
        self.acts.append(("transfer_to", other))
