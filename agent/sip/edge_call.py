"""One call as the edge knows it: who carries it, where its peer is, and its dialog.

Enough to pass messages in both directions, and to end the call when its worker cannot.
"""

from collections import OrderedDict
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

from talkpath.agent.sip.flow import Flow
from talkpath.agent.sip.message import Headers, Request, Response, SipParseError

__all__ = ["EdgeCall", "Refusal", "Stage"]

_MOST_TRANSACTIONS = 32


class Stage(Enum):
    """How far a call is.

    ::

        inbound:   ASKED ──> PASSED ──────────> UP ──> OVER
                     │          └──> EARLY ──────┘       ^
        outbound:  SOUGHT ──> PASSED ──> UP              │
                     └── any of them ────────────────────┘
    """

    ASKED = "nobody has decided yet who takes it"
    SOUGHT = "the peer's address is being looked up"
    PASSED = "the INVITE was passed on"
    EARLY = "the caller hears audio, and the worker's answer is kept back"
    UP = "answered"
    OVER = "ended; its retransmissions are still known"


@dataclass(frozen=True, slots=True)
class Refusal:
    """How a call is to be refused."""

    status: int
    reason: str = ""
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(slots=True)
class EdgeCall:
    """A call.

    Attributes:
        call_id: SIP's.
        outbound: whether we call.
        invite: the first request, as it came.
        flow: where messages to the peer go.
        stage: how far it is.
        changed_s: when it came there.
        began_s: when its first request came.
        worker: number of the worker that carries it; -1 before that is known.
        trunk: the name of the trunk that an inbound call came from; empty for none.
        info: what the listener keeps with it.
        stand_in: the URI that stands for the callee's towards the worker; empty for none.
        callee: the callee's own URI, then.
        worker_target: URI under which the worker takes requests of this call.
        peer_target: URI under which the peer does.
        peer_routes: proxies on the way to the peer, the first one first.
        ours: our party, as ``From`` or ``To`` has it, with its tag.
        theirs: the peer, likewise.
        cseq: highest number of a request to the peer.
        refusal: takes the place of the worker's own.
        answer_headers: for the worker's answer.
        extra: headers for the worker's next request, by method, with that request's branch, which
            is empty before it comes.
        sent: the branch of the worker's last request, by method.
        ringing: what the caller was told while there was no worker yet.
        early: whether the worker's next answer is kept back.
        kept: that answer, as it goes to the caller.
        answer: what was answered to the first request without a worker.
        resend_s: when one of these two is sent again; 0 where neither is.
        resend_after_s: seconds between that time and the next.
        answered_s: when it was first sent.
        flows: where the answers to the peer's requests go, by our branch.
        vias: the worker's ``Via`` headers of its requests, by our branch.
    """

    call_id: str
    outbound: bool
    invite: Request
    flow: Flow | None
    stage: Stage
    changed_s: float
    worker: int = -1
    trunk: str = ""
    info: Any = None
    stand_in: str = ""
    callee: str = ""
    began_s: float = field(init=False)
    worker_target: str = ""
    peer_target: str = ""
    peer_routes: list[str] = field(default_factory=list)
    ours: str = ""
    theirs: str = ""
    cseq: int = 0
    refusal: Refusal | None = None
    answer_headers: tuple[tuple[str, str], ...] = ()
    extra: dict[str, tuple[str, tuple[tuple[str, str], ...]]] = field(default_factory=dict)
    sent: dict[str, str] = field(default_factory=dict)
    ringing: Response | None = None
    early: bool = False
    kept: Response | None = None
    answer: Response | None = None
    resend_s: float = 0.0
    resend_after_s: float = 0.0
    answered_s: float = 0.0
    flows: OrderedDict[str, Flow] = field(default_factory=OrderedDict)
    vias: OrderedDict[str, list[str]] = field(default_factory=OrderedDict)

    def __post_init__(self) -> None:
        self.began_s = self.changed_s

    @property
    def is_over(self) -> bool:
        """Whether it counts no longer."""
        return self.stage is Stage.OVER

    def move(self, stage: Stage, now_s: float) -> None:
        """Note that the call has come to another stage; there is no way back from the last."""
        if not self.is_over and stage is not self.stage:
            self.stage, self.changed_s = stage, now_s

    def remember_flow(self, branch: str, flow: Flow) -> None:
        """Keep where the answer to a request of the peer's goes; the oldest are forgotten."""
        self.flows[branch] = flow
        while len(self.flows) > _MOST_TRANSACTIONS:
            self.flows.popitem(last=False)

    def remember_vias(self, branch: str, vias: list[str]) -> None:
        """Keep the worker's ``Via`` headers of a request; the oldest are forgotten."""
        self.vias[branch] = vias
        while len(self.vias) > _MOST_TRANSACTIONS:
            self.vias.popitem(last=False)

    def extra_headers(self, method: str, branch: str) -> tuple[tuple[str, str], ...]:
        """What was to be put into the worker's next request of a method, and its copies."""
        whose, headers = self.extra.get(method, ("", ()))
        if whose not in ("", branch):
            del self.extra[method]
            return ()
        if headers:
            self.extra[method] = (branch, headers)
        return headers

    def is_of_dialog(self, request: Request) -> bool:
        """Whether a peer's request inside the dialog has the tags of both parties."""
        try:
            theirs, ours = request.tag("From"), request.tag("To")
        except SipParseError:
            return False
        return ours is not None and ours == _tag(self.ours) and theirs == _tag(self.theirs)

    def note_peer(self, message: Request | Response) -> None:
        """Learn from the peer's first request, or from its answer, how to reach it."""
        target = _target(message)
        if target:
            self.peer_target = target
        if self.outbound:
            self.theirs = message.headers.get("To") or self.theirs
            routes = message.headers.all("Record-Route")
            self.peer_routes = routes[::-1]
        else:
            self.theirs = message.headers.get("From") or self.theirs
            self.peer_routes = message.headers.all("Record-Route")

    def note_worker(self, message: Request | Response) -> None:
        """Learn from the worker's first request, or from its answer, how to reach it."""
        target = _target(message)
        if target:
            self.worker_target = target
        self.ours = message.headers.get("From" if self.outbound else "To") or self.ours

    def bye(self) -> Request:
        """A request that ends the call in the worker's stead."""
        self.cseq += 1
        return self._own("BYE", self.peer_target, self.cseq)

    def cancel(self) -> Request:
        """A request that takes back an outbound call that was not answered yet."""
        number, _ = self.invite.cseq
        request = self._own("CANCEL", self.invite.uri, number)
        request.headers.set("To", self.invite.headers.get("To") or self.theirs)
        request.headers.set("Via", *self.invite.headers.all("Via"))  # the same transaction
        return request

    def _own(self, method: str, uri: str, number: int) -> Request:
        request = Request(Headers(), b"", method, uri)
        request.headers.set("Max-Forwards", "70")
        request.headers.set("Route", *self.peer_routes)
        request.headers.set("From", self.ours)
        request.headers.set("To", self.theirs)
        request.headers.set("Call-ID", self.call_id)
        request.headers.set("CSeq", f"{number} {method}")
        return request

    def follow(self, flow: Flow) -> None:
        """Send to where the peer now is; a connection stays the one that its peer last used."""
        self.flow = replace(flow)


def _tag(party: str) -> str | None:
    try:
        return Request(Headers([("To", party)])).tag("To")
    except SipParseError:
        return None


def _target(message: Request | Response) -> str:
    try:
        return str(message.contact.uri)
    except SipParseError:
        return ""
