"""The audio of one call: from and into the rings of the SIP stack."""

import time
from collections.abc import Callable

from baresip import AudioInfo, AudioNotActive, AudioRestarted, CallAudio

from talkpath.agent.sip.gap_filler import GapFiller
from talkpath.transports.sip.rates import SteadyResampler

__all__ = ["PAUSE_MS", "LegAudio"]

PAUSE_MS = 200.0
"""A longer time without audio to be sent is taken for a pause between two utterances."""

_READ_MS = 200
"""Read in one piece; more than the stack's jitter buffer lets come together."""

_EARLY_S = 0.0075
"""Packets are looked for so much before they are due: two rounds of the pump, or one and a half."""

_LATER_S = 0.0001
"""By so much a packet the time at which the next one is due moves back, where they come later."""

_PACKET_S = 0.02  # taken for the length of packets before any was read alone
_PAUSE_S = 0.1
"""Packets that come later than that are not late: they are the first ones after a pause."""

_ASK_EVERY = 25
"""Blocks after which the rate of what comes is asked for in any case: half a second."""


class LegAudio:
    """Reads and writes the audio of a call, across changes of its streams.

    Attributes:
        rate_hz: of the PCM; 0 before there is audio.
        hear: takes what is read, and what stands for packets that did not come.
        underrun_ms: the longest time within an utterance in which there was nothing to send.

    Args:
        audio: the stack's.
        started: told the rate, when audio starts and whenever the rate has changed.
    """

    def __init__(self, audio: CallAudio, started: Callable[[int], None]) -> None:
        self._audio = audio
        self._started = started
        self.rate_hz = 0
        self.hear: Callable[[bytes], None] = lambda pcm: None
        self.underrun_ms = 0.0
        self._active = False
        self._way: SteadyResampler | None = None
        self._heard_hz = 0
        self._length = 0
        self._came_s = 0.0
        self._packet_s = 0.0
        self._rounds = 0
        self._dry_s = 0.0
        self._flushing = False
        self._flushed = 0
        self._kept = bytearray()
        self._filler = GapFiller(0)
        self._on_hold = False

    @property
    def filled_s(self) -> float:
        """Seconds of audio that stood for what did not come, since the rate last changed."""
        return self._filler.filled_s

    def hold(self, on_hold: bool) -> None:
        """Take silence for what it is, as long as a hold lasts."""
        self._on_hold = on_hold
        self._filler.forget()

    def move(self, audio: CallAudio) -> None:
        """Go on with another call's audio; what was queued is lost."""
        self._audio = audio
        self._active = False
        self._forget()

    def poll(self) -> float:
        """Hear what has come; to be called every few milliseconds.

        Returns:
            Seconds for which it need not be called.
        """
        now_s = time.monotonic()
        try:
            if not self._active:
                self._start()
            pcm = self._read()
            if pcm:
                length = len(pcm)
                pcm = self._brought(pcm)
                self._expect(length, now_s)
            if self._flushing:
                self._refill()
        except (AudioNotActive, AudioRestarted):
            self._active = False
            return 0.0
        if not self._on_hold:
            pcm = self._filler.take(pcm, now_s)
        if pcm:
            self.hear(pcm)
        if self._flushing or self._filler.holds:
            return 0.0
        return self._came_s + self._packet_s - _EARLY_S - now_s

    def write(self, pcm: bytes) -> int:
        """Queue audio; returns how many bytes were taken."""
        if not self._active:
            return 0
        try:
            return self._queue(pcm)
        except (AudioNotActive, AudioRestarted):
            self._active = False
            return 0

    def flush(self) -> None:
        """Drop what is queued."""
        self._kept.clear()
        if not self._active:
            return
        try:
            before = self._audio.stats()
            if before.tx_buffered and not self._flushing:
                self._flushed = before.tx_flushed_bytes
                self._audio.flush_tx()
                self._flushing = True
            self._dry_s = 0.0
        except (AudioNotActive, AudioRestarted):
            self._active = False

    @property
    def queued_ms(self) -> float:
        """Milliseconds of audio that were written and not sent yet."""
        if not self._active:
            return 0.0
        try:
            waiting = len(self._kept) if self._flushing else self._info().tx_buffered
        except (AudioNotActive, AudioRestarted):
            self._active = False
            return 0.0
        return waiting / (2 * self.rate_hz) * 1000

    def _start(self) -> None:
        info = self._audio.info()
        if not (info.tx_ready and info.rx_ready):
            raise AudioNotActive("not ready")
        self._forget()
        self._filler.forget()
        self._active = True
        if info.tx_sample_rate != self.rate_hz:
            self.rate_hz = info.tx_sample_rate
            self._filler = GapFiller(self.rate_hz)
            self._started(self.rate_hz)

    def _read(self) -> bytes:
        """All that waits; what stayed behind after a pause of ours would be taken for lost."""
        most = self.rate_hz * 2 * _READ_MS // 1000
        part: bytes = self._audio.read(most)
        pcm = part
        while len(part) == most:
            part = self._audio.read(most)
            pcm += part
        return pcm

    def _expect(self, length: int, now_s: float) -> None:
        """Note when a read came: packets come at even times, but for those that are late."""
        seconds = length / (2 * (self._heard_hz or self.rate_hz))
        self._packet_s = min(self._packet_s or _PACKET_S, seconds)  # several are read at once
        due_s = self._came_s + seconds
        self._came_s = min(now_s, due_s + _LATER_S) if now_s < due_s + _PAUSE_S else now_s

    def _info(self) -> AudioInfo:
        """How the streams are. To ask binds to the streams that there are now, unnoticed."""
        info = self._audio.info()
        if info.tx_sample_rate != self.rate_hz:
            raise AudioRestarted("the codec is another one")
        return info

    def _brought(self, pcm: bytes) -> bytes:
        """What was read, at the rate of what is sent.

        A peer may use any codec of our answer, whichever we use (RFC 3264, section 7).
        """
        self._rounds += 1
        # To ask costs as much as to read; packets of another rate have another length, too.
        if len(pcm) != self._length or self._rounds % _ASK_EVERY == 0:
            self._heard_hz, self._length = self._info().rx_sample_rate, len(pcm)
        from_hz, to_hz = self._heard_hz, self.rate_hz
        if from_hz in (0, to_hz):
            self._way = None
            return pcm
        if self._way is None or (self._way.from_hz, self._way.to_hz) != (from_hz, to_hz):
            self._way = SteadyResampler(from_hz, to_hz)
        return self._way.process(pcm)

    def _queue(self, pcm: bytes) -> int:
        if self._flushing:
            # The stack drops its ring at its next tick, with all that is in it by then.
            room = self.rate_hz * 2 - len(self._kept)
            self._kept += pcm[:room]
            return min(len(pcm), room)
        info = self._info()
        now = time.monotonic()
        dry_ms = (now - self._dry_s) * 1000
        if not info.tx_buffered and 0 < dry_ms <= PAUSE_MS:
            self.underrun_ms = max(self.underrun_ms, dry_ms)
        taken: int = self._audio.write(pcm)
        self._dry_s = now + (info.tx_buffered + taken) / (2 * self.rate_hz)
        return taken

    def _refill(self) -> None:
        """Queue what was written since the flush, once that has happened."""
        stats = self._audio.stats()
        if stats.tx_flushed_bytes == self._flushed and stats.tx_buffered:
            return
        self._flushing = False
        kept = bytes(self._kept)
        self._kept.clear()
        if kept:
            self._queue(kept)

    def _forget(self) -> None:
        self._length = 0
        self._came_s = self._packet_s = 0.0
        self._flushing = False
        self._kept.clear()
        self._dry_s = 0.0
