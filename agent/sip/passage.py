"""The passage: how a message changes on its way between a peer and a worker."""

import hashlib
import hmac
import secrets
from collections.abc import Callable

import sipmessage

from talkpath.agent.sip import rewriting
from talkpath.agent.sip.digest import for_target
from talkpath.agent.sip.edge_actions import Face, Relay, ToPeer, ToWorker
from talkpath.agent.sip.edge_call import EdgeCall, Refusal
from talkpath.agent.sip.flow import Flow
from talkpath.agent.sip.media_description import (
    advertise,
    apart,
    audio_endpoint,
    is_description,
    redirect_audio,
    without_keys,
)
from talkpath.agent.sip.message import Request, Response, SipParseError, read_uri
from talkpath.agent.sip_sections import SipConfig

__all__ = ["BRANCH", "Passage"]

BRANCH = "z9hG4bKtpe"
"""How the branches of the edge's ``Via`` headers begin (RFC 3261, 8.1.1.7)."""


class Passage:
    """The way between peers and workers.

    Args:
        config: the telephone's settings.
        inside: host and port of the socket that workers talk to.
        face: what the peer of a flow sees of this machine.
        relays: by ``Call-ID``, what takes the audio of a peer behind NAT; None for all others.
        password: of the account that an outbound call is made by.
    """

    def __init__(
        self,
        config: SipConfig,
        inside: tuple[str, int],
        face: Callable[[Flow], Face],
        relays: Callable[[str], Relay | None],
        password: Callable[[EdgeCall], str] = lambda call: "",
    ) -> None:
        self._config = config
        self._inside = rewriting.host_port(*inside)
        self._face = face
        self._relays = relays
        self._password = password
        self._secret = secrets.token_bytes(16)

    def inwards(self, call: EdgeCall, request: Request, flow: Flow) -> ToWorker:
        """A peer's request, as its worker gets it."""
        branch = self._branch(request, "")
        via = request.via
        reply = flow
        if flow.transport == "udp":
            address = rewriting.reply_address(via, *flow.remote)
            reply = Flow(flow.transport, flow.local, address, flow.connection)
        call.remember_flow(branch, reply)
        inner = request.copy()
        inner.uri = call.worker_target
        vias = inner.headers.all("Via")
        noted = rewriting.add_received(vias[0], *flow.remote)
        own = f"SIP/2.0/UDP {self._inside};branch={branch};rport"
        inner.headers.set("Via", own, noted, *vias[1:])
        inner.headers.set("Route")
        inner.headers.set("Replaces")  # of a call that we do not let anybody take over
        inner.headers.push("Record-Route", self.route)
        self.media_inwards(call, inner)
        return ToWorker(bytes(inner), call.worker)

    def outwards(self, call: EdgeCall, request: Request, flow: Flow) -> ToPeer:
        """A worker's request, as its peer gets it."""
        outer = request.copy()
        vias = outer.headers.all("Via")
        branch = self._branch(request, flow.transport) if vias else self._new_branch()
        call.remember_vias(branch, vias)
        face = self._face(flow)
        where = rewriting.host_port(face.host, face.port)
        via = f"SIP/2.0/{flow.transport.upper()} {where};branch={branch};rport"
        outer.headers.set("Via", via)
        outer.headers.set(
            "Route", *(route for route in outer.headers.all("Route") if self._inside not in route)
        )
        if call.stand_in:
            if outer.uri == call.stand_in:
                outer.uri = call.callee
            outer.headers.set("To", call.theirs if request.tag("To") else f"<{call.callee}>")
        self.rewrite_outwards(call, outer, flow)
        if call.stand_in:
            self._prove_for_callee(call, outer)
        hops = [*outer.headers.all("Route"), outer.uri]
        return ToPeer(bytes(outer), flow, _uri(hops[0]), call)

    def _prove_for_callee(self, call: EdgeCall, request: Request) -> None:
        """Make a worker's digest again: it was made for what stands for the callee."""
        for name in ("Authorization", "Proxy-Authorization"):
            value = request.headers.get(name)
            if value and self._inside in value:
                made = for_target(
                    value, request.uri, self._password(call), request.method, request.body
                )
                request.headers.set(name, *([made] if made else []))

    def address(self, user: str) -> str:
        """A URI of the edge's own, as workers know it."""
        return f"sip:{user}@{self._inside}"

    def outwards_response(self, call: EdgeCall, response: Response, flow: Flow) -> ToPeer:
        """A worker's response, as its peer gets it."""
        self.rewrite_outwards(call, response, flow)
        return ToPeer(bytes(response), flow, _sent_by(response, flow), call)

    def rewrite_outwards(self, call: EdgeCall, message: Request | Response, flow: Flow) -> None:
        """Show the public address in place of a worker's."""
        face = self._face(flow)
        headers = message.headers
        if isinstance(message, Response):
            routes = headers.all("Record-Route")
            headers.set("Record-Route", *(item for item in routes if self._inside not in item))
        if headers.get("Contact"):
            headers.set("Contact", self._contact(call, flow, face))
        for name in ("User-Agent", "Server"):
            headers.set(name)
        # Nobody takes over a call of ours by an INVITE with Replaces, whatever the stack can do.
        able = [item for item in headers.all("Supported") if item.lower() != "replaces"]
        headers.set("Supported", *([", ".join(able)] if able else []))
        is_request = isinstance(message, Request)
        headers.set("User-Agent" if is_request else "Server", self._config.user_agent)
        if not is_description(headers.get("Content-Type")):
            return
        if not is_request and b"a=crypto" not in call.invite.body and call.invite.body:
            message.body = without_keys(message.body)
        relay = self._relays(call.call_id)
        if relay is None:
            message.body = advertise(message.body, face.media_host)
            return
        endpoint = audio_endpoint(message.body)
        if endpoint is not None:
            relay.answer(endpoint[1])
        message.body = redirect_audio(message.body, face.media_host, relay.outside_port)

    def media_inwards(self, call: EdgeCall, message: Request | Response) -> None:
        """Let a worker send audio to the peer, or to the call's relay, if it has one."""
        if not is_description(message.headers.get("Content-Type")):
            return
        relay = self._relays(call.call_id)
        if relay is None:
            message.body = apart(message.body, "127.0.0.1")
            return
        endpoint = audio_endpoint(message.body)
        if endpoint is not None:
            relay.aim(*endpoint)
        message.body = redirect_audio(message.body, "127.0.0.1", relay.inside_port)

    def wants_relay(self, call: EdgeCall, flow: Flow) -> bool:
        """Whether a peer's audio must go back to where it comes from, by ``symmetric_rtp``.

        ``auto`` goes by a caller's description: a private address in it that is not the one from
        which the caller's messages come lies behind NAT. Of whom we call nothing is known when
        the description of our own goes out: it takes ``always``.
        """
        mode, message = self._config.symmetric_rtp, call.invite
        if mode != "auto" or call.outbound:
            return mode == "always"
        if not is_description(message.headers.get("Content-Type")):
            return False
        endpoint = audio_endpoint(message.body)
        return endpoint is not None and _is_hidden(endpoint[0], flow.remote[0])

    def _contact(self, call: EdgeCall, flow: Flow, face: Face) -> str:
        user = getattr(call.info, "number", "") if not call.outbound else ""
        party = sipmessage.URI(
            scheme="sips" if call.invite.uri.lower().startswith("sips:") else "sip",
            user=user or "talkpath",
            host=rewriting.sip_host(face.host),
            port=face.port,
        )
        transport = "" if flow.transport == "udp" else f";transport={flow.transport}"
        return f"<{party}{transport}>"

    def next_hop(self, call: EdgeCall, request: Request | None) -> Flow:
        """Where a request inside a dialog goes (RFC 3261, 12.2.1.1).

        A connection is used as long as it lasts. Over UDP it is the address that the next proxy,
        or the peer, has given; where that cannot be reached from here, it is the one from which
        the peer last sent.
        """
        flow = call.flow
        assert flow is not None
        if flow.transport != "udp":
            return flow
        routes = call.peer_routes
        if request is not None:
            own = request.headers.all("Route")
            routes = [route for route in own if self._inside not in route] or routes
        target = routes[0] if routes else (request.uri if request is not None else call.peer_target)
        address = _numeric(target)
        seen = flow.remote[0]
        if address is None or _is_hidden(address[0], seen):
            return flow
        if not routes and address[0] != seen and rewriting.is_private(address[0]):
            return flow  # another network's, as of a phone behind a VPN
        return Flow(flow.transport, flow.local, address, 0)

    def own_to_worker(self, call: EdgeCall, method: str, number: int) -> ToWorker:
        """A request of the edge's own inside an inbound call, in the caller's name."""
        return self._to_worker(call, method, number, self._new_branch(), call.ours)

    def cancel_to_worker(self, call: EdgeCall) -> ToWorker:
        """Take back an inbound call that its worker lets ring: the INVITE's own transaction."""
        branch, to = self._branch(call.invite, ""), call.invite.headers.get("To") or ""
        return self._to_worker(call, "CANCEL", call.invite.cseq[0], branch, to)

    def _to_worker(
        self, call: EdgeCall, method: str, number: int, branch: str, to: str
    ) -> ToWorker:
        request = Request(method=method, uri=call.worker_target)
        request.headers.set("Via", f"SIP/2.0/UDP {self._inside};branch={branch};rport")
        request.headers.set("Max-Forwards", "70")
        request.headers.set("From", call.theirs)
        request.headers.set("To", to)
        request.headers.set("Call-ID", call.call_id)
        request.headers.set("CSeq", f"{number} {method}")
        return ToWorker(bytes(request), call.worker)

    def bye_to_worker(self, call: EdgeCall) -> ToWorker:
        """The end of an inbound call, in the caller's name."""
        return self.own_to_worker(call, "BYE", call.invite.cseq[0] + 1)

    def respond(self, request: Request, refusal: Refusal, call: EdgeCall | None = None) -> Response:
        """A response of the edge's own, in the name of the call's worker where it has one."""
        known = call is not None and call.ours
        headers = (("Server", self._config.user_agent), *refusal.headers)
        response = rewriting.respond(
            request, refusal.status, refusal.reason, tag=self._tag(request), headers=headers
        )
        if known and call is not None:
            response.headers.set("To", call.ours)
        return response

    def ringing(self, call: EdgeCall, flow: Flow) -> Response:
        """A 180 of the edge's own, with what one that begins a dialog has (RFC 3261, 12.1.1)."""
        response = self.respond(call.invite, Refusal(180))
        response.headers.set("Contact", self._contact(call, flow, self._face(flow)))
        response.headers.set("Record-Route", *call.invite.headers.all("Record-Route"))
        return response

    def reply(
        self, response: Response, request: Request, flow: Flow, call: EdgeCall | None = None
    ) -> ToPeer:
        """A response of the edge's own to a peer.

        Only for a call is a new connection made where the peer's own is gone: no stranger shall
        have us connect to anywhere.
        """
        if flow.transport == "udp":
            address = rewriting.reply_address(request.via, *flow.remote)
            flow = Flow(flow.transport, flow.local, address, flow.connection)
        return ToPeer(bytes(response), flow, _sent_by(response, flow) if call else "", call)

    @property
    def route(self) -> str:
        """Where a worker sends what belongs to a call."""
        return f"<sip:{self._inside};lr>"

    def _branch(self, request: Request, transport: str) -> str:
        """The same for every copy of a request, and for what cancels or acknowledges it.

        Of requests whose own branches say nothing, too (RFC 3261, 17.2.3).
        """
        via = request.via
        own = f"{via.parameters.get('branch')} {via.host} {via.port} {request.tag('From')}"
        return BRANCH + self._hash(f"{own} {request.call_id} {request.cseq[0]} {transport}")

    def _new_branch(self) -> str:
        return BRANCH + secrets.token_hex(8)

    def _tag(self, request: Request) -> str:
        """The same for every copy of a request."""
        return self._hash(f"{request.call_id} {request.headers.get('From')}")

    def _hash(self, text: str) -> str:
        data = text.encode("utf-8", "surrogateescape")
        return hmac.new(self._secret, data, hashlib.sha256).hexdigest()[:16]


def _uri(hop: str) -> str:
    """The URI of a route, or of a request."""
    return hop[hop.find("<") + 1 :].split(">")[0] if "<" in hop else hop


def _sent_by(response: Response, flow: Flow) -> str:
    """Where a response goes whose request's connection is gone (RFC 3261, 18.2.2)."""
    port = response.via.port
    return f"sip:{rewriting.sip_host(flow.remote[0])}" + (f":{port}" if port else "")


def _numeric(uri: str) -> tuple[str, int] | None:
    """Host and port of a URI or an address whose host is a number; None for a name."""
    try:
        host, port = rewriting.uri_address(read_uri(_uri(uri)))
    except SipParseError:
        return None
    return (host, port) if rewriting.is_ip(host) else None


def _is_hidden(address: str, seen: str) -> bool:
    """Whether an address that a peer names lies behind the one from which it was seen to send."""
    return address != seen and rewriting.is_private(address) and not rewriting.is_private(seen)
