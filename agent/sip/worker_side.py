"""The inward side of the edge: what comes from workers."""

from collections.abc import Callable

from talkpath.agent.sip import rewriting
from talkpath.agent.sip.call_book import CallBook
from talkpath.agent.sip.edge_actions import Action, Locate, Over, Progress, ToWorker, Withdraw
from talkpath.agent.sip.edge_call import EdgeCall, Refusal, Stage
from talkpath.agent.sip.flow import Flow
from talkpath.agent.sip.message import Request, Response
from talkpath.agent.sip.passage import Passage
from talkpath.agent.sip_sections import SipConfig

__all__ = ["WorkerSide"]


class WorkerSide:
    """Takes messages from inside.

    Args:
        config: the telephone's settings.
        permits: whether an address may be called, by the dial plan.
        passage: how messages change on their way.
        book: the calls.
    """

    def __init__(
        self,
        config: SipConfig,
        permits: Callable[[str, EdgeCall | None], bool],
        passage: Passage,
        book: CallBook,
    ) -> None:
        self._config = config
        self._permits = permits
        self._passage = passage
        self._book = book

    def from_worker(self, message: Request | Response, worker: int, now_s: float) -> list[Action]:
        """A message from a worker.

        Raises:
            SipParseError: it lacks what every message has; nothing was done.
        """
        call = self._book.calls.get(message.call_id)
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
        callee, info, trunk = self._book.take_dial(request.uri)
        refusal = None
        if not callee and not self._permits(request.uri, None):
            refusal = Refusal(403)
        elif self._book.active >= self._config.max_calls:
            refusal = Refusal(503)
        if refusal is not None:
            return [ToWorker(bytes(self._passage.respond(request, refusal)), worker)]
        call = EdgeCall(request.call_id, True, request, None, Stage.SOUGHT, now_s, worker)
        call.info, call.trunk = info, trunk
        call.note_worker(request)
        call.cseq = request.cseq[0]
        call.sent["INVITE"] = request.via.parameters.get("branch") or ""
        if callee:
            call.stand_in, call.callee = request.uri, callee
        call.theirs = f"<{callee}>" if callee else request.headers.get("To") or ""
        self._book.calls[call.call_id] = call
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
        for call in self._book.calls.values():
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
        return [*actions, self._book.answer_finally(call, final, now_s), Over(call)]

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
