"""What Whisper says: frozen values, from one decoded window up to what a stream hands out."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from talkpath.agent.whisper.agreement import join_texts

__all__ = [
    "Final",
    "Likely",
    "Partial",
    "Segment",
    "StreamFailure",
    "StreamResult",
    "Transcript",
    "Word",
]


@dataclass(frozen=True, slots=True)
class Word:
    """One word, with the punctuation that belongs to it.

    Attributes:
        start_s: beginning, in seconds from the start of the audio.
        end_s: end, likewise.
        text: the word, without surrounding spaces.
        probability: mean probability of its tokens.
    """

    start_s: float
    end_s: float
    text: str
    probability: float


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of speech between two of Whisper's time stamps.

    Attributes:
        start_s: beginning, in seconds from the start of the audio.
        end_s: end, likewise.
        text: the words, without surrounding spaces.
        words: the same one by one, where they were asked for.
        tokens: the same as the model's tokens, without time stamps.
    """

    start_s: float
    end_s: float
    text: str
    words: tuple[Word, ...] = ()
    tokens: tuple[int, ...] = field(default=(), repr=False)

    def shifted(self, by_s: float) -> "Segment":
        """The same, so many seconds later; nothing begins or ends before zero."""
        return replace(
            self,
            start_s=max(self.start_s + by_s, 0.0),
            end_s=max(self.end_s + by_s, 0.0),
            words=tuple(
                replace(
                    word, start_s=max(word.start_s + by_s, 0.0), end_s=max(word.end_s + by_s, 0.0)
                )
                for word in self.words
            ),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Transcript:
    """One decoded piece of audio.

    Attributes:
        text: all words.
        segments: the same, by time stamps.
        duration_s: length of the audio.
        language: Whisper's code for the language decoded in.
        language_probability: how sure its detection was; 1.0 where it was given.
        language_probabilities: of all languages that were possible, where it was detected.
        avg_logprob: mean natural log probability of a token.
        no_speech_probability: Whisper's own opinion that nobody speaks.
        compression_ratio: UTF-8 bytes of the text over their zlib-compressed size.
        temperature: at which its tokens were drawn; 0.0 took the likeliest ones.
        possible_hallucination: all attempts failed: the text repeats itself, or nobody speaks
            so fast. In the latter case the text was dropped.
        truncated: the answer is as long as Whisper's can be, so the last words are missing.
        longer_window: decoded in a longer window, because the first one went wrong.
        cost_s: wall-clock seconds that workers spent on it, its share of each batch.
        tokens: the model's own answer, the draft of the next decode of the same utterance.
    """

    text: str
    segments: tuple[Segment, ...] = ()
    duration_s: float = 0.0
    language: str = "en"
    language_probability: float = 1.0
    language_probabilities: Mapping[str, float] = field(
        default_factory=dict, repr=False, hash=False
    )
    avg_logprob: float = 0.0
    no_speech_probability: float = 0.0
    compression_ratio: float = 0.0
    temperature: float = 0.0
    possible_hallucination: bool = False
    truncated: bool = False
    longer_window: bool = False
    cost_s: float = 0.0
    tokens: tuple[int, ...] = field(default=(), repr=False)

    @property
    def words(self) -> tuple[Word, ...]:
        """The words of all segments, where they were asked for."""
        return tuple(word for segment in self.segments for word in segment.words)


@dataclass(frozen=True, slots=True)
class Partial:
    """What an utterance says so far.

    Attributes:
        utterance: number of the utterance in its stream, from 1.
        stable: words that will not change any more in this utterance's partials.
        rest: the words after them, which may still change.
        language: Whisper's language code.
        duration_s: seconds of audio that the text covers.
        start_s: where that audio begins, in seconds from the stream's first sample.
    """

    utterance: int
    stable: str
    rest: str
    language: str
    duration_s: float
    start_s: float = 0.0

    @property
    def text(self) -> str:
        """Stable words and the rest."""
        return join_texts([self.stable, self.rest])


@dataclass(frozen=True, slots=True)
class Final:
    """What an utterance said.

    Attributes:
        utterance: its number in the stream.
        transcript: text and all figures; the text is empty where nothing was understood.
        ends_speech: False when a very long utterance was split and goes on in the next one.
        speculative: decoded during the early pause, before the stop was certain.
        start_s: where its audio begins, in seconds from the stream's first sample.
    """

    utterance: int
    transcript: Transcript
    ends_speech: bool = True
    speculative: bool = False
    start_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Likely:
    """What an utterance said, should the pause that it is in be its end.

    The final that follows says the same then. If speech goes on there is no more of it.

    Attributes:
        utterance: its number in the stream.
        transcript: text and all figures.
        start_s: where its audio begins, in seconds from the stream's first sample.
    """

    utterance: int
    transcript: Transcript
    start_s: float = 0.0


@dataclass(frozen=True, slots=True)
class StreamFailure:
    """The final of an utterance could not be decoded; later utterances are not concerned.

    Attributes:
        utterance: its number in the stream.
        error: what happened.
        ends_speech: False when a very long utterance was split and goes on in the next one.
    """

    utterance: int
    error: Exception
    ends_speech: bool = True


StreamResult = Partial | Likely | Final | StreamFailure
