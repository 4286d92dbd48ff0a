"""An output transport that plays into a list, at the pace of real sound or faster."""

import asyncio
import time

import numpy as np
from numpy.typing import NDArray
from pipecat.frames.frames import OutputAudioRawFrame, StartFrame
from pipecat.transports.base_output import BaseOutputTransport
from pipecat.transports.base_transport import TransportParams

__all__ = ["Loudspeaker"]


class Loudspeaker(BaseOutputTransport):
    """Pipecat's own output transport, with a list at its end.

    Args:
        speed: how many seconds of sound are played in a second.

    Attributes:
        played: (time.monotonic() at its start, int16 samples) of each chunk.
    """

    def __init__(self, *, speed: float = 1.0) -> None:
        super().__init__(TransportParams(audio_out_enabled=True))
        self._speed = speed
        self._free_at = 0.0
        self.played: list[tuple[float, NDArray[np.int16]]] = []

    async def start(self, frame: StartFrame) -> None:
        await super().start(frame)
        await self.set_transport_ready(frame)

    async def write_audio_frame(self, frame: OutputAudioRawFrame) -> bool:
        now = time.monotonic()
        self.played.append((now, np.frombuffer(frame.audio, np.int16)))
        duration_s = len(frame.audio) / 2 / frame.sample_rate / self._speed
        self._free_at = max(self._free_at, now) + duration_s
        await asyncio.sleep(self._free_at - now)
        return True

    @property
    def seconds(self) -> float:
        """Duration of what was played until the last sound, at 24 kHz."""
        last = self.last_sound()
        return sum(len(samples) for at, samples in self.played if at <= last) / 24_000

    def last_sound(self) -> float:
        """Time of the last chunk that was not silent."""
        return max((at for at, samples in self.played if np.abs(samples).max() > 0), default=0.0)
