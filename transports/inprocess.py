"""A call inside this process: a line whose far end is a program, not a person.

The bot's end is a transport like any other: 20 ms of audio come in every 20 ms, what goes out
is played at the pace of speech, can be held and dropped, and is written down with its time.
The caller's end is a ``Line``. All times are seconds of the event loop's clock, so the call
runs as fast or as slow as that does.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pipecat.audio.dtmf.types import KeypadEntry
from pipecat.frames.frames import (
    InputAudioRawFrame,
    InputDTMFFrame,
    InputTransportMessageFrame,
    OutputAudioRawFrame,
    OutputTransportMessageFrame,
    OutputTransportMessageUrgentFrame,
    StartFrame,
)
from pipecat.observers.base_observer import BaseObserver
from pipecat.runner.types import RunnerArguments
from pipecat.transports.base_input import BaseInputTransport
from pipecat.transports.base_output import BaseOutputTransport
from pipecat.transports.base_transport import BaseTransport, TransportParams

from talkpath.agent.audio import FloatArray
from talkpath.transports.holding import HoldingOutput
from talkpath.transports.listening import ListeningInput

__all__ = ["BLOCK_S", "InProcessArguments", "InProcessTransport", "Line", "Played"]

BLOCK_S = 0.02
"""Seconds of audio in a block, as on a telephone line."""

RATE_HZ = 16_000
"""Rate of the caller's voice."""

_BLOCK = round(BLOCK_S * RATE_HZ)
_READY = {"version": "2.2.0", "about": {"library": "talkpath"}}


@dataclass(frozen=True, slots=True)
class Played:
    """A chunk of the bot's sound.

    Attributes:
        at_s: when its first sample was played.
        samples: int16, mono.
        rate_hz: their rate.
    """

    at_s: float
    samples: NDArray[np.int16]
    rate_hz: int

    @property
    def end_s(self) -> float:
        """When its last sample was played."""
        return self.at_s + len(self.samples) / self.rate_hz


class Line:
    """The caller's end.

    Args:
        observers: watch the bot's pipeline from its start to its end.
        on_news: called whenever a block was spoken or a chunk played.

    Attributes:
        began_s: when the caller was connected; None before that.
        spoken: the caller's blocks so far, int16 at 16 kHz, from ``began_s`` on without a gap.
        played: the bot's chunks so far.
        messages: what the bot sent beside its sound: RTVI messages.
    """

    def __init__(
        self,
        observers: Sequence[BaseObserver] = (),
        on_news: Callable[[], None] = lambda: None,
    ) -> None:
        self.observers = tuple(observers)
        self.began_s: float | None = None
        self.spoken: list[NDArray[np.int16]] = []
        self.played: list[Played] = []
        self.messages: list[Any] = []
        self.on_news = on_news
        self._mouth: NDArray[np.int16] = np.zeros(0, np.int16)
        self._transport: InProcessTransport | None = None

    @property
    def connected(self) -> bool:
        """Whether a bot has taken the call."""
        return self.began_s is not None

    @property
    def speaking(self) -> bool:
        """Whether the caller has not said all yet."""
        return bool(len(self._mouth))

    def say(self, samples: FloatArray) -> float:
        """Speak, after what is being said already.

        Args:
            samples: float32, ``[n]``, 16 kHz.

        Returns:
            When the first sample will be spoken.
        """
        assert self.began_s is not None
        start_s = self.began_s + len(self.spoken) * BLOCK_S + len(self._mouth) / RATE_HZ
        pcm = np.clip(np.rint(samples * 32768), -32768, 32767).astype(np.int16)
        self._mouth = np.concatenate([self._mouth, pcm])
        return start_s

    async def press(self, key: str) -> None:
        """Press a key of the telephone: ``0`` to ``9``, ``*``, ``#``."""
        if self._transport is not None:
            await self._transport.input().push_frame(InputDTMFFrame(button=KeypadEntry(key)))

    async def hang_up(self) -> None:
        """Tell the bot that the caller is gone."""
        if self._transport is not None and self.connected:
            await self._transport.disconnected()

    async def attach(self, transport: "InProcessTransport") -> None:
        """Be connected to the bot's end, which is ready."""
        self._transport = transport
        self.began_s = asyncio.get_running_loop().time()
        ready = {"label": "rtvi-ai", "type": "client-ready", "id": "1", "data": _READY}
        await transport.input().broadcast_frame(InputTransportMessageFrame, message=ready)

    def next_block(self) -> bytes:
        """Give the next 20 ms of the caller's voice, silence if there is none."""
        block, self._mouth = self._mouth[:_BLOCK], self._mouth[_BLOCK:]
        block = np.pad(block, (0, _BLOCK - len(block)))
        self.spoken.append(block)
        self.on_news()
        return block.tobytes()

    def play(self, chunk: Played) -> None:
        """Take a chunk that is being played."""
        self.played.append(chunk)
        self.on_news()


