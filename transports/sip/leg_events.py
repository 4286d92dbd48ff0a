"""The events of one call, on their way from the SIP stack to whoever follows the call."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator

from loguru import logger

from talkpath.transports.sip.leg import Ended, Held, KeyPressed, LegEvent, Resumed

__all__ = ["KEYS", "LegEvents"]

KEYS = "0123456789ABCD*#"
"""The keys that there are."""

_MOST = 256
_LONGEST_KEY_S = 1.0
"""A key whose end does not come until then is told: its last packets, three alike, were lost."""

_PACKET_S = 0.02
_KEY_ENDS = 3
"""The last packet of a key is sent three times (RFC 4733, 2.5.1.4)."""


class LegEvents:
    """A queue of events.

    256 may wait. When nobody takes them, further keys, holds and resumptions, of which a peer can
    send any number, are dropped with a warning; all others are kept.

    Args:
        call_id: for the log.

    Attributes:
        key_packets: about how many packets of 20 ms all keys took up to now.
    """

    def __init__(self, call_id: str) -> None:
        self.key_packets = 0
        self._call_id = call_id
        self._waiting: deque[LegEvent] = deque()
        self._news = asyncio.Event()
        self._key: tuple[str, float] | None = None
        self._key_since_s: float | None = None  # until its true end, told or not
        self._key_limit: asyncio.TimerHandle | None = None

    def put(self, event: LegEvent) -> None:
        """Add an event; a key that is still down comes before the end."""
        if isinstance(event, Ended):
            self.key_up()
        if len(self._waiting) >= _MOST and isinstance(event, KeyPressed | Held | Resumed):
            logger.warning("call {}: nobody takes its events", self._call_id)
            return
        self._waiting.append(event)
        self._news.set()

    def key_down(self, key: str) -> None:
        """A key went down; one whose end was lost ends here."""
        self.key_up()
        if key and key.upper() in KEYS:
            self._key_since_s = time.monotonic()
            self._key = key.upper(), self._key_since_s
            loop = asyncio.get_running_loop()
            self._key_limit = loop.call_later(_LONGEST_KEY_S, self._tell)

    def key_up(self) -> None:
        """The key that was down went up."""
        if self._key_since_s is not None:
            lasted_s = time.monotonic() - self._key_since_s
            self._key_since_s = None
            self.key_packets += int(lasted_s / _PACKET_S) + _KEY_ENDS
        self._tell()

    def _tell(self) -> None:
        """Tell of the key that is down, once."""
        if self._key_limit is not None:
            self._key_limit.cancel()
            self._key_limit = None
        if self._key is not None:
            key, since = self._key
            self._key = None
            self.put(KeyPressed(key, int((time.monotonic() - since) * 1000)))

    async def read(self) -> AsyncIterator[LegEvent]:
        """The events in their order, up to ``Ended``."""
        while True:
            while self._waiting:
                event = self._waiting.popleft()
                yield event
                if isinstance(event, Ended):
                    return
            self._news.clear()
            await self._news.wait()
