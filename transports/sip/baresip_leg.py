"""One call that baresip carries."""

import asyncio
import dataclasses
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import replace

from baresip import (
    BaresipError,
    Call,
    CallState,
    CallStats,
    Event,
    StackEvent,
    StaleHandleError,
    TransferFailed,
)
from loguru import logger

from talkpath.transports.sip.audio_pump import AudioPump
from talkpath.transports.sip.exchange import Exchange
from talkpath.transports.sip.leg import (
    Answered,
    CallInfo,
    CallLeg,
    CallQuality,
    Ended,
    Held,
    LegError,
    LegEvent,
    MediaStarted,
    Resumed,
    Transferred,
    TransferRefused,
)
from talkpath.transports.sip.leg_audio import LegAudio
from talkpath.transports.sip.leg_events import KEYS, LegEvents
from talkpath.transports.sip.negotiated import first_codec

__all__ = ["BaresipLeg"]

_KEY_GAP_MS = 100
"""Between two keys of 100 ms each; switches want 50 at least (ITU-T Q.24, annex A: 70)."""

_MOST_KEYS = 128
_REFRESH_S = 5.0
"""How long to wait for another change of the session: twice a retransmission and more."""

_TRANSFERRED = "Call transfered"
"""What baresip says, letter by letter, where a peer has been sent elsewhere."""

_REASONS = {"Connection reset by peer [104]": "the peer hung up"}
"""What baresip calls a ``BYE``."""


