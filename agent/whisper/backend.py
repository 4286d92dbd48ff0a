"""Backend: the model behind the engine. The engine knows this protocol and nothing else."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from talkpath.agent.audio import FloatArray
from talkpath.agent.whisper.results import Word
from talkpath.agent.whisper.windows import WindowPolicy

__all__ = ["Backend", "Decoded", "Item", "TimedText"]


@dataclass(frozen=True, slots=True)
class TimedText:
    """Text between two time stamps, seconds from the start of the window.

    Attributes:
        start_s: the first time stamp.
        end_s: the second one.
        text: the words, without surrounding spaces.
        tokens: the same as tokens, without time stamps.
    """

    start_s: float
    end_s: float
    text: str
    tokens: tuple[int, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Item:
    """How to decode one item of an encoded batch.

    Attributes:
        language: Whisper's code.
        samples: length of its audio at 16 kHz, without the padding.
        context: tokens of the text before it.
        draft: tokens that the answer probably begins with, from an earlier decode.
    """

    language: str
    samples: int
    context: tuple[int, ...] = ()
    draft: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Decoded:
    """What the model answered for one item of a batch.

    Attributes:
        segments: the text between time stamps, cut off where the audio ends.
        avg_logprob: mean natural log probability of a token.
        no_speech_probability: the model's opinion that nobody speaks.
        tokens: the answer as the model gave it, time stamps included.
        drafted: tokens of the draft that were checked.
        accepted: those of them that held.
    """

    segments: tuple[TimedText, ...]
    avg_logprob: float
    no_speech_probability: float
    tokens: tuple[int, ...] = field(default=(), repr=False)
    drafted: int = 0
    accepted: int = 0


class Backend(Protocol):
    """A Whisper model. Every method may be called from several threads at once."""

    multilingual: bool
    """False for the models that know English alone."""

    languages: frozenset[str]
    """Codes of the languages that the model knows."""

    workers: int
    """How many calls run side by side."""

    max_batch: int
    """Most items that are worth one call: more take longer than they would one after another."""

    max_frames: int
    """Most mel frames that are worth one call, over all of its items; a single item is always."""

    mixes: bool
    """Whether greedy decoding takes items of any windows, with contexts of any lengths, together:
    then there is ``join``."""

    windows: WindowPolicy
    """The windows that are known to do for this model."""

    def tokenize(self, text: str) -> tuple[int, ...]:
        """Tokens of a text, for ``Item.context``."""
        ...

    def encode(self, audio: Sequence[FloatArray], bucket: int, padding: str = "silence") -> Any:
        """Encode a batch.

        Args:
            audio: float32, ``[n]`` each, 16 kHz, none longer than the bucket.
            bucket: window in mel frames.
            padding: see ``WindowPolicy.padding``.
        """
        ...

    def join(self, parts: Sequence[Any]) -> Any:
        """Several encoded batches as one, of the items of all, for greedy decoding.

        Only of a backend that ``mixes``.
        """
        ...

    def detect_language(self, encoded: Any) -> list[dict[str, float]]:
        """Probability of every language, for each item of an encoded batch."""
        ...

    def generate(
        self,
        encoded: Any,
        items: Sequence[Item],
        *,
        max_tokens: int,
        task: str = "transcribe",
        beam_size: int = 1,
        temperature: float = 0.0,
    ) -> list[Decoded]:
        """Decode an encoded batch, with time stamps.

        Args:
            encoded: what ``encode`` gave.
            items: one for each item of the batch; all with a context of one length, unless the
                backend ``mixes`` and decodes greedily.
            max_tokens: most tokens for any item; fewer where the context leaves less room.
            task: ``transcribe`` or ``translate``.
            beam_size: hypotheses kept; 1 is greedy.
            temperature: 0.0 takes the likeliest token; above it, tokens are drawn and there
                is no beam.
        """
        ...

    def align(
        self,
        encoded: Any,
        items: Sequence[Item],
        decoded: Sequence[Decoded],
        *,
        task: str = "transcribe",
    ) -> list[tuple[tuple[Word, ...], ...]]:
        """Find when each word is said.

        Args:
            encoded: what ``encode`` gave.
            items: one for each item of the batch.
            decoded: what ``generate`` answered for them.
            task: which it was given.

        Returns:
            For each item the words of each segment; seconds from the start of the window.
        """
        ...
