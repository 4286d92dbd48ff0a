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
import dataclasses
import functools
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from loguru import logger

from talkpath.agent.call_metrics import CallMetrics
from talkpath.agent.config import Config
from talkpath.agent.errors import TalkpathError
from talkpath.agent.metrics import Registry
from talkpath.agent.sip import edge_actions as edges
from talkpath.agent.sip.access import Access
from talkpath.agent.sip.edge import Edge
from talkpath.agent.sip.edge_actions import Face
from talkpath.agent.sip.edge_call import EdgeCall, Refusal, Stage
from talkpath.agent.sip.flow import Flow, PeerUnreachable
from talkpath.agent.sip.message import Response, SipParseError, parse_message
from talkpath.agent.sip.passage import Passage
from talkpath.agent.sip.rewriting import host_port
from talkpath.agent.sip.routes import Routes
from talkpath.agent.sip.trunks import read_trunks
from talkpath.transports.sip.desk import Desk, info_of
from talkpath.transports.sip.dispatch import Dispatcher, inbound_info, load_dispatch
from talkpath.transports.sip.keepalive import Keepalive
from talkpath.transports.sip.ledger import Ledger
from talkpath.transports.sip.leg import CallInfo, CallQuality, LegError
from talkpath.transports.sip.media_relay import MediaRelays
from talkpath.transports.sip.network_metrics import NetworkMetrics
from talkpath.transports.sip.outbound import OutboundCall
from talkpath.transports.sip.own_headers import own_headers
from talkpath.transports.sip.reach import Reach
from talkpath.transports.sip.registrar_client import Registrars
from talkpath.transports.sip.requests import Requests
from talkpath.transports.sip.sockets import InsideSocket, SipSockets
from talkpath.transports.sip.supervisor import Supervisor
from talkpath.transports.sip.whom import Whom, user_of
from talkpath.transports.sip.worker_process import Worker
from talkpath.transports.sip.worker_setup import MAIN, worker_setup

__all__ = ["CallState", "Listener"]

_EVERYWHERE = ("", "0.0.0.0", "::")
_DOCUMENTED = "192.0.2.1"
"""An address for documentation (RFC 5737): the default route leads there."""

