"""Lines of a load: real Pipecat pipelines, each with one speaker, played in real time.

All sides have the same frame around them: the side's detector, an ear, the side's
speech-to-text, a second ear. The first ear hears the audio pass and speech begin and end, the
second one the transcripts. Nothing else observes the pipeline and no audio goes on behind the
speech-to-text, where nobody wants it: the processor's time is for the sides. Blocks of 20 ms go
in when the plan says so: a late block does not make the following ones late.
"""

import asyncio
import dataclasses
import time
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager

import ctranslate2
from pipecat.audio.vad.silero import SileroVADAnalyzer
from pipecat.frames.frames import (
    EndFrame,
    ErrorFrame,
    Frame,
    InputAudioRawFrame,
    InterimTranscriptionFrame,
    TranscriptionFrame,
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.audio.vad_processor import VADProcessor
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.services.whisper.stt import WhisperSTTService
from pipecat.workers.runner import WorkerRunner

from talkpath.agent.audio import SAMPLE_RATE_HZ
from talkpath.agent.bench.plan import BLOCK_S, StreamPlan
from talkpath.agent.bench.records import StreamRecord
from talkpath.agent.bench.report import Pacing
from talkpath.agent.client import ClientConfig
from talkpath.agent.config import Config
from talkpath.agent.metrics import Distribution
from talkpath.agent.runtime import Runtime
from talkpath.agent.whisper import Final, Partial
from talkpath.agent.whisper.statistics import EngineStatistics
from talkpath.bots.bench_server import server_process
from talkpath.processors.frames import NothingHeardFrame
from talkpath.processors.remote_whisper import RemoteWhisper
from talkpath.processors.speech_detector import SpeechDetector
from talkpath.processors.streaming_whisper import StreamingWhisper

__all__ = ["BLOCK_BYTES", "SIDES", "Line", "Side", "open_lines", "play"]

BLOCK_BYTES = round(BLOCK_S * SAMPLE_RATE_HZ) * 2
"""Bytes of one block: 20 ms of 16-bit mono PCM at 16 kHz."""

_SILENCE = bytes(BLOCK_BYTES)
_START_WAIT_S = 120.0
_PIPECATS_TTFS_S = 1.0  # its own default, given so that it does not warn of it
_END_WAIT_S = 60.0

Processors = Callable[[], Awaitable[tuple[FrameProcessor, FrameProcessor]]]
"""Makes a detector and a speech-to-text service for one more stream."""


@dataclasses.dataclass(frozen=True, slots=True)
class Side:
    """What is measured.

    Attributes:
        processors: makes those of one more stream.
        counters: what its engine has counted so far.
        processor_s: processor seconds that it has used outside this process.
    """

    processors: Processors
    counters: Callable[[], dict[str, float]] = dict
    processor_s: Callable[[], float] = float


class _DetectorEar(FrameProcessor):
    """Behind the detector: audio that passed, speech that began and ended, errors."""

    def __init__(self, record: StreamRecord) -> None:
        super().__init__(enable_direct_mode=True)
        self._record = record

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, ErrorFrame):
            self._record.failed(time.time(), str(frame.error))
        elif direction is FrameDirection.DOWNSTREAM:
            if isinstance(frame, InputAudioRawFrame):
                self._record.block()
            elif isinstance(frame, VADUserStartedSpeakingFrame):
                self._record.started(frame.start_secs)
            elif isinstance(frame, VADUserStoppedSpeakingFrame):
                self._record.stopped(frame.timestamp, frame.stop_secs)
        await self.push_frame(frame, direction)


class _TranscriptEar(FrameProcessor):
    """Last in the pipeline: transcripts, or the news that there is none."""

    def __init__(self, record: StreamRecord) -> None:
        super().__init__(enable_direct_mode=True)
        self._record = record

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, InterimTranscriptionFrame):
            partial = frame.result
            if isinstance(partial, Partial):
                self._record.partial(
                    time.time(),
                    partial.utterance,
                    partial.stable,
                    partial.rest,
                    partial.duration_s,
                )
        elif isinstance(frame, TranscriptionFrame):
            final = frame.result
            if isinstance(final, Final):
                self._record.final(
                    time.time(),
                    frame.text,
                    utterance=final.utterance,
                    speculative=final.speculative,
                    ends_speech=final.ends_speech,
                    duration_s=final.transcript.duration_s,
                )
            else:
                self._record.final(time.time(), frame.text)
        elif isinstance(frame, NothingHeardFrame):
            self._record.nothing(time.time())
        await self.push_frame(frame, direction)


class _PipecatWhisper(WhisperSTTService):
    """Pipecat's service as it is; it only says so where it has heard no word."""

    async def run_stt(self, audio: bytes) -> AsyncGenerator[Frame, None]:
        heard = False
        async for frame in super().run_stt(audio):
            heard = True
            yield frame
        if not heard:
            yield NothingHeardFrame()


@asynccontextmanager
async def _talkpath(config: Config) -> AsyncIterator[Side]:
    runtime = Runtime(config)
    try:
        engine = await runtime.whisper()
        vad = await runtime.vad()

        async def processors() -> tuple[FrameProcessor, FrameProcessor]:
            service = StreamingWhisper(engine, language="en", audio_passthrough=False)
            return SpeechDetector(vad, config.speech), service

        yield Side(processors, lambda: _numbers(engine.statistics))
    finally:
        await runtime.aclose()


