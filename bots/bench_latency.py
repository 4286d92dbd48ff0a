"""Time to the final of one stream, against Pipecat's own Whisper service in the same run.

Each clip is played at the pace of speech, in frames of 20 ms and with silence after it,
first through our pipeline (``SpeechDetector``, ``StreamingWhisper``) and then through
Pipecat's (``VADProcessor`` with Silero, ``WhisperSTTService``), same model and type of
weights. The figure is TTFS as Pipecat defines it: from the end of speech (the detector's
stop less the silence that it waited for, 0.2 s in both) to the final transcript.
"""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from pipecat.audio.vad.silero import SileroVADAnalyzer
from pipecat.frames.frames import (
    EndFrame,
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
from tqdm import tqdm

from talkpath.agent.audio import SAMPLE_RATE_HZ, FloatArray, float_to_pcm16
from talkpath.agent.bench.accuracy import load_manifest
from talkpath.agent.config import Config
from talkpath.agent.errors import AudioError
from talkpath.agent.media import AudioFile
from talkpath.agent.runtime import Runtime
from talkpath.processors.frames import NothingHeardFrame
from talkpath.processors.speech_detector import SpeechDetector
from talkpath.processors.streaming_whisper import StreamingWhisper

__all__ = ["Latency", "add_arguments", "run"]

_FRAME_S = 0.02
_SILENCE_S = 0.6
_FINAL_WAIT_S = 20.0


@dataclass(frozen=True, slots=True)
class Latency:
    """Figures of one side.

    Attributes:
        finals: utterances that ended in a final.
        p50_s: TTFS, median, in seconds.
        p95_s: 95th percentile.
        p99_s: 99th percentile.
        partials_per_s: partials per second of played audio.
        missing: speech that never got a final.
    """

    finals: int
    p50_s: float
    p95_s: float
    p99_s: float
    partials_per_s: float
    missing: int


class _Stopwatch(FrameProcessor):
    """Last in the pipeline: measures from each end of speech to its final."""

    def __init__(self) -> None:
        super().__init__()
        self.ttfs_s: list[float] = []
        self.partials = 0
        self.missing = 0
        self._end: float | None = None
        self.settled = asyncio.Event()
        self.settled.set()

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, VADUserStartedSpeakingFrame):
            self.settled.clear()
        elif isinstance(frame, VADUserStoppedSpeakingFrame):
            self.missing += self._end is not None
            self._end = frame.timestamp - frame.stop_secs
        elif isinstance(frame, InterimTranscriptionFrame):
            self.partials += 1
        elif isinstance(frame, TranscriptionFrame) and self._end is not None:
            self.ttfs_s.append(time.time() - self._end)
            self._end = None
            self.settled.set()
        elif isinstance(frame, NothingHeardFrame):
            self.missing += 1
            self._end = None
            self.settled.set()
        await self.push_frame(frame, direction)


