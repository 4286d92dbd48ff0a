"""loopback: says back every sample at once. No model, no turn, no word: it measures the line.

``talkpath bench telephone`` calls it. Run it with ``talkpath run loopback``.
"""

from pipecat.frames.frames import Frame, InputAudioRawFrame
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.runner.types import RunnerArguments
from pipecat.transports.base_transport import BaseTransport

from talkpath.agent.audio import SAMPLE_RATE_HZ
from talkpath.agent.runtime import runtime
from talkpath.bots.session import run_worker
from talkpath.processors.frames import LiveAudioFrame
from talkpath.transports.factory import create_transport

__all__ = ["MODELS", "bot"]

MODELS = ()
"""Kinds of models that this bot needs."""


class _Loopback(FrameProcessor):
    """Turns what was heard into what is said."""

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, InputAudioRawFrame):
            await self.push_frame(
                LiveAudioFrame(frame.audio, frame.sample_rate, frame.num_channels)
            )
        else:
            await self.push_frame(frame, direction)


async def bot(runner_args: RunnerArguments) -> None:
    """One session."""
    transport = await create_transport(runner_args)
    worker = PipelineWorker(
        Pipeline([transport.input(), _Loopback(enable_direct_mode=True), transport.output()]),
        params=PipelineParams(
            audio_in_sample_rate=SAMPLE_RATE_HZ, audio_out_sample_rate=SAMPLE_RATE_HZ
        ),
        idle_timeout_secs=runner_args.pipeline_idle_timeout_secs,
        app_resources=runtime(),
        enable_rtvi=False,
        enable_turn_tracking=False,
    )

    @transport.event_handler("on_client_disconnected")
    async def on_client_disconnected(transport: BaseTransport, client: object) -> None:
        await worker.cancel()

    await run_worker(runner_args, worker)
