"""A caller for tests: a real Pipecat pipeline, fed with sound, with an ear on all frames."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from pipecat.frames.frames import CancelFrame, EndFrame, Frame, InputAudioRawFrame
from pipecat.observers.base_observer import BaseObserver, FramePushed
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.workers.runner import WorkerRunner

from talkpath.agent.audio import float_to_pcm16

__all__ = ["Call", "Heard", "call"]

WAIT_S = 60
T = TypeVar("T", bound=Frame)


@dataclass(frozen=True)
class Heard:
    """A frame, where it was first pushed and which way."""

    frame: Frame
    source: FrameProcessor
    direction: FrameDirection


class _Ear(BaseObserver):
    def __init__(self) -> None:
        super().__init__()
        self.heard: list[Heard] = []
        self.news = asyncio.Event()
        self._seen: set[int] = set()

    async def on_push_frame(self, data: FramePushed) -> None:
        if data.frame.id not in self._seen:
            self._seen.add(data.frame.id)
            self.heard.append(Heard(data.frame, data.source, data.direction))
            self.news.set()


class Call:
    """A running pipeline."""

    def __init__(self, worker: PipelineWorker, ear: _Ear, rate_hz: int) -> None:
        self.worker = worker
        self.rate_hz = rate_hz
        self._ear = ear

    @property
    def heard(self) -> list[Heard]:
        """All frames so far, each once, in the order of their first push."""
        return self._ear.heard

    def frames(
        self, *kinds: type[T], direction: FrameDirection = FrameDirection.DOWNSTREAM
    ) -> list[T]:
        return [
            item.frame
            for item in self.heard
            if isinstance(item.frame, kinds) and item.direction is direction
        ]

    async def send(self, *frames: Frame) -> None:
        for frame in frames:
            await self.worker.queue_frame(frame)

    async def say(
        self, audio: NDArray[np.float32], *, block_s: float = 0.02, pace_s: float = 0.002
    ) -> None:
        """Send audio at the call's rate; the pause lets partials come in between."""
        block = round(block_s * self.rate_hz)
        for at in range(0, len(audio), block):
            pcm = float_to_pcm16(audio[at : at + block])
            await self.send(InputAudioRawFrame(pcm, self.rate_hz, 1))
            await asyncio.sleep(pace_s)

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until what was heard makes something true."""
        async with asyncio.timeout(WAIT_S):
            while not condition():
                self._ear.news.clear()
                await self._ear.news.wait()


@asynccontextmanager
async def call(
    processors: Sequence[FrameProcessor],
    *,
    rate_hz: int = 16_000,
    rtvi: bool = False,
    observe: Callable[[PipelineWorker], BaseObserver] | None = None,
    cancel: bool = False,
) -> AsyncIterator[Call]:
    """Run a pipeline; at the end of the block it gets an EndFrame, or is cancelled."""
    ear = _Ear()
    worker = PipelineWorker(
        Pipeline(list(processors)),
        params=PipelineParams(
            audio_in_sample_rate=rate_hz, enable_metrics=True, enable_usage_metrics=True
        ),
        observers=[ear],
        enable_rtvi=rtvi,
        cancel_on_idle_timeout=False,
    )
    if observe is not None:
        worker.add_observer(observe(worker))
    started = asyncio.Event()
    worker.add_event_handler("on_pipeline_started", lambda *_: started.set())
    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(worker)
    running = asyncio.create_task(runner.run())
    try:
        async with asyncio.timeout(WAIT_S):
            await started.wait()
        yield Call(worker, ear, rate_hz)
        await worker.queue_frame(CancelFrame() if cancel else EndFrame())
        async with asyncio.timeout(WAIT_S):
            await running
    finally:
        if not running.done():
            await runner.cancel()
            await asyncio.gather(running, return_exceptions=True)
