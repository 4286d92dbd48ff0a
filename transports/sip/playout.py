"""The bot's voice on its way into a call leg: a little ahead of time, and never out of reach.

A leg plays what it was given, packet by packet. It gets so little at once that it falls silent
within a packet; what it has not sent yet can be taken back, and is played later or dropped.
"""

import asyncio
import math
from collections import deque
from dataclasses import dataclass

from talkpath.transports.sip.leg import CallLeg
from talkpath.transports.sip.rates import SteadyResampler

__all__ = ["AHEAD_MS", "Playout"]

AHEAD_MS = 20.0
"""Milliseconds left in the leg when the next block may come: with a block of 20 ms, 40 at most.

It bridges 20 to 40 ms of an event loop that is busy with other calls.
"""

_REMEMBERED_MS = 200.0
_RETRY_S = 0.01
_JUDGED_OVER = 50  # blocks of live audio, a second
_RESERVE_MS = 4.0  # that live audio keeps against the unevenness of its blocks
_LIVE_MS = 80.0  # that live audio may wait in the leg: more delay than anybody wants
_SLOWEST_DRAIN_S = 2.0


@dataclass(slots=True)
class _Piece:
    """Audio at the leg's rate."""

    pcm: bytes
    interruptible: bool


class Playout:
    """What is played into one leg. It is held as long as anybody holds it.

    One block is written at a time. Nothing is ever queued here but the block under way, and at
    most what a hold took back from the leg (about 40 ms).

    Args:
        leg: the call.
    """

    def __init__(self, leg: CallLeg) -> None:
        self._leg = leg
        self._rate_hz = 0
        self._holds: set[str] = set()
        self._ends = False  # nothing is waited for any more
        self._drops = 0
        self._spare_ms = math.inf
        self._judged = 0
        self._moved = asyncio.Event()
        self._resampler: SteadyResampler | None = None
        self._sent: deque[_Piece] = deque()  # the latest last
        self._remembered = 0  # bytes of those
        self._kept: deque[_Piece] = deque()

    def start(self, rate_hz: int) -> None:
        """Audio flows, at this rate from now on."""
        if self._rate_hz not in (0, rate_hz):
            for piece in self._kept:
                change = SteadyResampler(self._rate_hz, rate_hz)
                piece.pcm = change.process(piece.pcm) + change.flush()
        if self._rate_hz != rate_hz:
            self._forget()
            self._resampler = None
        self._rate_hz = rate_hz
        self._moved.set()

    def caught_up(self, pcm: bytes, rate_hz: int) -> bytes:
        """Shorten a block of live audio by what the leg has had to spare for a second.

        Args:
            pcm: the block, just before it is written.
            rate_hz: its rate.
        """
        self._spare_ms = min(self._spare_ms, self._leg.queued_ms)
        self._judged += 1
        if self._judged < _JUDGED_OVER:
            return pcm
        spare_ms = max(0.0, self._spare_ms - _RESERVE_MS)
        self._spare_ms, self._judged = math.inf, 0
        return pcm[2 * round(spare_ms * rate_hz / 1000) :]

    def play_live(self, pcm: bytes, rate_hz: int) -> None:
        """Play a block now; where that cannot be, while held or with too much to say, not at all.

        Args:
            pcm: the block.
            rate_hz: its rate.
        """
        if self._holds or not self._rate_hz or self._leg.queued_ms > _LIVE_MS:
            return
        self._hand_over(self._resample(self.caught_up(pcm, rate_hz), rate_hz), True)

    async def write(self, pcm: bytes, rate_hz: int, *, interruptible: bool = True) -> bool:
        """Play a block after what was written before; returns when the leg has it.

        Args:
            pcm: the block, 20 ms or less.
            rate_hz: its rate; all blocks between two drops are one stream.
            interruptible: whether ``drop`` may drop it.

        Returns:
            False if it was dropped, or nobody is there to hear it.
        """
        drops = self._drops

        def wanted() -> bool:
            return not interruptible or self._drops == drops

        if not await self._room() or not wanted():
            return False
        rest = self._resample(pcm, rate_hz)
        while rest := rest[self._hand_over(rest, interruptible) :]:
            await asyncio.sleep(_RETRY_S)
            if not await self._room() or not wanted():
                return False
        return True

    def hold(self, who: str) -> None:
        """Fall silent at once, and keep what was not sent yet.

        Of a peer's hold the leg learns when its streams have been replaced, with what they held.
        """
        if not self._holds:
            self._take_back()
        self._holds.add(who)

    def release(self, who: str) -> None:
        """Go on with the next sample, unless somebody else holds."""
        self._holds.discard(who)
        self._give_back()
        self._moved.set()

    def drop(self) -> None:
        """Forget what was taken back, and what waits, where that may be interrupted."""
        self._kept = deque(piece for piece in self._kept if not piece.interruptible)
        self._resampler = None
        self._drops += 1
        self._moved.set()

    def end(self) -> None:
        """Wait for nobody from now on: what cannot be played is dropped."""
        self._ends = True
        self._moved.set()

    def close(self) -> None:
        """The call is over: nothing is played any more."""
        self._holds.add("over")
        self.end()

    async def drained(self) -> None:
        """Wait until all has been sent: the resampler's last samples, too."""
        if self._resampler is not None and await self._room():
            self._hand_over(self._resampler.flush(), True)
            self._resampler = None
        slowest_s = asyncio.get_running_loop().time() + _SLOWEST_DRAIN_S
        while await self._flows() and (queued_ms := self._leg.queued_ms) > 0:
            if asyncio.get_running_loop().time() > slowest_s:
                return
            await asyncio.sleep(queued_ms / 1000)

    async def _flows(self) -> bool:
        """Wait until audio can be written; False if it never will."""
        while self._holds or not self._rate_hz:
            if self._ends:
                return False
            self._moved.clear()
            await self._moved.wait()
        return True

    async def _room(self) -> bool:
        """Wait until the leg is about to run dry; False if it takes no more."""
        while await self._flows():
            self._give_back()
            ahead_ms = self._leg.queued_ms - AHEAD_MS
            if ahead_ms <= 0 and not self._kept:
                return True
            await asyncio.sleep(max(ahead_ms / 1000, _RETRY_S if self._kept else 0.0))
        return False

    def _resample(self, pcm: bytes, rate_hz: int) -> bytes:
        if self._resampler is None or self._resampler.from_hz != rate_hz:
            self._resampler = SteadyResampler(rate_hz, self._rate_hz)
        return self._resampler.process(pcm)

    def _hand_over(self, pcm: bytes, interruptible: bool) -> int:
        taken = self._leg.write(pcm) if pcm else 0
        if taken:
            self._sent.append(_Piece(pcm[:taken], interruptible))
            self._remembered += taken
            while self._remembered - len(self._sent[0].pcm) > self._bytes(_REMEMBERED_MS):
                self._remembered -= len(self._sent.popleft().pcm)
        return taken

    def _take_back(self) -> None:
        before_ms = self._leg.queued_ms
        self._leg.flush()
        missing = self._bytes(before_ms - self._leg.queued_ms)
        while missing > 0 and self._sent:
            piece = self._sent.pop()
            self._kept.appendleft(_Piece(piece.pcm[-missing:], piece.interruptible))
            missing -= len(piece.pcm)
        self._forget()

    def _forget(self) -> None:
        self._sent.clear()
        self._remembered = 0

    def _give_back(self) -> None:
        while self._kept and not self._holds:
            piece = self._kept[0]
            taken = self._hand_over(piece.pcm, piece.interruptible)
            if taken < len(piece.pcm):
                piece.pcm = piece.pcm[taken:]
                return
            self._kept.popleft()

    def _bytes(self, ms: float) -> int:
        return 2 * round(ms * self._rate_hz / 1000)
