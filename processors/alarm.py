"""An alarm on the event loop's clock, for what is due if nothing happens before."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

__all__ = ["Alarm", "now_s"]


class Alarm:
    """Calls a coroutine at a time; a later setting takes the place of an earlier one.

    Pipecat's own clock for frames stands still between them, so the event loop's counts.
    """

    def __init__(self, create_task: Callable[..., asyncio.Task[None]]) -> None:
        self._create_task = create_task
        self._at_s: float | None = None
        self._task: asyncio.Task[None] | None = None

    def set(self, at_s: float | None, action: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Go off at this time of the loop's clock, or (None) not at all."""
        if at_s == self._at_s:
            return
        self.stop()
        self._at_s = at_s
        if at_s is not None:
            self._task = self._create_task(self._wait(at_s, action), "turn alarm")

    def stop(self) -> None:
        """Do not go off."""
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()
        self._at_s, self._task = None, None

    async def _wait(self, at_s: float, action: Callable[[], Coroutine[Any, Any, None]]) -> None:
        await asyncio.sleep(max(0.0, at_s - now_s()))
        self._at_s, self._task = None, None
        await action()


def now_s() -> float:
    """Seconds on the clock of the running event loop."""
    return asyncio.get_running_loop().time()