@dataclass
class InProcessArguments(RunnerArguments):
    """What a bot is called with for a call inside this process.

    Attributes:
        line: the caller's end.
    """

    line: Line = field(kw_only=True)


class _Input(ListeningInput):
    def __init__(self, line: Line, params: TransportParams) -> None:
        super().__init__(params)
        self._line = line

    async def setup(self, setup: Any) -> None:  # a FrameProcessorSetup
        """Let the line's observers watch the pipeline."""
        for observer in self._line.observers:
            setup.pipeline_worker.add_observer(observer)
        await super().setup(setup)

    async def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        due_s = loop.time()
        while True:
            due_s += BLOCK_S
            await asyncio.sleep(max(0.0, due_s - loop.time()))
            block = self._line.next_block()
            await self.push_audio_frame(InputAudioRawFrame(block, RATE_HZ, 1))


class _Speaker(BaseOutputTransport):
    """Plays at the pace of speech into the line."""

    def __init__(self, line: Line, params: TransportParams, on_ready: Callable[[], Any]) -> None:
        super().__init__(params)
        self._line = line
        self._on_ready = on_ready
        self._free_s = 0.0

    async def start(self, frame: StartFrame) -> None:
        """Be ready; the caller is let in."""
        await super().start(frame)
        await self.set_transport_ready(frame)
        await self._on_ready()

    async def write_audio_frame(self, frame: OutputAudioRawFrame) -> bool:
        """Play a chunk; returns when it has been played."""
        loop = asyncio.get_running_loop()
        start_s = max(self._free_s, loop.time())
        chunk = Played(start_s, np.frombuffer(frame.audio, np.int16), frame.sample_rate)
        self._free_s = chunk.end_s
        self._line.play(chunk)
        await asyncio.sleep(self._free_s - loop.time())
        return True

    async def send_message(
        self, frame: OutputTransportMessageFrame | OutputTransportMessageUrgentFrame
    ) -> None:
        """Hand the caller a message."""
        self._line.messages.append(frame.message)


class _Output(HoldingOutput, _Speaker):
    """The same, and it can be held: nothing has left that was not played."""


class InProcessTransport(BaseTransport):
    """The bot's end. The caller is connected as soon as the pipeline runs.

    Args:
        line: the caller's end.
        audio_out: whether the bot ever speaks.
    """

    def __init__(self, line: Line, *, audio_out: bool = True) -> None:
        super().__init__()
        params = TransportParams(
            audio_in_enabled=True,
            audio_in_sample_rate=RATE_HZ,
            audio_out_enabled=audio_out,
            audio_out_10ms_chunks=round(BLOCK_S * 100),
            audio_out_end_silence_secs=0,
        )
        self._line = line
        self._input = _Input(line, params)
        self._output = _Output(line, params, self._ready)
        self._register_event_handler("on_client_connected")
        self._register_event_handler("on_client_disconnected")

    def input(self) -> BaseInputTransport:
        """The processor at the pipeline's beginning."""
        return self._input

    def output(self) -> BaseOutputTransport:
        """The processor at the pipeline's end."""
        return self._output

    async def disconnected(self) -> None:
        """Tell the bot's handlers that the caller is gone."""
        await self._call_event_handler("on_client_disconnected", self._line)

    async def _ready(self) -> None:
        await self._line.attach(self)
        self._input.listen()
        await self._call_event_handler("on_client_connected", self._line)
