"""Requests: what the engine is asked to decode, and how urgently."""

from dataclasses import dataclass, field
from enum import IntEnum

from talkpath.agent.audio import SAMPLE_RATE_HZ, FloatArray
from talkpath.agent.config import WhisperConfig
from talkpath.agent.errors import ConfigError
from talkpath.agent.whisper.results import Transcript
from talkpath.agent.whisper.windows import FULL_WINDOW, WindowPolicy

__all__ = ["MAX_BEAM", "TASKS", "Again", "DecodeOptions", "Priority", "Request"]

TASKS = ("transcribe", "translate")
"""Whisper's tasks: the words as they are said, or put into English."""

MAX_BEAM = 10
"""Most hypotheses that a beam may keep; Whisper's own default is 5."""


class Priority(IntEnum):
    """How urgent a request is; lower goes first."""

    FINAL = 0
    SPECULATIVE = 1
    AGAIN = 2
    FIRST_PARTIAL = 3
    PARTIAL = 4
    OFFLINE = 5


_PARTIALS = (Priority.FIRST_PARTIAL, Priority.PARTIAL)


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

    Raises:
        ConfigError: a value that Whisper has no use for.
    """

    language: str | None = None
    languages: tuple[str, ...] = ()
    task: str = "transcribe"
    prompt: str = ""
    hotwords: str = ""
    beam_size: int = 1
    temperatures: tuple[float, ...] = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
    word_timestamps: bool = False

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            raise ConfigError(f"the task is {self.task!r}; it must be {' or '.join(TASKS)}")
        if not 1 <= self.beam_size <= MAX_BEAM:
            raise ConfigError(f"the beam size is {self.beam_size}; it must be 1 to {MAX_BEAM}")
        if not self.temperatures:
            raise ConfigError("there must be a temperature to decode at; 0.0 is greedy")
        if not all(0.0 <= temperature <= 1.0 for temperature in self.temperatures):
            raise ConfigError(f"temperatures lie between 0 and 1, not {self.temperatures}")
        if self.language and self.languages and self.language not in self.languages:
            raise ConfigError(
                f"the language {self.language!r} is not among {', '.join(self.languages)}"
            )

    @classmethod
    def of(cls, config: WhisperConfig, language: str | None = None) -> "DecodeOptions":
        """Options as the settings ask for them.

        Args:
            config: the settings; their language does not count.
            language: Whisper's code, or None to detect it.
        """
        return cls(
            language=language,
            languages=() if language else config.languages,
            task=config.task,
            prompt=config.prompt,
            hotwords=config.hotwords,
            beam_size=config.beam_size,
        )


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
        context_tokens: prompt, hotwords and context as tokens, which ``Transcriber.prepare``
            puts here; None before that.
        windows: which windows its audio may be decoded in; None until prepared means the
            backend's own.
        mixes: whether, decoded greedily, it may be in one batch with other windows and contexts
            of other lengths; the backend's to say, through ``Transcriber.prepare``.
        attempt: 0 at first; what went wrong is decoded again, each time differently.
        best: the best transcript of the attempts before this one.
    """

    audio: FloatArray
    priority: Priority
    options: DecodeOptions = field(default_factory=DecodeOptions)
    order: int = 0
    context: str = ""
    draft: tuple[int, ...] = ()
    context_tokens: tuple[int, ...] | None = None
    windows: WindowPolicy | None = None
    mixes: bool = False
    attempt: int = 0
    best: Transcript | None = None

    @property
    def is_partial(self) -> bool:
        """Whether another decode of the same utterance will follow anyway."""
        return self.priority in _PARTIALS

    @property
    def short_bucket(self) -> int:
        """Window in mel frames that the audio needs."""
        return (self.windows or WindowPolicy()).bucket_for(len(self.audio) / SAMPLE_RATE_HZ)

    @property
    def bucket(self) -> int:
        """Window in mel frames that this attempt is made in.

        From the second attempt on it is a longer one: Whisper's own for a file; for somebody
        who waits, at least twice the first, which takes a fifth of the time and is as good
        (``bench windows``).
        """
        if not self.attempt:
            return self.short_bucket
        if self.priority is Priority.OFFLINE:
            return FULL_WINDOW
        return (self.windows or WindowPolicy()).longer(self.short_bucket)

    @property
    def attempts(self) -> int:
        """How many attempts there may be.

        Partials have one. Finals have one for each temperature; the first one is tried in the
        short window and in the longer one.
        """
        if self.is_partial:
            return 1
        return len(self.options.temperatures) + (self.short_bucket != FULL_WINDOW)

    @property
    def temperature(self) -> float:
        """Of this attempt; partials are greedy."""
        if self.is_partial:
            return 0.0
        repeated = self.short_bucket != FULL_WINDOW
        return self.options.temperatures[max(0, self.attempt - repeated)]

    @property
    def beam_size(self) -> int:
        """Of this attempt; partials are greedy, and drawing at random knows no beam."""
        return 1 if self.is_partial or self.temperature else self.options.beam_size

    @property
    def batch_key(self) -> tuple[object, ...]:
        """What requests must have in common to be decoded in one batch."""
        greedy = self.beam_size == 1 and not self.temperature
        mixes = self.mixes and greedy and not self.wants_words
        return (
            -1 if mixes else self.bucket,
            (self.windows or WindowPolicy()).padding,
            -1 if mixes else len(self.context_tokens or ()),
            self.options.task,
            self.beam_size,
            self.temperature,
            self.wants_words,
        )

    @property
    def wants_words(self) -> bool:
        """Whether the transcript carries the times of its words."""
        return self.options.word_timestamps and not self.is_partial


@dataclass(frozen=True, slots=True, eq=False)
class Again:
    """Instead of a transcript: decode this once more, apart, where it holds nobody up.

    Attributes:
        request: the same audio, the next attempt. Its ``best`` is what there is so far, for
            whoever cannot wait.
    """

    request: Request
