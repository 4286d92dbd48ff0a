"""Waiting for what happens by itself, however slow this machine is just now."""

import asyncio
from collections.abc import Callable

__all__ = ["SOON_S", "soon"]

SOON_S = 60.0
"""Nothing here takes longer, not even where the machine is shared; a test fails then."""


async def soon(condition: Callable[[], object], what: str = "") -> None:
    """Wait until something has become true.

    Args:
        condition: looked at every 10 ms.
        what: it stands for, told where it does not happen.
    """
    try:
        async with asyncio.timeout(SOON_S):
            while not condition():  # noqa: ASYNC110 - nobody sets an event
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"{what or 'it'} did not come within {SOON_S:g} s") from None
