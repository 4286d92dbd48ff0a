"""The exchange: what a worker's leg engine asks of the listener in front of it.

The listener owns the public sockets, and decides who may call whom. A worker's SIP stack talks to
it alone, over the loopback interface; what SIP itself cannot say goes this way.
"""

from collections.abc import Mapping
from typing import Protocol

from talkpath.transports.sip.leg import CallInfo, CallQuality

__all__ = ["Exchange"]


class Exchange(Protocol):
    """The listener, seen from a worker. All of it raises ``LegError`` once the call is unknown."""

    @property
    def address(self) -> str:
        """Where the worker's SIP stack sends everything: ``127.0.0.1:port``, UDP."""
        ...

    async def incoming(self, call_id: str) -> CallInfo:
        """What is known of a call whose INVITE has just come."""
        ...

    async def early_media(self, call_id: str) -> None:
        """Let the worker's next 200 reach the caller as 183; ``answer`` completes it."""
        ...

    async def answer(self, call_id: str, headers: Mapping[str, str]) -> None:
        """Give the 200 these headers; send it now if it was kept back for early media."""
        ...

    async def reject(
        self, call_id: str, status: int, reason: str, headers: Mapping[str, str]
    ) -> None:
        """Let the worker's next refusal of this call reach the caller with this status."""
        ...

    async def add_headers(self, call_id: str, method: str, headers: Mapping[str, str]) -> None:
        """Put headers into the worker's next request of this method (BYE, REFER)."""
        ...

    async def permit(self, call_id: str, target: str) -> str:
        """Ask whether this call may be sent to an address, or a number; the URI to use.

        Raises:
            TransferRefused: the dial plan forbids it.
        """
        ...

    async def ended(self, call_id: str, reason: str, quality: CallQuality) -> None:
        """The call is over."""
        ...