@asynccontextmanager
async def _served(config: Config) -> AsyncIterator[Side]:
    """The same engine behind a socket: ``talkpath serve`` in a process of its own."""
    runtime = Runtime(config)
    try:
        vad = await runtime.vad()
        async with server_process(config) as server:

            async def processors() -> tuple[FrameProcessor, FrameProcessor]:
                wanted = ClientConfig(
                    language="en",
                    partial_interval_s=config.whisper.partial_interval_s,
                    speech=config.speech,
                )
                service = RemoteWhisper([server.url], config=wanted, audio_passthrough=False)
                return SpeechDetector(vad, config.speech), service

            yield Side(processors, server.counters, server.processor_s)
    finally:
        await runtime.aclose()


@asynccontextmanager
async def _pipecat(config: Config) -> AsyncIterator[Side]:
    # As its users have it: a service, and so a model, for every pipeline.
    whisper = config.whisper
    compute_type = whisper.compute_type
    if compute_type == "auto":
        on_gpu = whisper.device == "cuda" or (
            whisper.device == "auto" and ctranslate2.get_cuda_device_count() > 0
        )
        compute_type = "float16" if on_gpu else "int8"
    model = str(Runtime(config).store.pull(whisper.model))

    async def processors() -> tuple[FrameProcessor, FrameProcessor]:
        service = await asyncio.to_thread(
            _PipecatWhisper,
            device=whisper.device,
            compute_type=compute_type,
            settings=WhisperSTTService.Settings(model=model),
            ttfs_p99_latency=_PIPECATS_TTFS_S,
            audio_passthrough=False,
        )
        return VADProcessor(vad_analyzer=SileroVADAnalyzer()), service

    yield Side(processors)


SIDES = {"talkpath": _talkpath, "served": _served, "pipecat": _pipecat}
"""How to make the processors of each side, by name."""


def _numbers(statistics: EngineStatistics) -> dict[str, float]:
    """Its counters, and the means of what it measured."""
    numbers: dict[str, float] = {}
    for field in dataclasses.fields(statistics):
        value = getattr(statistics, field.name)
        parts = value.items() if isinstance(value, Mapping) else [("", value)]
        for key, part in parts:
            name = f"{field.name} {key}".strip()
            if isinstance(part, Distribution):
                numbers[f"mean {name}"] = part.mean
            elif isinstance(part, int | float):
                numbers[name] = part
    return numbers


class Line:
    """One stream: a running pipeline and the record of what comes out of it."""

    def __init__(self, plan: StreamPlan, detector: FrameProcessor, service: FrameProcessor) -> None:
        self.record = StreamRecord(plan)
        self.started = asyncio.Event()
        self.worker = PipelineWorker(
            Pipeline([detector, _DetectorEar(self.record), service, _TranscriptEar(self.record)]),
            params=PipelineParams(audio_in_sample_rate=SAMPLE_RATE_HZ),
            enable_rtvi=False,
            enable_turn_tracking=False,
            idle_timeout_secs=None,
        )
        self.worker.add_event_handler("on_pipeline_started", self._on_started)

    async def _on_started(self, *_: object) -> None:
        self.started.set()

    async def feed(self, block: bytes) -> None:
        """Hand one block to the pipeline."""
        await self.worker.queue_frame(InputAudioRawFrame(block, SAMPLE_RATE_HZ, 1))


@asynccontextmanager
async def open_lines(
    plans: Sequence[StreamPlan], processors: Processors
) -> AsyncIterator[list[Line]]:
    """Run a pipeline for each plan; they end with the block."""
    lines = [Line(plan, *await processors()) for plan in plans]
    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(*(line.worker for line in lines))
    running = asyncio.create_task(runner.run())
    try:
        async with asyncio.timeout(_START_WAIT_S):
            for line in lines:
                await line.started.wait()
        yield lines
        for line in lines:
            await line.worker.queue_frame(EndFrame())
        await asyncio.wait([running], timeout=_END_WAIT_S)
    finally:
        if not running.done():
            await runner.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def play(
    line: Line,
    pcm: Sequence[bytes],
    began: float,
    pacing: Pacing,
    *,
    on_play: Callable[[], object],
    wait_s: float,
) -> None:
    """Play a line's plan, then silence until its last final is there.

    Args:
        line: the line.
        pcm: the clips.
        began: when the load began, on ``time.monotonic()``.
        pacing: counts how late blocks were.
        on_play: called after each clip and its silence.
        wait_s: longest wait for the last finals.
    """
    plan = line.record.plan
    began += plan.offset_s
    line.record.began_s = time.time() + began - time.monotonic()
    ends = {item.end_block for item in plan.plays}
    blocks = _blocks(plan, pcm)
    longest = plan.blocks + round(wait_s / BLOCK_S)
    for index in range(longest):
        if index >= plan.blocks and line.record.settled:
            return
        due = began + index * BLOCK_S
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        pacing.add(time.monotonic() - due)
        await line.feed(next(blocks))
        if index + 1 in ends:
            on_play()


def _blocks(plan: StreamPlan, pcm: Sequence[bytes]) -> Iterator[bytes]:
    """All blocks of a plan, then silence without end."""
    at = 0
    for item in plan.plays:
        for _ in range(at, item.start_block):
            yield _SILENCE
        audio = pcm[item.clip]
        for start in range(0, item.blocks * BLOCK_BYTES, BLOCK_BYTES):
            yield audio[start : start + BLOCK_BYTES].ljust(BLOCK_BYTES, b"\0")
        at = item.start_block + item.blocks
    while True:
        yield _SILENCE
