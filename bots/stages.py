"""The stages that bots put together: what hears, whose turn it is, what thinks, what speaks.

Each reads the settings of the process, so a bot names its stages and their order alone.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from loguru import logger
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import (
    LLMContextAggregatorPair,
    LLMUserAggregatorParams,
)
from pipecat.processors.frame_processor import FrameProcessor
from pipecat.services.stt_service import STTService
from pipecat.services.tts_service import TTSService
from pipecat.turns.user_turn_processor import UserTurnProcessor

from talkpath.agent.client import ClientConfig
from talkpath.agent.config import Config, ReplyConfig
from talkpath.agent.runtime import runtime
from talkpath.agent.turns import TurnProfile, turn_profile
from talkpath.processors.first_phrase import Phrases
from talkpath.processors.half_duplex import MuteWhileSpeaking
from talkpath.processors.remote_whisper import RemoteWhisper
from talkpath.processors.reply import Reply
from talkpath.processors.reply_filler import Filler
from talkpath.processors.speech_detector import SpeechDetector
from talkpath.processors.streaming_whisper import StreamingWhisper
from talkpath.processors.turn_taking import turn_strategies
from talkpath.processors.voices import make_voice

__all__ = [
    "conversation",
    "hearing",
    "prepare_speaking",
    "prepare_thinking",
    "speaking",
    "thinking",
    "user_turns",
    "wanted_of_server",
]

# Should a machine of ours ever miss the end of a turn, Pipecat ends it so much later.
_SAFETY_S = 3.0


async def hearing(
    *,
    task: str | None = None,
    words: bool = False,
    everybody: bool = False,
    profile: str = "balanced",
) -> list[FrameProcessor]:
    """All between the transport's input and the turns: who speaks, and what is said.

    Args:
        task: ``transcribe``, ``translate`` into English, or None for the settings'.
        words: whether finals carry the times of their words.
        everybody: whether speech far quieter than the caller's counts, too, as in a meeting.
        profile: the bot's own way of taking turns, where the settings name none.
    """
    shared = runtime()
    speech = shared.config.speech
    if everybody:
        speech = replace(speech, background_db=0.0)
    return [
        *([MuteWhileSpeaking()] if speech.mute_while_speaking else []),
        SpeechDetector(await shared.vad(), speech),
        await _speech_to_text(task=task, words=words, eager=_profile(profile).eager),
    ]


async def conversation(
    context: LLMContext, *, profile: str = "balanced"
) -> LLMContextAggregatorPair:
    """Turns between a caller and a language model; both sides of it go into the pipeline.

    Args:
        context: what is said, and the tools.
        profile: the bot's own way of taking turns, where the settings name none.
    """
    return LLMContextAggregatorPair(context, user_params=await _turns(_profile(profile), context))


async def user_turns(*, profile: str = "balanced", answers: bool = True) -> UserTurnProcessor:
    """Turns of a caller in a bot without a language model.

    Args:
        profile: the bot's own way of taking turns, where the settings name none.
        answers: whether the bot answers turns; False for one that only listens.
    """
    # Without a model there is no reply to begin early.
    params = await _turns(replace(_profile(profile), eager=False), answers=answers)
    return UserTurnProcessor(
        user_turn_strategies=params.user_turn_strategies,
        user_turn_stop_timeout=params.user_turn_stop_timeout,
    )


async def prepare_thinking(prompt: str | None = None, *, tools: bool = False) -> None:
    """Load what ``thinking`` needs, before the first caller is let in.

    Args:
        prompt: as for ``thinking``.
        tools: whether the bot is of little use with a model that calls no functions; then there
            is a warning if it has none that does.
    """
    if tools and not runtime().config.reply.calls_functions:
        logger.warning(
            "This bot needs a language model that calls functions, and {} in this process calls "
            "none: --llm-url names a server with one that does",
            runtime().config.reply.local_model,
        )
    await runtime().reply_endpoint(_prompt(prompt))


async def thinking(
    prompt: str | None = None, *, fillers: Mapping[str, Filler | str] | None = None
) -> list[FrameProcessor]:
    """What makes a reply, from the context to sentences: the ``Reply``, and what cuts it.

    Args:
        prompt: the bot's own system message; one that the user has set goes over it.
        fillers: by a tool's name, what is said while it runs.
    """
    shared = runtime()
    config = replace(shared.config.reply, prompt=_prompt(prompt))
    endpoint = await shared.reply_endpoint(config.prompt)
    return [Reply(endpoint, config, fillers=fillers, metrics=shared.replies), Phrases()]


async def prepare_speaking() -> None:
    """Load what ``speaking`` needs, before the first caller is let in.

    Raises:
        ConfigError: there is no such service, or it refuses its options.
    """
    await speaking()


async def speaking() -> TTSService:
    """The voice of one session: Piper's in this process, or the service of the settings.

    Raises:
        ConfigError: there is no such service, or it refuses its options.
    """
    shared = runtime()
    config = shared.config.voice
    return make_voice(config, await shared.voice() if config.piper_model else None)


def _prompt(own: str | None) -> str:
    configured = runtime().config.reply.prompt
    return own if own is not None and configured == ReplyConfig().prompt else configured


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


async def _turns(
    profile: TurnProfile, context: LLMContext | None = None, *, answers: bool = True
) -> LLMUserAggregatorParams:
    shared = runtime()
    return LLMUserAggregatorParams(
        user_turn_strategies=turn_strategies(
            profile,
            shared.config.speech.stop_s,
            await shared.smart_turn(),
            context=context,
            answers=answers,
        ),
        user_turn_stop_timeout=profile.wait_s + _SAFETY_S,
    )


async def _speech_to_text(*, task: str | None, words: bool, eager: bool) -> STTService:
    """In this process, or at the servers of the settings, which know nothing of eager finals."""
    config = runtime().config
    whisper = config.whisper
    if not whisper.servers:
        return StreamingWhisper(
            await runtime().whisper(),
            task=task,
            words=words,
            eager=eager,
        )
    changes: dict[str, Any] = {"word_timestamps": words}
    if task is not None:
        changes["task"] = task
    return RemoteWhisper(
        whisper.servers,
        config=wanted_of_server(config, **changes),
        api_key=whisper.api_key,
    )
