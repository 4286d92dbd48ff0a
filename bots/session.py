"""What every bot's session has around its pipeline."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

from loguru import logger
from pipecat.frames.frames import TTSSpeakFrame
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.frame_processor import FrameProcessor
from pipecat.runner.types import RunnerArguments
from pipecat.transports.base_transport import BaseTransport
from pipecat.workers.runner import WorkerRunner

from talkpath.agent.client import probe
from talkpath.agent.runtime import runtime
from talkpath.agent.speech.noise import NoiseFilter
from talkpath.bots.stages import wanted_of_server
from talkpath.processors.latency_timeline import LatencyTimeline
from talkpath.processors.page_feed import PageFeed

if TYPE_CHECKING:
    from fastapi import FastAPI

__all__ = [
    "greet",
    "make_worker",
    "prepare_speech",
    "run_under_pipecat",
    "run_worker",
]


def make_worker(
    runner_args: RunnerArguments,
    transport: BaseTransport,
    processors: Sequence[FrameProcessor],
    *,
    finish: bool = False,
) -> PipelineWorker:
    """Wrap a pipeline: metrics, captions and latencies for the page, an end when the caller goes.

    Args:
        runner_args: what the bot was called with.
        transport: the session's; its input and output are among the processors.
        processors: the pipeline, in order.
        finish: whether what was said last is still worked through once the caller is gone, for
            bots that write it down.
    """
    worker = PipelineWorker(
        Pipeline(list(processors)),
        params=PipelineParams(enable_metrics=True, enable_usage_metrics=True),
        idle_timeout_secs=runner_args.pipeline_idle_timeout_secs,
        app_resources=runtime(),
    )
    feed = PageFeed(worker.rtvi)
    worker.add_observer(feed)
    worker.add_observer(
        LatencyTimeline(feed.turn_latency, feed.turn_counts, metrics=runtime().turns)
    )

    @transport.event_handler("on_client_disconnected")
    async def on_client_disconnected(transport: BaseTransport, client: Any) -> None:
        await (worker.stop_when_done() if finish else worker.cancel())

    return worker


def greet(transport: BaseTransport, worker: PipelineWorker, greeting: str) -> None:
    """Let the bot say something as soon as the caller is there, and remember that it did.

    Args:
        transport: the session's.
        worker: what ``make_worker`` gave.
        greeting: the words.
    """
    greeted = False

    @transport.event_handler("on_client_connected")
    async def on_client_connected(transport: BaseTransport, client: Any) -> None:
        nonlocal greeted
        if greeted:  # the page has restored a broken connection
            return
        greeted = True
        await worker.queue_frame(TTSSpeakFrame(greeting, append_to_context=True))


async def prepare_speech() -> None:
    """Load what hears: voice activity, and Whisper unless servers have it; those are asked.

    That none of them can be reached is no reason to stop: they may come later.

    Raises:
        MissingDependency: the noise filter of the settings is not installed.
        ServersRefused: none of the servers will ever take this client: a wrong key, or so.
    """
    config = runtime().config
    await runtime().vad()
    if config.speech.noise_filter != "none":
        NoiseFilter()
    if not config.whisper.servers:
        await runtime().whisper()
    elif not await probe(
        config.whisper.servers, wanted_of_server(config), api_key=config.whisper.api_key
    ):
        logger.warning(
            "No speech-to-text server is available now; callers are not understood until one of "
            "these is: {}",
            ", ".join(config.whisper.servers),
        )


async def run_worker(runner_args: RunnerArguments, worker: PipelineWorker) -> None:
    """Run a session to its end."""
    runner = WorkerRunner(
        handle_sigint=runner_args.handle_sigint, handle_sigterm=runner_args.handle_sigterm
    )
    await runner.add_workers(worker)
    await runner.run()


def run_under_pipecat(prepare: Callable[[], Awaitable[None]]) -> None:
    """Serve the main module's bot with Pipecat's own runner, which reads the command line.

    The runner imports a bot and lets callers in at once; here the models come first, or the
    first caller would wait for them in the middle of the call. Where it runs no server of its
    own (``--direct``), they are loaded by the first session, as they are in any other bot.

    Args:
        prepare: loads what the bot's sessions share.
    """
    from pipecat.runner.run import app, main

    started = app.router.lifespan_context

    @contextlib.asynccontextmanager
    async def lifespan(app: "FastAPI") -> AsyncIterator[None]:
        async with started(app):
            try:
                await prepare()
                yield
            finally:
                await runtime().aclose()

    app.router.lifespan_context = lifespan
    main()
