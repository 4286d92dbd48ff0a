"""The exchange as a worker reaches it: over the control channel."""

import asyncio
import dataclasses
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from loguru import logger

from talkpath.transports.sip.control import ControlChannel
from talkpath.transports.sip.leg import CallInfo, CallQuality, LegError

__all__ = ["RemoteExchange", "call_info", "call_quality"]

_MOST_ANNOUNCED = 1024
_ANNOUNCED_S = 2.0  # the announcement goes out before the INVITE, which is the shorter way


class RemoteExchange:
    """An ``Exchange`` in another process.

    Calls that were announced and whose INVITE does not come are forgotten when there are more than
    1024 of them, the oldest first.

    Args:
        channel: the way to the listener.
        address: see ``Exchange``.
    """

    def __init__(self, channel: ControlChannel, address: str) -> None:
        self._channel = channel
        self._address = address
        self._announced: OrderedDict[str, CallInfo] = OrderedDict()
        self._awaited: dict[str, asyncio.Future[CallInfo]] = {}

    @property
    def address(self) -> str:
        """See ``Exchange``, which explains all that follows."""
        return self._address

    def announce(self, info: CallInfo) -> None:
        """The listener says that a call's INVITE is on its way."""
        waiting = self._awaited.get(info.call_id)
        if waiting is not None and not waiting.done():
            waiting.set_result(info)
            return
        self._announced[info.call_id] = info
        self._announced.move_to_end(info.call_id)
        if len(self._announced) > _MOST_ANNOUNCED:
            forgotten, _ = self._announced.popitem(last=False)
            logger.warning("call {} was announced and never came", forgotten)

    async def incoming(self, call_id: str) -> CallInfo:
        """Wait for the announcement of a call, up to two seconds."""
        known = self._announced.pop(call_id, None)
        if known is not None:
            return known
        waiting: asyncio.Future[CallInfo] = asyncio.get_running_loop().create_future()
        self._awaited[call_id] = waiting
        try:
            async with asyncio.timeout(_ANNOUNCED_S):
                return await waiting
        except TimeoutError as error:
            raise LegError(f"nobody announced the call {call_id}") from error
        finally:
            self._awaited.pop(call_id, None)

    async def early_media(self, call_id: str) -> None:
        """Let the next 200 reach the caller as 183."""
        await self._channel.ask("early_media", call_id=call_id)

    async def answer(self, call_id: str, headers: Mapping[str, str]) -> None:
        """Answer the call."""
        await self._channel.ask("answer_call", call_id=call_id, headers=dict(headers))

    async def reject(
        self, call_id: str, status: int, reason: str, headers: Mapping[str, str]
    ) -> None:
        """Say how the call is refused."""
        await self._channel.ask(
            "reject", call_id=call_id, status=status, reason=reason, headers=dict(headers)
        )

    async def add_headers(self, call_id: str, method: str, headers: Mapping[str, str]) -> None:
        """Put headers into the next request."""
        await self._channel.ask(
            "add_headers", call_id=call_id, method=method, headers=dict(headers)
        )

    async def permit(self, call_id: str, target: str) -> str:
        """Ask whether the call may go to an address; the URI to use."""
        answer = await self._channel.ask("permit", call_id=call_id, target=target)
        return str(answer["target"])

    async def ended(self, call_id: str, reason: str, quality: CallQuality) -> None:
        """The call is over."""
        await self._channel.ask(
            "ended", call_id=call_id, reason=reason, quality=dataclasses.asdict(quality)
        )


def call_info(fields: Mapping[str, Any]) -> CallInfo:
    """What ``CallInfo`` became on its way over the channel.

    Raises:
        LegError: it is none.
    """
    try:
        return CallInfo(**fields)
    except TypeError as error:
        raise LegError(f"this describes no call: {error}") from error


def call_quality(fields: Mapping[str, Any]) -> CallQuality:
    """What ``CallQuality`` became on its way over the channel.

    Raises:
        LegError: it is none.
    """
    try:
        return CallQuality(**fields)
    except TypeError as error:
        raise LegError(f"these are no figures of a call: {error}") from error
