"""The listener: the process that the telephone's peers know.

It owns the public sockets, decides with the edge (``talkpath.agent.sip.edge``) who may call, keeps
the registrations and the trunks alive, and gives each call to a worker process. It holds no model
and carries no audio.

In a program of one's own::

    listener = Listener(load_config(), ["assistant"])
    await listener.start()                       # workers are ready, calls are taken
    call = await listener.dial("sip:+49301234567@pbx.example.com")
    await call.answered()
    reason, quality = await call.ended()
    await listener.stop()
"""

import asyncio
import functools
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from loguru import logger

from talkpath.agent.call_metrics import CallMetrics
from talkpath.agent.config import Config
from talkpath.agent.metrics import Registry
from talkpath.agent.sip import edge_actions as edges
from talkpath.agent.sip.access import Access
from talkpath.agent.sip.edge import Edge
from talkpath.agent.sip.edge_call import EdgeCall, Refusal, Stage
from talkpath.agent.sip.flow import Flow, PeerUnreachable
from talkpath.agent.sip.message import Response, SipParseError, parse_message
from talkpath.agent.sip.passage import Passage
from talkpath.agent.sip.routes import Routes
from talkpath.agent.sip.trunks import read_trunks
from talkpath.transports.sip.background import Background
from talkpath.transports.sip.desk import Desk, info_of
from talkpath.transports.sip.dispatch import Dispatcher, load_dispatch
from talkpath.transports.sip.ledger import Ledger
from talkpath.transports.sip.leg import CallInfo, CallQuality, LegError
from talkpath.transports.sip.media_relay import MediaRelays
from talkpath.transports.sip.network import Network
from talkpath.transports.sip.outbound import OutboundCall
from talkpath.transports.sip.outgoing import Outgoing
from talkpath.transports.sip.reception import Reception
from talkpath.transports.sip.sockets import InsideSocket
from talkpath.transports.sip.strangers import Strangers
from talkpath.transports.sip.supervisor import Supervisor
from talkpath.transports.sip.whom import Whom
from talkpath.transports.sip.worker_process import Worker
from talkpath.transports.sip.worker_setup import worker_setup

__all__ = ["CallState", "Listener"]

_LAST_WORDS_S = 1.0
_FIGURES_S = 5.0  # from the end of a call to the figures of its audio
_TICK_S = 0.1


@dataclass(frozen=True, slots=True)
class CallState:
    """A call that is going on.

    Attributes:
        info: what is known of it.
        stage: ``asked``, ``sought``, ``passed``, ``early`` or ``up``.
        since_s: seconds since it came into that stage.
        worker: number of the worker that carries it; -1 before there is one.
    """

    info: CallInfo
    stage: str
    since_s: float
    worker: int


