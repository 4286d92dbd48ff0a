"""Calls over a leg in memory, in virtual time, to bots that a test plays."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from talkpath.agent.sip_sections import SipConfig
from talkpath.bots.testing.clock import virtual_time
from talkpath.transports.sessions import Bot, Limits
from talkpath.transports.sip.leg import Ended
from talkpath.transports.sip.session import attend_call
from tests.sip.transport.loopback_leg import LoopbackLeg

__all__ = ["QUICK", "attended", "in_virtual_time", "until"]

QUICK = Limits(grace_s=1.0, stop_s=1.0)


@contextlib.contextmanager
def in_virtual_time() -> Any:
    def stuck() -> None:
        raise AssertionError("virtual time stands still")

    with virtual_time().used(lambda: False, stuck, __name__):
        yield


@contextlib.asynccontextmanager
async def attended(
    bot: Bot, leg: LoopbackLeg, config: SipConfig | None = None, **options: Any
) -> AsyncIterator[asyncio.Task[Ended]]:
    """A call that is attended, in virtual time; at the block's end the far end leaves."""
    with in_virtual_time():
        options = {"limits": QUICK} | options
        call = asyncio.create_task(attend_call(bot, leg, config or SipConfig(), **options))
        try:
            yield call
        finally:
            leg.leave()
            await asyncio.wait({call}, timeout=20)
            assert call.done()


async def until(condition: Any, what: str, within_s: float = 20.0) -> None:
    """Wait until it is true."""
    try:
        async with asyncio.timeout(within_s):
            while not condition():  # noqa: ASYNC110  time is virtual
                await asyncio.sleep(0.005)
    except TimeoutError:
        raise AssertionError(f"no {what} within {within_s:g} s") from None
