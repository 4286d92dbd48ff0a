"""Call legs: what a bot's transport sees of a telephone call, whatever engine carries it.

A leg is one call with one peer. Audio is signed 16-bit mono PCM at the rate of the call's codec;
nothing here blocks. What happens to the leg comes as events, each once and in order; the last one
is ``Ended``.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any, Protocol

from talkpath.agent.errors import TalkpathError

__all__ = [
    "Answered",
    "CallInfo",
    "CallLeg",
    "CallQuality",
    "Ended",
    "Held",
    "KeyPressed",
    "LegEngine",
    "LegError",
    "LegEvent",
    "MediaStarted",
    "Resumed",
    "TransferRefused",
    "Transferred",
]


class LegError(TalkpathError):
    """Something that a call cannot do: it is over, the peer refused, or a rule forbids it."""


class TransferRefused(LegError):
    """The call could not be sent elsewhere; it goes on.

    Attributes:
        status: SIP status of the refusal; 0 where there was none.
    """

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True, kw_only=True)
class CallInfo:
    """What is known of a call from its first message on.

    All of it comes from the peer, but for ``direction``, ``source``, ``trunk`` and ``bot``:
    do not trust it.

    Attributes:
        call_id: SIP's ``Call-ID``, the key to all logs.
        direction: ``inbound`` or ``outbound``.
        from_uri: who calls, as a URI.
        from_name: the display name, or empty.
        to_uri: who is called, as a URI.
        number: the dialled number or name: the user part of the request's target.
        source: the peer's address, ``host:port``.
        transport: ``udp``, ``tcp`` or ``tls``.
        trunk: the name of the trunk, or empty.
        bot: the name of the bot.
        headers: all other headers of the first message, by name in its usual capitals, as
            ``X-Order``; a header of several lines is one, with commas.
    """

    call_id: str
    direction: str
    from_uri: str = ""
    from_name: str = ""
    to_uri: str = ""
    number: str = ""
    source: str = ""
    transport: str = "udp"
    trunk: str = ""
    bot: str = ""
    headers: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    def as_dict(self) -> dict[str, Any]:
        """By field, as JSON has them: what goes over a control channel."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        return {**values, "headers": dict(self.headers)}


@dataclass(frozen=True, slots=True, kw_only=True)
class CallQuality:
    """How a call's audio fared (from RTP and RTCP, RFC 3550).

    Attributes:
        codec: its name, and rate in Hz, as ``PCMU/8000``; empty before there is audio.
        encrypted: ``sdes``, ``dtls`` or empty.
        duration_s: seconds since the answer.
        sent: packets sent.
        received: packets received.
        lost: packets of the peer's that never came.
        lost_there: packets of ours that the peer says never came.
        jitter_ms: of the peer's packets' arrival.
        round_trip_ms: by RTCP; 0 where the peer sends none.
        buffer_ms: delay of the jitter buffer.
        mos: mean opinion score estimated by the E-model (ITU-T G.107), 1 to 4.5.
        underrun_ms: the longest time in which audio was to be sent and none was there.
    """

    codec: str = ""
    encrypted: str = ""
    duration_s: float = 0.0
    sent: int = 0
    received: int = 0
    lost: int = 0
    lost_there: int = 0
    jitter_ms: float = 0.0
    round_trip_ms: float = 0.0
    buffer_ms: float = 0.0
    mos: float = 0.0
    underrun_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class MediaStarted:
    """Audio flows, for the first time or after a change; ``rate_hz`` is that of its PCM."""

    rate_hz: int


@dataclass(frozen=True, slots=True)
class Answered:
    """The call is established: by us (inbound) or by the peer (outbound)."""


@dataclass(frozen=True, slots=True)
class KeyPressed:
    """The peer pressed a key, which took ``duration_ms``: ``0`` to ``9``, ``*``, ``#``, ``A-D``."""

    key: str
    duration_ms: int


@dataclass(frozen=True, slots=True)
class Held:
    """The peer put the call on hold: it hears nothing until ``Resumed``."""


