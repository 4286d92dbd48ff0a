"""The edge: passes SIP messages between peers outside and workers inside, and guards the way.

It stands where a session border controller does. A peer sees one party, at the public address;
a worker's SIP stack sees one neighbour, on the loopback interface. Dialogs are theirs, and
retransmissions pass as they are; the edge answers, and repeats, by itself only what no worker shall
see: strangers, scanners, calls beyond the limit, transfers that nobody allowed.

Sans-IO: messages and the time go in, actions come out, in the order in which they are to be done.
"""

import secrets
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any

from talkpath.agent.sip import rewriting
from talkpath.agent.sip.access import Access, Admit, Challenge, Ignore, Refuse
from talkpath.agent.sip.edge_actions import (
    Action,
    Ask,
    EdgeError,
    Locate,
    Over,
    Own,
    Progress,
    Silence,
    ToPeer,
    ToWorker,
    TurnedAway,
    Withdraw,
)
from talkpath.agent.sip.edge_call import EdgeCall, Refusal, Stage
from talkpath.agent.sip.flow import Flow
from talkpath.agent.sip.message import Request, Response, SipParseError
from talkpath.agent.sip.passage import Passage
from talkpath.agent.sip.trunks import Trunk
from talkpath.agent.sip_sections import SipConfig

__all__ = ["LINGER_S", "T1_S", "UNANSWERED_S", "Edge"]

_STAND_IN = "tpdial-"
_MOST_DIALS = 1000

ALLOW = "INVITE, ACK, CANCEL, BYE, OPTIONS, INFO, REFER, NOTIFY, UPDATE, PRACK"

T1_S = 0.5
T2_S = 4.0
"""RFC 3261, 17.1.1.1."""

LINGER_S = 64 * T1_S
"""Seconds for which a call is remembered after its end: as long as anybody retransmits."""

UNANSWERED_S = 600.0
"""Seconds after which a call that nobody ever answered is forgotten."""

_RETRY = (("Retry-After", "10"),)


