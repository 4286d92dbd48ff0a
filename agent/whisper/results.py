"""What Whisper says: frozen values, from one decoded window up to what a stream hands out."""

from dataclasses import dataclass, field

from talkpath.agent.whisper.agreement import join_texts

__all__ = ["Final", "Partial", "Segment", "StreamFailure", "StreamResult", "Transcript"]


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of speech between two of Whisper's time stamps.

    Attributes:
        start_s: beginning, in seconds from the start of the audio.
        end_s: end, likewise.
        text: the words, without surrounding spaces.
    """

    start_s: float
    end_s: float
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Transcript:
    """One decoded piece of audio.

    Attributes:
        text: all words.
        segments: the same, by time stamps.
        duration_s: length of the audio.
        language: Whisper's code for the language decoded in.
        language_probability: how sure its detection was; 1.0 where it was given.
        avg_logprob: mean natural log probability of a token.
        no_speech_probability: Whisper's own opinion that nobody speaks.
        compression_ratio: UTF-8 bytes of the text over their zlib-compressed size.
        possible_hallucination: the text repeats itself even in the full window.
        full_window: decoded in Whisper's 30 s window, because the short one went wrong.
        cost_s: wall-clock seconds that a worker spent on the batch, per item.
        tokens: the model's own answer, the draft of the next decode of the same utterance.
    """

    text: str
    segments: tuple[Segment, ...] = ()
    duration_s: float = 0.0
    language: str = "en"
    language_probability: float = 1.0
    avg_logprob: float = 0.0
    no_speech_probability: float = 0.0
    compression_ratio: float = 0.0
    possible_hallucination: bool = False
    full_window: bool = False
    cost_s: float = 0.0
    tokens: tuple[int, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Partial:
    """What an utterance says so far.

    Attributes:
        utterance: number of the utterance in its stream, from 1.
        stable: words that will not change any more in this utterance's partials.
        rest: the words after them, which may still change.
        language: Whisper's language code.
        duration_s: seconds of audio that the text covers.
    """

    utterance: int
    stable: str
    rest: str
    language: str
    duration_s: float

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
    """

    utterance: int
    transcript: Transcript
    ends_speech: bool = True
    speculative: bool = False


@dataclass(frozen=True, slots=True)
class StreamFailure:
    """The final of an utterance could not be decoded; later utterances are not concerned.

    Attributes:
        utterance: its number in the stream.
        error: what happened.
    """

    utterance: int
    error: Exception


StreamResult = Partial | Final | StreamFailure
