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


class Utterances:
    """The engine's utterances and the client's commits, in one numbering."""

    def __init__(self) -> None:
        self._ended: dict[int, tuple[float, bool]] = {}  # when, and whether the client ends it
        self._settled = 0  # utterances up to this one cannot be forgotten any more
        self._last = 0  # the newest whose speech has ended
        self._done = 0  # finals up to this one are there
        self._forgotten: set[int] = set()
        self._commits: deque[tuple[int, float]] = deque()  # after which utterance, and when
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
        self._commits.append((self._last, at_s))
        self._settled = self._last

    def forget(self, newest: int) -> None:
        """The client wants nothing of what is not settled."""
        self._forgotten |= set(range(max(self._settled, self._done) + 1, newest + 1))
        self._settled = max(self._settled, newest)

    def is_forgotten(self, utterance: int) -> bool:
        """Whether nothing of it is to go out."""
        return utterance in self._forgotten

    def number(self, utterance: int) -> int:
        """Its number for the codec."""
        before = sum(1 for after, _ in self._commits if after < utterance)
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
        while self._commits and self._commits[0][0] <= self._done:
            after, at_s = self._commits.popleft()
            self._past_commits += 1
            ended.append((after + self._past_commits, at_s))
        return ended
