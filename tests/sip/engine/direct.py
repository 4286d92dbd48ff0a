"""An engine without the listener in front of it: what it asks is answered here."""

from collections.abc import Mapping

from talkpath.transports.sip.baresip_engine import BaresipEngine
from talkpath.transports.sip.leg import CallInfo, CallQuality, LegError, TransferRefused

__all__ = ["DirectExchange"]


class DirectExchange:
    """An ``Exchange`` for tests; what only the listener can do (early media) is only written down.

    Attributes:
        asked: what was asked, as tuples of the method's name and its arguments.
        deaf: whether it refuses to say anything to the peer.
        forbidden: targets that no call may be sent to.
        infos: what is known of calls, by Call-ID; others are known by that alone.
    """

    def __init__(self, port: int = 9) -> None:
        self._port = port
        self._engine: BaresipEngine | None = None
        self.asked: list[tuple[object, ...]] = []
        self.deaf = False
        self.forbidden: set[str] = set()
        self.infos: dict[str, CallInfo] = {}

    @property
    def address(self) -> str:
        """Where everything is sent: straight to the one peer."""
        return f"127.0.0.1:{self._port if self._engine is None else self._engine.port}"

    def follow(self, engine: BaresipEngine) -> None:
        """Send everything back to the engine itself."""
        self._engine = engine

    async def incoming(self, call_id: str) -> CallInfo:
        """What is known of a call."""
        if "unknown" in call_id:
            raise LegError("the call is unknown")
        return self.infos.get(call_id, CallInfo(call_id=call_id, direction="inbound"))

    async def early_media(self, call_id: str) -> None:
        """Write it down."""
        self.asked.append(("early_media", call_id))

    async def answer(self, call_id: str, headers: Mapping[str, str]) -> None:
        """Write it down."""
        self.asked.append(("answer", call_id, dict(headers)))

    async def reject(
        self, call_id: str, status: int, reason: str, headers: Mapping[str, str]
    ) -> None:
        """Write it down."""
        self._must_hear()
        self.asked.append(("reject", call_id, status, reason, dict(headers)))

    async def add_headers(self, call_id: str, method: str, headers: Mapping[str, str]) -> None:
        """Write it down."""
        self._must_hear()
        self.asked.append(("add_headers", call_id, method, dict(headers)))

    async def permit(self, call_id: str, target: str) -> str:
        """Write it down; refuse what is forbidden, and make a URI of a number."""
        self.asked.append(("permit", call_id, target))
        if target in self.forbidden:
            raise TransferRefused("the dial plan forbids it", 403)
        return target if target.startswith("sip:") else f"sip:{target}@{self.address}"

    async def ended(self, call_id: str, reason: str, quality: CallQuality) -> None:
        """Write it down."""
        self.asked.append(("ended", call_id, reason, quality))

    def _must_hear(self) -> None:
        if self.deaf:
            raise LegError("the listener does not take this")
