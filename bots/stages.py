"""The stages that bots put together: what hears, whose turn it is.

Each reads the settings of the process, so a bot names its stages and their order alone.
"""

from dataclasses import replace
from typing import Any

from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import (
    LLMContextAggregatorPair,
    LLMUserAggregatorParams,
)
from pipecat.processors.frame_processor import FrameProcessor
from pipecat.services.stt_service import STTService
from pipecat.turns.user_turn_processor import UserTurnProcessor

from talkpath.agent.client import ClientConfig
from talkpath.agent.config import Config
from talkpath.agent.runtime import runtime
from talkpath.agent.turns import TurnProfile, turn_profile
from talkpath.processors.remote_whisper import RemoteWhisper
from talkpath.processors.speech_detector import SpeechDetector
from talkpath.processors.streaming_whisper import StreamingWhisper
from talkpath.processors.turn_taking import turn_strategies

__all__ = ["conversation", "hearing", "user_turns", "wanted_of_server"]

# Should a machine of ours ever miss the end of a turn, Pipecat ends it so much later.
_SAFETY_S = 3.0


async def hearing(
    *,
    task: str | None = None,
    words: bool = False,
    audio_passthrough: bool = True,
    profile: str = "balanced",
) -> list[FrameProcessor]:
    """All between the transport's input and the turns: who speaks, and what is said.

    Args:
        task: ``transcribe``, ``translate`` into English, or None for the settings'.
        words: whether finals carry the times of their words.
        audio_passthrough: whether the audio goes on behind it; False saves work where nobody
            listens there.
        profile: the bot's own way of taking turns, where the settings name none.
    """
    shared = runtime()
    return [
        SpeechDetector(await shared.vad(), shared.config.speech),
        await _speech_to_text(
            task=task,
            words=words,
            audio_passthrough=audio_passthrough,
            eager=_profile(profile).eager,
        ),
    ]


async def conversation(
    context: LLMContext, *, profile: str = "balanced"
) -> LLMContextAggregatorPair:
    """Turns between a caller and a language model; both sides of it go into the pipeline.

    Args:
        context: what is said, and the tools.
        profile: the bot's own way of taking turns, where the settings name none.
    """
    return LLMContextAggregatorPair(context, user_params=await _turns(_profile(profile)))


async def user_turns(*, profile: str = "balanced") -> UserTurnProcessor:
    """Turns of a caller in a bot without a language model.

    Args:
        profile: the bot's own way of taking turns, where the settings name none.
    """
    # Without a model there is no reply to begin early.
    params = await _turns(replace(_profile(profile), eager=False))
    return UserTurnProcessor(
        user_turn_strategies=params.user_turn_strategies,
        user_turn_stop_timeout=params.user_turn_stop_timeout,
    )


def wanted_of_server(config: Config, **changes: Any) -> ClientConfig:
    """What a session wants of a speech-to-text server.

    Args:
        config: the settings.
        changes: fields of ``ClientConfig`` that differ from them.
    """
    whisper = config.whisper
    fields = {
        "language": whisper.language,
        "languages": whisper.languages,
        "task": whisper.task,
        "prompt": whisper.prompt,
        "partial_interval_s": whisper.partial_interval_s,
        "speech": config.speech,
    }
    return ClientConfig(**{**fields, **changes})


def _profile(usual: str) -> TurnProfile:
    return turn_profile(runtime().config.turn, usual)


async def _turns(profile: TurnProfile) -> LLMUserAggregatorParams:
    shared = runtime()
    return LLMUserAggregatorParams(
        user_turn_strategies=turn_strategies(
            profile, shared.config.speech.stop_s, await shared.smart_turn()
        ),
        user_turn_stop_timeout=profile.wait_s + _SAFETY_S,
    )


async def _speech_to_text(
    *, task: str | None, words: bool, audio_passthrough: bool, eager: bool
) -> STTService:
    """In this process, or at the servers of the settings, which know nothing of eager finals."""
    config = runtime().config
    whisper = config.whisper
    if not whisper.servers:
        return StreamingWhisper(
            await runtime().whisper(),
            task=task,
            words=words,
            audio_passthrough=audio_passthrough,
            eager=eager,
        )
    changes: dict[str, Any] = {"word_timestamps": words}
    if task is not None:
        changes["task"] = task
    return RemoteWhisper(
        whisper.servers,
        config=wanted_of_server(config, **changes),
        api_key=whisper.api_key,
        audio_passthrough=audio_passthrough,
    )
