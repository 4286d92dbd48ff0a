"""The bot's voice on its way into a WebRTC connection.

Pipecat's own track hands out what it was given, come what may, and ends with its connection.
Here the audio waits in a :class:`Voice` that can be held, resumed and emptied at any time and
that outlives a connection (``restart_pc``); a :class:`VoiceTrack` reads from it 20 ms at a time,
silence when there is nothing, and has never more than that in hand.
"""

import asyncio
import fractions
from collections import deque
from dataclasses import dataclass

import numpy as np
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack
from av import AudioFrame

__all__ = ["LEAD_S", "Voice", "VoiceTrack"]

LEAD_S = 0.03
"""Seconds of audio left when the next may come. It bridges pauses of the event loop."""

_BLOCK_S = 0.02  # an Opus packet
# So much silence ahead of the first block and each block fills a packet although the way to
# 48 kHz holds some samples back (1 ms from 16 kHz); otherwise each packet waits for the next block.
_HELD_BACK_S = 0.002
_STRANDED_AFTER_S = 0.5
_LOOKS = 5  # within that time: a standstill of the whole process is only one of them


@dataclass(slots=True, eq=False)
class _Chunk:
    pcm: bytes
    interruptible: bool
    dropped: bool = False


class Voice:
    """Audio that is yet to be sent, about 60 ms of it: 16-bit PCM, mono."""

    def __init__(self) -> None:
        self._rate_hz: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._chunks: deque[_Chunk] = deque()
        self._held = False
        self._moved = asyncio.Event()

    def start(self, rate_hz: int) -> None:
        """Set the sample rate, once: connections that are up already send from now on."""
        self._rate_hz.set_result(rate_hz)

    async def rate_hz(self) -> int:
        """The sample rate, once it is known."""
        return await asyncio.shield(self._rate_hz)

    def _waiting_s(self) -> float:
        return sum(len(chunk.pcm) for chunk in self._chunks) / 2 / self._rate_hz.result()

    async def write(self, pcm: bytes, *, interruptible: bool = True) -> bool:
        """Add a chunk; returns when the next may come.

        Args:
            pcm: the chunk.
            interruptible: whether ``drop`` may drop it.

        Returns:
            False if it was dropped, or if nobody has read for half a second.
        """
        chunk = _Chunk(pcm, interruptible)
        self._chunks.append(chunk)
        while self._waiting_s() > LEAD_S and not chunk.dropped:
            if not await self._moves():
                self._remove(list(self._chunks))
        return not chunk.dropped

    async def _moves(self) -> bool:
        """Wait for something to change; False if nobody reads."""
        self._moved.clear()
        for _ in range(_LOOKS):
            try:
                async with asyncio.timeout(None if self._held else _STRANDED_AFTER_S / _LOOKS):
                    return await self._moved.wait()
            except TimeoutError:
                continue
        return False

    def take(self, samples: int) -> bytes:
        """The next samples, filled up with silence."""
        wanted = 2 * samples
        taken = bytearray()
        while len(taken) < wanted and self._chunks and not self._held:
            chunk = self._chunks[0]
            part = chunk.pcm[: wanted - len(taken)]
            taken += part
            chunk.pcm = chunk.pcm[len(part) :]
            if not chunk.pcm:
                self._chunks.popleft()
        if taken:
            self._moved.set()
        return bytes(taken.ljust(wanted, b"\0"))

    def hold(self) -> None:
        """Give silence, and keep the audio."""
        self._held = True
        self._moved.set()

    def resume(self) -> None:
        """Go on."""
        self._held = False
        self._moved.set()

    def drop(self) -> None:
        """Forget what is not to be heard any more."""
        self._remove([chunk for chunk in self._chunks if chunk.interruptible])

    def _remove(self, chunks: list[_Chunk]) -> None:
        for chunk in chunks:
            chunk.dropped = True
        self._chunks = deque(chunk for chunk in self._chunks if not chunk.dropped)
        self._moved.set()


class VoiceTrack(MediaStreamTrack):
    """Sends a voice over one connection, in real time.

    Args:
        voice: what to send.
    """

    kind = "audio"

    def __init__(self, voice: Voice) -> None:
        super().__init__()
        self._voice = voice
        self._sent = 0
        self._due = 0.0

    async def recv(self) -> AudioFrame:
        """The next 20 ms, when they are due.

        Raises:
            MediaStreamError: the connection has ended.
        """
        if self.readyState != "live":
            raise MediaStreamError
        rate_hz = await self._voice.rate_hz()
        now = asyncio.get_running_loop().time()
        samples = round(_BLOCK_S * rate_hz)
        if not self._sent:
            self._due = now
            pcm = bytes(2 * round((_BLOCK_S + _HELD_BACK_S) * rate_hz))
        else:
            await asyncio.sleep(max(0.0, self._due - now))
            pcm = self._voice.take(samples)
        self._due += _BLOCK_S
        frame = AudioFrame.from_ndarray(np.frombuffer(pcm, np.int16)[np.newaxis], layout="mono")
        frame.sample_rate = rate_hz
        frame.pts = self._sent
        frame.time_base = fractions.Fraction(1, rate_hz)
        self._sent += len(pcm) // 2
        return frame