@dataclass(frozen=True, slots=True)
class Resumed:
    """The peer is back from hold."""


@dataclass(frozen=True, slots=True)
class Transferred:
    """The peer sent the call elsewhere: from now on the leg talks to ``target``."""

    target: str


@dataclass(frozen=True, slots=True)
class Ended:
    """The call is over.

    Attributes:
        by: ``peer``, ``us``, or ``failure``.
        status: SIP status where the call was never established; 0 otherwise.
        reason: in words, for the log.
        quality: the last figures.
    """

    by: str
    status: int
    reason: str
    quality: CallQuality


LegEvent = MediaStarted | Answered | KeyPressed | Held | Resumed | Transferred | Ended


class CallLeg(Protocol):
    """One call."""

    @property
    def info(self) -> CallInfo:
        """What is known of the call."""
        ...

    @property
    def rate_hz(self) -> int:
        """Rate of the PCM; 0 before ``MediaStarted``."""
        ...

    def events(self) -> AsyncIterator[LegEvent]:
        """What happens, from the beginning; to be iterated once. It ends after ``Ended``."""
        ...

    def listen(self, hear: Callable[[bytes], None]) -> None:
        """Give the peer's audio to ``hear`` as it comes; audio before that is lost."""
        ...

    def write(self, pcm: bytes) -> int:
        """Queue audio to be sent at the pace of speech.

        Returns:
            Bytes taken: less than all where the queue is full, none where there is no audio now.
        """
        ...

    @property
    def queued_ms(self) -> float:
        """Milliseconds of audio that were written and not sent yet."""
        ...

    def flush(self) -> None:
        """Drop what is queued; at most one packet is still sent."""
        ...

    def quality(self) -> CallQuality:
        """The figures up to now."""
        ...

    async def early_media(self) -> None:
        """Let the caller hear audio before the call is answered (183)."""
        ...

    async def answer(self, headers: Mapping[str, str] | None = None) -> None:
        """Answer an inbound call (200).

        Raises:
            LegError: it is over, or answered. What follows raises it, too, but for ``hang_up``.
        """
        ...

    async def reject(
        self, status: int = 486, reason: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        """Refuse an inbound call with a status from 300 to 699."""
        ...

    async def hang_up(self, headers: Mapping[str, str] | None = None) -> None:
        """End the call, without the headers if they cannot be sent; never fails.

        Nothing happens where it is over.
        """
        ...

    async def hold(self) -> None:
        """Put the peer on hold."""
        ...

    async def resume(self) -> None:
        """Talk to the peer again."""
        ...

    async def send_keys(self, keys: str) -> None:
        """Press keys, one after another at a pace that switches understand; returns at the end.

        Raises:
            ValueError: a character is no key.
        """
        ...

    async def transfer(self, target: str, headers: Mapping[str, str] | None = None) -> None:
        """Send the peer to another address (REFER); returns when it has been taken.

        Raises:
            TransferRefused: the dial plan forbids it, or the peer could not reach it.
        """
        ...

    async def transfer_to(self, other: "CallLeg") -> None:
        """Connect the peer with that of another established call, and leave both.

        Raises:
            TransferRefused: the peer refused.
        """
        ...


class LegEngine(Protocol):
    """What carries legs: one to a process."""

    async def start(self) -> None:
        """Be ready for calls.

        Raises:
            LegError: the engine cannot run here.
        """
        ...

    async def stop(self) -> None:
        """End all calls, and free everything."""
        ...

    def on_incoming(self, take: Callable[[CallLeg], Awaitable[None]]) -> None:
        """Give each inbound call to ``take``, which answers or rejects it."""
        ...

    async def dial(
        self, info: CallInfo, headers: Mapping[str, str] | None = None, *, uri: str = ""
    ) -> CallLeg:
        """Call ``info.to_uri``; the leg's events tell what becomes of it.

        Args:
            info: of the call.
            headers: put into the INVITE.
            uri: what to dial in place of it: an address of the exchange's that stands for it.

        Raises:
            LegError: it could not even be tried.
        """
        ...
