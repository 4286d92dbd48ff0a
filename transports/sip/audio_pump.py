"""The audio pump: one task that moves the audio of all calls of a process.

The SIP stack's threads fill and empty rings of their own and cannot wake an event loop, so the
rings are polled. The times are absolute: a late round does not delay those that follow.
"""

import asyncio
from collections.abc import Callable

from loguru import logger

__all__ = ["POLL_S", "AudioPump"]

POLL_S = 0.005
"""Seconds between two rounds: a packet of 20 ms waits 2.5 ms for the next one in the mean."""


class AudioPump:
    """Polls what has been added, as long as there is anything.

    Args:
        poll_s: seconds between two rounds.
    """

    def __init__(self, poll_s: float = POLL_S) -> None:
        self._poll_s = poll_s
        self._polls: dict[Callable[[], None], Callable[[Exception], None]] = {}
        self._task: asyncio.Task[None] | None = None

    @property
    def running(self) -> bool:
        """Whether the task runs; it does not where there are no calls."""
        return self._task is not None and not self._task.done()

    def add(self, poll: Callable[[], None], failed: Callable[[Exception], None]) -> None:
        """Call ``poll`` in each round from now on.

        Args:
            poll: must not block.
            failed: told what ``poll`` raised; it is then polled no more.
        """
        self._polls[poll] = failed
        if not self.running:
            self._task = asyncio.create_task(self._run(), name="audio pump")

    def remove(self, poll: Callable[[], None]) -> None:
        """Poll this no more; nothing happens where it is unknown."""
        self._polls.pop(poll, None)

    async def close(self) -> None:
        """Poll nothing any more."""
        self._polls.clear()
        if self._task is not None:
            await self._task

    async def _run(self) -> None:
        clock = asyncio.get_running_loop().time
        due = clock()
        while self._polls:
            for poll, failed in list(self._polls.items()):
                try:
                    poll()
                except Exception as error:
                    logger.exception("a call's audio failed")
                    self._polls.pop(poll, None)
                    failed(error)
            # Rounds that were missed are skipped: one reads all that has come meanwhile.
            due = max(due + self._poll_s, clock())
            await asyncio.sleep(due - clock())
