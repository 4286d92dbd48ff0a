"""Requests of the listener's own: REGISTER, OPTIONS and whatever belongs to no call."""

import asyncio

from talkpath.agent.sip.flow import Flow, PeerUnreachable, Target
from talkpath.agent.sip.message import Request, Response, SipParseError
from talkpath.agent.sip.registration import seen_at
from talkpath.agent.sip.transaction import (
    OWN_BRANCH,
    ClientTransaction,
    State,
    Timers,
    new_branch,
)
from talkpath.transports.sip.sockets import SipSockets

__all__ = ["Requests"]


class _Pending:
    """A request that waits for its response, or for repetitions of it to stop."""

    def __init__(self, data: bytes, flow: Flow, transaction: ClientTransaction) -> None:
        self.data = data
        self.flow = flow
        self.transaction = transaction
        self.response: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        self.timer: asyncio.TimerHandle | None = None


class Requests:
    """Sends requests, and gives the responses to those who wait for them.

    Args:
        sockets: what they are sent by.
        timers: T1, T2 and T4 of RFC 3261.
    """

    def __init__(self, sockets: SipSockets, timers: Timers | None = None) -> None:
        self._sockets = sockets
        self._timers = timers or Timers()
        self._pending: dict[str, _Pending] = {}

    def __len__(self) -> int:
        return len(self._pending)

    async def address_towards(self, target: Target) -> tuple[Flow, str]:
        """The flow to a target, and what the target is to take for our address, ``host:port``.

        Raises:
            PeerUnreachable: there is no way to it.
        """
        flow = await self._sockets.connect(target)
        return flow, self._sockets.advertised(flow)

    def seen_at(self, response: Response, flow: Flow, address: str) -> str:
        """Where a peer saw our request come from, if a NAT makes that another address.

        Args:
            response: the peer's.
            flow: by which the request went.
            address: where we said that we are, ``host:port``.

        Returns:
            ``host:port``; empty where it is the same, or ``sip.public_address`` says what holds.
        """
        if self._sockets.public_address:
            return ""
        return seen_at(response, address, reliable=flow.reliable)

    async def request(
        self, request: Request, target: Target | Flow, *, timeout_s: float = 32.0
    ) -> Response:
        """Send a request, and wait for its final response.

        Args:
            request: without ``Via``; it is left as it is.
            target: where to; a flow stands for the way that the peer itself came by.
            timeout_s: seconds until it is given up, the connection included.

        Raises:
            PeerUnreachable: no way to the target, no response in time, or the connection ended.
        """
        loop = asyncio.get_running_loop()
        begun_s = loop.time()
        try:
            async with asyncio.timeout(timeout_s):
                if isinstance(target, Flow):
                    flow, address = target, self._sockets.advertised(target)
                else:
                    flow, address = await self.address_towards(target)
        except TimeoutError:
            raise PeerUnreachable(f"{target} did not take a connection in time") from None
        pending = self._send(request, flow, address, timeout_s - (loop.time() - begun_s))
        try:
            return await pending.response
        except TimeoutError:
            message = f"{flow.remote[0]} did not answer {request.method} in time"
            raise PeerUnreachable(message) from None
        finally:
            if pending.transaction.state in (State.TRYING, State.PROCEEDING):
                self._forget(pending)  # who asked has given up

    def _send(self, request: Request, flow: Flow, address: str, timeout_s: float) -> _Pending:
        sent = request.copy()
        via = f"SIP/2.0/{flow.transport.upper()} {address};rport;branch={new_branch()}"
        sent.headers.push("Via", via)
        transaction = ClientTransaction(
            sent,
            reliable=flow.reliable,
            now_s=asyncio.get_running_loop().time(),
            timers=self._timers,
            timeout_s=timeout_s,
        )
        pending = _Pending(bytes(sent), flow, transaction)
        if not self._sockets.send(pending.data, flow):
            raise PeerUnreachable(f"{request.method} could not be sent to {flow.remote[0]}")
        self._pending[transaction.branch] = pending
        self._wait(pending)
        return pending

    def receive(self, response: Response, flow: Flow) -> bool:
        """Take a response, if it is one to a request of ours.

        Returns:
            Whether it is: those that come late, or that nobody asked for, are dropped here.
        """
        try:
            branch = response.via.parameters.get("branch") or ""
            if not branch.startswith(OWN_BRANCH):
                return False
            pending = self._pending.get(branch)
            # On a connection only its other end can answer; with UDP whoever knows the branch.
            if pending is None or pending.flow.connection != flow.connection:
                return True
            now_s = asyncio.get_running_loop().time()
            news = pending.transaction.receive(response, now_s)
        except SipParseError:
            return False
        if news and news.status >= 200 and not pending.response.done():
            pending.response.set_result(news)
        self._wait(pending)
        return True

    def gone(self, flow: Flow) -> None:
        """A connection ended: what waits for a response on it need not wait any longer."""
        for pending in [one for one in self._pending.values() if one.flow == flow]:
            self._fail(pending, PeerUnreachable(f"{flow.remote[0]} closed the connection"))

    async def stop(self) -> None:
        """Give up what is under way."""
        for pending in list(self._pending.values()):
            self._fail(pending, PeerUnreachable("the telephone is being switched off"))

    def _fail(self, pending: _Pending, error: Exception) -> None:
        if not pending.response.done():
            pending.response.set_exception(error)
        self._forget(pending)

    def _wait(self, pending: _Pending) -> None:
        """Come back when the transaction's next timer is due; forget it when it is over."""
        if pending.timer:
            pending.timer.cancel()
        due_s = pending.transaction.due_s
        if due_s is None:
            self._forget(pending)
        else:
            loop = asyncio.get_running_loop()
            pending.timer = loop.call_at(due_s, self._tick, pending)

    def _tick(self, pending: _Pending) -> None:
        again = pending.transaction.tick(asyncio.get_running_loop().time())
        if again:
            self._sockets.send(pending.data, pending.flow)
        if pending.transaction.timed_out:
            self._fail(pending, TimeoutError())
        else:
            self._wait(pending)

    def _forget(self, pending: _Pending) -> None:
        if pending.timer:
            pending.timer.cancel()
        self._pending.pop(pending.transaction.branch, None)
