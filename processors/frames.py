"""Frames that talkpath adds to Pipecat's.

With Pipecat's own they tell a conversation's turns, in order: ``SpeechOnsetFrame`` (while the bot
speaks), ``SpeechOnsetEndedFrame`` or ``VADUserStartedSpeakingFrame``, ``EarlyPauseFrame``,
``SpeechResumedFrame`` or ``VADUserStoppedSpeakingFrame``, ``EagerEndOfTurnFrame``, and
``EagerEndOfTurnCancelFrame`` or ``UserStoppedSpeakingFrame``.
"""

from dataclasses import dataclass, field

from pipecat.frames.frames import ControlFrame, DataFrame, OutputAudioRawFrame, SystemFrame
from pipecat.processors.aggregators.llm_context import LLMContext

__all__ = [
    "EagerEndOfTurnFrame",
    "EarlyPauseFrame",
    "HoldPlaybackFrame",
    "LiveAudioFrame",
    "NothingHeardFrame",
    "ReadAheadFrame",
    "ReplyCutFrame",
    "ResumePlaybackFrame",
    "SpeakAheadFrame",
    "SpeechOnsetEndedFrame",
    "SpeechOnsetFrame",
    "SpeechResumedFrame",
    "TransferFrame",
    "TransferRefusedFrame",
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
class NothingHeardFrame(DataFrame):
    """An utterance held no words, or could not be decoded: no ``TranscriptionFrame`` comes for it.

    It keeps its place among the transcripts, and no interruption drops it.

    Parameters:
        utterance: number of the utterance in its stream, as in its partials.
        ends_speech: False for a piece of long speech that goes on.
    """

    utterance: int = 0
    ends_speech: bool = True

    def __post_init__(self) -> None:
        """Protect it from interruptions."""
        super().__post_init__()  # type: ignore[no-untyped-call]
        self.interruptible = False


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
class ReadAheadFrame(SystemFrame):
    """What was said so far in a turn that goes on, for a language model that can read ahead.

    Downstream, to the reply stage, which keeps it.

    Parameters:
        context: the conversation with these words at its end.
    """

    context: LLMContext


@dataclass
class SpeakAheadFrame(SystemFrame):
    """How a reply begins that may never be spoken, for a voice that can have its sound ready.

    Downstream, from the reply stage; nothing is played of it. Its text comes again, as any other,
    if the turn is over.

    Parameters:
        text: the reply's first phrase.
    """

    text: str


@dataclass
class HoldPlaybackFrame(SystemFrame):
    """Somebody speaks while the bot does: it falls silent and keeps what it has yet to say.

    A ``ResumePlaybackFrame`` lets it go on from there, an ``InterruptionFrame`` drops the rest.
    Downstream, to the transport's output.
    """


@dataclass
class LiveAudioFrame(OutputAudioRawFrame):
    """Sound that is played as it comes, such as another caller's.

    An output that has fallen behind catches up by leaving some of it out, or a delay that was
    once there would stay until the end; other audio it plays to the last sample. On the telephone
    it passes Pipecat's queue by: it begins and ends no turn of the bot's, and what comes while
    playback is held is left out.
    """


@dataclass
class ResumePlaybackFrame(SystemFrame):
    """It was a false alarm: the bot goes on from where it fell silent. Downstream."""


@dataclass
class TransferFrame(ControlFrame):
    """The caller is to be handed over. Downstream, behind the words that announce it.

    A transport that can transfer a call does so when the frame comes to its turn in the output,
    and ends the session; the others pass it on. An interruption does not drop it. Where the
    transfer is refused, ``TransferRefusedFrame`` follows, and an ``EndWorkerFrame`` right behind
    this frame does not count: the call goes on.

    Parameters:
        target: where to: a telephone number, a SIP address, a bot's name or URL.
    """

    interruptible: bool = field(default=False, init=False)
    target: str = ""


@dataclass
class TransferRefusedFrame(SystemFrame):
    """The caller could not be handed over, and is still there. Both directions, from the output.

    Parameters:
        target: where to.
        reason: in words, for the log.
    """

    target: str = ""
    reason: str = ""


@dataclass
class ReplyCutFrame(ControlFrame):
    """The reply's last sentence has no end: what of it was not given to the voice is dropped.

    Downstream, between the reply's last text and its end.

    Parameters:
        broken: whether the reply broke off, perhaps in the middle of a word. If not, it reached
            its longest, and a first sentence is spoken as far as it goes.
    """

    broken: bool = True