_LAST_WORDS_S = 1.0
_FIGURES_S = 5.0  # from the end of a call to the figures of its audio
_WHY = {
    "stranger": "its address is in no network of sip.allow, and of no trunk (it got no "
    "answer); --sip-allow NETWORK lets it in",
    "scanner": "it says that it is a scanner (it got no answer)",
    "rate": "it calls too often (it got no answer)",
    "locked": "too many wrong passwords (it got no answer)",
    "password": "its password is wrong",
}
_MOST_SILENT = 100
_TICK_S = 0.1
T = TypeVar("T")


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
        self._silent: set[str] = set()
        self._access = Access(sip, trunks, self.metrics)
        self._inside = InsideSocket(self._from_worker)
        self._sockets = SipSockets(config.server.host, sip, self._from_peer, self._gone)
        self._requests = Requests(self._sockets)
        self._registrars = Registrars(trunks, self._requests, sip.user_agent)
        self._keepalive = Keepalive(
            trunks, self._requests, sip.user_agent, sip.keepalive_s, learn=self._access.learn
        )
        self._reach = Reach(self._sockets, self._keepalive)
        self._network = NetworkMetrics(self._sockets, self._registrars, self._keepalive)
        self._relays = MediaRelays(config.server.host, sip.rtp_range, sip.max_calls)
        self._passage: Passage
        self._edge: Edge
        self.desk: Desk
        self.supervisor: Supervisor
        self._dialled: dict[str, OutboundCall] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._deciding: dict[str, asyncio.Task[Any]] = {}

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
            self._face,
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
                self._config.sip, self._trunks.values(), self._inside.address, self._domain()
            ),
        )
        self._edge.book.draining = True  # calls are turned away until there is a worker
        try:
            await self._sockets.start()  # first: that a port is taken shall be told at once
            await self.supervisor.start()
            self._edge.book.draining = False
            self._registrars.start()
            await self._keepalive.start()
        except BaseException:
            await self.stop()
            raise
        self._run(self._tick())

    async def drain(self) -> None:
        """Take no more calls, and wait until those that there are have ended, or were hung up."""
        self._edge.book.draining = True
        if self._edge.book.active:
            logger.info(
                "{} calls have {:g} s to end; once more ends them at once",
                self._edge.book.active,
                self._config.sip.drain_s,
            )
        await self._registrars.stop()
        await self.supervisor.drain(self._config.sip.drain_s)

    async def stop(self) -> None:
        """End everything: calls get a BYE."""
        if hasattr(self, "_edge"):
            self._edge.book.draining = True
            for call in list(self._edge.book.calls.values()):
                self._hang_up(call, Refusal(503))
        await self._registrars.stop()
        await self._keepalive.stop()
        if hasattr(self, "supervisor"):
            await self.supervisor.stop()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._requests.stop()
        self._relays.close_all()
        await self._sockets.stop()
        await self._inside.stop()

    @property
    def registries(self) -> list[Registry]:
        """What is counted here, for ``render_prometheus``."""
        return [self.metrics, self._network]

    @property
    def ports(self) -> dict[str, int]:
        """Port by transport: ``udp``, ``tcp`` and, with a certificate, ``tls``."""
        return self._sockets.ports

    @property
    def addresses(self) -> list[str]:
        """Where peers find this machine, for people to read."""
        host = self._domain()
        ports = self.ports
        plain = f"sip:{host_port(host, ports['udp'])} (udp, tcp)"
        secure = f"sips:{host_port(host, ports['tls'])} (tls)" if "tls" in ports else ""
        return [plain, secure] if secure else [plain]

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
            to: a SIP URI, or a number where ``trunk`` is given.
            bot: the default one, if empty.
            trunk: by name; empty calls the URI's own host.
            headers: put into the INVITE.
            by_user: whether somebody who may do so asked for this very call: the dial plan is not
                asked.

        Raises:
            LegError: there is no such bot or trunk, the dial plan forbids it, all lines are taken,
                or no worker has become free in time. What the peer says comes by the call.
        """
        bot = bot or self._bots[0]
        if bot not in self._bots:
            raise LegError(f"there is no bot {bot!r} here; there are {', '.join(self._bots)}")
        if trunk and trunk not in self._trunks:
            raise LegError(f"there is no trunk {trunk!r}")
        uri = self._whom.uri(to, trunk)
        if not by_user and not self._whom.permits(uri, trunk):
            raise LegError(f"the dial plan does not permit {to}")
        if not self._edge.book.has_line(self._trunks.get(trunk)):
            raise LegError("all lines are taken; try again later")
        info = CallInfo(
            call_id="", direction="outbound", to_uri=uri, number=user_of(uri), trunk=trunk, bot=bot
        )
        call = OutboundCall(info)
        stand_in = self._edge.book.expect_dial(uri, call)
        own = {**(self._trunks[trunk].headers if trunk else {}), **dict(own_headers(headers or {}))}
        worker: Worker | None = None
        try:
            worker = self.supervisor.take(stand_in) or await self.supervisor.wait(stand_in)
            if worker is None:
                raise LegError("no worker is free; try again later")
            answer = await worker.channel.ask(
                "dial",
                info=_as_dict(info),
                headers=own,
                uri=stand_in,
            )
        finally:
            self._edge.book.forget_dial(stand_in)
            if worker is not None:
                worker.remove(stand_in)  # by now it knows the call by its own name
        if answer["call_id"]:  # or its INVITE has told it already
            self._connect(call, str(answer["call_id"]))
        return call

    async def hang_up(self, call_id: str) -> None:
        """End a call.

        Raises:
            LegError: there is none of this id.
        """
        call = self._edge.book.calls.get(call_id)
        if call is None or call.is_over:
            raise LegError(f"there is no call {call_id!r}")
        worker = self._worker(call.worker)
        if worker is None:
            self._do(self._edge.hang_up(call, time.monotonic()))
        else:
            await worker.channel.ask("hang_up", call_id=call_id)

    # -- messages ----------------------------------------------------------------------------------

    def _from_peer(self, data: bytes, flow: Flow) -> None:
        try:
            message = parse_message(data)
            if isinstance(message, Response) and self._requests.receive(message, flow):
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

    def _gone(self, flow: Flow) -> None:
        """A connection has closed: calls on it go on, and are looked for anew when needed."""
        self._requests.gone(flow)
        self._registrars.gone(flow)
        logger.debug("{} connection to {} is closed", flow.transport, flow.remote[0])

    def _do(self, actions: Iterable[edges.Action]) -> None:
        for action in actions:
            match action:
                case edges.ToPeer():
                    if not self._sockets.send(action.data, action.flow) and action.uri:
                        self._run(self._send_anew(action))
                case edges.ToWorker():
                    worker = self._worker(action.worker)
                    if worker is not None:
                        self._inside.send(action.data, ("127.0.0.1", worker.port))
                case edges.Ask():
                    self._begin(action.call, self._decide(action))
                case edges.Locate():
                    self._begin(action.call, self._locate(action))
                case edges.Own():
                    self._run(self._send_own(action))
                case edges.Withdraw():
                    deciding = self._deciding.pop(action.call.call_id, None)
                    if deciding is not None:
                        deciding.cancel()
                case edges.Progress():
                    self._progressed(action)
                case edges.Over():
                    self._over(action.call)
                case edges.Silence():
                    self._met_with_silence(action)
                case edges.TurnedAway():
                    self.metrics.refused(str(action.status))

    def _progressed(self, progress: edges.Progress) -> None:
        """The first request of a call was answered."""
        call, status = progress.call, progress.status
        after_s = time.monotonic() - call.began_s
        self._ledger.progressed(call.call_id, status, info_of(call).direction, after_s)
        dialled = self._dialled.get(call.call_id)
        if dialled is not None:
            dialled.progressed(status, progress.reason)

    def _bury(self, call: EdgeCall) -> None:
        """End a call that its worker has left without a word to the peer."""
        if not call.is_over:
            self._hang_up(call)

    def _hang_up(self, call: EdgeCall, refusal: Refusal | None = None) -> None:
        """End a call in its worker's stead."""
        now_s = time.monotonic()
        self._guarded(call, functools.partial(self._edge.hang_up, call, now_s, refusal))

    def _met_with_silence(self, silence: edges.Silence) -> None:
        """Tell once an address, so that who set this up finds out, and a flood fills no log."""
        if silence.address not in self._silent and len(self._silent) < _MOST_SILENT:
            self._silent.add(silence.address)
            why = _WHY.get(silence.why, silence.why)
            logger.warning("a call from {} was not taken: {}", silence.address, why)

    def _over(self, call: EdgeCall) -> None:
        self._relays.close(call.call_id)
        worker = self._worker(call.worker)
        if worker is not None:
            worker.remove(call.call_id)
        if worker is not None and self._ledger.is_answered(call.call_id):
            # Its worker is about to tell how the audio was.
            loop = asyncio.get_running_loop()
            loop.call_later(_FIGURES_S, self._ledger.settle, call.call_id)
        else:
            self._ledger.settle(call.call_id)
        dialled = self._dialled.get(call.call_id)
        if dialled is not None and worker is None:
            dialled.over("the worker is gone")

    def _begin(self, call: EdgeCall, work: Coroutine[Any, Any, None]) -> None:
        """Do what must be done before a call can go on; a defect in it refuses the call."""

        async def guarded() -> None:
            try:
                await work
            except Exception as error:
                logger.opt(exception=error).error("call {}: refused, at a defect", call.call_id)
                self._do(self._edge.refuse(call, Refusal(500), time.monotonic()))
            finally:
                self._deciding.pop(call.call_id, None)

        self._deciding[call.call_id] = self._run(guarded())

    async def _decide(self, ask: edges.Ask) -> None:
        """Find who takes an inbound call."""
        call, trunk = ask.call, ask.admitted.trunk
        assert call.flow is not None
        info = inbound_info(call.invite, call.flow, trunk)
        call.info = info
        decided = await self._dispatcher.decide(info, call.invite.headers, trunk)
        if isinstance(decided, str):
            worker = self.supervisor.take(call.call_id)
            if worker is None:
                self._do(self._edge.ring(call))
                worker = await self.supervisor.wait(call.call_id)
            if worker is not None:
                await self._give(call, dataclasses.replace(info, bot=decided), worker)
                return
            decided = Refusal(self._config.sip.busy_status, headers=(("Retry-After", "10"),))
        logger.info("call {}: refused with {}", call.call_id, decided.status)
        self.metrics.refused(str(decided.status))
        self._do(self._edge.refuse(call, decided, time.monotonic()))

    async def _give(self, call: EdgeCall, info: CallInfo, worker: Worker) -> None:
        call.info = info
        assert call.flow is not None
        try:
            if self._passage.wants_relay(call, call.flow):
                await self._relays.open(call.call_id, {call.flow.remote[0]})
            await worker.channel.tell("incoming", info=_as_dict(info))
        except BaseException as error:
            worker.remove(call.call_id)
            self._relays.close(call.call_id)
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

    async def _locate(self, locate: edges.Locate) -> None:
        """Find where an outbound call goes, and connect."""
        call = locate.call
        dialled = call.info
        if isinstance(dialled, OutboundCall):
            self._connect(dialled, call.call_id)
            call.info, call.trunk = dialled.info, dialled.info.trunk
        else:
            call.info = CallInfo(call_id=call.call_id, direction="outbound", to_uri=locate.uri)
        self._ledger.open(call.call_id, "outbound")
        worker = self._worker(call.worker)
        if worker is not None:
            worker.rename(call.stand_in, call.call_id)
        try:
            flow = await self._reach.flow(locate.uri, self._trunks.get(call.info.trunk))
            if self._passage.wants_relay(call, flow):
                await self._relays.open(call.call_id, {flow.remote[0]})
        except TalkpathError as error:
            logger.info("call {}: {}", call.call_id, error)
            refusal = Refusal(503, "Peer Unreachable")
            dialled = self._dialled.get(call.call_id)
            if dialled is not None:
                dialled.progressed(refusal.status, str(error))
            self._do(self._edge.refuse(call, refusal, time.monotonic()))
        else:
            source = host_port(*flow.remote)
            call.info = dataclasses.replace(call.info, source=source, transport=flow.transport)
            if isinstance(dialled, OutboundCall):
                dialled.info = call.info
            self._do(self._edge.located(call, flow, time.monotonic()))

    async def _send_anew(self, action: edges.ToPeer) -> None:
        """Send what could not go over a connection that is gone, over a new one."""
        trunk = self._trunks.get(info_of(action.call).trunk) if action.call is not None else None
        try:
            flow = await self._reach.flow(action.uri, trunk, action.flow.transport)
        except PeerUnreachable as error:
            logger.info("{}", error)
            return
        if action.call is not None:
            action.call.follow(flow)
        self._sockets.send(action.data, flow)

    async def _send_own(self, action: edges.Own) -> None:
        """Say BYE for a worker that cannot."""
        try:
            await self._requests.request(action.request, action.flow)
        except PeerUnreachable as error:
            logger.info("call {}: {}", action.request.call_id, error)

    # -- workers -----------------------------------------------------------------------------------

    def _worker(self, number: int) -> Worker | None:
        return next((worker for worker in self.supervisor.workers if worker.id == number), None)

    def _worker_address(self, number: int, profile: str) -> tuple[str, int]:
        worker = self._worker(number)
        assert worker is not None  # it was picked a moment ago
        return worker.users[profile], worker.port

    async def _worker_died(self, worker: Worker) -> None:
        """Say BYE for it: its calls end, all others go on."""
        for call in list(self._edge.book.calls.values()):
            if call.worker == worker.id and not call.is_over:
                logger.error("call {}: ended, since worker {} died", call.call_id, worker.id)
                self._hang_up(call, Refusal(500))
                if (dialled := self._dialled.pop(call.call_id, None)) is not None:
                    dialled.over("the worker died")

    def _ended(self, worker: Worker, call_id: str, reason: str, figures: CallQuality) -> None:
        """A worker has told how a call ended."""
        dialled = self._dialled.pop(call_id, None)
        if dialled is not None:
            dialled.over(reason, figures)
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

    def _connect(self, call: OutboundCall, call_id: str) -> None:
        """Note a dialled call's id, which its INVITE or the worker's answer tells first."""
        call.info = dataclasses.replace(call.info, call_id=call_id)
        self._dialled.setdefault(call_id, call)

    def _domain(self) -> str:
        """The host in our own addresses."""
        host = self._config.sip.public_address or self._config.server.host
        return self._own_address() if host in _EVERYWHERE else host

    def _own_address(self) -> str:
        """The address by which this machine reaches others; the loopback's where there are none."""
        try:
            return self._sockets.local_address_towards(_DOCUMENTED)  # nothing is sent there
        except PeerUnreachable:
            return "127.0.0.1"

    def _face(self, flow: Flow) -> Face:
        host = self._sockets.local_address_towards(flow.remote[0])
        port = self._sockets.ports.get(flow.transport, flow.local[1])
        return Face(host, port, host)

    def _run(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ran)
        return task

    def _ran(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.opt(exception=error).error("the listener failed at something")

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
                    self._sockets.keep(call.flow)
            await asyncio.sleep(_TICK_S)


def _as_dict(info: CallInfo) -> dict[str, Any]:
    fields = {item.name: getattr(info, item.name) for item in dataclasses.fields(info)}
    return {**fields, "headers": dict(info.headers)}