class Listener:
    """Takes and makes telephone calls.

    Args:
        config: all settings; the workers get them, too.
        bots: names or paths of the bots that calls may be routed to; the first is the default.
        supervise: makes the supervisor of the workers, from the same arguments as it.

    Attributes:
        supervisor: of the workers; there once ``start`` was called, as the desk is.
        desk: answers what workers ask for.
        metrics: counts the calls.
    """

    def __init__(
        self,
        config: Config,
        bots: Sequence[str],
        *,
        supervise: Callable[..., Supervisor] = Supervisor,
    ) -> None:
        self._config = config
        self._bots = list(bots)
        self._supervise = supervise
        sip = config.sip
        self._trunks = (
            {trunk.name: trunk for trunk in read_trunks(sip.trunks)} if sip.trunks else {}
        )
        trunks = list(self._trunks.values())
        self._whom = Whom(sip, self._trunks)
        self._dispatcher = Dispatcher(
            Routes(sip.routes, self._bots[0]),
            self._bots,
            load_dispatch(sip.dispatch) if sip.dispatch else None,
        )
        self.metrics = CallMetrics()
        self._ledger = Ledger(self.metrics)
        self._strangers = Strangers()
        self._access = Access(sip, trunks, self.metrics)
        self._inside = InsideSocket(self._from_worker)
        self._network = Network(config, trunks, self._from_peer, self._access.learn)
        self._relays = MediaRelays(config.server.host, sip.rtp_range, sip.max_calls)
        self._passage: Passage
        self._edge: Edge
        self._reception: Reception
        self._outgoing: Outgoing
        self.desk: Desk
        self.supervisor: Supervisor
        self._background = Background()
        self._deciding: dict[str, asyncio.Task[None]] = {}

    # -- life --------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Listen, once a worker is ready to take calls.

        Raises:
            TalkpathError: a port is taken, a certificate cannot be read, or no worker can start.
        """
        await self._inside.start()
        self._passage = Passage(
            self._config.sip,
            self._inside.address,
            self._network.face,
            self._relays.get,
            lambda call: self._trunks[info_of(call).trunk].password if info_of(call).trunk else "",
        )
        self._edge = Edge(
            self._config.sip,
            self._access,
            lambda target, call: self._whom.permits(target, info_of(call).trunk if call else ""),
            self._passage,
            self._worker_address,
        )
        self.desk = Desk(self._edge, self._whom, self._do, self._ended)
        self.supervisor = self._supervise(
            self._config,
            self._bots,
            handlers=self.desk.handlers(),
            on_death=self._worker_died,
            setup=worker_setup(
                self._config.sip, self._trunks.values(), self._inside.address, self._network.host
            ),
        )
        self._reception = Reception(
            self._edge,
            self._dispatcher,
            self.supervisor,
            self._ledger,
            self._open_relay,
            self._do,
            self._config.sip.busy_status,
        )
        self._outgoing = Outgoing(
            self._bots,
            self._edge,
            self._whom,
            self.supervisor,
            self._ledger,
            self._find_way,
            self._do,
        )
        self._edge.book.draining = True  # calls are turned away until there is a worker
        try:
            await self._network.start()  # first: that a port is taken shall be told at once
            await self.supervisor.start()
            self._edge.book.draining = False
            await self._network.announce()
        except BaseException:
            await self.stop()
            raise
        self._background.run(self._tick())

    async def drain(self) -> None:
        """Take no more calls, and wait until those that there are have ended, or were hung up."""
        self._edge.book.draining = True
        if self._edge.book.active:
            logger.info(
                "{} calls have {:g} s to end; once more ends them at once",
                self._edge.book.active,
                self._config.sip.drain_s,
            )
        await self._network.renounce()
        await self.supervisor.drain(self._config.sip.drain_s)

    async def stop(self) -> None:
        """End everything: calls get a BYE."""
        if hasattr(self, "_edge"):
            self._edge.book.draining = True
            for call in list(self._edge.book.calls.values()):
                self._hang_up(call, Refusal(503))
        await self._network.renounce()
        if hasattr(self, "supervisor"):
            await self.supervisor.stop()
        await self._background.stop()
        self._relays.close_all()
        await self._network.stop()
        await self._inside.stop()

    @property
    def registries(self) -> list[Registry]:
        """What is counted here, for ``render_prometheus``."""
        return [self.metrics, self._network.metrics]

    @property
    def ports(self) -> Mapping[str, int]:
        """Port by transport: ``udp``, ``tcp`` and, with a certificate, ``tls``."""
        return self._network.ports

    @property
    def addresses(self) -> list[str]:
        """Where peers find this machine, for people to read."""
        return self._network.addresses

    # -- calls -------------------------------------------------------------------------------------

    @property
    def calls(self) -> list[CallState]:
        """The calls that are not over."""
        now_s = time.monotonic()
        return [
            CallState(info_of(call), call.stage.name.lower(), now_s - call.changed_s, call.worker)
            for call in self._edge.book.calls.values()
            if not call.is_over
        ]

    async def dial(
        self,
        to: str,
        *,
        bot: str = "",
        trunk: str = "",
        headers: Mapping[str, str] | None = None,
        by_user: bool = False,
    ) -> OutboundCall:
        """Call somebody, and let a bot talk.

        Args:
            to: a SIP URI, or a number, by the trunk that is given or the only one.
            bot: the default one, if empty.
            trunk: by name; empty calls the URI's own host.
            headers: put into the INVITE.
            by_user: whether somebody who may do so asked for this very call: the dial plan is not
                asked.

        Raises:
            LegError: there is no such bot or trunk, the dial plan forbids it, all lines are taken,
                or no worker has become free in time. What the peer says comes by the call.
        """
        return await self._outgoing.dial(to, bot, trunk, headers or {}, by_user)

    async def hang_up(self, call_id: str) -> None:
        """End a call.

        Raises:
            LegError: there is none of this id.
        """
        call = self._edge.book.calls.get(call_id)
        if call is None or call.is_over:
            raise LegError(f"there is no call {call_id!r}")
        worker = self.supervisor.find(call.worker)
        if worker is None:
            self._do(self._edge.hang_up(call, time.monotonic()))
        else:
            await worker.channel.ask("hang_up", call_id=call_id)

    # -- messages ----------------------------------------------------------------------------------

    def _from_peer(self, data: bytes, flow: Flow) -> None:
        try:
            message = parse_message(data)
            if isinstance(message, Response) and self._network.takes(message, flow):
                return
            actions = self._edge.from_peer(message, flow, time.monotonic())
        except SipParseError as error:
            # No answer: whoever sends what is no SIP shall not learn that somebody listens.
            logger.debug("dropped what {} sent: {}", flow.remote[0], error)
            return
        self._do(actions)

    def _from_worker(self, data: bytes, address: tuple[str, int]) -> None:
        port = address[1] if address[0] == "127.0.0.1" else -1
        worker = next((w for w in self.supervisor.workers if w.port == port), None)
        if worker is None:
            # As the last word of one that was stopped, or of whoever else is on this machine.
            logger.debug("dropped a message of no worker of ours, from port {}", address[1])
            return
        try:
            actions = self._edge.from_worker(parse_message(data), worker.id, time.monotonic())
        except SipParseError as error:
            logger.warning("dropped what worker {} sent: {}", worker.id, error)
            return
        self._do(actions)

    def _do(self, actions: Iterable[edges.Action]) -> None:
        for action in actions:
            match action:
                case edges.ToPeer():
                    if not self._network.send(action.data, action.flow) and action.uri:
                        self._background.run(self._send_anew(action))
                case edges.ToWorker():
                    worker = self.supervisor.find(action.worker)
                    if worker is not None:
                        self._inside.send(action.data, ("127.0.0.1", worker.port))
                case edges.Ask():
                    self._begin(action.call, self._reception.receive(action))
                case edges.Locate():
                    self._begin(action.call, self._outgoing.locate(action))
                case edges.Own():
                    self._background.run(self._send_own(action))
                case edges.Withdraw():
                    deciding = self._deciding.pop(action.call.call_id, None)
                    if deciding is not None:
                        deciding.cancel()
                case edges.Progress():
                    self._progressed(action)
                case edges.Over():
                    self._over(action.call)
                case edges.Silence():
                    self._strangers.met(action)
                case edges.TurnedAway():
                    self._ledger.refused(action.status)

    def _progressed(self, progress: edges.Progress) -> None:
        """The first request of a call was answered."""
        call, status = progress.call, progress.status
        after_s = time.monotonic() - call.began_s
        self._ledger.progressed(call.call_id, status, info_of(call).direction, after_s)
        self._outgoing.progressed(call.call_id, status, progress.reason)

    def _bury(self, call: EdgeCall) -> None:
        """End a call that its worker has left without a word to the peer."""
        if not call.is_over:
            self._hang_up(call)

    def _hang_up(self, call: EdgeCall, refusal: Refusal | None = None) -> None:
        """End a call in its worker's stead."""
        now_s = time.monotonic()
        self._guarded(call, functools.partial(self._edge.hang_up, call, now_s, refusal))

    def _over(self, call: EdgeCall) -> None:
        self._relays.close(call.call_id)
        worker = self.supervisor.find(call.worker)
        if worker is not None:
            worker.remove(call.call_id)
        else:
            self._outgoing.over(call.call_id, "the worker is gone")
        if worker is not None and self._ledger.is_answered(call.call_id):
            # Its worker is about to tell how the audio was.
            loop = asyncio.get_running_loop()
            loop.call_later(_FIGURES_S, self._ledger.settle, call.call_id)
        else:
            self._ledger.settle(call.call_id)

    def _begin(self, call: EdgeCall, work: Coroutine[Any, Any, None]) -> None:
        """Do what must be done before a call can go on; a defect in it refuses the call."""

        async def guarded() -> None:
            try:
                await work
            except Exception as error:
                logger.opt(exception=error).error("call {}: refused, at a defect", call.call_id)
                self._do(self._edge.refuse(call, Refusal(500), time.monotonic()))
            finally:
                if self._deciding.get(call.call_id) is asyncio.current_task():
                    del self._deciding[call.call_id]
                if call.is_over:
                    self._relays.close(call.call_id)

        self._deciding[call.call_id] = self._background.run(guarded())

    async def _open_relay(self, call: EdgeCall, flow: Flow) -> None:
        """Give a call's audio a relay, if its peer behind that flow needs one."""
        if self._passage.wants_relay(call, flow):
            await self._relays.open(call.call_id, {flow.remote[0]})

    async def _find_way(self, call: EdgeCall, uri: str) -> Flow:
        """A flow to the peer of an outbound call, and a relay if it takes one."""
        flow = await self._network.flow(uri, self._trunks.get(info_of(call).trunk))
        await self._open_relay(call, flow)
        return flow

    async def _send_anew(self, action: edges.ToPeer) -> None:
        """Send what could not go over a connection that is gone, over a new one."""
        trunk = self._trunks.get(info_of(action.call).trunk) if action.call is not None else None
        try:
            flow = await self._network.flow(action.uri, trunk, action.flow.transport)
        except PeerUnreachable as error:
            logger.info("{}", error)
            return
        if action.call is not None:
            action.call.follow(flow)
        self._network.send(action.data, flow)

    async def _send_own(self, action: edges.Own) -> None:
        """Say BYE for a worker that cannot."""
        try:
            await self._network.request(action.request, action.flow)
        except PeerUnreachable as error:
            logger.info("call {}: {}", action.request.call_id, error)

    # -- workers -----------------------------------------------------------------------------------

    def _worker_address(self, number: int, profile: str) -> tuple[str, int]:
        worker = self.supervisor.find(number)
        assert worker is not None  # it was picked a moment ago
        return worker.users[profile], worker.port

    async def _worker_died(self, worker: Worker) -> None:
        """Say BYE for it: its calls end, all others go on."""
        for call in list(self._edge.book.calls.values()):
            if call.worker == worker.id and not call.is_over:
                logger.error("call {}: ended, since worker {} died", call.call_id, worker.id)
                self._outgoing.over(call.call_id, "the worker died")
                self._hang_up(call, Refusal(500))

    def _ended(self, worker: Worker, call_id: str, reason: str, figures: CallQuality) -> None:
        """A worker has told how a call ended."""
        self._outgoing.over(call_id, reason, figures)
        call = self._edge.book.calls.get(call_id)
        if call is None or call.worker != worker.id:
            worker.remove(call_id)
            return
        # Its last messages come by another way than this one.
        asyncio.get_running_loop().call_later(_LAST_WORDS_S, self._bury, call)
        if self._ledger.is_answered(call_id):
            self._ledger.settle(call_id, figures)
        if call.is_over:
            worker.remove(call_id)

    # -- small things ------------------------------------------------------------------------------

    def _guarded(self, call: EdgeCall, work: Callable[[], list[edges.Action]]) -> None:
        """Do something for a call; a defect in it costs this call and no other one."""
        try:
            self._do(work())
        except Exception as error:
            logger.opt(exception=error).error("call {}: given up, at a defect", call.call_id)
            self._edge.book.forget(call)
            self._over(call)

    async def _tick(self) -> None:
        while True:
            now_s = time.monotonic()
            for call in list(self._edge.book.calls.values()):
                self._guarded(call, functools.partial(self._edge.tick_call, call, now_s))
                if call.stage is Stage.UP and call.flow is not None:
                    self._network.keep(call.flow)
            await asyncio.sleep(_TICK_S)
