"""The audio pump: it moves the audio of all calls of a process.

The SIP stack's threads fill and empty rings of their own and cannot wake an event loop, so the
rings are polled, in rounds that all calls share. A call whose next packet is not due yet is left
out, and a round in which nothing is due is skipped. The times are absolute: a late round does not
delay those that follow.
"""

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass

from loguru import logger

__all__ = ["POLL_S", "AudioPump"]

POLL_S = 0.005
"""Seconds between two rounds: a packet of 20 ms waits 2.5 ms for the next one in the mean."""


@dataclass(slots=True)
class _Polled:
    failed: Callable[[Exception], None]
    due_s: float = 0.0


class AudioPump:
    """Polls what has been added, as long as there is anything.

    Args:
        poll_s: seconds between two rounds.
    """

    def __init__(self, poll_s: float = POLL_S) -> None:
        self._poll_s = poll_s
        self._polls: dict[Callable[[], float], _Polled] = {}
        self._next: asyncio.TimerHandle | None = None
        self._round_s = 0.0

    @property
    def running(self) -> bool:
        """Whether there are rounds; there are none where there are no calls."""
        return self._next is not None

    def add(self, poll: Callable[[], float], failed: Callable[[Exception], None]) -> None:
        """Call ``poll`` in the rounds from now on.

        Args:
            poll: must not block; gives the seconds for which it need not be called.
            failed: told what ``poll`` raised; it is then polled no more.
        """
        self._polls[poll] = _Polled(failed)
        if self._next is None:
            loop = asyncio.get_running_loop()
            self._round_s = loop.time()
            self._next = loop.call_at(self._round_s, self._round, loop)

    def remove(self, poll: Callable[[], float]) -> None:
        """Poll this no more; nothing happens where it is unknown."""
        self._polls.pop(poll, None)

    def close(self) -> None:
        """Poll nothing any more."""
        self._polls.clear()
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def _round(self, loop: asyncio.AbstractEventLoop) -> None:
        self._next = None
        for poll, polled in list(self._polls.items()):
            if polled.due_s > loop.time():
                continue
            try:
                quiet_s = poll()
            except Exception as error:
                logger.exception("a call's audio failed")
                self._polls.pop(poll, None)
                polled.failed(error)
            else:
                polled.due_s = loop.time() + quiet_s if quiet_s > 0 else 0.0
        if self._polls and self._next is None:  # what is polled may have added more
            # Rounds that were missed are skipped: one reads all that has come meanwhile.
            self._round_s = max(self._round_s + self._poll_s, loop.time())
            early_s = min(polled.due_s for polled in self._polls.values()) - self._round_s
            self._round_s += max(0, math.ceil(early_s / self._poll_s)) * self._poll_s
            self._next = loop.call_at(self._round_s, self._round, loop)
