"""Timeline: where the time goes between a caller's last word and the bot's first sound.

Sans-IO: moments in, one ``TurnLatency`` a turn out; times are seconds on any one clock.

::

    end of speech ── stop ── final ── turn ── first token ── first audio ── first packet
                    ├───────────── listening ────┤├──────────── answering ────────────┤

A turn is *heard* from a stop of speech until it is decided that it is over, and *answered* from
there to its first packet. Speech that goes on before the decision belongs to the same turn, whose
end then lies later. Speech after it may be the caller's next turn, or a cough: only an
interruption ends the answer, which then is told as far as it came.

An *eager* reply is begun while the turn is still being heard. What it has before the decision
costs the caller nothing: those parts are 0, and how long before the decision it was begun stands
apart. If it is withdrawn, it never was.
"""

from dataclasses import dataclass, field
from enum import Enum

__all__ = ["Moment", "TurnClock", "TurnLatency"]


@dataclass(frozen=True, slots=True)
class TurnLatency:
    """How long one turn's answer took, from the end of the caller's speech.

    Attributes:
        turn: number of the turn in its session, from 1.
        parts: (name, milliseconds) in order, each from the end of the part before; none is
            below zero.
        total_ms: the sum of the parts.
        ended_at_s: when the speech ended, by the detector, in Unix time; 0.0 if not known.
        eager_ms: how long before the decision the reply was begun; None where it was begun
            after it.
    """

    turn: int
    parts: tuple[tuple[str, float], ...]
    total_ms: float
    ended_at_s: float = 0.0
    eager_ms: float | None = None

    def __str__(self) -> str:
        """One line with numbers alone, for logs."""
        parts = ", ".join(f"{name} {ms:.0f}" for name, ms in self.parts)
        eager = "" if self.eager_ms is None else f", eager by {self.eager_ms:.0f}"
        return f"turn {self.turn}: {self.total_ms:.0f} ms ({parts}{eager})"


class Moment(Enum):
    """What the end of each part is called, in the order of a turn."""

    STOP = "stop"  # the detector says that speech has stopped
    FINAL = "final"  # the final transcript
    TURN = "turn"  # the turn is decided to be over
    TOKEN = "first-token"  # the language model's first text
    AUDIO = "first-audio"  # the voice's first audio
    PACKET = "first-packet"  # that audio leaves


@dataclass(slots=True)
class _Turn:
    speech_end_s: float = 0.0
    ended_at_s: float = 0.0
    moments: dict[Moment, float] = field(default_factory=dict)
    eager_at_s: float | None = None

    @property
    def stopped(self) -> bool:
        return Moment.STOP in self.moments

    def told(self, number: int) -> TurnLatency:
        parts = []
        before = 0
        for moment in Moment:
            if moment in self.moments:
                # Whole milliseconds from the start, so that the parts add up exactly. A final
                # may come after the turn was decided without it, and the first words of an
                # eager reply before that: no part is below zero.
                after = max(before, round((self.moments[moment] - self.speech_end_s) * 1000))
                parts.append((moment.value, float(after - before)))
                before = after
        eager_ms = None
        if self.eager_at_s is not None and Moment.TURN in self.moments:
            eager_ms = float(round((self.moments[Moment.TURN] - self.eager_at_s) * 1000))
        return TurnLatency(number, tuple(parts), float(before), self.ended_at_s, eager_ms)


_EAGER = (Moment.TOKEN, Moment.AUDIO)
"""What a reply may have before its turn is decided: nothing is spoken before."""


class TurnClock:
    """Puts the moments of a session's turns together.

    What a bot says without a turn (a greeting) is nobody's answer.

    Args:
        last: the moment that completes a turn of this bot.
    """

    def __init__(self, last: Moment = Moment.PACKET) -> None:
        self.last = last
        self._count = 0
        self._heard = _Turn()
        self._hearing = False
        self._answered: _Turn | None = None

    def speech_started(self) -> None:
        """Speech starts: a turn that was not decided goes on."""
        self._heard = _Turn()
        self._hearing = True

    def speech_stopped(self, at_s: float, silence_s: float, ended_at_s: float = 0.0) -> None:
        """Take a stop of speech.

        Args:
            at_s: when it was told.
            silence_s: after so much silence.
            ended_at_s: when the speech ended, in Unix time.
        """
        # An eager reply may have been begun in the silence before this.
        heard = self._heard if not self._heard.stopped else _Turn()
        heard.speech_end_s, heard.ended_at_s = at_s - silence_s, ended_at_s
        heard.moments[Moment.STOP] = at_s
        self._heard = heard
        self._hearing = True

    def eager(self, at_s: float) -> None:
        """A reply is begun before the turn is over; told after that, it was not."""
        if self._hearing:
            self._heard.eager_at_s = at_s

    def withdrawn(self) -> None:
        """The eager reply is thrown away."""
        self._heard.eager_at_s = None
        for moment in _EAGER:
            self._heard.moments.pop(moment, None)

    def mark(self, moment: Moment, at_s: float) -> TurnLatency | None:
        """Take a moment; the first of its kind counts, and of finals the last before the decision.

        Returns:
            The turn, if this completes it, or the one before, if this is the decision of a turn
            and that one was never answered.
        """
        if moment is Moment.TURN:
            return self._decide(at_s)
        heard = self._heard
        if moment is Moment.FINAL and heard.stopped:
            heard.moments[moment] = at_s
            return self._complete(heard, moment)
        if moment in _EAGER and heard.eager_at_s is not None:
            heard.moments.setdefault(moment, at_s)
        elif self._answered is not None:
            self._answered.moments.setdefault(moment, at_s)
            return self._complete(self._answered, moment)
        return None

    def ended(self) -> TurnLatency | None:
        """An interruption, or the session's end: an answer ends with what it has."""
        turn, self._answered = self._answered, None
        return None if turn is None else self._tell(turn)

    def _decide(self, at_s: float) -> TurnLatency | None:
        if not self._heard.stopped:
            return None
        before = self.ended()
        turn, self._heard = self._heard, _Turn()
        self._hearing = False
        turn.moments[Moment.TURN] = at_s
        self._answered = turn
        return self.ended() if self.last is Moment.TURN else before

    def _complete(self, turn: _Turn, moment: Moment) -> TurnLatency | None:
        if moment is not self.last:
            return None
        if turn is self._answered:
            self._answered = None
        else:
            self._heard = _Turn()
        return self._tell(turn)

    def _tell(self, turn: _Turn) -> TurnLatency:
        self._count += 1
        return turn.told(self._count)
