"""What was said in a call, turn by turn. No input or output: words go in, turns come out."""

from collections.abc import Iterable
from dataclasses import dataclass

from talkpath.agent.whisper.agreement import join_texts
from talkpath.agent.whisper.results import Segment, Word

__all__ = ["BOT", "CALLER", "SpokenTurn", "TurnKeeper"]

CALLER = "caller"
BOT = "bot"


@dataclass(frozen=True, slots=True)
class SpokenTurn:
    """What somebody said until it was another's turn.

    Attributes:
        speaker: ``caller``, ``bot``, a name, or empty where there is only one.
        segments: the words, with times in seconds from the beginning of the call.
        language: Whisper's code of what was spoken, where that is known.
    """

    speaker: str
    segments: tuple[Segment, ...]
    language: str | None = None

    @property
    def start_s(self) -> float:
        """When it began, in seconds from the beginning of the call."""
        first = self.segments[0]
        return first.words[0].start_s if first.words else first.start_s

    @property
    def end_s(self) -> float:
        """When it ended, likewise."""
        last = self.segments[-1]
        return last.words[-1].end_s if last.words else last.end_s

    @property
    def text(self) -> str:
        """All of its words."""
        return join_texts([segment.text for segment in self.segments])

    @property
    def words(self) -> tuple[Word, ...]:
        """Its words with their times, where these are known."""
        return tuple(word for segment in self.segments for word in segment.words)


class TurnKeeper:
    """Gathers each speaker's words until the turn is over.

    A turn of more than 500 segments is ended, so that nobody's monologue fills the memory.
    """

    _MOST = 500

    def __init__(self) -> None:
        self._open: dict[str, tuple[list[Segment], str | None]] = {}

    def add(
        self, speaker: str, segments: Iterable[Segment], language: str | None = None
    ) -> SpokenTurn | None:
        """Add what a speaker said; gives the turn if it has become too long."""
        said, known = self._open.setdefault(speaker, ([], language))
        said.extend(segment for segment in segments if segment.text)
        self._open[speaker] = (said, known or language)
        return self.end(speaker) if len(said) >= self._MOST else None

    def end(self, speaker: str) -> SpokenTurn | None:
        """End a speaker's turn; None if nothing was said in it."""
        segments, language = self._open.pop(speaker, ([], None))
        return SpokenTurn(speaker, tuple(segments), language) if segments else None

    def end_all(self) -> list[SpokenTurn]:
        """End every turn, the earliest first."""
        ended = [self.end(speaker) for speaker in list(self._open)]
        return sorted((turn for turn in ended if turn), key=lambda turn: turn.start_s)
