"""Voice activity: who speaks when."""

from talkpath.agent.speech.detector import (
    EarlyPause,
    SpeechEvent,
    SpeechMachine,
    SpeechResumed,
    SpeechStarted,
    SpeechStopped,
    SpeechTracker,
)
from talkpath.agent.speech.level import SpeechLevel
from talkpath.agent.speech.onset import OnsetMachine, SpeechOnset, SpeechOnsetEnded
from talkpath.agent.speech.silero import WINDOW_S, WINDOW_SAMPLES, SileroState, SileroVad

__all__ = [
    "WINDOW_S",
    "WINDOW_SAMPLES",
    "EarlyPause",
    "OnsetMachine",
    "SileroState",
    "SileroVad",
    "SpeechEvent",
    "SpeechLevel",
    "SpeechMachine",
    "SpeechOnset",
    "SpeechOnsetEnded",
    "SpeechResumed",
    "SpeechStarted",
    "SpeechStopped",
    "SpeechTracker",
]
