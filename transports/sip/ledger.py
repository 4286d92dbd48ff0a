"""The ledger of calls: each that begins is counted, and its end once, with the figures if any."""

from dataclasses import dataclass

from talkpath.agent.call_metrics import CallMetrics, outcome_of
from talkpath.transports.sip.leg import CallQuality

__all__ = ["Ledger"]


@dataclass(slots=True)
class _Account:
    status: int = 0
    answered: bool = False


class Ledger:
    """Counts calls, whose ends are told by two: by SIP, and by the worker, which has the figures.

    Args:
        metrics: what is counted into.
    """

    def __init__(self, metrics: CallMetrics) -> None:
        self._metrics = metrics
        self._accounts: dict[str, _Account] = {}

    def open(self, call_id: str, direction: str) -> None:
        """A call begins."""
        self.settle(call_id)  # of an earlier one of the same name
        self._accounts[call_id] = _Account()
        self._metrics.began(direction)

    def refused(self, status: int) -> None:
        """A call was refused before it began."""
        self._metrics.refused(str(status))

    def progressed(self, call_id: str, status: int, direction: str, after_s: float) -> None:
        """The first request of a call was answered, ``after_s`` since it came."""
        account = self._accounts.get(call_id)
        if account is None or account.answered:
            return
        account.status = status
        account.answered = 200 <= status < 300
        if account.answered:
            self._metrics.connected(direction, after_s)

    def is_answered(self, call_id: str) -> bool:
        """Whether a call that is not settled yet was answered."""
        account = self._accounts.get(call_id)
        return account is not None and account.answered

    def settle(self, call_id: str, figures: CallQuality | None = None) -> None:
        """Count the end of a call, unless that was done."""
        account = self._accounts.pop(call_id, None)
        if account is not None:
            outcome = "answered" if account.answered else outcome_of(account.status)
            self._metrics.ended(outcome, figures)