class _Line:
    """One side: a running pipeline that audio is played into."""

    def __init__(self, processors: Sequence[FrameProcessor]) -> None:
        self.stopwatch = _Stopwatch()
        self._worker = PipelineWorker(
            Pipeline([*processors, self.stopwatch]),
            params=PipelineParams(enable_metrics=True),
            idle_timeout_secs=None,
            enable_rtvi=False,
        )
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "_Line":
        runner = WorkerRunner(handle_sigint=False)
        await runner.add_workers(self._worker)
        self._task = asyncio.create_task(runner.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        await self._worker.queue_frame(EndFrame())
        await self._task

    async def play(self, audio: FloatArray) -> None:
        """Play a clip at its pace, and silence until its final is there."""
        pcm = float_to_pcm16(audio)
        step = round(_FRAME_S * SAMPLE_RATE_HZ) * 2
        silence = bytes(step)
        started = time.monotonic()
        least = len(pcm) // step + round(_SILENCE_S / _FRAME_S)
        most = len(pcm) // step + round(_FINAL_WAIT_S / _FRAME_S)
        for index in range(most):
            if index >= least and self.stopwatch.settled.is_set():
                return
            chunk = pcm[index * step : (index + 1) * step]
            await self._worker.queue_frame(
                InputAudioRawFrame(
                    audio=chunk if len(chunk) == step else silence,
                    sample_rate=SAMPLE_RATE_HZ,
                    num_channels=1,
                )
            )
            await asyncio.sleep(max(0.0, started + (index + 1) * _FRAME_S - time.monotonic()))
        self.stopwatch.settled.set()

    def latency(self, played_s: float) -> Latency:
        values = self.stopwatch.ttfs_s or [float("nan")]
        p50, p95, p99 = np.percentile(values, [50, 95, 99])
        return Latency(
            finals=len(self.stopwatch.ttfs_s),
            p50_s=float(p50),
            p95_s=float(p95),
            p99_s=float(p99),
            partials_per_s=self.stopwatch.partials / played_s,
            missing=self.stopwatch.missing,
        )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``talkpath bench latency``."""
    parser.add_argument("data", type=Path, metavar="DIR", help="folder with a manifest.jsonl")
    parser.add_argument(
        "--clips",
        type=int,
        default=0,
        metavar="N",
        help="play only N clips, evenly chosen; 0 plays all (default: 0)",
    )
    parser.add_argument(
        "--without-pipecat",
        action="store_true",
        help="leave Pipecat's service out (default: measure both)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON (default: a table)")


def run(args: argparse.Namespace, config: Config) -> int:
    """Measure and print; returns the exit code.

    Raises:
        AudioError: the folder holds no English clips.
        TalkpathError: a model or a setting is not to be had.
    """
    sides = asyncio.run(_measure(args, config))
    if args.json:
        figures = {name: asdict(latency) for name, latency in sides.items()}
        sys.stdout.write(json.dumps(figures, indent=1) + "\n")
        return 0
    sys.stdout.write(
        f"{'':10}{'finals':>8}{'p50 s':>8}{'p95 s':>8}{'p99 s':>8}{'partials/s':>12}\n"
    )
    for name, side in sides.items():
        sys.stdout.write(
            f"{name:10}{side.finals:8}{side.p50_s:8.3f}{side.p95_s:8.3f}{side.p99_s:8.3f}"
            f"{side.partials_per_s:12.2f}\n"
        )
    if "pipecat" in sides:
        ours, theirs = sides["talkpath"], sides["pipecat"]
        sys.stdout.write(
            f"ratio p50 {theirs.p50_s / ours.p50_s:.1f}, p95 {theirs.p95_s / ours.p95_s:.1f}\n"
        )
    return 0


def _read(path: Path) -> FloatArray:
    with AudioFile(path) as file:
        return np.concatenate(list(file.blocks()))


async def _measure(args: argparse.Namespace, config: Config) -> dict[str, Latency]:
    clips = [clip for clip in load_manifest(args.data) if clip.language == "en"]
    if args.clips:
        clips = clips[:: max(1, len(clips) // args.clips)][: args.clips]
    if not clips:
        raise AudioError(f"{args.data} has no English clips")
    audio = [_read(clip.path) for clip in clips]
    runtime = Runtime(config)
    played_s = 0.0
    try:
        engine = await runtime.whisper()
        async with AsyncExitStack() as stack:
            lines = {
                "talkpath": await stack.enter_async_context(
                    _Line(
                        [
                            SpeechDetector(await runtime.vad(), config.speech),
                            StreamingWhisper(engine, language="en"),
                        ]
                    )
                )
            }
            if not args.without_pipecat:
                service = WhisperSTTService(
                    device=config.whisper.device,
                    compute_type="int8"
                    if config.whisper.compute_type == "auto"
                    else config.whisper.compute_type,
                    settings=WhisperSTTService.Settings(
                        model=str(runtime.store.pull(config.whisper.model))
                    ),
                )
                vad = VADProcessor(vad_analyzer=SileroVADAnalyzer())
                lines["pipecat"] = await stack.enter_async_context(_Line([vad, service]))
            for samples in tqdm(audio, unit="clip", file=sys.stderr, disable=None):
                played_s += len(samples) / SAMPLE_RATE_HZ
                for line in lines.values():
                    await line.play(samples)
        return {name: line.latency(played_s) for name, line in lines.items()}
    finally:
        await runtime.aclose()
