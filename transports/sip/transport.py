"""A telephone call as a transport: the caller's audio and keys in, the bot's voice and keys out.

Input, frames out: ``InputAudioRawFrame`` at the pipeline's rate, ``InputDTMFFrame``.
Output, frames in: what every output takes, held and dropped as in ``talkpath.transports.holding``;
``TransferFrame`` sends the caller on, in its turn behind what is being said;
``OutputDTMFFrame`` presses keys in its turn, ``OutputDTMFUrgentFrame`` at once; ``EndFrame`` hangs
up when all has been played, ``CancelFrame`` at once. While the peer has put the call on hold,
the bot hears silence instead of its music, nothing is said, and nothing of it is lost but the
packet or two that were on their way.

Handlers: ``on_client_connected`` at the answer, ``on_client_disconnected`` at the end,
``on_held`` and ``on_resumed`` where the peer does that.

The voice goes through one resampler, and 40 ms of it at most wait in the leg.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from loguru import logger
from pipecat.audio.dtmf.types import KeypadEntry
from pipecat.frames.frames import (
    CancelFrame,
    EndFrame,
    EndWorkerFrame,
    Frame,
    InputAudioRawFrame,
    InputDTMFFrame,
    OutputAudioRawFrame,
    OutputDTMFFrame,
    OutputDTMFUrgentFrame,
    StartFrame,
)
from pipecat.processors.frame_processor import FrameDirection
from pipecat.transports.base_input import BaseInputTransport
from pipecat.transports.base_output import BaseOutputTransport
from pipecat.transports.base_transport import BaseTransport, TransportParams

from talkpath.processors.frames import LiveAudioFrame, TransferFrame
from talkpath.transports.holding import HoldingOutput
from talkpath.transports.listening import ListeningInput
from talkpath.transports.sip.leg import (
    Answered,
    CallLeg,
    Ended,
    Held,
    KeyPressed,
    LegError,
    LegEvent,
    MediaStarted,
    Resumed,
    TransferRefused,
)
from talkpath.transports.sip.playout import Playout
from talkpath.transports.sip.rates import SteadyResampler
from talkpath.transports.transferring import TransferRefusals

__all__ = ["SipTransport"]

_CHUNK_MS = 20  # a packet
_MOST_BLOCKS = 100
"""Blocks of the caller's audio that wait for the pipeline, 2 s; more are dropped."""

_TEMPORARILY_UNAVAILABLE = 480


