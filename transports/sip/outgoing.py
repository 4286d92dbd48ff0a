"""Outbound calls: given to a worker to dial, sent on their way, and followed to their end."""

import dataclasses
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

from loguru import logger

from talkpath.agent.errors import TalkpathError
from talkpath.agent.sip.edge import Edge
from talkpath.agent.sip.edge_actions import Action, Locate
from talkpath.agent.sip.edge_call import EdgeCall, Refusal
from talkpath.agent.sip.flow import Flow
from talkpath.agent.sip.rewriting import host_port
from talkpath.transports.sip.ledger import Ledger
from talkpath.transports.sip.leg import CallInfo, CallQuality, LegError
from talkpath.transports.sip.outbound import OutboundCall
from talkpath.transports.sip.own_headers import own_headers
from talkpath.transports.sip.supervisor import Supervisor
from talkpath.transports.sip.whom import Whom, user_of
from talkpath.transports.sip.worker_process import Worker

__all__ = ["Outgoing"]

# For a worker with room: who asks for a call waits for the answer, and may ask again.
_WAIT_S = 5.0


class Outgoing:
    """Makes outbound calls; those that workers make by themselves, as in transfers, pass here, too.

    Args:
        bots: names; the first is the default.
        edge: knows the calls.
        whom: knows whom they may go to, and the trunks.
        supervisor: has the workers.
        ledger: counts the calls.
        reach: finds a way to a call's peer, and does what its audio needs.
        do: does what the edge wants done.
    """

    def __init__(
        self,
        bots: Sequence[str],
        edge: Edge,
        whom: Whom,
        supervisor: Supervisor,
        ledger: Ledger,
        reach: Callable[[EdgeCall, str], Awaitable[Flow]],
        do: Callable[[Iterable[Action]], None],
    ) -> None:
        self._bots = bots
        self._edge = edge
        self._whom = whom
        self._supervisor = supervisor
        self._ledger = ledger
        self._reach = reach
        self._do = do
        self._dialled: dict[str, OutboundCall] = {}

    async def dial(
        self, to: str, bot: str, trunk: str, headers: Mapping[str, str], by_user: bool
    ) -> OutboundCall:
        """Call somebody; see ``Listener.dial``."""
        bot = bot or self._bots[0]
        if bot not in self._bots:
            raise LegError(f"there is no bot {bot!r} here; there are {', '.join(self._bots)}")
        trunks = self._whom.trunks
        if trunk and trunk not in trunks:
            raise LegError(f"there is no trunk {trunk!r}")
        trunk = self._whom.trunk_for(to, trunk)
        uri = self._whom.uri(to, trunk)
        if not by_user and not self._whom.permits(uri, trunk):
            raise LegError(f"the dial plan does not permit {to}")
        own = {**(trunks[trunk].headers if trunk else {}), **dict(own_headers(headers))}
        if not self._edge.book.has_line(trunks.get(trunk)):
            raise LegError("all lines are taken; try again later")
        info = CallInfo(
            call_id="", direction="outbound", to_uri=uri, number=user_of(uri), trunk=trunk, bot=bot
        )
        return await self._dial(OutboundCall(info), own)

    async def _dial(self, call: OutboundCall, headers: Mapping[str, str]) -> OutboundCall:
        stand_in = self._edge.book.expect_dial(call.info.to_uri, call, call.info.trunk)
        worker: Worker | None = None
        try:
            worker = self._supervisor.take(stand_in) or await self._supervisor.wait(
                stand_in, _WAIT_S
            )
            if worker is None:
                raise LegError("no worker is free; try again later")
            answer = await worker.channel.ask(
                "dial", info=call.info.as_dict(), headers=headers, uri=stand_in
            )
        finally:
            self._edge.book.forget_dial(stand_in)
            if worker is not None:
                worker.remove(stand_in)  # by now it knows the call by its own name
        if answer["call_id"]:  # or its INVITE has told it already
            self._name(call, str(answer["call_id"]))
        return call

    async def locate(self, locate: Locate) -> None:
        """Find where a call goes, and connect."""
        call = locate.call
        dialled = call.info
        if isinstance(dialled, OutboundCall):
            self._name(dialled, call.call_id)
            call.info = dialled.info
        else:
            call.info = CallInfo(call_id=call.call_id, direction="outbound", to_uri=locate.uri)
        self._ledger.open(call.call_id, "outbound")
        worker = self._supervisor.find(call.worker)
        if worker is not None:
            worker.rename(call.stand_in, call.call_id)
        try:
            flow = await self._reach(call, locate.uri)
        except TalkpathError as error:
            logger.info("call {}: {}", call.call_id, error)
            refusal = Refusal(503, "Peer Unreachable")
            self.progressed(call.call_id, refusal.status, str(error))
            self._do(self._edge.refuse(call, refusal, time.monotonic()))
        else:
            source = host_port(*flow.remote)
            call.info = dataclasses.replace(call.info, source=source, transport=flow.transport)
            if isinstance(dialled, OutboundCall):
                dialled.info = call.info
            self._do(self._edge.located(call, flow, time.monotonic()))

    def progressed(self, call_id: str, status: int, reason: str) -> None:
        """The peer has answered something, if the call is one that was dialled."""
        dialled = self._dialled.get(call_id)
        if dialled is not None:
            dialled.progressed(status, reason)

    def over(self, call_id: str, reason: str, figures: CallQuality | None = None) -> None:
        """A call is over, and nobody will tell more of it."""
        dialled = self._dialled.pop(call_id, None)
        if dialled is not None:
            dialled.over(reason, figures)

    def _name(self, call: OutboundCall, call_id: str) -> None:
        """Note a call's id, which its INVITE or the worker's answer tells first."""
        call.info = dataclasses.replace(call.info, call_id=call_id)
        self._dialled.setdefault(call_id, call)
