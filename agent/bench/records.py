"""Records: what was heard of one stream of a load, and what it adds up to. No input or output.

Times are seconds of ``time.time()``, Pipecat's clock for its voice activity frames.
"""

import itertools
import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from talkpath.agent.bench.plan import BLOCK_S, StreamPlan

__all__ = ["Answer", "Stability", "StreamRecord"]

_PRE_ROLL_S = 0.3  # that an utterance begins before its speech; the stream's own constant


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one stop.

    Attributes:
        ttfs_s: arrival of the final less the end of speech, by Pipecat's definition: the
            detector's stop less the silence that it waited for. Without a final, the seconds
            until the load ended, so that what never came does not count as quick.
        wait_s: the same from when the speech ended by the plan: what the caller waits, also
            where a busy process noticed the stop late.
        play: index of the play that it belongs to.
        text: what was understood.
        speculative: whether it was decoded before the stop was certain.
        kind: ``final``, ``nothing`` (no words), ``failed`` or ``unanswered``.
    """

    ttfs_s: float
    wait_s: float
    play: int
    text: str = ""
    speculative: bool = False
    kind: str = "final"


@dataclass(slots=True)
class Stability:
    """What partials did to words that had been shown.

    Attributes:
        retractions: partials that changed stable words; must be 0.
        contradicted: finals that do not begin with the stable words of their partials.
        shown: words of all partials that had a successor.
        withdrawn: of these, words that the successor changed or left out.
    """

    retractions: int = 0
    contradicted: int = 0
    shown: int = 0
    withdrawn: int = 0


@dataclass(frozen=True, slots=True)
class _Stop:
    end_s: float
    planned_end_s: float
    block: int


@dataclass(slots=True)
class StreamRecord:
    """Listens to one stream and keeps count.

    Attributes:
        plan: what is played.
        began_s: when the first block was due; set before it is fed.
        answers: one for each stop that was answered.
        partial_lags_s: for each partial, its arrival less the time when the newest audio that
            it covers was due.
        speech_s: seconds of audio between the starts and the stops of speech.
        partials: how many came.
        stability: what they did.
        errors: messages of failures that belonged to no stop.
    """

    plan: StreamPlan
    began_s: float = 0.0
    answers: list[Answer] = field(default_factory=list)
    partial_lags_s: list[float] = field(default_factory=list)
    speech_s: float = 0.0
    partials: int = 0
    stability: Stability = field(default_factory=Stability)
    errors: list[str] = field(default_factory=list)
    _blocks: int = 0
    _stops: deque[_Stop] = field(default_factory=deque)
    _starts_s: deque[float] = field(default_factory=deque)
    _floor_s: float = 0.0
    _speech_from: int = 0
    _pieces: list[str] = field(default_factory=list)
    _previous: tuple[int, list[str], list[str]] | None = None

    @property
    def settled(self) -> bool:
        """Whether every stop so far was answered."""
        return not self._stops

    def block(self) -> None:
        """A block of audio passed the detector."""
        self._blocks += 1

    def started(self, ago_s: float) -> None:
        """The detector heard speech begin, so long ago."""
        position_s = self._blocks * BLOCK_S
        self._speech_from = self._blocks
        self._starts_s.append(max(position_s - ago_s - _PRE_ROLL_S, self._floor_s))

    def stopped(self, at_s: float, silence_s: float) -> None:
        """The detector heard speech end, after so much silence."""
        due_s = self._due_s(self._blocks * BLOCK_S)
        self._stops.append(_Stop(at_s - silence_s, due_s - silence_s, self._blocks))
        self._floor_s = self._blocks * BLOCK_S - silence_s
        self.speech_s += (self._blocks - self._speech_from) * BLOCK_S

    def partial(
        self, at_s: float, utterance: int, stable: str, rest: str, duration_s: float
    ) -> None:
        """A partial arrived that covers so much of its utterance."""
        self.partials += 1
        if self._starts_s:
            self.partial_lags_s.append(at_s - self._due_s(self._starts_s[0] + duration_s))
        words = [*stable.split(), *rest.split()]
        if self._previous is not None and self._previous[0] == utterance:
            _, firm, shown = self._previous
            self.stability.retractions += stable.split()[: len(firm)] != firm
            self.stability.shown += len(shown)
            self.stability.withdrawn += len(shown) - _common(shown, words)
        self._previous = (utterance, stable.split(), words)

    def final(
        self,
        at_s: float,
        text: str,
        *,
        utterance: int = 0,
        speculative: bool = False,
        ends_speech: bool = True,
        duration_s: float = 0.0,
    ) -> None:
        """A final arrived, or a piece of speech that goes on (``ends_speech`` False)."""
        if self._previous is not None and self._previous[0] == utterance:
            firm = _plain(" ".join(self._previous[1]))
            self.stability.contradicted += _plain(text)[: len(firm)] != firm
            self._previous = None
        self._pieces.append(text)
        if not ends_speech:
            if self._starts_s:
                self._starts_s[0] += duration_s
            return
        self._answer(at_s, "final", speculative=speculative)

    def nothing(self, at_s: float) -> None:
        """The speech that stopped held no words."""
        self._answer(at_s, "nothing" if not self._pieces else "final")

    def failed(self, at_s: float, message: str) -> None:
        """An error came where a final should have."""
        if self._stops:
            self._answer(at_s, "failed")
        else:
            self.errors.append(message)

    def end(self, at_s: float) -> None:
        """The load is over: what was not answered now never will be."""
        while self._stops:
            self._answer(at_s, "unanswered")

    def texts(self) -> list[str]:
        """What was understood of each play, in order."""
        heard: list[list[str]] = [[] for _ in self.plan.plays]
        for answer in self.answers:
            heard[answer.play].append(answer.text)
        return [" ".join(filter(None, texts)) for texts in heard]

    def _due_s(self, position_s: float) -> float:
        """When the block that ends at this position was due; the first one at once."""
        return self.began_s + max(0.0, position_s - BLOCK_S)

    def _answer(self, at_s: float, kind: str, *, speculative: bool = False) -> None:
        text, self._pieces = " ".join(self._pieces), []
        if self._starts_s:
            self._starts_s.popleft()
        if not self._stops:
            self.errors.append("a final came without a stop")
            return
        stop = self._stops.popleft()
        self.answers.append(
            Answer(
                ttfs_s=at_s - stop.end_s,
                wait_s=at_s - stop.planned_end_s,
                play=self.plan.play_at(stop.block),
                text=text,
                speculative=speculative,
                kind=kind,
            )
        )


def _common(first: Sequence[str], second: Sequence[str]) -> int:
    """Length of the common beginning."""
    pairs = zip(first, second, strict=False)
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))


def _plain(text: str) -> list[str]:
    """Words without case and punctuation, which a final may set otherwise."""
    return re.findall(r"[\w']+", text.casefold())
