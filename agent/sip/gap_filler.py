"""Fills the gaps that lost packets leave in a call's audio; no clock and no threads of its own.

A SIP stack that hands out plain PCM leaves out what did not come: words are spliced hard, and a
peer that sends nothing in its pauses (RFC 3389) is heard as if it had made none. What is missing
shows in the time of arrival alone. Each packet is due one packet after the one before it:

- one that comes a packet too late may be late itself, and then those behind it come at once, or
  its predecessor was lost. It is held for a moment to tell. In place of a lost one, the last
  pitch period is repeated, faded, and blended into what follows;
- where nothing comes for a while, the same goes on in real time, and soon is silence.

What came late is not dropped: the audio is then ahead of time, and so much less is filled later.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from talkpath.agent.sip.pitch_repeater import HISTORY_S, SILENT_S, PitchRepeater

__all__ = ["GapFiller"]

_LATE_S: Final = 0.014
"""So much too late, at most, makes one suspect a loss: below a packet of 20 ms by a poll."""

_LATE_PART: Final = 0.7
"""The same, as a part of shorter packets."""

_HOLD_S: Final = 0.010
"""So long a packet is held: those behind a late one come within it, those behind a lost one not."""

_PATIENCE_S: Final = 0.045
"""So long after a packet was due, nothing is awaited any more: two and a bit of 20 ms."""

_BLOCK_S: Final = 0.020
_STEP_S: Final = 0.010
"""Packets are whole multiples of it, but for a few of Opus's."""

_SINK: Final = 0.005
"""Seconds a second by which the packets that are due move forward, once something was filled: as
much as late packets may make the audio longer than the time in the long run."""

_RISE_S: Final = 0.001
"""By so much a second they move back: clocks of telephones differ by less."""

_WINDOW_S: Final = 1.0


class GapFiller:
    """Keeps the audio of one stream in step with the time.

    Nothing is done, and nothing delayed, where nothing is missing.

    Args:
        rate_hz: of the PCM: 16 bits, mono.

    Attributes:
        filled_s: how much was put in.
    """

    def __init__(self, rate_hz: int) -> None:
        self._rate_hz = rate_hz
        self._repeater = PitchRepeater(rate_hz)
        self._most_past = 2 * round(HISTORY_S * rate_hz)
        self.filled_s = 0.0
        self.forget()

    @property
    def holds(self) -> bool:
        """Whether a packet is held, and ``take`` is to let it go in time."""
        return bool(self._held)

    def forget(self) -> None:
        """Begin anew with the next packet, as after a hold; what is held is dropped."""
        self._packet_s = 0.0
        self._end_s = 0.0
        self._held = b""
        self._until_s = 0.0
        self._late_s = 0.0
        self._gap = 0
        self._past = b""
        self._least_s = 1.0
        self._window_s = 0.0
        self._settled = False

    def take(self, pcm: bytes, now_s: float) -> bytes:
        """Give what is to be heard now; to be called every few milliseconds.

        Args:
            pcm: what has come since the last call; usually nothing.
            now_s: the time, by a clock that never goes back.
        """
        if pcm:
            return self._came(pcm, now_s)
        if not self._packet_s:
            return b""
        if self._held:
            return self._release(now_s) if now_s >= self._until_s else b""
        overdue_s = now_s - self._end_s - self._packet_s
        return self._wait(overdue_s) if overdue_s >= _PATIENCE_S else b""

    def _came(self, pcm: bytes, now_s: float) -> bytes:
        length_s = len(pcm) / (2 * self._rate_hz)
        if not self._packet_s:
            self._packet_s, self._end_s = _whole(length_s), now_s
            return self._pass(pcm)
        # Packets that come together are read together, so the shortest read is one.
        self._packet_s = min(self._packet_s, _whole(length_s))
        self._end_s += length_s
        late_s = now_s - self._end_s
        suspect = late_s >= min(_LATE_S, _LATE_PART * self._packet_s)
        if self._held:
            self._held += pcm
            if suspect and now_s < self._until_s:
                return b""
            return self._release(now_s) if suspect else self._let_go()
        if suspect and self._silent:
            return self._fill(round(late_s * self._rate_hz)) + self._pass(pcm)
        if suspect:
            self._held, self._until_s = pcm, now_s + _HOLD_S
            self._late_s = late_s
            return b""
        self._settle(late_s, length_s)
        return self._pass(pcm)

    def _release(self, now_s: float) -> bytes:
        """What was held, with something in place of what was lost before it."""
        gap_s = self._gap / self._rate_hz
        late_s = min(self._late_s, now_s - self._end_s)
        missing_s = round((gap_s + late_s) / self._packet_s) * self._packet_s - gap_s
        filler = self._fill(max(0, round(missing_s * self._rate_hz)))
        return filler + self._let_go()

    def _let_go(self) -> bytes:
        pcm, self._held = self._held, b""
        return self._pass(pcm)

    def _wait(self, overdue_s: float) -> bytes:
        """Nothing comes: go on without it, whole blocks behind the time."""
        blocks = 1 + int((overdue_s - _PATIENCE_S) / _BLOCK_S)
        return self._fill(blocks * round(_BLOCK_S * self._rate_hz))

    @property
    def _silent(self) -> bool:
        return self._gap >= SILENT_S * self._rate_hz

    def _fill(self, samples: int) -> bytes:
        if not self._gap:
            self._repeater.begin(np.frombuffer(self._past, np.int16))
        self._gap += samples
        seconds = samples / self._rate_hz
        self._end_s += seconds
        self.filled_s += seconds
        self._settled = True
        return self._remember(_bytes(self._repeater.more(samples)))

    def _pass(self, pcm: bytes) -> bytes:
        if self._gap:
            if not self._silent:
                pcm = _bytes(self._repeater.blend(np.frombuffer(pcm, np.int16)))
            self._gap = 0
        return self._remember(pcm)

    def _remember(self, pcm: bytes) -> bytes:
        self._past = (self._past + pcm)[-self._most_past :]
        return pcm

    def _settle(self, late_s: float, length_s: float) -> None:
        """Follow the peer's clock, and the earliest packets."""
        if late_s < 0:
            self._end_s += max(late_s, -_SINK * length_s) if self._settled else late_s
        self._least_s = min(self._least_s, late_s)
        self._window_s += length_s
        if self._window_s >= _WINDOW_S:
            self._end_s += min(max(self._least_s, 0.0), _RISE_S)
            self._least_s, self._window_s = 1.0, 0.0


def _whole(length_s: float) -> float:
    """The length of packets, from that of a read, which is shorter where a resampler begins."""
    return max(1, round(length_s / _STEP_S)) * _STEP_S


def _bytes(samples: NDArray[np.float64]) -> bytes:
    return np.clip(np.rint(samples), -32768, 32767).astype(np.int16).tobytes()
