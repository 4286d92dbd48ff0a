"""Frames that talkpath adds to Pipecat's.

With Pipecat's own they tell a conversation's turns, in order: ``SpeechOnsetFrame`` (while the bot
speaks), ``SpeechOnsetEndedFrame`` or ``VADUserStartedSpeakingFrame``, ``EarlyPauseFrame``,
``SpeechResumedFrame`` or ``VADUserStoppedSpeakingFrame``, ``EagerEndOfTurnFrame``, and
``EagerEndOfTurnCancelFrame`` or ``UserStoppedSpeakingFrame``.
"""

from dataclasses import dataclass

from pipecat.frames.frames import SystemFrame

__all__ = [
    "EagerEndOfTurnFrame",
    "EarlyPauseFrame",
    "HoldPlaybackFrame",
    "NothingHeardFrame",
    "ResumePlaybackFrame",
    "SpeechOnsetEndedFrame",
    "SpeechOnsetFrame",
    "SpeechResumedFrame",
]


@dataclass
class SpeechOnsetFrame(SystemFrame):
    """Perhaps somebody begins to speak while the bot does. Downstream.

    ``VADUserStartedSpeakingFrame`` follows if it is speech, ``SpeechOnsetEndedFrame`` if not.

    Parameters:
        ago_s: seconds since it began, up to the end of the audio so far.
    """

    ago_s: float = 0.0


@dataclass
class SpeechOnsetEndedFrame(SystemFrame):
    """The onset came to nothing: no speech started. Downstream."""


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


@dataclass
class EagerEndOfTurnFrame(SystemFrame):
    """The turn is probably over: a reply to it is begun, and withdrawn if speech resumes.

    Pipecat's ``EagerEndOfTurnCancelFrame`` withdraws it, ``UserStoppedSpeakingFrame`` confirms
    it. Both directions.

    Parameters:
        completeness: how finished it sounds, 0 to 1.
    """

    completeness: float = 0.0


@dataclass
class HoldPlaybackFrame(SystemFrame):
    """Somebody speaks while the bot does: it falls silent and keeps what it has yet to say.

    A ``ResumePlaybackFrame`` lets it go on from there, an ``InterruptionFrame`` drops the rest.
    Downstream, to the transport's output.
    """


@dataclass
class ResumePlaybackFrame(SystemFrame):
    """It was a false alarm: the bot goes on from where it fell silent. Downstream."""
