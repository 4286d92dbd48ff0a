"""An edge between a peer and a worker that are texts: what each of them sends and gets."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from talkpath.agent.sip import edge_actions as edges
from talkpath.agent.sip.access import Access
from talkpath.agent.sip.dial_plan import DialPlan
from talkpath.agent.sip.edge import Edge
from talkpath.agent.sip.edge_actions import Action, Face, Relay
from talkpath.agent.sip.edge_call import EdgeCall
from talkpath.agent.sip.flow import Flow
from talkpath.agent.sip.message import Request, Response, parse_message
from talkpath.agent.sip.passage import Passage
from talkpath.agent.sip.trunks import Trunk
from talkpath.agent.sip_sections import SipConfig

__all__ = ["OFFER", "PEER", "PUBLIC", "STRANGER", "Stage", "request", "response"]

PUBLIC = "203.0.113.1"
PEER = Flow("udp", ("192.168.1.2", 5060), ("192.168.1.50", 5070))
STRANGER = Flow("udp", ("192.168.1.2", 5060), ("198.51.100.7", 5060))
T = TypeVar("T")

OFFER = """v=0
o=phone 1 1 IN IP4 {host}
s=-
c=IN IP4 {host}
t=0 0
m=audio {port} RTP/AVP 0 101
a=rtpmap:0 PCMU/8000
a=rtpmap:101 telephone-event/8000
"""


def text(lines: Iterable[str], body: str = "") -> bytes:
    whole = body.replace("\n", "\r\n")
    head = [*lines, f"Content-Length: {len(whole)}"]
    if whole:
        head.insert(1, "Content-Type: application/sdp")
    return ("\r\n".join(head) + "\r\n\r\n" + whole).encode()


def request(
    method: str,
    *more: str,
    number: int = 1,
    branch: str = "z9hG4bKpeer1",
    call_id: str = "call@phone",
    to_tag: str = "",
    uri: str = "sip:600@203.0.113.1",
    via: str = "SIP/2.0/UDP 192.168.1.50:5070",
    agent: str = "phone",
    body: str = "",
) -> Request:
    """A peer's request."""
    tag = f";tag={to_tag}" if to_tag else ""
    lines = [
        f"{method} {uri} SIP/2.0",
        f"Via: {via};branch={branch};rport",
        "Max-Forwards: 70",
        'From: "Ann" <sip:ann@192.168.1.50>;tag=ann',
        f"To: <sip:600@203.0.113.1>{tag}",
        f"Call-ID: {call_id}",
        f"CSeq: {number} {method}",
        "Contact: <sip:ann@192.168.1.50:5070>",
        f"User-Agent: {agent}",
        *more,
    ]
    message = parse_message(text(lines, body))
    assert isinstance(message, Request)
    return message


def response(
    to: Request, status: int, reason: str = "Whatever", *more: str, tag: str = "bot", body: str = ""
) -> Response:
    """A worker's or a peer's response to what it got."""
    echoed = ("via", "from", "call-id", "cseq", "record-route")
    lines = [f"{name}: {value}" for name, value in to.headers if name.lower() in echoed]
    whom = to.headers.get("To") or ""
    with_tag = whom if "tag=" in whom or status == 100 else f"{whom};tag={tag}"
    lines = [f"SIP/2.0 {status} {reason}", *lines, f"To: {with_tag}", *more]
    message = parse_message(text(lines, body))
    assert isinstance(message, Response)
    return message


class Stage:
    """An edge, and what it has done."""

    def __init__(
        self,
        *,
        trunks: Sequence[Trunk] = (),
        dial_plan: Sequence[str] = (),
        relays: Callable[[str], Relay | None] = lambda call_id: None,
        password: str = "",
        **settings: Any,
    ) -> None:
        config = SipConfig(**settings)
        self.now_s = 1000.0
        face = Face(PUBLIC, 5060, PUBLIC)
        inside = ("127.0.0.1", 4000)
        self.passage = Passage(config, inside, lambda flow: face, relays, lambda call: password)
        plan = DialPlan(list(dial_plan))
        self.edge = Edge(
            config,
            Access(config, list(trunks)),
            lambda target, call: plan.permits(target),
            self.passage,
            lambda worker, profile: (f"in-{profile}", 5000 + worker),
        )
        self.done: list[Action] = []

    def peer(self, message: Request | Response, flow: Flow = PEER) -> list[Action]:
        """A message from outside; what was done."""
        back = parse_message(bytes(message))
        return self.note(self.edge.from_peer(back, flow, self.now_s))

    def worker(self, message: Request | Response, number: int = 1) -> list[Action]:
        """A message from a worker; what was done."""
        back = parse_message(bytes(message))
        return self.note(self.edge.from_worker(back, number, self.now_s))

    def note(self, actions: list[Action]) -> list[Action]:
        self.done += actions
        return actions

    def asked(self, message: Request, flow: Flow = PEER) -> EdgeCall:
        """A call that has been asked about."""
        return the(edges.Ask, self.peer(message, flow)).call

    def ringing(self, invite: Request, flow: Flow = PEER) -> tuple[EdgeCall, Request]:
        """A call that a worker lets ring, and the INVITE that it got."""
        call = self.asked(invite, flow)
        inner = at_worker(self.note(self.edge.route(call, 1, "main", self.now_s)))
        assert isinstance(inner, Request)
        self.worker(response(inner, 180, "Ringing", CONTACT))
        return call, inner

    def up(self, invite: Request, flow: Flow = PEER) -> tuple[EdgeCall, Request]:
        """A call that a worker has answered, and the INVITE that it got."""
        call, inner = self.ringing(invite, flow)
        body = OFFER.format(host="127.0.0.1", port=30000)
        self.worker(response(inner, 200, "OK", CONTACT, SDP, body=body))
        ack = request("ACK", to_tag="bot", branch="z9hG4bKack")
        self.peer(ack, flow)
        return call, inner


CONTACT = "Contact: <sip:in-main@127.0.0.1:5001>"
SDP = "Server: baresip-python"


def the(kind: type[T], actions: Iterable[Action]) -> T:
    """The only action of a kind."""
    (found,) = [action for action in actions if isinstance(action, kind)]
    return found


def at_peer(actions: Iterable[Action]) -> Request | Response:
    """The only message to the peer."""
    return parse_message(the(edges.ToPeer, actions).data)


def at_worker(actions: Iterable[Action]) -> Request | Response:
    """The only message to a worker."""
    return parse_message(the(edges.ToWorker, actions).data)


def statuses(actions: Iterable[Action]) -> list[int]:
    """What a peer was answered."""
    sent = [parse_message(action.data) for action in actions if isinstance(action, edges.ToPeer)]
    return [message.status for message in sent if isinstance(message, Response)]
