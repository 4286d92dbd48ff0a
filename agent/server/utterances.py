"""Utterances: the engine's numbers for them, and the client's commits, in one numbering.

A codec hears of the utterances that the engine numbers, and of one more for each commit of a
client's: the finals of what it said since the last one are pieces, and the commit's own final,
which has no words, ends them. So a commit always has exactly one end, silence included.
"""

import time
from collections import deque
from dataclasses import dataclass

__all__ = ["End", "Utterances"]


@dataclass(frozen=True, slots=True)
class End:
    """What is known of an utterance whose final is there.

    Attributes:
        number: for the codec.
        forgotten: nothing of it goes out.
        by_client: the client ends what it belongs to.
        latency_s: since its speech ended; None for a piece of speech that went on.
    """

    number: int
    forgotten: bool
    by_client: bool
    latency_s: float | None


@dataclass(frozen=True, slots=True)
class _Commit:
    """A commit that has no end so far.

    Attributes:
        after: the utterance that it is numbered after: the newest, which may be forgotten.
        waits_for: the newest of which a final comes.
        at_s: when it came.
    """

    after: int
    waits_for: int
    at_s: float


class Utterances:
    """The engine's utterances and the client's commits, in one numbering."""

    def __init__(self) -> None:
        self._ended: dict[int, tuple[float, bool]] = {}  # when, and whether the client ends it
        self._settled = 0  # utterances up to this one cannot be forgotten any more
        self._last = 0  # the newest whose speech has ended
        self._done = 0  # finals up to this one are there
        self._forgotten: set[int] = set()
        self._commits: deque[_Commit] = deque()
        self._past_commits = 0

    def ended(self, utterance: int, at_s: float, *, by_client: bool) -> None:
        """Its speech has ended, and its final is due.

        Args:
            utterance: the engine's number.
            at_s: when, on ``time.monotonic()``.
            by_client: whether a commit ends what it belongs to.
        """
        self._ended[utterance] = at_s, by_client
        self._last = utterance
        if not by_client:
            self._settled = utterance

    def commit(self, at_s: float) -> None:
        """The client ends what it said so far."""
        self._settled = max(self._settled, self._last)
        self._commits.append(_Commit(self._settled, self._last, at_s))

    def forget(self, newest: int) -> None:
        """The client wants nothing of what is not settled."""
        self._forgotten |= set(range(max(self._settled, self._done) + 1, newest + 1))
        self._settled = max(self._settled, newest)

    def is_forgotten(self, utterance: int) -> bool:
        """Whether nothing of it is to go out."""
        return utterance in self._forgotten

    def number(self, utterance: int) -> int:
        """Its number for the codec."""
        before = sum(1 for commit in self._commits if commit.after < utterance)
        return utterance + self._past_commits + before

    def done(self, utterance: int) -> End:
        """Its final is there."""
        number = self.number(utterance)
        self._done = utterance
        forgotten = utterance in self._forgotten
        self._forgotten = {item for item in self._forgotten if item > utterance}
        if utterance not in self._ended:
            return End(number, forgotten, by_client=False, latency_s=None)
        at_s, by_client = self._ended.pop(utterance)
        return End(number, forgotten, by_client, time.monotonic() - at_s)

    def ended_commits(self) -> list[tuple[int, float]]:
        """Numbers and times of the commits whose pieces are all out, each once."""
        ended: list[tuple[int, float]] = []
        while self._commits and self._commits[0].waits_for <= self._done:
            commit = self._commits.popleft()
            self._past_commits += 1
            ended.append((commit.after + self._past_commits, commit.at_s))
        return ended
