"""The peer of ``talkpath bench conversation``: an assistant of stock Pipecat parts.

Its Whisper service, its voice activity in the aggregator, its default turn strategies (Smart
Turn), its OpenAI service and its Piper service, with the models and the language model's server
that the settings name. The frame around the pipeline is that of our bots, so that both are
observed alike.
"""

import asyncio
from typing import Any

import ctranslate2
from pipecat.audio.vad.silero import SileroVADAnalyzer
from pipecat.frames.frames import TTSSpeakFrame
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import (
    LLMContextAggregatorPair,
    LLMUserAggregatorParams,
)
from pipecat.runner.types import RunnerArguments
from pipecat.services.openai.llm import OpenAILLMService
from pipecat.services.piper.tts import PiperTTSService
from pipecat.services.whisper.stt import WhisperSTTService
from pipecat.transcriptions.language import Language
from pipecat.transports.base_transport import BaseTransport

from talkpath.agent.errors import ConfigError
from talkpath.agent.runtime import runtime
from talkpath.bots.assistant import GREETING
from talkpath.bots.session import make_worker, run_worker
from talkpath.transports.factory import create_transport

__all__ = ["prepare_stock", "stock"]

_TTFS_S = 1.0  # its own default, given so that it does not warn of it


async def prepare_stock() -> None:
    """Start the language model, which every session shares; the rest is each session's own."""
    await runtime().reply_endpoint()


def _hearing() -> WhisperSTTService:
    shared = runtime()
    whisper = shared.config.whisper
    compute_type = whisper.compute_type
    if compute_type == "auto":
        compute_type = "float16" if ctranslate2.get_cuda_device_count() else "int8"
    return WhisperSTTService(
        device=whisper.device,
        compute_type=compute_type,
        settings=WhisperSTTService.Settings(
            model=str(shared.store.pull(whisper.model)), language=Language(whisper.language)
        ),
        ttfs_p99_latency=_TTFS_S,
    )


def _voice() -> PiperTTSService:
    shared = runtime()
    piper = shared.config.voice.piper_model
    if piper is None:
        raise ConfigError(f"voice.service is {shared.config.voice.service}, not piper")
    model = shared.store.pull(piper)
    return PiperTTSService(
        download_dir=model.parent, settings=PiperTTSService.Settings(voice=model.stem)
    )


async def stock(runner_args: RunnerArguments) -> None:
    """One session."""
    reply, endpoint = runtime().config.reply, await runtime().reply_endpoint()
    transport = await create_transport(runner_args)
    # They load their models in their constructors.
    hearing = await asyncio.to_thread(_hearing)
    voice = await asyncio.to_thread(_voice)
    context = LLMContextAggregatorPair(
        LLMContext(), user_params=LLMUserAggregatorParams(vad_analyzer=SileroVADAnalyzer())
    )
    thinking = OpenAILLMService(
        base_url=endpoint.base_url,
        api_key=endpoint.api_key or "none",
        settings=OpenAILLMService.Settings(
            model=endpoint.model, system_instruction=reply.prompt, max_tokens=reply.max_tokens
        ),
    )
    worker = make_worker(
        runner_args,
        transport,
        [
            transport.input(),
            hearing,
            context.user(),
            thinking,
            voice,
            transport.output(),
            context.assistant(),
        ],
    )

    @transport.event_handler("on_client_connected")
    async def on_client_connected(transport: BaseTransport, client: Any) -> None:
        await worker.queue_frame(TTSSpeakFrame(GREETING, append_to_context=True))

    await run_worker(runner_args, worker)