class BaresipLeg:
    """A ``CallLeg``; ``BaresipEngine`` makes it and gives it the stack's events.

    Args:
        call: the stack's call.
        info: what is known of it.
        codecs: names of those that we have, in lower case.
        exchange: the listener.
        pump: polls the audio.
        adopt: makes a call that takes this one's place known to the engine.
    """

    def __init__(
        self,
        call: Call,
        info: CallInfo,
        codecs: Sequence[str],
        exchange: Exchange,
        pump: AudioPump,
        adopt: Callable[[Call, "BaresipLeg"], None],
    ) -> None:
        self._call = call
        self._info = info
        self._codecs = codecs
        self._exchange = exchange
        self._pump = pump
        self._adopt = adopt
        self._audio = LegAudio(call.audio, self._media_started)
        self._next: Call | None = None
        self._events = LegEvents(info.call_id)
        self._over = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._early = False
        self._established = False
        self._answered_s: float | None = None
        self._ended: Ended | None = None
        self._by = "peer"
        self._reason = ""
        self._holders: set[str] = set()
        self._keys_lock = asyncio.Lock()
        self._keys = 0
        self._stats = CallStats()
        self._codec = ""
        self._encrypted = ""
        pump.add(self._audio.poll, self._audio_failed)

    @property
    def info(self) -> CallInfo:
        """What is known of the call."""
        return self._info

    @property
    def rate_hz(self) -> int:
        """Rate of the PCM; 0 before ``MediaStarted``."""
        return self._audio.rate_hz

    @property
    def ended(self) -> Ended | None:
        """The last event, once it is there."""
        return self._ended

    async def events(self) -> AsyncIterator[LegEvent]:
        """What happens, from the beginning; to be iterated once."""
        async for event in self._events.read():
            yield event

    def listen(self, hear: Callable[[bytes], None]) -> None:
        """Give the peer's audio to ``hear`` as it comes."""
        self._audio.hear = hear

    def write(self, pcm: bytes) -> int:
        """Queue audio; returns how many bytes were taken."""
        return 0 if self._ended else self._audio.write(pcm)

    @property
    def queued_ms(self) -> float:
        """Milliseconds of audio that were written and not sent yet."""
        return 0.0 if self._ended else self._audio.queued_ms

    def flush(self) -> None:
        """Drop what is queued; at most one packet is still sent."""
        if not self._ended:
            self._audio.flush()

    def quality(self) -> CallQuality:
        """The figures up to now, those of RTCP as of the last report."""
        if self._ended:
            return self._ended.quality
        stats = dataclasses.replace(self._stats, rx_lost=self._lost())
        since = self._answered_s
        return CallQuality(
            codec=self._codec if self.rate_hz else "",
            encrypted=self._encrypted,
            duration_s=round(time.monotonic() - since, 3) if since is not None else 0.0,
            sent=stats.tx_packets,
            received=stats.rx_packets,
            lost=stats.rx_lost,
            lost_there=stats.tx_lost,
            jitter_ms=stats.rx_jitter_ms or float(stats.jbuf_jitter_ms or 0),
            round_trip_ms=stats.rtt_ms,
            buffer_ms=float(stats.jbuf_delay_ms or 0),
            mos=min(stats.mos_estimate, 4.5) if stats.rx_packets else 0.0,
            underrun_ms=self._audio.underrun_ms,
        )

    async def early_media(self) -> None:
        """Let the caller hear audio before the call is answered."""
        self._need(unanswered=True)
        await self._exchange.early_media(self._info.call_id)
        self._early = True
        await self._do(self._call.answer())

    async def answer(self, headers: Mapping[str, str] | None = None) -> None:
        """Answer an inbound call."""
        self._need(unanswered=not self._early)
        await self._exchange.answer(self._info.call_id, headers or {})
        if not self._early:
            await self._do(self._call.answer())
            return
        self._early = False
        self._answered()

    async def reject(
        self, status: int = 486, reason: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        """Refuse an inbound call with a status from 300 to 699."""
        if not 300 <= status <= 699:
            raise LegError(f"a call cannot be refused with status {status}")
        self._need(unanswered=not self._early)
        # Where the listener does not take that, the stack's own status (486) goes out.
        await self._tell(self._exchange.reject(self._info.call_id, status, reason, headers or {}))
        self._by, self._reason = "us", f"refused with {status}"
        # Behind early media the stack's call is established: its BYE becomes the refusal.
        await self._do(self._call.hangup() if self._early else self._call.reject())

    async def hang_up(self, headers: Mapping[str, str] | None = None) -> None:
        """End the call, without the headers where the listener does not take them."""
        if self._ended:
            return
        if headers and self._established:
            await self._tell(self._exchange.add_headers(self._info.call_id, "BYE", headers))
        self._by, self._reason = "us", "hung up"
        if self._next is not None:
            await self._quietly(self._next.hangup())
        await self._quietly(self._call.hangup())

    async def hold(self) -> None:
        """Put the peer on hold."""
        await self._refresh(lambda: self._call.hold())
        self._hold("us", True)

    async def resume(self) -> None:
        """Talk to the peer again."""
        await self._refresh(lambda: self._call.resume())
        self._hold("us", False)

    async def send_keys(self, keys: str) -> None:
        """Press keys; those of several callers go one after another, 128 may wait.

        Raises:
            ValueError: a character is no key.
            LegError: too many keys wait.
        """
        keys = keys.upper()
        if not set(keys) <= set(KEYS):
            raise ValueError("keys are 0 to 9, A to D, * and #")
        self._need()
        if self._keys + len(keys) > _MOST_KEYS:
            raise LegError(f"more than {_MOST_KEYS} keys wait to be sent")
        self._keys += len(keys)
        try:
            async with self._keys_lock:
                for key in keys:
                    await self._do(self._call.send_dtmf(key))
                    await asyncio.sleep(_KEY_GAP_MS / 1000)
        finally:
            self._keys -= len(keys)

    async def transfer(self, target: str, headers: Mapping[str, str] | None = None) -> None:
        """Send the peer to another address; returns when it has been taken."""
        self._need()
        uri = await self._exchange.permit(self._info.call_id, target)
        if headers:
            await self._exchange.add_headers(self._info.call_id, "REFER", headers)
        await self._send_elsewhere(self._call.transfer(uri))

    async def transfer_to(self, other: CallLeg) -> None:
        """Connect the peer with that of another established call, and leave both."""
        if not isinstance(other, BaresipLeg) or other is self:
            raise LegError("calls can only be joined with others of the same engine")
        self._need()
        other._need()
        other._by, other._reason = "us", "joined with another call"
        try:
            # The stack holds both, too, but gives up where an answer is still under way.
            await self.hold()
            await other.hold()
            await self._send_elsewhere(self._call.attended_transfer(other._call))
        except LegError:
            other._by, other._reason = "peer", ""
            raise

    # What the engine says.

    @property
    def call_id(self) -> str:
        """``Call-ID`` of the stack's call; another than ``info``'s after a transfer."""
        return self._call.call_id or self._info.call_id

    def described(self, description: str) -> None:
        """Take the peer's last session description."""
        self._codec = first_codec(description, self._codecs) or self._codec

    def take(self, event: StackEvent) -> None:
        """Take an event of the stack's about this call, or about the one that replaces it."""
        if self._ended:
            return
        if self._next is not None and event.call == self._next.handle:
            self._take_next(event)
            return
        if event.call != self._call.handle:
            return  # Of the call that another one has replaced.
        if event.stats:
            self._stats = CallStats._from_payload(event.stats)
        match event.event:
            case Event.CALL_ESTABLISHED:
                self._established = True
                if not self._early:
                    self._answered()
            case Event.CALL_HOLD:
                self._hold("peer", True)
                self._events.put(Held())
            case Event.CALL_RESUME:
                self._hold("peer", False)
                self._events.put(Resumed())
            case Event.CALL_DTMF_START:
                self._events.key_down(event.text or "")
            case Event.CALL_DTMF_END:
                self._events.key_up()
            case Event.CALL_MENC:
                # "0,audio,AES_CM_128_HMAC_SHA1_80" for SDES; for DTLS "0,audio,RTP" and RTCP.
                self._encrypted = "sdes" if "AES" in (event.text or "") else "dtls"
            case Event.CALL_TRANSFER:
                self._start(self._follow())
            case Event.CALL_CLOSED if self._next is None:
                self._closed(event.text or "")
            case _:
                pass

    def fail(self, reason: str) -> None:
        """End the leg: the stack is no more."""
        if not self._ended:
            self._by = "failure"
            self._end(0, reason)

    async def wait_ended(self) -> None:
        """Return once the leg has ended."""
        await self._over.wait()

    async def close(self) -> None:
        """Wait for what is under way; the leg has ended."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    # Inside.

    def _lost(self) -> int:
        """Packets that did not come: as RTCP has it, where the peer has sent any.

        Else the gaps that the jitter buffer saw, less the packets of keys: these are numbered in
        the same sequence, but go past the buffer.
        """
        stats = self._stats
        if stats.rx_jitter_ms or stats.rtt_ms:
            return stats.rx_lost
        return max(0, (stats.jbuf_lost or 0) - self._events.key_packets)

    def _hold(self, who: str, on_hold: bool) -> None:
        (self._holders.add if on_hold else self._holders.discard)(who)
        self._audio.hold(bool(self._holders))

    def _media_started(self, rate_hz: int) -> None:
        self._events.put(MediaStarted(rate_hz))

    def _answered(self) -> None:
        if self._answered_s is None:
            self._answered_s = time.monotonic()
            self._events.put(Answered())

    def _closed(self, text: str) -> None:
        first, _, _ = text.partition(" ")
        status = int(first) if first.isdigit() and not self._established else 0
        if text == _TRANSFERRED:
            self._by, self._reason = "us", "transferred"
        elif text and not first.isdigit() and self._by == "peer" and _is_failure(text):
            self._by = "failure"
        self._end(status, self._reason or _REASONS.get(text, text) or "the peer hung up")

    def _end(self, status: int, reason: str) -> None:
        self._pump.remove(self._audio.poll)
        quality = self.quality()
        self._ended = Ended(self._by, status, reason, quality)
        self._events.put(self._ended)
        self._over.set()
        self._start(self._report(reason, quality))

    async def _report(self, reason: str, quality: CallQuality) -> None:
        try:
            await self._exchange.ended(self._info.call_id, reason, quality)
        except LegError as error:
            logger.debug("call {}: {}", self._info.call_id, error)  # The listener ended it first.

    def _audio_failed(self, error: Exception) -> None:
        self._by, self._reason = "failure", f"audio: {error}"
        self._start(self._quietly(self._call.hangup()))

    # A call that the peer sends elsewhere.

    async def _follow(self) -> None:
        request = self._call.transfer_request
        if request is None:
            return
        try:
            if request.method != "INVITE" or self._next is not None:
                raise TransferRefused("only one call at a time can be made for a peer", 603)
            await self._exchange.permit(self._info.call_id, request.target)
            self._next = await self._call.accept_transfer()
        except (LegError, BaresipError) as error:
            logger.info("call {}: transfer refused: {}", self._info.call_id, error)
            status = error.status if isinstance(error, TransferRefused) else 0
            if self._call.transfer_request is not None:
                await self._quietly(self._call.reject_transfer(status if status >= 300 else 603))
            return
        self._adopt(self._next, self)

    def _take_next(self, event: StackEvent) -> None:
        """An event of the call that is to replace this one."""
        call = self._next
        assert call is not None
        if event.event is Event.CALL_ESTABLISHED:
            self._next, left, self._call = None, self._call, call
            self._info = replace(self._info, to_uri=call.peer or "")
            self._audio.move(call.audio)
            self._holders.clear()
            self._audio.hold(False)
            self._events.put(Transferred(call.peer or ""))
            self._start(self._quietly(left.hangup()))  # Its peer knows, and may never hang up.
        elif event.event is Event.CALL_CLOSED:
            self._next = None
            if self._call.state is CallState.CLOSED:
                self._closed(event.text or "")

    # Commands.

    def _need(self, unanswered: bool = False) -> None:
        if self._ended:
            raise LegError("the call is over")
        if unanswered and (self._info.direction != "inbound" or self._answered_s is not None):
            raise LegError("only an inbound call that was not answered can be answered or refused")

    async def _do(self, command: Awaitable[None]) -> None:
        try:
            await command
        except StaleHandleError as error:
            raise LegError("the call is over") from error
        except BaresipError as error:
            raise LegError(str(error)) from error

    async def _quietly(self, command: Awaitable[None]) -> None:
        """Do what need not be done any more where the call has gone meanwhile."""
        try:
            await command
        except StaleHandleError:
            return
        except BaresipError as error:
            logger.warning("call {}: {}", self._info.call_id, error)

    async def _tell(self, word: Awaitable[None]) -> None:
        """Tell the listener what it need not know for the call to end."""
        try:
            await word
        except LegError as error:
            logger.warning("call {}: ends without its headers or status: {}", self.call_id, error)

    async def _refresh(self, change: Callable[[], Awaitable[None]]) -> None:
        """Change the session; wait while another change is under way."""
        self._need()
        until = time.monotonic() + _REFRESH_S
        while True:
            try:
                await self._do(change())
                return
            except LegError as error:
                if "in flight" not in str(error) or time.monotonic() > until:
                    raise
            await asyncio.sleep(0.1)

    async def _send_elsewhere(self, command: Awaitable[None]) -> None:
        try:
            await command
        except TransferFailed as error:
            if self._ended is not None or self._call.state is CallState.CLOSED:
                # Many leave when they have taken the REFER, and never say what became of it.
                raise LegError("the peer left before it told how that went") from error
            raise TransferRefused(f"the peer: {error}", error.status or 0) from error
        except StaleHandleError as error:
            raise LegError("the call is over") from error
        except (BaresipError, ValueError) as error:
            raise TransferRefused(str(error)) from error

    def _start(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _is_failure(text: str) -> bool:
    """Whether the stack ended a call by itself: an error's text instead of the peer's word."""
    return any(word in text.lower() for word in ("timed out", "error", "unreachable", "refused"))
