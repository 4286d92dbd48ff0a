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
from talkpath.agent.speech.silero import WINDOW_S, WINDOW_SAMPLES, SileroState, SileroVad

__all__ = [
    "WINDOW_S",
    "WINDOW_SAMPLES",
    "EarlyPause",
    "SileroState",
    "SileroVad",
    "SpeechEvent",
    "SpeechMachine",
    "SpeechResumed",
    "SpeechStarted",
    "SpeechStopped",
    "SpeechTracker",
]