class Edge:
    """The calls of one listener.

    Args:
        config: the telephone's settings.
        access: who may call.
        permits: whether an address may be called, or a call be sent to it, by the dial plan.
        passage: how messages change on their way.
        worker_address: a worker's user part and port for a call: ``(user, port)`` by number and
            profile.
    """

    def __init__(
        self,
        config: SipConfig,
        access: Access,
        permits: Callable[[str, EdgeCall | None], bool],
        passage: Passage,
        worker_address: Callable[[int, str], tuple[str, int]],
    ) -> None:
        self._config = config
        self._access = access
        self._permits = permits
        self._passage = passage
        self._worker_address = worker_address
        self._dials: OrderedDict[str, tuple[str, Any]] = OrderedDict()
        self.calls: dict[str, EdgeCall] = {}
        self.draining = False

    # -- what the listener asks for -------------------------------------------------------------

    @property
    def active(self) -> int:
        """Calls that are not over."""
        return sum(not call.is_over for call in self.calls.values())

    def has_line(self, trunk: Trunk | None) -> bool:
        """Whether one call more may be made, through a trunk or without."""
        if self.active >= self._config.max_calls:
            return False
        return trunk is None or not trunk.max_calls or self._of_trunk(trunk) < trunk.max_calls

    def expect_dial(self, uri: str, info: Any = None) -> str:
        """Allow a worker one outbound call.

        Args:
            uri: whom to call.
            info: kept with the call.

        Returns:
            What the worker dials: an address here, which stands for ``uri``. baresip refuses to
            dial addresses of networks that it does not listen in.
        """
        token = f"{_STAND_IN}{secrets.token_hex(8)}"
        self._dials[token] = (uri, info)
        while len(self._dials) > _MOST_DIALS:
            self._dials.popitem(last=False)
        return self._passage.address(token)

    def expects(self, stand_in: str) -> bool:
        """Whether an address is one that stands for somebody whom a worker may call."""
        return _token(stand_in) in self._dials

    def forget_dial(self, stand_in: str) -> None:
        """The call will not be made after all."""
        self._dials.pop(_token(stand_in), None)

    def route(self, call: EdgeCall, worker: int, profile: str, now_s: float) -> list[Action]:
        """Give an inbound call to a worker.

        Args:
            call: that of an ``Ask``.
            worker: its number.
            profile: ``main``, or the trunk's name: which of its accounts takes the call.
            now_s: the time.
        """
        if call.stage is not Stage.ASKED:
            return []
        call.worker = worker
        user, port = self._worker_address(worker, profile)
        call.worker_target = f"sip:{user}@127.0.0.1:{port}"
        call.move(Stage.PASSED, now_s)
        assert call.flow is not None
        return [self._passage.inwards(call, call.invite, call.flow)]

    def refuse(self, call: EdgeCall, refusal: Refusal, now_s: float) -> list[Action]:
        """Refuse a call that no worker has yet, or an outbound one that cannot be made."""
        if call.stage not in (Stage.ASKED, Stage.SOUGHT):
            return []
        response = self._passage.respond(call.invite, refusal)
        call.move(Stage.OVER, now_s)
        if call.outbound:
            call.answer = response
            return [ToWorker(bytes(response), call.worker), Over(call)]
        return [self._finally(call, response, now_s), Over(call)]

    def located(self, call: EdgeCall, flow: Flow, now_s: float) -> list[Action]:
        """Send an outbound call on its way."""
        if call.stage is not Stage.SOUGHT:
            return []
        call.flow = flow
        call.move(Stage.PASSED, now_s)
        return [self._passage.outwards(call, call.invite, flow)]

    def early_media(self, call_id: str) -> None:
        """Keep the worker's answer back; the caller gets a 183 in its place."""
        call = self._inbound(call_id, Stage.PASSED)
        call.early = True

    def answer(
        self, call_id: str, headers: Iterable[tuple[str, str]], now_s: float
    ) -> list[Action]:
        """Give the worker's answer these headers; send it if it was kept back."""
        call = self._inbound(call_id, Stage.PASSED, Stage.EARLY)
        call.answer_headers = tuple(headers)
        if call.kept is None:
            call.early = False
            return []
        rewriting.set_headers(call.kept, call.answer_headers)
        call.resend_after_s, call.resend_s = T1_S, now_s
        call.answered_s = now_s
        call.move(Stage.UP, now_s)
        return [Progress(call, 200, "OK"), *self._resend(call, now_s)]

    def reject(self, call_id: str, refusal: Refusal) -> None:
        """Let the worker's refusal reach the caller as this one."""
        self._inbound(call_id, Stage.PASSED, Stage.EARLY).refusal = refusal

    def add_headers(self, call_id: str, method: str, headers: Iterable[tuple[str, str]]) -> None:
        """Put headers into the worker's next request of a method."""
        self._known(call_id).extra[method] = ("", tuple(headers))

    def hang_up(self, call: EdgeCall, now_s: float, refusal: Refusal | None = None) -> list[Action]:
        """End a call in its worker's stead, towards the peer only: the worker is no more."""
        if call.stage in (Stage.ASKED, Stage.SOUGHT):
            return self.refuse(call, refusal or Refusal(503), now_s)
        if call.is_over or call.flow is None:
            return []
        was, answered = call.stage, call.stage is Stage.UP
        call.move(Stage.OVER, now_s)
        if answered and call.peer_target:
            return [Own(call.bye(), self._passage.next_hop(call, None)), Over(call)]
        if call.outbound and was is Stage.PASSED:
            return [self._passage.outwards(call, call.cancel(), call.flow), Over(call)]
        final = self._passage.respond(call.invite, refusal or call.refusal or Refusal(500), call)
        answers: list[Action] = [self._finally(call, final, now_s)]
        if was is Stage.PASSED:
            answers.append(self._passage.cancel_to_worker(call))
        elif was is Stage.EARLY:
            answers.append(self._passage.bye_to_worker(call))
        return [*answers, Over(call)]

    def tick(self, now_s: float) -> list[Action]:
        """Do what is due in all calls; see ``tick_call``."""
        return [
            action for call in list(self.calls.values()) for action in self.tick_call(call, now_s)
        ]

    def tick_call(self, call: EdgeCall, now_s: float) -> list[Action]:
        """Do what is due in a call: send answers again, forget it when it ended long ago."""
        actions = self._resend(call, now_s) if 0 < call.resend_s <= now_s else []
        age_s = now_s - call.changed_s
        if call.is_over and age_s > LINGER_S:
            self.forget(call)
        elif age_s > UNANSWERED_S and call.stage not in (Stage.UP, Stage.OVER):
            actions += self.hang_up(call, now_s, Refusal(408))
        return actions

    def forget(self, call: EdgeCall) -> None:
        """Know nothing of a call any more; another one of its name stays."""
        if self.calls.get(call.call_id) is call:
            del self.calls[call.call_id]

    # -- from outside ----------------------------------------------------------------------------

    def from_peer(self, message: Request | Response, flow: Flow, now_s: float) -> list[Action]:
        """A message from outside.

        Raises:
            SipParseError: it lacks what every message has; nothing was done.
        """
        if isinstance(message, Response):
            return self._response_from_peer(message, flow, now_s)
        number, method = message.cseq
        if method != message.method:
            raise SipParseError("CSeq names another method than the request")
        call = self.calls.get(message.call_id)
        if call is not None and self._is_of(call, message):
            return self._request_of_call(call, message, flow, number, now_s)
        # Who was refused may try again in the same name (RFC 3261, 8.1.3.5).
        is_known = call is not None and not (call.is_over and number > call.invite.cseq[0])
        return self._request_from_stranger(message, flow, is_known, now_s)

    def _is_of(self, call: EdgeCall, request: Request) -> bool:
        """Whether a request belongs to a call: by its tags, or as a copy of the first one."""
        if request.tag("To") is not None:
            return call.is_of_dialog(request) or (
                request.method == "ACK" and request.via == call.invite.via
            )
        if call.outbound or request.method not in ("INVITE", "ACK", "CANCEL"):
            return False
        theirs, first = request.via, call.invite.via
        if request.cseq[0] != call.invite.cseq[0]:
            return False
        return theirs.parameters.get("branch") == first.parameters.get("branch") and (
            theirs.host,
            theirs.port,
        ) == (first.host, first.port)

    def _request_from_stranger(
        self, request: Request, flow: Flow, is_known: bool, now_s: float
    ) -> list[Action]:
        """A request outside of all dialogs, from anybody."""
        if request.method == "ACK":
            return []
        verdict = self._access.judge(request, flow.remote[0], now_s)
        match verdict:
            case Ignore():
                return [Silence(flow.remote[0], verdict.why)] if request.method == "INVITE" else []
            case Challenge():
                challenges = (("WWW-Authenticate", header) for header in verdict.headers)
                refusal = Refusal(401, headers=tuple(challenges))
                if "Authorization" in request.headers:
                    reply = self._passage.reply(
                        self._passage.respond(request, refusal), request, flow
                    )
                    return [reply, Silence(flow.remote[0], "password")]
            case Refuse():
                refusal = Refusal(verdict.status, verdict.reason, verdict.headers)
            case Admit():
                return self._admitted(request, flow, verdict, is_known, now_s)
        return [self._passage.reply(self._passage.respond(request, refusal), request, flow)]

    def _admitted(
        self, request: Request, flow: Flow, verdict: Admit, is_known: bool, now_s: float
    ) -> list[Action]:
        _ = request.via, request.tag("From"), request.tag("To")  # they can be read
        if not request.call_id.isascii():
            raise SipParseError("Call-ID has letters that no call has")
        refusal = self._refusal(request, verdict, is_known)
        if refusal is not None:
            response = self._passage.respond(request, refusal)
            reply = self._passage.reply(response, request, flow)
            is_call = request.method == "INVITE" and request.tag("To") is None
            return [reply, TurnedAway(refusal.status)] if is_call else [reply]
        call = EdgeCall(request.call_id, False, request, flow, Stage.ASKED, now_s)
        call.trunk = verdict.trunk.name if verdict.trunk is not None else ""
        call.note_peer(request)
        self.calls[call.call_id] = call
        trying = rewriting.respond(request, 100)
        return [self._passage.reply(trying, request, flow), Ask(call, verdict)]

    def _refusal(self, request: Request, verdict: Admit, is_known: bool) -> Refusal | None:
        """Why an admitted peer's request outside of a dialog is not for a worker."""
        config = self._config
        if request.method == "OPTIONS":
            refusal = self._unavailable()
            return refusal or Refusal(
                200, headers=(("Accept", "application/sdp"), ("Allow", ALLOW))
            )
        if request.method != "INVITE":
            inside = request.tag("To") is not None or request.method == "CANCEL"
            if inside:
                return Refusal(481)
            return Refusal(405, headers=(("Allow", ALLOW),))
        if request.tag("To") is not None:
            return Refusal(481)
        if "replaces" in map(str.lower, request.headers.all("Require")):
            return Refusal(420, headers=(("Unsupported", "replaces"),))
        if is_known:
            return Refusal(482)  # a copy that took another way, or our own call come back
        if (request.headers.get("Max-Forwards") or "70").strip() == "0":
            return Refusal(483)
        unavailable = self._unavailable()
        if unavailable is not None:
            return unavailable
        trunk: Trunk | None = verdict.trunk
        if trunk is not None and trunk.max_calls and self._of_trunk(trunk) >= trunk.max_calls:
            return Refusal(config.busy_status, headers=_RETRY)
        try:
            _ = request.target, request.contact
        except SipParseError as error:
            return Refusal(400, _phrase(error))
        return None

    def _unavailable(self) -> Refusal | None:
        if self.draining:
            return Refusal(503, headers=_RETRY)
        if self.active >= self._config.max_calls:
            return Refusal(self._config.busy_status, headers=_RETRY)
        return None

    def _of_trunk(self, trunk: Trunk) -> int:
        return sum(not call.is_over and call.trunk == trunk.name for call in self.calls.values())

    def _request_of_call(
        self, call: EdgeCall, request: Request, flow: Flow, number: int, now_s: float
    ) -> list[Action]:
        """A request that belongs to a call."""
        if request.method == "ACK":
            return self._ack(call, request, flow)
        if request.method == "CANCEL":
            return self._cancel(call, request, flow, now_s)
        if request.method == "INVITE" and request.tag("To") is None:
            if call.stage is Stage.ASKED:
                return [self._passage.reply(rewriting.respond(request, 100), request, flow)]
            if call.answer is not None:
                return [self._passage.reply(call.answer, request, flow, call)]
            if call.kept is not None:
                return []
        if request.method == "REFER":
            refusal = self._refused_transfer(call, request)
            if refusal is not None:
                return [self._passage.reply(self._passage.respond(request, refusal), request, flow)]
            request = self._with_stand_in(request)
        if call.worker < 0:
            return [
                self._passage.reply(self._passage.respond(request, Refusal(481)), request, flow)
            ]
        call.follow(flow)
        if request.method in ("INVITE", "UPDATE"):
            call.peer_target = _contact_of(request) or call.peer_target
        actions: list[Action] = [self._passage.inwards(call, request, flow)]
        if request.method == "BYE" and not call.is_over:
            call.move(Stage.OVER, now_s)
            actions.append(Over(call))
        return actions

    def _ack(self, call: EdgeCall, request: Request, flow: Flow) -> list[Action]:
        if call.answer is not None or call.worker < 0:
            call.resend_s = 0.0
            return []
        if call.kept is not None and request.cseq[0] == call.invite.cseq[0]:
            call.resend_s = 0.0  # the worker had its own, from here
            return []
        return [self._passage.inwards(call, request, flow)]

    def _cancel(self, call: EdgeCall, request: Request, flow: Flow, now_s: float) -> list[Action]:
        """The caller gives up before there is an answer (RFC 3261, 9.2)."""
        if call.stage is Stage.PASSED:
            return [self._passage.inwards(call, request, flow)]
        actions: list[Action] = [
            self._passage.reply(self._passage.respond(request, Refusal(200)), request, flow)
        ]
        if call.stage not in (Stage.ASKED, Stage.EARLY):
            return actions
        was = call.stage
        final = self._passage.respond(call.invite, Refusal(487), call)
        call.move(Stage.OVER, now_s)
        actions.append(self._finally(call, final, now_s))
        if was is Stage.ASKED:
            return [*actions, Withdraw(call), Over(call)]
        return [*actions, self._passage.bye_to_worker(call), Over(call)]

    def _refused_transfer(self, call: EdgeCall, request: Request) -> Refusal | None:
        target = request.headers.get("Refer-To") or ""
        if not self._config.accept_refer or not self._permits(target, call):
            return Refusal(403)
        return None

    def _with_stand_in(self, refer: Request) -> Request:
        """A transfer whose target the worker can dial; what follows a ``?`` stays with it."""
        refer = refer.copy()
        target = (refer.headers.get("Refer-To") or "").strip()
        target = target[1:].partition(">")[0] if target.startswith("<") else target
        uri, mark, rest = target.partition("?")
        refer.headers.set("Refer-To", f"<{self.expect_dial(uri)}{mark}{rest}>")
        return refer

    def _response_from_peer(self, response: Response, flow: Flow, now_s: float) -> list[Action]:
        call = self.calls.get(response.call_id)
        branch = response.via.parameters.get("branch") or ""
        if call is None or call.worker < 0 or branch not in call.vias:
            return []
        number, method = response.cseq
        is_first = method == "INVITE" and call.outbound and number == call.invite.cseq[0]
        if is_first and response.status > 100 and call.stage in (Stage.PASSED, Stage.UP):
            if call.stage is Stage.PASSED:
                call.note_peer(response)
            if 200 <= response.status < 300:
                call.move(Stage.UP, now_s)
        inner = response.copy()
        inner.headers.set("Via", *call.vias[branch])
        self._passage.media_inwards(call, inner)
        if call.outbound and inner.headers.all("Record-Route") + inner.headers.all("Contact"):
            routes = inner.headers.all("Record-Route")
            inner.headers.set("Record-Route", *routes, self._passage.route)
        actions: list[Action] = [ToWorker(bytes(inner), call.worker)]
        if is_first and response.status > 100:
            actions.append(Progress(call, response.status, response.reason))
        refused = is_first and response.status >= 300 and response.status not in (401, 407)
        if refused or (method == "BYE" and response.status >= 200):
            if not call.is_over:
                call.move(Stage.OVER, now_s)
                actions.append(Over(call))
        return actions

    # -- from workers ------------------------------------------------------------------------------

    def from_worker(self, message: Request | Response, worker: int, now_s: float) -> list[Action]:
        """A message from a worker.

        Raises:
            SipParseError: it lacks what every message has; nothing was done.
        """
        call = self.calls.get(message.call_id)
        if call is not None and call.worker != worker:
            call = None
        if isinstance(message, Response):
            return [] if call is None else self._response_from_worker(call, message, now_s)
        if call is None:
            return self._dialled(message, worker, now_s)
        return self._request_from_worker(call, message, now_s)

    def _dialled(self, request: Request, worker: int, now_s: float) -> list[Action]:
        """A worker's first request: an outbound call."""
        if request.method != "INVITE" or request.tag("To") is not None:
            if request.method == "ACK":
                return []
            return [ToWorker(bytes(self._passage.respond(request, Refusal(481))), worker)]
        callee, info = self._dials.pop(_token(request.uri), ("", None))
        refusal = None
        if not callee and not self._permits(request.uri, None):
            refusal = Refusal(403)
        elif self.active >= self._config.max_calls:
            refusal = Refusal(503)
        if refusal is not None:
            return [ToWorker(bytes(self._passage.respond(request, refusal)), worker)]
        call = EdgeCall(request.call_id, True, request, None, Stage.SOUGHT, now_s, worker)
        call.info = info
        call.note_worker(request)
        call.cseq = request.cseq[0]
        call.sent["INVITE"] = request.via.parameters.get("branch") or ""
        if callee:
            call.stand_in, call.callee = request.uri, callee
        call.theirs = f"<{callee}>" if callee else request.headers.get("To") or ""
        self.calls[call.call_id] = call
        # No 100 from here: the worker repeats the INVITE until the peer answers, and gives up when
        # it does not.
        return [Locate(call, callee or request.uri)]

    def _request_from_worker(self, call: EdgeCall, request: Request, now_s: float) -> list[Action]:
        number, method = request.cseq
        is_first = request.tag("To") is None and method == "INVITE"
        if call.stage is Stage.SOUGHT:
            if method != "CANCEL":
                return []
            call.answer = self._passage.respond(call.invite, Refusal(487))
            call.move(Stage.OVER, now_s)
            done = self._passage.respond(request, Refusal(200))
            answers = [ToWorker(bytes(done), call.worker)]
            return [*answers, ToWorker(bytes(call.answer), call.worker), Withdraw(call), Over(call)]
        if call.answer is not None:
            if method == "ACK":
                return []
            gone = call.answer if is_first else self._passage.respond(request, Refusal(481))
            return [ToWorker(bytes(gone), call.worker)]
        if call.stage is Stage.EARLY:
            return self._ended_early(call, request, now_s)
        if is_first and (call.is_over or request.uri != call.invite.uri):
            # Elsewhere than it was told to, as after a redirection.
            refusal = self._passage.respond(request, Refusal(403))
            return [ToWorker(bytes(refusal), call.worker)]
        assert call.flow is not None
        if is_first and number > call.invite.cseq[0]:
            call.invite = request  # once more, with a password
        if method not in ("ACK", "CANCEL"):
            call.cseq = max(call.cseq, number)
        branch = request.via.parameters.get("branch") or ""
        if call.sent.get(method) == branch and call.flow.reliable:
            return []  # what is repeated over UDP to us arrives on a connection at once
        call.sent[method] = branch
        rewriting.set_headers(request, call.extra_headers(method, branch))
        if method == "REFER":
            self._name_callees(request)
        is_same = branch == call.invite.via.parameters.get("branch")  # RFC 3261, 17.1.1.3
        flow = call.flow if is_same else self._passage.next_hop(call, request)
        actions: list[Action] = [self._passage.outwards(call, request, flow)]
        if method == "BYE" and not call.is_over:
            call.move(Stage.OVER, now_s)
            actions.append(Over(call))
        return actions

    def _name_callees(self, refer: Request) -> None:
        """Put callees' own URIs in place of stand-ins, where a call is sent to one of them."""
        target = refer.headers.get("Refer-To") or ""
        for call in self.calls.values():
            if call.stand_in and call.stand_in in target:
                refer.headers.set("Refer-To", target.replace(call.stand_in, call.callee))

    def _ended_early(self, call: EdgeCall, request: Request, now_s: float) -> list[Action]:
        """The worker leaves a call that the caller has not been told to be answered."""
        if request.method != "BYE":
            return []
        actions: list[Action] = [
            ToWorker(bytes(self._passage.respond(request, Refusal(200))), call.worker)
        ]
        final = self._passage.respond(call.invite, call.refusal or Refusal(480), call)
        call.move(Stage.OVER, now_s)
        return [*actions, self._finally(call, final, now_s), Over(call)]

    def _response_from_worker(
        self, call: EdgeCall, response: Response, now_s: float
    ) -> list[Action]:
        vias = response.headers.all("Via")
        branch = response.via.parameters.get("branch") or ""
        flow = call.flows.get(branch)
        if flow is None:
            return []
        number, method = response.cseq
        response.headers.set("Via", *vias[1:])
        if method == "INVITE" and call.answer is not None:
            return self._too_late(call, response)
        is_first = method == "INVITE" and not call.outbound and number == call.invite.cseq[0]
        actions: list[Action] = []
        if is_first and response.status > 100:
            if response.status < 300:
                call.note_worker(response)
            actions = self._first_answer(call, response, now_s)
            if (call.early or call.kept is not None) and 200 <= response.status < 300:
                return self._keep(call, response, flow, now_s)
        return [self._passage.outwards_response(call, response, flow), *actions]

    def _too_late(self, call: EdgeCall, response: Response) -> list[Action]:
        """The worker answers a call whose caller has been told something else already."""
        if response.status < 200:
            return []
        call.note_worker(response)
        acknowledged = self._passage.own_to_worker(call, "ACK", call.invite.cseq[0])
        if response.status >= 300:
            return []  # that of the CANCEL's own transaction is the worker's affair
        return [acknowledged, self._passage.bye_to_worker(call)]

    def _first_answer(self, call: EdgeCall, response: Response, now_s: float) -> list[Action]:
        """Note what becomes of an inbound call, and put in what the worker could not say."""
        if response.status < 200 or call.is_over:
            return []
        if response.status < 300:
            rewriting.set_headers(response, call.answer_headers)
            if call.early or call.kept is not None or call.stage is Stage.UP:
                return []
            call.move(Stage.UP, now_s)
            return [Progress(call, response.status, response.reason)]
        refusal = call.refusal
        if refusal is not None and response.status != 487:
            response.status = refusal.status
            response.reason = refusal.reason or rewriting.REASONS.get(refusal.status, "Refused")
            rewriting.set_headers(response, refusal.headers)
        call.move(Stage.OVER, now_s)
        return [Progress(call, response.status, response.reason), Over(call)]

    def _keep(self, call: EdgeCall, response: Response, flow: Flow, now_s: float) -> list[Action]:
        """Keep the worker's answer: the caller hears, and is told that it rings (RFC 3960)."""
        acknowledged = self._passage.own_to_worker(call, "ACK", call.invite.cseq[0])
        if call.kept is not None:
            return [acknowledged]
        call.kept = response.copy()
        call.early = False
        call.move(Stage.EARLY, now_s)
        self._passage.rewrite_outwards(call, call.kept, flow)
        early = call.kept.copy()
        early.status, early.reason = 183, rewriting.REASONS[183]
        return [acknowledged, self._passage.reply(early, call.invite, flow, call)]

    def _finally(self, call: EdgeCall, response: Response, now_s: float) -> ToPeer:
        """Answer an inbound call's first request without its worker, once and for all."""
        assert call.flow is not None
        call.answer, call.kept = response, None
        if not call.flow.reliable:  # RFC 3261, 17.2.1: until it is acknowledged
            call.resend_after_s, call.answered_s = 2 * T1_S, now_s
            call.resend_s = now_s + T1_S
        return self._passage.reply(response, call.invite, call.flow, call)

    def _resend(self, call: EdgeCall, now_s: float) -> list[Action]:
        """Send what was answered again, for as long as anybody waits for it."""
        response = call.kept or call.answer
        assert response is not None and call.flow is not None
        if now_s - call.answered_s > LINGER_S:
            call.resend_s = 0.0
            if call.kept is None:
                return []
            # RFC 3261, 13.3.1.4: an answer that nobody acknowledges ends the call.
            return [self._passage.bye_to_worker(call), *self.hang_up(call, now_s)]
        call.resend_s = now_s + call.resend_after_s
        call.resend_after_s = min(2 * call.resend_after_s, T2_S)
        return [self._passage.reply(response, call.invite, call.flow, call)]

    def _known(self, call_id: str) -> EdgeCall:
        call = self.calls.get(call_id)
        if call is None or call.is_over:
            raise EdgeError("the call is over")
        return call

    def _inbound(self, call_id: str, *stages: Stage) -> EdgeCall:
        call = self._known(call_id)
        if call.outbound or call.stage not in stages:
            raise EdgeError("the call was answered, or is not one that we answer")
        return call


def _phrase(error: SipParseError) -> str:
    """A reason phrase; nothing of the peer's own text is in our parser's sentences."""
    return f"Bad Request: {error}".split("\r")[0].split("\n")[0][:120]


def _token(uri: str) -> str:
    """The user part of a URI, which a stand-in has its name in."""
    return uri.partition(":")[2].partition("@")[0]


def _contact_of(request: Request) -> str:
    try:
        return str(request.contact.uri)
    except SipParseError:
        return ""
