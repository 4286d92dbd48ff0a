"""Eager replies: which of the replies that were begun early were used, and what the others cost.

``EagerReplies`` follows one session, sans-IO: what its frames say goes in.
"""

import dataclasses

from talkpath.agent.reply_metrics import EagerTokens, ReplyMetrics

__all__ = ["EagerReplies"]


class EagerReplies:
    """Follows one session's replies.

    At most one is undecided at a time, as in Pipecat's speculation gate, whose rules these are.

    Args:
        metrics: the process's, which count along.

    Attributes:
        counts: of this session so far.
        undecided: whether a reply under way answers a turn that may not be over.
    """

    def __init__(self, metrics: ReplyMetrics) -> None:
        self.counts = EagerTokens()
        self.undecided = False
        self._metrics = metrics
        self._turn_over = False
        self._outcome: str | None = None
        self._tokens = 0

    def begun(self, *, early: bool) -> None:
        """A reply is begun; ``early`` on a turn that may not be over."""
        self.undecided = early and not self._turn_over
        self._outcome = None
        self._tokens = 0
        if self.undecided:
            self._count("started")

    def spent(self, tokens: int) -> None:
        """The reply under way, or the one that just ended, costs so many tokens more."""
        self._tokens += tokens
        if self._outcome is not None:
            self._count_tokens(self._outcome, tokens)

    def turn_started(self) -> None:
        """The caller speaks: a turn is open again."""
        self._turn_over = False

    def turn_ended(self) -> None:
        """The turn is over: a reply that was begun early is the answer."""
        self._turn_over = True
        self._decide("used")

    def withdrawn(self) -> None:
        """The turn went on, or was interrupted: a reply that was begun early is void."""
        self._decide("discarded")

    def _decide(self, outcome: str) -> None:
        if not self.undecided:
            return
        self.undecided = False
        self._outcome = outcome
        self._count(outcome)
        self._count_tokens(outcome, self._tokens)

    def _count(self, outcome: str) -> None:
        self._metrics.eager.add(of=outcome)
        self._add(outcome, 1)

    def _count_tokens(self, outcome: str, tokens: int) -> None:
        self._metrics.eager_tokens.add(tokens, of=outcome)
        self._add(f"tokens_{outcome}", tokens)

    def _add(self, name: str, count: int) -> None:
        self.counts = dataclasses.replace(self.counts, **{name: getattr(self.counts, name) + count})
