"""Small bots for transport tests, and a server that runs them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import numpy as np
from pipecat.frames.frames import (
    AggregatedTextFrame,
    AggregatedTextProgressFrame,
    BotStartedSpeakingFrame,
    BotStoppedSpeakingFrame,
    Frame,
    InputAudioRawFrame,
    InputDTMFFrame,
    InterruptionFrame,
    OutputAudioRawFrame,
    TTSAudioRawFrame,
    TTSStoppedFrame,
    TTSTextFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineWorker
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.processors.frameworks.rtvi.frames import RTVIServerMessageFrame
from pipecat.workers.runner import WorkerRunner

from talkpath.agent.config import AsteriskConfig, CarriersConfig, Config, ServerConfig
from talkpath.processors.frames import TransferRefusedFrame
from talkpath.transports.factory import create_transport
from talkpath.transports.server import serve
from talkpath.transports.sessions import Bot, Limits

OUT_HZ = 24_000


async def settled(value: Callable[[], object], turns: int = 30) -> None:
    """Wait until something has stopped changing.

    Args:
        value: of it.
        turns: of the event loop, 10 ms apart, in which it stays the same. They are counted: in a
            time in which the machine stood still, nothing could have happened.
    """
    async with asyncio.timeout(60):
        same, last = 0, value()
        while same < turns:
            await asyncio.sleep(0.01)
            same, last = (same + 1, last) if value() == last else (0, value())


class Ears(FrameProcessor):
    """Notes how loud the caller is, and its keys, and says everything again if asked to."""

    def __init__(self, *, echo: bool) -> None:
        super().__init__()
        self._echo = echo
        self.loudest = 0.0
        self.heard_s = 0.0
        self.keys = ""

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, InputDTMFFrame):
            self.keys += frame.button.value
        elif isinstance(frame, InputAudioRawFrame):
            samples = np.frombuffer(frame.audio, np.int16)
            self.heard_s += len(samples) / frame.sample_rate
            self.loudest = max(self.loudest, float(np.abs(samples).max(initial=0)) / 32768)
            if self._echo:
                await self.push_frame(
                    OutputAudioRawFrame(
                        audio=frame.audio, sample_rate=frame.sample_rate, num_channels=1
                    )
                )
        await self.push_frame(frame, direction)


class Behind(FrameProcessor):
    """Stands behind the output and writes down what comes out of it: text, and turns."""

    KINDS = (TTSTextFrame, BotStartedSpeakingFrame, BotStoppedSpeakingFrame)

    def __init__(self) -> None:
        super().__init__()
        self.frames: list[Frame] = []
        self.refusals: list[str] = []
        self.spoken_s = 0.0

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, self.KINDS):
            self.frames.append(frame)
        elif isinstance(frame, TransferRefusedFrame):
            self.refusals.append(frame.reason)
        elif isinstance(frame, TTSAudioRawFrame):
            self.spoken_s += len(frame.audio) / 2 / frame.sample_rate
        await self.push_frame(frame, direction)

    @property
    def words(self) -> list[str]:
        return [frame.text for frame in self.frames if isinstance(frame, TTSTextFrame)]

    @property
    def stops(self) -> int:
        """How often the bot stopped speaking."""
        return sum(isinstance(frame, BotStoppedSpeakingFrame) for frame in self.frames)


class Scene:
    """One session of a :class:`StageBot`, played by the test."""

    def __init__(self, arguments: Any, worker: PipelineWorker, ears: Ears, behind: Behind) -> None:
        self.arguments = arguments
        self.worker = worker
        self.ears = ears
        self.behind = behind
        self.connected = asyncio.Event()
        self.left = asyncio.Event()

    async def frames(self, *frames: Frame) -> None:
        await self.worker.queue_frames(list(frames))

    async def message(self, data: dict[str, Any]) -> None:
        await self.frames(RTVIServerMessageFrame(data))

    async def caption(
        self, utterance: int, stable: str, rest: str = "", final: bool = False
    ) -> None:
        await self.message(
            {
                "type": "caption",
                "utterance": utterance,
                "stable": stable,
                "rest": rest,
                "final": final,
                "language": "en",
            }
        )

    async def latency(self, number: int, /, **parts_ms: float) -> None:
        parts = [{"name": name.replace("_", "-"), "ms": ms} for name, ms in parts_ms.items()]
        total = sum(parts_ms.values())
        await self.message(
            {"type": "turn-latency", "turn": number, "parts": parts, "total_ms": total}
        )

    async def speak(self, seconds: float) -> None:
        """A tone, which starts and stops the bot's speaking."""
        time_s = np.arange(int(seconds * OUT_HZ)) / OUT_HZ
        tone = (8000 * np.sin(2 * np.pi * 300 * time_s)).astype(np.int16).tobytes()
        await self.frames(TTSAudioRawFrame(audio=tone, sample_rate=OUT_HZ, num_channels=1))

    async def say(self, words: dict[str, bytes]) -> None:
        """Words with the audio of each, 24 kHz, as a voice sends them."""
        frames: list[Frame] = []
        for word, pcm in words.items():
            frames += [TTSAudioRawFrame(pcm, OUT_HZ, 1), TTSTextFrame(word, "word")]
        await self.frames(*frames, TTSStoppedFrame())

    async def sentence(self, text: str) -> int:
        """A sentence that is going to be spoken; returns its segment."""
        frame = AggregatedTextFrame(text=text, text_type="sentence")
        frame.will_be_spoken = True
        await self.frames(frame)
        return frame.id

    async def spoken(self, segment: int, said: str, rest: str = "") -> None:
        frame = AggregatedTextProgressFrame(
            segment_id=segment,
            context_id=None,
            text=said + rest,
            text_type="sentence",
            accumulated_text=said,
            remaining_text=rest,
        )
        # Due now: without a time it would wait behind the audio.
        frame.pts = self.ears.get_clock().get_time()
        await self.frames(frame)

    async def interrupt(self) -> None:
        await self.frames(InterruptionFrame())


