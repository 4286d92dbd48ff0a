"""For scenarios of Pipecat's evals: a caller who speaks and listens with models of this machine.

In a scenario's file::

    user:
      modality: audio
      speech:
        factory: talkpath.bots.testing.evals.voice
        voice: piper-en-us-joe     # as in `talkpath models list`, or a path
    judge:
      modality: audio
      transcription:
        factory: talkpath.bots.testing.evals.ears
        model: tiny.en             # likewise

They block while they load: the event loop is the evals' own.
"""

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pipecat.evals.services import whisper_service
from pipecat.services.stt_service import STTService
from pipecat.services.tts_service import TTSService

from talkpath.agent.models import ModelStore
from talkpath.agent.voice import Voice
from talkpath.processors.piper_voice import PiperVoice

__all__ = ["ears", "voice"]

VOICE = "piper-en-us-joe"
EARS = "tiny.en"

_voices: dict[str, Voice] = {}


def voice(config: Mapping[str, Any]) -> TTSService:
    """Make the caller's voice, as ``user.speech.factory`` wants it; it is the same in each run.

    Args:
        config: the block ``user.speech``; ``voice`` names the voice.
    """
    name = str(config.get("voice") or VOICE)
    if name not in _voices:
        path = ModelStore().pull(name)
        with ThreadPoolExecutor(1) as thread:
            _voices[name] = thread.submit(asyncio.run, Voice.load(path)).result().steady()
    return PiperVoice(_voices[name])


def ears(config: Mapping[str, Any]) -> STTService:
    """Make what hears the bot, as ``judge.transcription.factory`` wants it.

    Args:
        config: the block ``judge.transcription``; ``model`` names the Whisper model, and all
            else is as for Pipecat's ``service: whisper``.
    """
    name = str(config.get("model") or EARS)
    return whisper_service({**config, "model": str(ModelStore().pull(name))})
