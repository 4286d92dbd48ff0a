"""How a peer is reached: names looked up, live servers first, a connection made."""

import dataclasses
from collections.abc import Sequence

import sipmessage

from talkpath.agent.sip.flow import Flow, PeerUnreachable, Target
from talkpath.agent.sip.message import SipParseError, read_uri
from talkpath.agent.sip.trunks import Trunk
from talkpath.transports.sip.keepalive import Keepalive
from talkpath.transports.sip.resolver import resolve
from talkpath.transports.sip.sockets import SipSockets

__all__ = ["Reach"]


class Reach:
    """Finds flows to peers.

    Args:
        sockets: make the connections.
        keepalive: knows which servers of the trunks live.
    """

    def __init__(self, sockets: SipSockets, keepalive: Keepalive) -> None:
        self._sockets = sockets
        self._keepalive = keepalive

    async def flow(self, uri: str, trunk: Trunk | None, transport: str = "") -> Flow:
        """A flow to a trunk's servers, the live ones first, or to a URI's host.

        Args:
            uri: of whom to reach; with ``sips:`` by TLS alone.
            trunk: through which, or None.
            transport: the only one that will do, or empty.

        Raises:
            PeerUnreachable: to none of them.
        """
        only = "tls" if uri.lower().startswith("sips:") else transport
        targets = await self._targets(uri, trunk, transport)
        failure = PeerUnreachable(
            f"{uri} wants {only}, which no server there has" if only else f"{uri} has no address"
        )
        for target in targets:
            if only and target.transport != only:
                continue
            try:
                return await self._sockets.connect(target)
            except PeerUnreachable as error:
                failure = error
        raise failure

    async def _targets(self, uri: str, trunk: Trunk | None, transport: str) -> Sequence[Target]:
        if trunk is not None and trunk.servers:
            return self._keepalive.alive(trunk)
        try:
            parsed = read_uri(uri)
        except SipParseError as error:
            raise PeerUnreachable(f"{uri!r} is no SIP URI") from error
        if transport:
            by = sipmessage.Parameters(transport=transport)
            parsed = dataclasses.replace(parsed, parameters=by)
        return await resolve(parsed)