class StageBot:
    """A bot whose sessions the test plays.

    Args:
        echo: whether callers hear themselves.
        stays: whether it ignores that its caller left.
    """

    def __init__(self, *, echo: bool = False, stays: bool = False) -> None:
        self._echo = echo
        self._stays = stays
        self._scenes: asyncio.Queue[Scene] = asyncio.Queue()
        self.open = 0

    async def __call__(self, arguments: Any) -> None:
        transport = await create_transport(arguments)
        ears, behind = Ears(echo=self._echo), Behind()
        worker = PipelineWorker(Pipeline([transport.input(), ears, transport.output(), behind]))
        scene = Scene(arguments, worker, ears, behind)

        async def connected(*_: Any) -> None:
            scene.connected.set()

        async def left(*_: Any) -> None:
            scene.left.set()
            if not self._stays:
                await worker.cancel()

        transport.add_event_handler("on_client_connected", connected)
        transport.add_event_handler("on_client_disconnected", left)
        runner = WorkerRunner(handle_sigint=False)
        await runner.add_workers(worker)
        self._scenes.put_nowait(scene)
        self.open += 1
        try:
            await runner.run()
        finally:
            self.open -= 1

    async def scene(self) -> Scene:
        """The next session, once its caller is connected."""
        async with asyncio.timeout(30):
            scene = await self._scenes.get()
            await scene.connected.wait()
        return scene


@contextlib.asynccontextmanager
async def served(
    bot: Bot,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    max_sessions: int = 4,
    limits: Limits | None = None,
    carriers: CarriersConfig | None = None,
    asterisk: AsteriskConfig | None = None,
) -> AsyncIterator[str]:
    """Serve a bot inside the block; gives the URL."""
    config = Config(
        server=ServerConfig(host=host, port=port, max_sessions=max_sessions),
        carriers=carriers or CarriersConfig(),
        asterisk=asterisk or AsteriskConfig(),
    )
    url: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    server = asyncio.create_task(
        serve(bot, config, limits=limits, on_listening=url.set_result), name="server under test"
    )
    try:
        either: set[asyncio.Future[Any]] = {server, url}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if server.done():
            await server
        yield url.result()
    finally:
        server.cancel()
        await asyncio.wait({server})
        if not server.cancelled():
            server.result()
