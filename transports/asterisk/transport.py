"""Pipecat's transport on a channel of Asterisk's.

Frames out of the input: the caller's voice, and ``InputDTMFFrame`` for keys. The output takes
what every output takes, can be held and dropped within a frame, and hangs up when the bot ends.
Resampling is ours, with 1 to 4 ms of delay.
"""

import asyncio
from collections.abc import Awaitable, Callable

from pipecat.audio.dtmf.types import KeypadEntry
from pipecat.frames.frames import (
    CancelFrame,
    EndFrame,
    InputAudioRawFrame,
    InputDTMFFrame,
    OutputAudioRawFrame,
    OutputDTMFFrame,
    OutputDTMFUrgentFrame,
    StartFrame,
)
from pipecat.transports.base_input import BaseInputTransport
from pipecat.transports.base_output import BaseOutputTransport
from pipecat.transports.base_transport import BaseTransport, TransportParams

from talkpath.agent.audio import SAMPLE_RATE_HZ, Resampler, float_to_pcm16, pcm16_to_float
from talkpath.agent.errors import AudioError
from talkpath.transports.asterisk.channel import STALLED_S, Channel, Order, Sound
from talkpath.transports.holding import HoldingOutput
from talkpath.transports.listening import ListeningInput
from talkpath.transports.transferring import WithoutTransfers

__all__ = ["AsteriskTransport"]

_Handler = Callable[[], Awaitable[None]]
_LAST_WORDS_S = 2.0  # a bot that ends may finish what is on its way, for so long at most
_KEYS = {entry.value for entry in KeypadEntry}


class _Input(ListeningInput):
    def __init__(self, channel: Channel, params: TransportParams) -> None:
        super().__init__(params)
        self._channel = channel
        self._resampler = Resampler(channel.audio_format.rate_hz)

    async def _listen(self) -> None:
        while (heard := await self._channel.next()) is not None:
            if isinstance(heard, Sound):
                await self._hear(heard)
            elif heard.key in _KEYS:  # Pipecat knows no A, B, C and D
                await self.push_frame(InputDTMFFrame(button=KeypadEntry(heard.key)))

    async def _hear(self, sound: Sound) -> None:
        if sound.format.rate_hz != self._resampler.from_hz:
            self._resampler = Resampler(sound.format.rate_hz)
        try:
            audio = self._resampler.process(sound.format.decode(sound.data))
        except AudioError as error:
            self._channel.complain(str(error))
            return
        if len(audio):
            pcm = float_to_pcm16(audio)
            await self.push_audio_frame(InputAudioRawFrame(pcm, SAMPLE_RATE_HZ, 1))


