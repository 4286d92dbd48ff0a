"""Requests: what the engine is asked to decode, and how urgently."""

from dataclasses import dataclass, field
from enum import IntEnum

from talkpath.agent.audio import SAMPLE_RATE_HZ, FloatArray
from talkpath.agent.whisper.windows import bucket_for

__all__ = ["DecodeOptions", "Priority", "Request"]


class Priority(IntEnum):
    """How urgent a request is; lower goes first."""

    FINAL = 0
    SPECULATIVE = 1
    FIRST_PARTIAL = 2
    PARTIAL = 3
    OFFLINE = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeOptions:
    """What the speaker, or whoever reads the text, wants of it.

    Attributes:
        language: Whisper's code, or None to detect it.
        languages: where it is detected, only these count; empty means all.
        task: ``transcribe``, or ``translate`` into English.
        prompt: text that the model takes for what was said before: names, spelling, style.
        hotwords: words to expect, put into the prompt of every window.
        beam_size: hypotheses kept while decoding a final; 1 is greedy.
        temperatures: of the fallback for finals, tried in this order until one will do.
        word_timestamps: whether finals carry the times and probabilities of their words.
    """

    language: str | None = None
    languages: tuple[str, ...] = ()
    task: str = "transcribe"
    prompt: str = ""
    hotwords: str = ""
    beam_size: int = 1
    temperatures: tuple[float, ...] = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
    word_timestamps: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """One piece of audio to decode.

    Attributes:
        audio: float32, ``[n]``, 16 kHz, at most 30 s.
        priority: how urgent.
        options: language, task and the rest.
        order: rises with every request; the tie-breaker.
        context: what the same speaker said just before, in words.
        draft: tokens of an earlier decode of the same utterance. They save work where they
            hold and change nothing where they do not.
    """

    audio: FloatArray
    priority: Priority
    options: DecodeOptions = field(default_factory=DecodeOptions)
    order: int = 0
    context: str = ""
    draft: tuple[int, ...] = ()

    @property
    def bucket(self) -> int:
        """Window in mel frames that the audio needs."""
        return bucket_for(len(self.audio) / SAMPLE_RATE_HZ)
