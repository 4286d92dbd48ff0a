"""Outbound calls, as whoever asked for them sees them."""

import asyncio

from talkpath.transports.sip.leg import CallInfo, CallQuality, LegError

__all__ = ["CallFailed", "OutboundCall"]


class CallFailed(LegError):
    """A call that was not answered.

    Attributes:
        status: SIP status of the refusal; 408 where nobody answered at all.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class OutboundCall:
    """A call that the listener makes; its audio is a worker's and its bot's.

    Args:
        info: what is known of it.
    """

    def __init__(self, info: CallInfo) -> None:
        self.info = info
        self.quality = CallQuality()
        self._ringing = asyncio.Event()
        self._answered = asyncio.Event()
        self._ended = asyncio.Event()
        self._status = 0
        self._reason = ""

    @property
    def call_id(self) -> str:
        """SIP's ``Call-ID``."""
        return self.info.call_id

    async def ringing(self) -> None:
        """Wait until the peer rings, or the call is answered or over."""
        await self._ringing.wait()

    async def answered(self) -> None:
        """Wait until the peer has answered.

        Raises:
            CallFailed: it did not.
        """
        await self._answered.wait()
        if not 200 <= self._status < 300:
            raise CallFailed(f"not answered: {self._status} {self._reason}".rstrip(), self._status)

    async def ended(self) -> tuple[str, CallQuality]:
        """Wait for the end: the reason in words, and the last figures of the audio."""
        await self._ended.wait()
        return self._reason, self.quality

    def progressed(self, status: int, reason: str) -> None:
        """The peer has answered something."""
        if self._answered.is_set():
            return
        self._status, self._reason = status, reason
        if status not in (401, 407):  # which the worker answers with a password, if it has one
            self._ringing.set()
            if status >= 200:
                self._answered.set()

    def over(self, reason: str, quality: CallQuality | None = None) -> None:
        """The call has ended; what comes first counts, but for the figures."""
        if not self._answered.is_set():
            if self._status < 300:
                self._status, self._reason = 408, "no answer"
            self._ringing.set()
            self._answered.set()
        if quality is not None:
            self.quality = quality
        if not self._ended.is_set():
            self._reason = reason or self._reason
            self._ended.set()
