"""Writing while a call lasts, a little at a time: a crash loses little."""

import asyncio
from collections.abc import Awaitable
from typing import Protocol

__all__ = ["MOST_UNWRITTEN_S", "WRITE_EVERY_S", "write_behind"]

WRITE_EVERY_S = 0.25
"""Seconds between two writes; with what is not settled yet, a crash loses 0.65 s."""

MOST_UNWRITTEN_S = 120.0
"""Seconds of sound that may wait for storage; one that is slower cannot keep up."""


class _Write(Protocol):
    def __call__(self, *, all: bool = False) -> Awaitable[None]:
        """Write what can be written; at the end, ``all``."""


async def write_behind(write: _Write, over: asyncio.Event) -> None:
    """Call ``write`` again and again until an event is set, and once more for all that is left.

    Args:
        write: writes what is there; what it raises ends this.
        over: set at the end.
    """
    while not over.is_set():
        await write()
        try:
            async with asyncio.timeout(WRITE_EVERY_S):
                await over.wait()
        except TimeoutError:
            continue
    await write(all=True)