class _Speaker(WithoutTransfers):
    """Sends at the pace of speech."""

    def __init__(
        self, channel: Channel, params: TransportParams, on_ready: _Handler, on_gone: _Handler
    ) -> None:
        super().__init__(params)
        self._channel = channel
        self._on_ready = on_ready
        self._on_gone = on_gone
        self._room = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._resampler: Resampler | None = None
        self._dropped = 0

    async def start(self, frame: StartFrame) -> None:
        """Answer; the caller is let in."""
        await super().start(frame)
        self._tasks.append(self.create_task(self._play()))
        await self.set_transport_ready(frame)
        self._channel.order(Order.ANSWER)
        await self._on_ready()
        self._tasks.append(self.create_task(self._watch()))

    async def stop(self, frame: EndFrame) -> None:
        """Finish what is on its way, and hang up."""
        await super().stop(frame)
        await self._finish()
        await self._end_tasks()
        await self._channel.hang_up()

    async def cancel(self, frame: CancelFrame) -> None:
        """Hang up."""
        await super().cancel(frame)
        await self._end_tasks()
        await self._channel.hang_up()

    async def cleanup(self) -> None:
        """Send nothing more."""
        await self._end_tasks()
        await super().cleanup()  # type: ignore[no-untyped-call]

    async def write_audio_frame(self, frame: OutputAudioRawFrame) -> bool:
        """Take a chunk, once there is room; False if it was dropped, or the call is over."""
        dropped = self._dropped
        while not self._channel.playout.room and not self._channel.gone.is_set():
            self._room.clear()
            await self._room.wait()
            if frame.interruptible and self._dropped != dropped:
                return False
        if self._channel.gone.is_set():
            return False
        if self._resampler is None or self._resampler.from_hz != frame.sample_rate:
            rate_hz = self._channel.audio_format.rate_hz
            self._resampler = Resampler(frame.sample_rate, rate_hz)
        audio = self._resampler.process(pcm16_to_float(frame.audio))
        data = self._channel.audio_format.encode(audio)
        now_s = asyncio.get_running_loop().time()
        self._channel.playout.put(data, now_s, interruptible=frame.interruptible)
        self._channel.news.set()
        return True

    async def write_dtmf(self, frame: OutputDTMFFrame | OutputDTMFUrgentFrame) -> None:
        """Send a key as sound: neither protocol has a message for it."""
        self._channel.complain("Asterisk takes no keys here: they are sent as tones in the sound")
        await super().write_dtmf(frame)

    def moved_on(self) -> None:
        """Something else is to be sent, or may be written."""
        self._room.set()
        self._channel.news.set()

    async def _play(self) -> None:
        channel, loop = self._channel, asyncio.get_running_loop()
        try:
            while not channel.gone.is_set():
                channel.news.clear()
                due_s = channel.playout.due_s()
                async with asyncio.timeout(STALLED_S):
                    await channel.tell()
                    if due_s is not None and due_s <= loop.time():
                        await channel.send(channel.playout.take(loop.time()))
                        self._room.set()
                        continue
                await _until(channel.news, due_s)
        except TimeoutError:
            channel.complain(f"the peer has taken nothing for {STALLED_S:.0f} s: the call is ended")
            channel.over()
        except OSError as error:
            channel.complain(f"the connection is lost: {error}")
            channel.over()
        finally:
            self._room.set()

    async def _finish(self) -> None:
        playout, loop = self._channel.playout, asyncio.get_running_loop()
        if self._resampler is not None:
            playout.put(self._channel.audio_format.encode(self._resampler.flush()), loop.time())
            self._channel.news.set()
        end_s = loop.time() + _LAST_WORDS_S
        while not playout.empty and loop.time() < end_s and not self._channel.gone.is_set():
            self._room.clear()
            await _until(self._room, end_s)
        await _until(self._channel.gone, min(playout.played_s, end_s))

    async def _watch(self) -> None:
        await self._channel.gone.wait()
        await self._on_gone()

    async def _end_tasks(self) -> None:
        while self._tasks:
            await self.cancel_task(self._tasks.pop())


class _Output(HoldingOutput, _Speaker):
    """The same, and it can be held."""

    def on_drop(self) -> None:
        """Forget what the caller is not to hear any more, at once."""
        if self._channel.playout.drop(asyncio.get_running_loop().time()):
            self._channel.order(Order.FLUSH)
        self._dropped += 1
        self._resampler = None  # it still has the last 2 ms
        self.moved_on()

    def on_hold(self) -> None:
        """Send nothing more for now, and have what is with Asterisk kept."""
        self._channel.playout.hold(asyncio.get_running_loop().time())
        self._channel.order(Order.PAUSE)
        self.moved_on()

    def on_resume(self) -> None:
        """Go on."""
        self._channel.playout.resume(asyncio.get_running_loop().time())
        self._channel.order(Order.CONTINUE)
        self.moved_on()


class AsteriskTransport(BaseTransport):
    """The bot's end of a call.

    Args:
        channel: the call; somebody else runs it.
        audio_out: whether the bot ever speaks.
    """

    def __init__(self, channel: Channel, *, audio_out: bool = True) -> None:
        super().__init__()
        params = TransportParams(
            audio_in_enabled=True,
            audio_in_sample_rate=SAMPLE_RATE_HZ,
            audio_out_enabled=audio_out,
            audio_out_10ms_chunks=2,
            audio_out_end_silence_secs=0,
        )
        self._channel = channel
        self._input = _Input(channel, params)
        self._output = _Output(channel, params, self._ready, self._gone)
        self._register_event_handler("on_client_connected")
        self._register_event_handler("on_client_disconnected")

    def input(self) -> BaseInputTransport:
        """The processor at the pipeline's beginning."""
        return self._input

    def output(self) -> BaseOutputTransport:
        """The processor at the pipeline's end."""
        return self._output

    async def _ready(self) -> None:
        self._input.listen()
        await self._call_event_handler("on_client_connected", self._channel)

    async def _gone(self) -> None:
        await self._call_event_handler("on_client_disconnected", self._channel)


async def _until(event: asyncio.Event, due_s: float | None) -> None:
    """Wait for an event, or until a time of the event loop."""
    try:
        async with asyncio.timeout_at(due_s):
            await event.wait()
    except TimeoutError:
        pass