class _Input(ListeningInput):
    """Hears the caller."""

    def __init__(self, leg: CallLeg, params: TransportParams) -> None:
        super().__init__(params)
        self._leg = leg
        self._resampler: SteadyResampler | None = None
        self._silence: asyncio.Task[None] | None = None
        self._blocks: asyncio.Queue[bytes] = asyncio.Queue(_MOST_BLOCKS)
        self._lost = 0

    async def start(self, frame: StartFrame) -> None:
        """Hear from now on."""
        await super().start(frame)
        self.listen()
        self._leg.listen(self._hear)

    async def hold(self) -> None:
        """Hear silence, whether the peer plays its music or sends nothing: open turns end."""
        if self._silence is None and self._listening is not None:
            self._silence = self.create_task(self._be_silent())

    async def resume(self) -> None:
        """Hear the peer again."""
        silence, self._silence = self._silence, None
        if silence is not None:
            await self.cancel_task(silence)

    async def press(self, key: str) -> None:
        """Tell of a key; the pipeline knows no ``A`` to ``D``."""
        # Keys may be a number of somebody's account: not above DEBUG.
        logger.debug("key {}", key)
        if key in "ABCD":
            return
        await self.push_frame(InputDTMFFrame(button=KeypadEntry(key)))

    async def _stop_listening(self) -> None:
        self._leg.listen(lambda pcm: None)
        await self.resume()
        await super()._stop_listening()

    def _hear(self, pcm: bytes) -> None:
        if self._silence is not None:
            return
        resampler = self._resampler
        if resampler is None or resampler.from_hz != self._leg.rate_hz:
            resampler = self._resampler = SteadyResampler(self._leg.rate_hz, self.sample_rate)
        self._put(resampler.process(pcm))

    def _put(self, block: bytes) -> None:
        try:
            self._blocks.put_nowait(block)
        except asyncio.QueueFull:
            self._lost += 1
            if self._lost == 1:
                logger.warning("{} drops audio: the pipeline is too slow for it", self)

    async def _be_silent(self) -> None:
        clock = asyncio.get_running_loop().time
        due_s = clock()
        while True:
            self._put(bytes(2 * (self.sample_rate * _CHUNK_MS // 1000)))
            due_s += _CHUNK_MS / 1000
            await asyncio.sleep(due_s - clock())

    async def _listen(self) -> None:
        # Pipecat's own queue behind this one would cost a timer and a task switch for each block.
        while True:
            block = await self._blocks.get()
            if not self._paused:
                await self.push_frame(InputAudioRawFrame(block, self.sample_rate, 1))


class _Speaker(TransferRefusals):
    """Speaks into the leg."""

    def __init__(self, leg: CallLeg, params: TransportParams, on_ready: Callable[[], Any]) -> None:
        super().__init__(params)
        self.playout = Playout(leg)
        self.answered = False
        self.headers: Mapping[str, str] = {}
        self._leg = leg
        self._on_ready = on_ready
        self._pressing: set[asyncio.Task[None]] = set()

    async def start(self, frame: StartFrame) -> None:
        """Be ready; the call may be answered."""
        await super().start(frame)
        await self.set_transport_ready(frame)
        self._on_ready()

    async def stop(self, frame: EndFrame) -> None:
        """Play what is left, then hang up."""
        self.playout.end()
        await super().stop(frame)
        await self.playout.drained()
        await self._hang_up()

    async def cancel(self, frame: CancelFrame) -> None:
        """Hang up at once."""
        self.playout.close()
        await self._hang_up()
        await super().cancel(frame)

    async def cleanup(self) -> None:
        """Press no more keys."""
        for task in list(self._pressing):
            await self.cancel_task(task)
        await super().cleanup()  # type: ignore[no-untyped-call]

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Play live audio at once, beside Pipecat's own queue and clock; the rest goes its way."""
        if isinstance(frame, LiveAudioFrame):
            self.playout.play_live(frame.audio, frame.sample_rate)
            await self.push_frame(frame, direction)
            return
        await super().process_frame(frame, direction)

    async def write_audio_frame(self, frame: OutputAudioRawFrame) -> bool:
        """Write a chunk; returns when the leg has it."""
        return await self.playout.write(
            frame.audio, frame.sample_rate, interruptible=frame.interruptible
        )

    async def write_dtmf(self, frame: OutputDTMFFrame | OutputDTMFUrgentFrame) -> None:
        """Press keys: behind what was said, or at once and beside everything else."""
        if isinstance(frame, OutputDTMFUrgentFrame):
            task = self.create_task(self._press(frame.to_string()))
            self._pressing.add(task)
            task.add_done_callback(self._pressing.discard)
            return
        await self.playout.drained()
        await self._press(frame.to_string())

    async def write_transport_frame(self, frame: Frame) -> None:
        """Transfer the call when all that was said before has been heard."""
        if not isinstance(frame, TransferFrame):
            return
        await self.playout.drained()
        try:
            await self._leg.transfer(frame.target)
        except TransferRefused as error:
            await self.refuse_transfer(frame.target, str(error))
        except LegError as error:
            logger.warning("the call cannot be transferred any more: {}", error)
        else:
            logger.info("the call was transferred")
            await self.push_frame(EndWorkerFrame(), FrameDirection.UPSTREAM)

    async def _press(self, keys: str) -> None:
        try:
            await self._leg.send_keys(keys)
        except LegError as error:
            logger.info("keys could not be pressed: {}", error)

    async def _hang_up(self) -> None:
        if self.answered or self._leg.info.direction == "outbound":
            await self._leg.hang_up(self.headers)
            return
        try:
            await self._leg.reject(_TEMPORARILY_UNAVAILABLE, headers=self.headers)
        except LegError as error:  # it is over, or was answered a moment ago
            logger.debug("not rejected: {}", error)
            await self._leg.hang_up(self.headers)


class _Output(HoldingOutput, _Speaker):
    """The same, and it can be held: what has not been sent yet is taken back."""

    def on_hold(self) -> None:
        self.playout.hold("bot")

    def on_resume(self) -> None:
        self.playout.release("bot")

    def on_drop(self) -> None:
        self.playout.drop()


class SipTransport(BaseTransport):
    """One call, from its pipeline's start to its end.

    Args:
        leg: the call; its events are read here.
        audio_out: whether the bot ever speaks.
        on_ready: called when the pipeline is there and the call may be answered.

    Attributes:
        leg: the call, for what no frame says (hold, attended transfer, early media).
    """

    def __init__(
        self, leg: CallLeg, *, audio_out: bool = True, on_ready: Callable[[], None] = lambda: None
    ) -> None:
        super().__init__()
        params = TransportParams(
            audio_in_enabled=True,
            audio_out_enabled=audio_out,
            audio_out_10ms_chunks=_CHUNK_MS // 10,
            audio_out_end_silence_secs=0,
        )
        # A caller who is on hold, or not there yet, is no broken connection: the leg finds those.
        # Without a limit a write takes no task and no timer of its own either.
        params.audio_out_write_timeout_secs = None  # type: ignore[assignment]
        self.leg = leg
        self._on_ready = on_ready
        self._input = _Input(leg, params)
        self._output = _Output(leg, params, self._ready)
        self._following: asyncio.Task[None] | None = None
        for name in ("on_client_connected", "on_client_disconnected", "on_held", "on_resumed"):
            self._register_event_handler(name)

    def input(self) -> BaseInputTransport:
        """The processor at the pipeline's beginning."""
        return self._input

    def output(self) -> BaseOutputTransport:
        """The processor at the pipeline's end."""
        return self._output

    def add_farewell_headers(self, headers: Mapping[str, str]) -> None:
        """Give the BYE (or the refusal) with which the bot ends the call these headers."""
        self._output.headers = {**self._output.headers, **headers}

    async def wind_up(self) -> None:
        """End the session politely: behind everything that is being said."""
        await self._input.push_frame(EndWorkerFrame(), FrameDirection.UPSTREAM)

    def _ready(self) -> None:
        self._following = self._output.create_task(self._follow())
        self._on_ready()

    async def _follow(self) -> None:
        async for event in self.leg.events():
            await self._take(event)

    async def _take(self, event: LegEvent) -> None:
        playout = self._output.playout
        match event:
            case MediaStarted():
                playout.start(event.rate_hz)
            case Answered():
                self._output.answered = True
                await self._call_event_handler("on_client_connected", self.leg)
            case KeyPressed():
                await self._input.press(event.key)
            case Held():
                playout.hold("peer")
                await self._input.hold()
                await self._call_event_handler("on_held", self.leg)
            case Resumed():
                playout.release("peer")
                await self._input.resume()
                await self._call_event_handler("on_resumed", self.leg)
            case Ended():
                playout.close()
                await self._call_event_handler("on_client_disconnected", self.leg)
            case _:
                logger.info("the peer sent the call elsewhere")
