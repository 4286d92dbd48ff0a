"""The desk: where the listener answers what its workers ask for (``transports.sip.exchange``)."""

import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, TypeVar

from talkpath.agent.sip.edge import Edge
from talkpath.agent.sip.edge_actions import Action, EdgeError
from talkpath.agent.sip.edge_call import EdgeCall, Refusal
from talkpath.agent.sip.rewriting import host_port
from talkpath.transports.sip.leg import CallInfo, CallQuality, LegError, TransferRefused
from talkpath.transports.sip.outbound import OutboundCall
from talkpath.transports.sip.own_headers import own_headers
from talkpath.transports.sip.whom import Whom
from talkpath.transports.sip.worker_process import Worker

__all__ = ["Desk", "info_of"]

T = TypeVar("T")


class Desk:
    """Answers the workers.

    Args:
        edge: knows the calls.
        whom: knows whom they may be sent to.
        do: does what the edge wants done.
        ended: told of each call that a worker says is over: worker, Call-ID, why, and figures.
    """

    def __init__(
        self,
        edge: Edge,
        whom: Whom,
        do: Callable[[Iterable[Action]], None],
        ended: Callable[[Worker, str, str, CallQuality], None],
    ) -> None:
        self._edge = edge
        self._whom = whom
        self._do = do
        self._tell_end = ended

    def handlers(self) -> dict[str, Callable[..., Awaitable[Mapping[str, Any] | None]]]:
        """By the type of a worker's message."""
        return {
            "early_media": self.early_media,
            "answer_call": self.answer_call,
            "reject": self.reject,
            "add_headers": self.add_headers,
            "permit": self.permit,
            "ended": self.ended,
        }

    async def early_media(self, worker: Worker, call_id: str) -> None:
        """Keep the worker's answer back; the caller gets a 183."""
        _asked(lambda: self._edge.early_media(call_id))

    async def answer_call(self, worker: Worker, call_id: str, headers: dict[str, str]) -> None:
        """Give the worker's answer these headers; send it if it was kept back."""
        pairs = own_headers(headers)
        self._do(_asked(lambda: self._edge.answer(call_id, pairs, time.monotonic())))

    async def reject(
        self, worker: Worker, call_id: str, status: int, reason: str, headers: dict[str, str]
    ) -> None:
        """Let the worker's refusal leave as this one; a redirection says by Contact where to."""
        refusal = Refusal(status, reason, own_headers(headers, ("contact",)))
        _asked(lambda: self._edge.reject(call_id, refusal))

    async def add_headers(
        self, worker: Worker, call_id: str, method: str, headers: dict[str, str]
    ) -> None:
        """Put headers into the worker's next request of a method."""
        pairs = own_headers(headers)
        _asked(lambda: self._edge.add_headers(call_id, method, pairs))

    async def permit(self, worker: Worker, call_id: str, target: str) -> dict[str, Any]:
        """Say whether a call may be sent to a target, and as which URI."""
        call = self._edge.book.calls.get(call_id)
        if call is None:
            raise LegError("the call is over")
        if self._edge.book.expects(target):  # the peer's own wish, which the edge has let pass
            return {"target": target}
        trunk = info_of(call).trunk
        host = host_port(*call.flow.remote) if call.flow is not None else ""
        uri = self._whom.uri(target, trunk, host)
        # A bare number goes to the peer's own host, so it is the number that counts.
        if not self._whom.permits(uri, trunk) and not self._whom.permits(target, trunk):
            raise TransferRefused(f"the dial plan does not permit {target}", 403)
        return {"target": uri}

    async def ended(
        self, worker: Worker, call_id: str, reason: str, quality: dict[str, Any]
    ) -> None:
        """A call is over, as the worker sees it."""
        self._tell_end(worker, call_id, reason, CallQuality(**quality))


def info_of(call: EdgeCall) -> CallInfo:
    """What the listener knows of a call."""
    if isinstance(call.info, OutboundCall):
        return call.info.info
    if isinstance(call.info, CallInfo):
        return call.info
    return CallInfo(call_id=call.call_id, direction="outbound" if call.outbound else "inbound")


def _asked(work: Callable[[], T]) -> T:
    try:
        return work()
    except EdgeError as error:
        raise LegError(str(error)) from error
