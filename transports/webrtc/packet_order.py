"""The caller's audio packets: in order, and without a wait.

A player needs a jitter buffer: sound must come out evenly. A listener does not, it only needs
the packets in order. aiortc's buffer keeps four packets back (80 ms), and after a loss it stays
stalled until its sixteen places are full: 280 ms of silence, and 280 ms behind from then on.
Here a packet that is in order goes on at once, and after a loss everything is again as it was
as soon as three more have come.

:class:`PacketOrder` is pure; ``listen_at_once`` puts it into a connection's receiver. It reaches
into private members of aiortc, whose version is pinned for that reason.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Generic, Protocol, TypeVar

from aiortc import RTCRtpReceiver
from aiortc.jitterbuffer import JitterFrame

__all__ = ["PATIENCE", "Numbered", "PacketOrder", "listen_at_once"]

PATIENCE = 3
"""Packets that may overtake one before it is taken for lost: 60 ms of Opus."""

_NUMBERS = 1 << 16
# A step further than this, either way, is a new beginning (aiortc's limit, too).
_STRANGE = 100


class Numbered(Protocol):
    """What has an RTP sequence number."""

    sequence_number: int


_Packet = TypeVar("_Packet", bound=Numbered)


class PacketOrder(Generic[_Packet]):
    """Puts packets in order; those that come too late, or twice, are left out."""

    def __init__(self) -> None:
        self._next: int | None = None
        self._early: dict[int, _Packet] = {}

    def add(self, packet: _Packet) -> list[_Packet]:
        """Take a packet that arrived; give those whose turn it is, mostly this one."""
        number = packet.sequence_number
        if self._next is None:
            self._next = number
        step = (number - self._next + _NUMBERS // 2) % _NUMBERS - _NUMBERS // 2
        if abs(step) >= _STRANGE:
            ready = self._all()
            self._next = (number + 1) % _NUMBERS
            return [*ready, packet]
        if step < 0:
            return []
        self._early[number] = packet
        ready = self._in_turn()
        if len(self._early) >= PATIENCE:
            self._next = min(self._early, key=self._distance)
            ready += self._in_turn()
        return ready

    def _distance(self, number: int) -> int:
        assert self._next is not None
        return (number - self._next) % _NUMBERS

    def _in_turn(self) -> list[_Packet]:
        ready = []
        while self._next in self._early:
            ready.append(self._early.pop(self._next))
            self._next = (self._next + 1) % _NUMBERS
        return ready

    def _all(self) -> list[_Packet]:
        ready = [self._early[number] for number in sorted(self._early, key=self._distance)]
        self._early.clear()
        return ready


class _AtOnce:
    """Stands in for aiortc's jitter buffer: every packet is a frame, and ready."""

    def add(self, packet: Any) -> tuple[bool, JitterFrame]:
        return False, JitterFrame(data=packet._data, timestamp=packet.timestamp)


def listen_at_once(receiver: RTCRtpReceiver) -> None:
    """Let an audio receiver pass on each packet as soon as it is its turn.

    Call it before the first packet is taken; a second call changes nothing.
    """
    inner: Any = receiver
    if isinstance(inner._RTCRtpReceiver__jitter_buffer, _AtOnce):
        return
    inner._RTCRtpReceiver__jitter_buffer = _AtOnce()
    handle: Callable[..., Awaitable[None]] = inner._handle_rtp_packet
    order: PacketOrder[Any] = PacketOrder()

    async def in_order(packet: Any, arrival_time_ms: int) -> None:
        for ready in order.add(packet):
            await handle(ready, arrival_time_ms=arrival_time_ms)

    inner._handle_rtp_packet = in_order
