"""Call metrics: the telephone calls of a process, how they ended, and how they sounded."""

from typing import Protocol

from talkpath.agent.metrics import Registry

__all__ = ["OUTCOMES", "CallMetrics", "Quality", "outcome_of"]

OUTCOMES = ("answered", "busy", "cancelled", "declined", "failed", "no_answer")
"""What becomes of a call."""

_DURATIONS_S = (1.0, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0)
_SETUP_S = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0)
# Below 3.6 many are dissatisfied, above 4.3 all are satisfied (ITU-T G.107, annex B).
_MOS = (1.5, 2.0, 2.5, 2.75, 3.0, 3.25, 3.6, 3.75, 4.0, 4.1, 4.2, 4.3, 4.4, 4.5)
_JITTER_MS = (1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 40.0, 60.0, 100.0, 200.0)
_ROUND_TRIP_MS = (1.0, 5.0, 10.0, 20.0, 50.0, 100.0, 150.0, 200.0, 300.0, 500.0, 1000.0)
_LOSS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5)
_BUSY = (486, 600)
_NO_ANSWER = (408, 480)
_DECLINED = (401, 403, 407, 603, 607)


class Quality(Protocol):
    """How a call's audio fared: see ``talkpath.transports.sip.leg.CallQuality``."""

    @property
    def duration_s(self) -> float:
        """Seconds since the answer."""
        ...

    @property
    def received(self) -> int:
        """Packets received."""
        ...

    @property
    def lost(self) -> int:
        """Packets of the peer's that never came."""
        ...

    @property
    def jitter_ms(self) -> float:
        """Of the packets' arrival."""
        ...

    @property
    def round_trip_ms(self) -> float:
        """0 where it is unknown."""
        ...

    @property
    def mos(self) -> float:
        """Mean opinion score, 1 to 4.5; 0 where it is unknown."""
        ...


class CallMetrics(Registry):
    """The figures of all calls that pass through a listener.

    Attributes:
        begun: calls that began, by ``direction``: inbound or outbound.
        ends: calls that ended, by ``outcome``: see ``OUTCOMES``.
        refusals: inbound calls that never came to a bot, by ``reason``: a word of the code's.
    """

    def __init__(self) -> None:
        super().__init__()
        self._active = 0
        self.begun = self.counter("talkpath_calls_total", "Calls that began.", "direction")
        self.ends = self.counter("talkpath_calls_ended_total", "Calls that ended.", "outcome")
        self.refusals = self.counter(
            "talkpath_calls_refused_total", "Inbound calls that came to no bot.", "reason"
        )
        self.gauge("talkpath_calls_active", "Calls under way.", lambda: self._active)
        self.setup = self.histogram(
            "talkpath_call_setup_seconds",
            "Seconds from a call's first message to its answer.",
            _SETUP_S,
            "direction",
        )
        self.duration = self.histogram(
            "talkpath_call_duration_seconds", "Seconds from answer to end.", _DURATIONS_S
        )
        self.mos = self.histogram(
            "talkpath_call_mos", "Mean opinion score of a call, estimated by the E-model.", _MOS
        )
        self.jitter = self.histogram(
            "talkpath_call_jitter_milliseconds", "Jitter of the peers' packets.", _JITTER_MS
        )
        self.round_trip = self.histogram(
            "talkpath_call_round_trip_milliseconds", "Round trip to the peer.", _ROUND_TRIP_MS
        )
        self.loss = self.histogram(
            "talkpath_call_loss_ratio", "Share of the peer's packets that never came.", _LOSS
        )

    @property
    def active(self) -> int:
        """Calls under way."""
        return self._active

    def began(self, direction: str) -> None:
        """A call begins; ``ended`` must follow."""
        self._active += 1
        self.begun.add(of=direction)

    def refused(self, reason: str) -> None:
        """An inbound call is turned away before it began, for a reason of the code's own."""
        self.refusals.add(of=reason)

    def connected(self, direction: str, setup_s: float) -> None:
        """A call is answered, ``setup_s`` after its first message."""
        self.setup.observe(setup_s, of=direction)

    def ended(self, outcome: str, quality: Quality | None = None) -> None:
        """A call that began is over.

        Args:
            outcome: one of ``OUTCOMES``.
            quality: of an answered call; None where nobody told it.
        """
        self._active -= 1
        self.ends.add(of=outcome)
        if outcome != "answered" or quality is None:
            return
        self.duration.observe(quality.duration_s)
        expected = quality.received + quality.lost
        if not expected:
            return
        self.jitter.observe(quality.jitter_ms)
        self.loss.observe(quality.lost / expected)
        if quality.mos:
            self.mos.observe(quality.mos)
        if quality.round_trip_ms:
            self.round_trip.observe(quality.round_trip_ms)


def outcome_of(status: int) -> str:
    """What became of a call that ended with a SIP status before its answer; 0 for none."""
    if status == 0 or status == 487:
        return "cancelled"
    if status in _BUSY:
        return "busy"
    if status in _NO_ANSWER:
        return "no_answer"
    return "declined" if status in _DECLINED else "failed"
