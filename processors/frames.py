"""Frames that talkpath adds to Pipecat's."""

from dataclasses import dataclass

from pipecat.frames.frames import SystemFrame

__all__ = ["EarlyPauseFrame", "NothingHeardFrame", "SpeechResumedFrame"]


@dataclass
class EarlyPauseFrame(SystemFrame):
    """The speaker has been silent for a moment: a good time to decode what may be all.

    Parameters:
        silence_s: seconds of silence so far.
    """

    silence_s: float = 0.0


@dataclass
class SpeechResumedFrame(SystemFrame):
    """The speaker went on after an early pause: what was decoded of it is not all."""


@dataclass
class NothingHeardFrame(SystemFrame):
    """The speech that just stopped held no words: no ``TranscriptionFrame`` will come for it.

    Parameters:
        utterance: number of the utterance in its stream, as in its partials.
    """

    utterance: int = 0
