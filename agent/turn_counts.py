"""Turn counts: eager replies, barge-ins, false alarms and backchannels of a session or a process.

``TurnWatch`` is sans-IO: what a pipeline's frames say goes in, what it amounts to comes out.
"""

import dataclasses
from dataclasses import dataclass
from enum import Enum

from talkpath.agent.metrics import Registry
from talkpath.agent.timeline import TurnLatency

__all__ = ["TurnCounts", "TurnEvent", "TurnMetrics", "TurnWatch"]


class TurnEvent(Enum):
    """Something that happened between two speakers."""

    EAGER_STARTED = "eager_started"  # a reply was begun before the turn was over
    EAGER_USED = "eager_used"  # the turn was over: that reply is the answer
    EAGER_DISCARDED = "eager_discarded"  # it went on: that reply was thrown away
    BARGE_IN = "barge_ins"  # the caller spoke over the bot, which gave way
    FALSE_ALARM = "false_alarms"  # the bot fell silent for nothing, and went on
    BACKCHANNEL = "backchannels"  # the caller said "mhm" or the like, and the bot went on


@dataclass(frozen=True, slots=True)
class TurnCounts:
    """How often each event happened, in a session."""

    eager_started: int = 0
    eager_used: int = 0
    eager_discarded: int = 0
    barge_ins: int = 0
    false_alarms: int = 0
    backchannels: int = 0

    def plus(self, event: TurnEvent) -> "TurnCounts":
        """One more of an event."""
        return dataclasses.replace(self, **{event.value: getattr(self, event.value) + 1})

    def __add__(self, other: "TurnCounts") -> "TurnCounts":
        """Those of both."""
        names = (field.name for field in dataclasses.fields(self))
        return TurnCounts(*(getattr(self, name) + getattr(other, name) for name in names))

    def __str__(self) -> str:
        """One line with numbers alone, for logs."""
        return (
            f"eager replies {self.eager_started}, used {self.eager_used}, "
            f"thrown away {self.eager_discarded}; barge-ins {self.barge_ins}, "
            f"false alarms {self.false_alarms}, backchannels {self.backchannels}"
        )


class TurnWatch:
    """Follows one session. Each method gives the event that it amounts to, or None.

    Attributes:
        counts: of all events so far.
    """

    def __init__(self) -> None:
        self.counts = TurnCounts()
        self._hearing = False
        self._eager = False
        self._speaking = False
        self._held = False
        self._backchannel = False
        self._resumed = False

    def speech_starts(self) -> TurnEvent | None:
        """The caller starts to speak."""
        self._hearing = True
        return self.settled()

    def eager(self) -> TurnEvent | None:
        """A reply is begun before the turn is over; told after that, it was not."""
        if self._eager or not self._hearing:
            return None
        self._eager = True
        return self._event(TurnEvent.EAGER_STARTED)

    def withdrawn(self) -> TurnEvent | None:
        """It is thrown away."""
        return self._eager_ends(TurnEvent.EAGER_DISCARDED)

    def turn_over(self) -> TurnEvent | None:
        """The caller's turn is over."""
        self._hearing = False
        return self._eager_ends(TurnEvent.EAGER_USED)

    def bot_speaks(self, speaking: bool) -> None:
        """The bot starts to speak, or stops."""
        self._speaking = speaking

    def held(self) -> None:
        """The bot is told to fall silent, and to keep what it has yet to say."""
        if not self._held:
            self._held, self._backchannel = True, False

    def backchannel(self) -> TurnEvent | None:
        """The caller said "mhm" or the like, whether or not the bot fell silent for it."""
        self._backchannel, self._resumed = True, False
        return self._event(TurnEvent.BACKCHANNEL)

    def resumed(self) -> None:
        """The bot goes on. Why may be told a little later."""
        self._resumed = self._held and not self._backchannel
        self._held = False

    def settled(self) -> TurnEvent | None:
        """Nothing more is told of what was before: speech starts, or the session ends."""
        if not self._resumed:
            return None
        self._resumed = False
        return self._event(TurnEvent.FALSE_ALARM)

    def interrupted(self) -> TurnEvent | None:
        """What the bot had yet to say is dropped."""
        gave_way = self._held or self._speaking
        self._held = self._speaking = False
        return self._event(TurnEvent.BARGE_IN) if gave_way else None

    def _eager_ends(self, event: TurnEvent) -> TurnEvent | None:
        if not self._eager:
            return None
        self._eager = False
        return self._event(event)

    def _event(self, event: TurnEvent) -> TurnEvent:
        self.counts = self.counts.plus(event)
        return event


class TurnMetrics:
    """The turns of all sessions of a process, for ``render_prometheus``.

    Attributes:
        registry: its histograms and counters.
    """

    def __init__(self) -> None:
        self.registry = Registry()
        self._whole_s = self.registry.histogram(
            "talkpath_turn_seconds", "Seconds from the end of speech to the answer's first packet."
        )
        self._part_s = self.registry.histogram(
            "talkpath_turn_part_seconds",
            "Seconds of each part of a turn, from the end of the part before.",
            label="part",
        )
        self._events = self.registry.counter(
            "talkpath_turn_events_total",
            "Eager replies, barge-ins, false alarms and backchannels.",
            "event",
        )

    def took(self, turn: TurnLatency) -> None:
        """Take a turn. One whose answer was cut off counts with the parts that it has."""
        names = [name for name, _ in turn.parts]
        for name, ms in turn.parts:
            self._part_s.observe(ms / 1000, name)
        if names[-1] == "first-packet":
            self._whole_s.observe(turn.total_ms / 1000)

    def happened(self, event: TurnEvent) -> None:
        """Count an event."""
        self._events.add(of=event.value)
