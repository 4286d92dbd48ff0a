"""A transport within the test: a microphone that is fed, a loudspeaker that writes down."""

import asyncio
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pipecat.frames.frames import (
    CancelFrame,
    EndFrame,
    Frame,
    InputAudioRawFrame,
    OutputAudioRawFrame,
    OutputTransportMessageFrame,
    OutputTransportMessageUrgentFrame,
    StartFrame,
    VADUserStartedSpeakingFrame,
)
from pipecat.processors.frame_processor import FrameDirection
from pipecat.transports.base_input import BaseInputTransport
from pipecat.transports.base_output import BaseOutputTransport
from pipecat.transports.base_transport import BaseTransport, TransportParams

from talkpath.transports.holding import HoldingOutput

__all__ = ["HoldableLoudspeaker", "Loudspeaker", "Microphone", "Room"]

_BLOCK_S = 0.02


class Loudspeaker(BaseOutputTransport):
    """Pipecat's own output transport, with a list at its end.

    Args:
        speed: how many seconds of sound are played in a second.

    Attributes:
        played: (time.monotonic() at its start, int16 samples) of each chunk.
        messages: what was sent to the page.
    """

    def __init__(self, *, speed: float = 1.0) -> None:
        super().__init__(TransportParams(audio_out_enabled=True))
        self._speed = speed
        self._free_at = 0.0
        self.played: list[tuple[float, NDArray[np.int16]]] = []
        self.messages: list[Any] = []
        self.sent = asyncio.Condition()
        self.ready = asyncio.Event()

    async def start(self, frame: StartFrame) -> None:
        await super().start(frame)
        await self.set_transport_ready(frame)
        self.ready.set()

    async def write_audio_frame(self, frame: OutputAudioRawFrame) -> bool:
        now = time.monotonic()
        self.played.append((now, np.frombuffer(frame.audio, np.int16)))
        duration_s = len(frame.audio) / 2 / frame.sample_rate / self._speed
        self._free_at = max(self._free_at, now) + duration_s
        await asyncio.sleep(self._free_at - now)
        return True

    async def send_message(
        self, frame: OutputTransportMessageFrame | OutputTransportMessageUrgentFrame
    ) -> None:
        async with self.sent:
            self.messages.append(frame.message)
            self.sent.notify_all()

    def last_sound(self, *, before: float = float("inf")) -> float:
        """Time of the last chunk that was not silent."""
        return max((at for at, samples in self.played if at < before and samples.any()), default=0)

    def seconds(self, *, before: float = float("inf")) -> float:
        """Duration of what was played until the last sound, at 24 kHz."""
        last = self.last_sound(before=before)
        return sum(len(samples) for at, samples in self.played if at <= last) / 24_000


class HoldableLoudspeaker(HoldingOutput, Loudspeaker):
    """One that falls silent on a hold, as talkpath's transports do."""


class Microphone(BaseInputTransport):
    """Gives silence, or what it is told to say, in blocks of 20 ms at the pace of real sound.

    Attributes:
        speech_started: time.monotonic() of each start of speech that was detected.
    """

    def __init__(self) -> None:
        super().__init__(TransportParams(audio_in_enabled=True))
        self._left = np.zeros(0, np.int16)
        self._talking: asyncio.Task[None] | None = None
        self.speech_started: list[float] = []

    def say(self, samples: NDArray[np.float32]) -> None:
        """Say float32 samples at 16 kHz, then be silent again."""
        self._left = (samples * 32767).astype(np.int16)

    async def start(self, frame: StartFrame) -> None:
        await super().start(frame)
        await self.set_transport_ready(frame)
        self._talking = self.create_task(self._talk())

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        if isinstance(frame, VADUserStartedSpeakingFrame):
            self.speech_started.append(time.monotonic())
        await super().process_frame(frame, direction)

    async def stop(self, frame: EndFrame) -> None:
        await self._stop_talking()
        await super().stop(frame)

    async def cancel(self, frame: CancelFrame) -> None:
        await self._stop_talking()
        await super().cancel(frame)

    async def _stop_talking(self) -> None:
        if self._talking is not None:
            await self.cancel_task(self._talking)
            self._talking = None

    async def _talk(self) -> None:
        count = int(16_000 * _BLOCK_S)
        due = time.monotonic()
        while True:
            block, self._left = self._left[:count], self._left[count:]
            block = np.pad(block, (0, count - len(block)))
            await self.push_audio_frame(InputAudioRawFrame(block.tobytes(), 16_000, 1))
            due += _BLOCK_S
            await asyncio.sleep(max(0.0, due - time.monotonic()))


class Room(BaseTransport):
    """A microphone and a loudspeaker as one transport, with one caller who comes and goes."""

    def __init__(self) -> None:
        super().__init__()
        self.microphone = Microphone()
        self.loudspeaker = HoldableLoudspeaker()
        self._register_event_handler("on_client_connected")
        self._register_event_handler("on_client_disconnected")

    def input(self) -> Microphone:
        return self.microphone

    def output(self) -> HoldableLoudspeaker:
        return self.loudspeaker

    async def enter(self) -> None:
        """Connect the caller, once the pipeline runs."""
        await self.loudspeaker.ready.wait()
        await self._call_event_handler("on_client_connected", self)

    async def leave(self) -> None:
        """Hang up."""
        await self._call_event_handler("on_client_disconnected", self)

    async def message(self, kind: str) -> Any:
        """Wait for a message to the page: an RTVI type, or the type of a server message."""

        def find() -> Any:
            for message in self.loudspeaker.messages:
                data = message.get("data") or {}
                if message["type"] == kind:
                    return message
                if message["type"] == "server-message" and data.get("type") == kind:
                    return data
            return None

        async with asyncio.timeout(60), self.loudspeaker.sent:
            await self.loudspeaker.sent.wait_for(lambda: find() is not None)
        return find()
