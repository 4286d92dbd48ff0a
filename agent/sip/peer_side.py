"""The outward side of the edge: what comes from peers, and from strangers."""

from collections.abc import Callable

from talkpath.agent.sip import rewriting
from talkpath.agent.sip.access import Access, Admit, Challenge, Ignore, Refuse
from talkpath.agent.sip.call_book import CallBook
from talkpath.agent.sip.edge_actions import (
    Action,
    Ask,
    Over,
    Progress,
    Silence,
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

__all__ = ["PeerSide"]

_ALLOW = "INVITE, ACK, CANCEL, BYE, OPTIONS, INFO, REFER, NOTIFY, UPDATE, PRACK"
_RETRY = (("Retry-After", "10"),)


class PeerSide:
    """Takes messages from outside.

    Args:
        config: the telephone's settings.
        access: who may call.
        permits: whether a call may be sent to an address, by the dial plan.
        passage: how messages change on their way.
        book: the calls.
    """

    def __init__(
        self,
        config: SipConfig,
        access: Access,
        permits: Callable[[str, EdgeCall | None], bool],
        passage: Passage,
        book: CallBook,
    ) -> None:
        self._config = config
        self._access = access
        self._permits = permits
        self._passage = passage
        self._book = book

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
        call = self._book.calls.get(message.call_id)
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
        self._book.calls[call.call_id] = call
        trying = rewriting.respond(request, 100)
        return [self._passage.reply(trying, request, flow), Ask(call, verdict)]

    def _refusal(self, request: Request, verdict: Admit, is_known: bool) -> Refusal | None:
        """Why an admitted peer's request outside of a dialog is not for a worker."""
        config = self._config
        if request.method == "OPTIONS":
            refusal = self._unavailable()
            return refusal or Refusal(
                200, headers=(("Accept", "application/sdp"), ("Allow", _ALLOW))
            )
        if request.method != "INVITE":
            inside = request.tag("To") is not None or request.method == "CANCEL"
            if inside:
                return Refusal(481)
            return Refusal(405, headers=(("Allow", _ALLOW),))
        if request.tag("To") is not None:
            return Refusal(481)
        if "replaces" in map(str.lower, request.headers.all("Require")):
            return Refusal(420, headers=(("Unsupported", "replaces"),))
        if is_known:
            return Refusal(482)  # a copy that took another way, or our own call come back
        if (request.headers.get("Max-Forwards") or "70").strip() == "0":
            return Refusal(483)
        if self._book.draining:
            return Refusal(503, headers=_RETRY)
        trunk: Trunk | None = verdict.trunk
        if not self._book.has_line(trunk):
            return Refusal(config.busy_status, headers=_RETRY)
        try:
            _ = request.target, request.contact
        except SipParseError as error:
            return Refusal(400, _phrase(error))
        return None

    def _unavailable(self) -> Refusal | None:
        if self._book.draining:
            return Refusal(503, headers=_RETRY)
        if self._book.active >= self._config.max_calls:
            return Refusal(self._config.busy_status, headers=_RETRY)
        return None

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
                told = call.ringing or rewriting.respond(request, 100)
                return [self._passage.reply(told, request, flow)]
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
        actions.append(self._book.answer_finally(call, final, now_s))
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
        refer.headers.set("Refer-To", f"<{self._book.expect_dial(uri)}{mark}{rest}>")
        return refer

    def _response_from_peer(self, response: Response, flow: Flow, now_s: float) -> list[Action]:
        call = self._book.calls.get(response.call_id)
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


def _phrase(error: SipParseError) -> str:
    """A reason phrase; nothing of the peer's own text is in our parser's sentences."""
    return f"Bad Request: {error}".split("\r")[0].split("\n")[0][:120]


def _contact_of(request: Request) -> str:
    try:
        return str(request.contact.uri)
    except SipParseError:
        return ""
