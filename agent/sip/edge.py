"""The edge: passes SIP messages between peers outside and workers inside, and guards the way.

It stands where a session border controller does. A peer sees one party, at the public address;
a worker's SIP stack sees one neighbour, on the loopback interface. Dialogs are theirs, and
retransmissions pass as they are; the edge answers, and repeats, by itself only what no worker shall
see: strangers, scanners, calls beyond the limit, transfers that nobody allowed.

Sans-IO: messages and the time go in, actions come out, in the order in which they are to be done.
"""

from collections.abc import Callable, Iterable

from talkpath.agent.sip import rewriting
from talkpath.agent.sip.access import Access
from talkpath.agent.sip.call_book import T1_S, CallBook
from talkpath.agent.sip.edge_actions import Action, Over, Own, Progress, ToWorker, Withdraw
from talkpath.agent.sip.edge_call import EdgeCall, Refusal, Stage
from talkpath.agent.sip.flow import Flow
from talkpath.agent.sip.passage import Passage
from talkpath.agent.sip.peer_side import PeerSide
from talkpath.agent.sip.worker_side import WorkerSide
from talkpath.agent.sip_sections import SipConfig

__all__ = ["LINGER_S", "UNANSWERED_S", "Edge"]

_T2_S = 4.0  # RFC 3261, 17.1.1.1

LINGER_S = 64 * T1_S
"""Seconds for which a call is remembered after its end: as long as anybody retransmits."""

UNANSWERED_S = 600.0
"""Seconds after which a call that nobody ever answered is forgotten."""


class Edge:
    """The calls of one listener.

    Args:
        config: the telephone's settings.
        access: who may call.
        permits: whether an address may be called, or a call be sent to it, by the dial plan.
        passage: how messages change on their way.
        worker_address: a worker's user part and port for a call: ``(user, port)`` by number and
            profile.

    Attributes:
        book: the calls.
        from_peer: takes a message from outside: message, flow and time; gives actions.
        from_worker: takes a message from a worker: message, its number and time; gives actions.
    """

    def __init__(
        self,
        config: SipConfig,
        access: Access,
        permits: Callable[[str, EdgeCall | None], bool],
        passage: Passage,
        worker_address: Callable[[int, str], tuple[str, int]],
    ) -> None:
        self._passage = passage
        self._worker_address = worker_address
        self.book = CallBook(config.max_calls, passage)
        self.from_peer = PeerSide(config, access, permits, passage, self.book).from_peer
        self.from_worker = WorkerSide(config, permits, passage, self.book).from_worker

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

    def ring(self, call: EdgeCall) -> list[Action]:
        """Let a caller hear that it rings, while nobody can take its call yet."""
        if call.stage is not Stage.ASKED or call.flow is None:
            return []
        call.ringing = self._passage.ringing(call, call.flow)
        return [self._passage.reply(call.ringing, call.invite, call.flow, call)]

    def refuse(self, call: EdgeCall, refusal: Refusal, now_s: float) -> list[Action]:
        """Refuse a call that no worker has yet, or an outbound one that cannot be made."""
        if call.stage not in (Stage.ASKED, Stage.SOUGHT):
            return []
        response = self._passage.respond(call.invite, refusal)
        call.move(Stage.OVER, now_s)
        if call.outbound:
            call.answer = response
            return [ToWorker(bytes(response), call.worker), Over(call)]
        return [self.book.answer_finally(call, response, now_s), Over(call)]

    def located(self, call: EdgeCall, flow: Flow, now_s: float) -> list[Action]:
        """Send an outbound call on its way."""
        if call.stage is not Stage.SOUGHT:
            return []
        call.flow = flow
        call.move(Stage.PASSED, now_s)
        return [self._passage.outwards(call, call.invite, flow)]

    def early_media(self, call_id: str) -> None:
        """Keep the worker's answer back; the caller gets a 183 in its place."""
        call = self.book.inbound(call_id, Stage.PASSED)
        call.early = True

    def answer(
        self, call_id: str, headers: Iterable[tuple[str, str]], now_s: float
    ) -> list[Action]:
        """Give the worker's answer these headers; send it if it was kept back."""
        call = self.book.inbound(call_id, Stage.PASSED, Stage.EARLY)
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
        self.book.inbound(call_id, Stage.PASSED, Stage.EARLY).refusal = refusal

    def add_headers(self, call_id: str, method: str, headers: Iterable[tuple[str, str]]) -> None:
        """Put headers into the worker's next request of a method."""
        self.book.known(call_id).extra[method] = ("", tuple(headers))

    def hang_up(self, call: EdgeCall, now_s: float, refusal: Refusal | None = None) -> list[Action]:
        """End a call in its worker's stead, towards the peer only: the worker is no more."""
        if call.stage in (Stage.ASKED, Stage.SOUGHT):
            return [*self.refuse(call, refusal or Refusal(503), now_s), Withdraw(call)]
        if call.is_over or call.flow is None:
            return []
        was, answered = call.stage, call.stage is Stage.UP
        call.move(Stage.OVER, now_s)
        if answered and call.peer_target:
            return [Own(call.bye(), self._passage.next_hop(call, None)), Over(call)]
        if call.outbound and was is Stage.PASSED:
            return [self._passage.outwards(call, call.cancel(), call.flow), Over(call)]
        final = self._passage.respond(call.invite, refusal or call.refusal or Refusal(500), call)
        answers: list[Action] = [self.book.answer_finally(call, final, now_s)]
        if was is Stage.PASSED:
            answers.append(self._passage.cancel_to_worker(call))
        elif was is Stage.EARLY:
            answers.append(self._passage.bye_to_worker(call))
        return [*answers, Over(call)]

    def tick(self, now_s: float) -> list[Action]:
        """Do what is due in all calls; see ``tick_call``."""
        return [
            action
            for call in list(self.book.calls.values())
            for action in self.tick_call(call, now_s)
        ]

    def tick_call(self, call: EdgeCall, now_s: float) -> list[Action]:
        """Do what is due in a call: send answers again, forget it when it ended long ago."""
        actions = self._resend(call, now_s) if 0 < call.resend_s <= now_s else []
        age_s = now_s - call.changed_s
        if call.is_over and age_s > LINGER_S:
            self.book.forget(call)
        elif age_s > UNANSWERED_S and call.stage not in (Stage.UP, Stage.OVER):
            actions += self.hang_up(call, now_s, Refusal(408))
        return actions

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
        call.resend_after_s = min(2 * call.resend_after_s, _T2_S)
        return [self._passage.reply(response, call.invite, call.flow, call)]
