"""The reception: decides on inbound calls, lets them wait for a worker, and gives them to it."""

import asyncio
import dataclasses
import time
from collections.abc import Awaitable, Callable, Iterable

from loguru import logger

from talkpath.agent.errors import TalkpathError
from talkpath.agent.sip.edge import Edge
from talkpath.agent.sip.edge_actions import Action, Ask
from talkpath.agent.sip.edge_call import EdgeCall, Refusal
from talkpath.agent.sip.flow import Flow
from talkpath.transports.sip.dispatch import Dispatcher, inbound_info
from talkpath.transports.sip.ledger import Ledger
from talkpath.transports.sip.leg import CallInfo
from talkpath.transports.sip.supervisor import Supervisor
from talkpath.transports.sip.worker_process import Worker
from talkpath.transports.sip.worker_setup import MAIN

__all__ = ["Reception"]


class Reception:
    """Brings inbound calls to workers.

    Args:
        edge: knows the calls.
        dispatcher: says which bot takes a call.
        supervisor: has the workers.
        ledger: counts the calls.
        prepare: does what a call's audio needs before a worker hears of the call.
        do: does what the edge wants done.
        busy_status: of a call for which there is no worker.
    """

    def __init__(
        self,
        edge: Edge,
        dispatcher: Dispatcher,
        supervisor: Supervisor,
        ledger: Ledger,
        prepare: Callable[[EdgeCall, Flow], Awaitable[None]],
        do: Callable[[Iterable[Action]], None],
        busy_status: int,
    ) -> None:
        self._edge = edge
        self._dispatcher = dispatcher
        self._supervisor = supervisor
        self._ledger = ledger
        self._prepare = prepare
        self._do = do
        self._busy_status = busy_status

    async def receive(self, ask: Ask) -> None:
        """Find who takes a call, and give it to a worker, or refuse it."""
        call, trunk = ask.call, ask.admitted.trunk
        assert call.flow is not None
        info = inbound_info(call.invite, call.flow, trunk)
        call.info = info
        decided = await self._dispatcher.decide(info, call.invite.headers, trunk)
        if isinstance(decided, str):
            worker = self._supervisor.take(call.call_id)
            if worker is None:
                worker = await self._wait(call)
            if worker is not None:
                await self._give(call, dataclasses.replace(info, bot=decided), worker)
                return
            decided = Refusal(self._busy_status, headers=(("Retry-After", "10"),))
        logger.info("call {}: refused with {}", call.call_id, decided.status)
        self._ledger.refused(decided.status)
        self._do(self._edge.refuse(call, decided, time.monotonic()))

    async def _wait(self, call: EdgeCall) -> Worker | None:
        """Let it ring until a worker has room."""
        logger.info("call {}: it rings, until a worker has room for it", call.call_id)
        self._do(self._edge.ring(call))
        try:
            return await self._supervisor.wait(call.call_id)
        except asyncio.CancelledError:
            logger.info("call {}: the caller gave up before a worker had room", call.call_id)
            self._ledger.refused(487)
            raise

    async def _give(self, call: EdgeCall, info: CallInfo, worker: Worker) -> None:
        call.info = info
        assert call.flow is not None
        try:
            await self._prepare(call, call.flow)
            await worker.channel.tell("incoming", info=info.as_dict())
        except BaseException as error:
            worker.remove(call.call_id)
            if not isinstance(error, TalkpathError):
                raise  # the caller has given up, or a defect
            logger.error("call {}: refused with 503: {}", call.call_id, error)
            self._do(self._edge.refuse(call, Refusal(503), time.monotonic()))
            return
        self._ledger.open(call.call_id, "inbound")
        whom = info.number or info.to_uri
        logger.info(
            "call {}: {} calls {}, {} takes it", call.call_id, info.from_uri, whom, info.bot
        )
        profile = info.trunk or MAIN
        self._do(self._edge.route(call, worker.id, profile, time.monotonic()))
