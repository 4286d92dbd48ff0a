"""Whether somebody who speaks while the bot does wants its turn.

Sans-IO: what the detector and Whisper say goes in, decisions come out. Within 200 ms nobody can
tell a "stop" from a "mhm", so the bot falls silent at the onset and keeps what it has to say;
the words decide whether it goes on from there.

::

                  onset, or speech after the grace            words that want the turn
        BUSY ─────────────────────────────────────► HELD ────────────────────────────────► Interrupt
          ▲                                           │
          └───────── Resume ◄──── a backchannel, no words at the stop, none for 1.5 s

While the bot is not busy, speech starts a turn at once.
"""

from dataclasses import dataclass
from enum import Enum, auto

from talkpath.agent.turns.backchannels import is_backchannel, word_count
from talkpath.agent.turns.profiles import TurnProfile

__all__ = [
    "Answer",
    "Backchannel",
    "BargeIn",
    "BargeInEvent",
    "Begin",
    "Hold",
    "Interrupt",
    "Resume",
]

# Partials come every half second: what holds no word in three of them is noise, however long.
_WORDLESS_S = 1.5
# A bot that falls silent for good because a stop or a final got lost is worse than one that
# speaks over somebody.
_LONGEST_HOLD_S = 4.0
# A bot that has said nothing by then has no answer: it only listens.
_LONGEST_THOUGHT_S = 10.0
# "Yes" over the last words of a question is its answer.
_ANSWER_S = 1.5


@dataclass(frozen=True, slots=True)
class Hold:
    """Fall silent, and keep what is yet to be said."""


@dataclass(frozen=True, slots=True)
class Resume:
    """Go on from where it fell silent."""


@dataclass(frozen=True, slots=True)
class Begin:
    """The caller speaks, and the bot does not: a turn, unless one is under way."""


@dataclass(frozen=True, slots=True)
class Interrupt:
    """The caller takes the turn: what was yet to be said is dropped."""


@dataclass(frozen=True, slots=True)
class Backchannel:
    """The caller only showed that they listen. It is told once the bot has gone on for a while."""

    text: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What looked like a backchannel was an answer: the bot had all but finished."""

    text: str


BargeInEvent = Begin | Hold | Resume | Interrupt | Backchannel | Answer


class _Speech(Enum):
    NONE = auto()
    ONSET = auto()
    SPEAKING = auto()
    STOPPED = auto()  # its final is not in


class BargeIn:
    """One caller and one bot. Times are seconds on any one clock that does not go back.

    Args:
        profile: minimum words and grace.
    """

    def __init__(self, profile: TurnProfile) -> None:
        self.profile = profile
        self._busy = False
        self._thinking_since_s: float | None = None
        self._speech = _Speech.NONE
        self._since_s = 0.0  # when the speech began
        self._held_since_s: float | None = None
        self._worded = False  # this speech has words
        self._noise = False  # this speech was let pass as noise
        self._owed = False  # the final of the speech before this onset has not come yet
        self._backchannel: tuple[str, float] | None = None  # and when it was over

    @property
    def held(self) -> bool:
        """Whether the bot is silent, waiting for a decision."""
        return self._held_since_s is not None

    @property
    def due_s(self) -> float | None:
        """When to call ``tick``, if nothing happens before; or None."""
        times = []
        if self._backchannel is not None:
            times.append(self._backchannel[1] + _ANSWER_S)
        if self._thinking_since_s is not None:
            times.append(self._thinking_since_s + _LONGEST_THOUGHT_S)
        if self._held_since_s is not None:
            times.append(self._held_since_s + _LONGEST_HOLD_S)
            if self._speech is _Speech.SPEAKING and not self._worded:
                times.append(self._since_s + _WORDLESS_S)
        elif self._may_hold and self._speech is _Speech.SPEAKING:
            times.append(self._since_s + self.profile.grace_s)
        return min(times, default=None)

    @property
    def _may_hold(self) -> bool:
        return self._busy and not self.held and not self._noise

    def thinking(self, at_s: float) -> list[BargeInEvent]:
        """The bot thinks about an answer. It may turn out to have none."""
        self._busy, self._thinking_since_s = True, at_s
        return []

    def speaking(self) -> list[BargeInEvent]:
        """The bot speaks."""
        self._busy, self._thinking_since_s = True, None
        return []

    def idle(self, at_s: float) -> list[BargeInEvent]:
        """The bot has said all. Somebody who speaks already has the turn."""
        if not self._busy or self._thinking_since_s is not None:
            return []  # what it stopped saying was of the turn before
        return self._idle(at_s)

    def _idle(self, at_s: float) -> list[BargeInEvent]:
        answer, held = self._backchannel, self.held
        self.interrupted()
        if self._speech is _Speech.SPEAKING and not self._noise:
            return [*([Resume()] if held else []), Begin()]
        events: list[BargeInEvent] = [Resume()] if held else []
        if answer is not None:
            late = at_s - answer[1] > _ANSWER_S
            events.append(Backchannel(answer[0]) if late else Answer(answer[0]))
        return events

    def onset(self, at_s: float, ago_s: float) -> list[BargeInEvent]:
        """A sound that may become speech."""
        if self._speech in (_Speech.NONE, _Speech.STOPPED):
            self._owed = self._speech is _Speech.STOPPED
            self._begin(_Speech.ONSET, at_s - ago_s)
        held = self._hold(at_s) if self.profile.grace_s == 0 else []
        return [*self._settled(), *held]

    def onset_ended(self) -> list[BargeInEvent]:
        """It did not."""
        if self._speech is not _Speech.ONSET:
            return []
        self._speech = _Speech.STOPPED if self._owed else _Speech.NONE
        return [] if self._owed else self._resume()

    def started(self, at_s: float, ago_s: float) -> list[BargeInEvent]:
        """Speech has started."""
        if self._speech is not _Speech.ONSET:
            self._begin(_Speech.SPEAKING, at_s - ago_s)
        self._speech = _Speech.SPEAKING
        return [*self._settled(), *(self.tick(at_s) if self._busy else [Begin()])]

    def stopped(self) -> list[BargeInEvent]:
        """Speech has stopped; a final, or that there is none, will follow."""
        if self._speech is _Speech.SPEAKING:
            self._speech = _Speech.STOPPED
        return []

    def partial(self, text: str, *, worded: bool = True) -> list[BargeInEvent]:
        """The words so far that will not change any more; whether there are any words at all."""
        self._worded |= worded
        if not self._busy or not text.strip():
            return []
        if is_backchannel(text) or word_count(text) < self.profile.min_words:
            return []
        return self._interrupt()

    def final(self, text: str, at_s: float, *, ends_speech: bool = True) -> list[BargeInEvent]:
        """A final; empty where the sound held no words."""
        if ends_speech:
            self._owed = False
            if self._speech is _Speech.STOPPED:
                self._speech = _Speech.NONE
        if not self._busy:
            # Words without speech before: a transcript that came late, or another service's.
            return [Begin()] if text.strip() else []
        if not text.strip():
            return self._resume_unless_onset() if ends_speech else []
        if is_backchannel(text):
            settled = self._settled()
            self._backchannel = (text.strip(), at_s)
            return [*self._resume_unless_onset(), *settled]
        return self._interrupt()

    def tick(self, at_s: float) -> list[BargeInEvent]:
        """Time has passed."""
        if self._backchannel is not None and at_s >= self._backchannel[1] + _ANSWER_S:
            return self._settled()
        thinking_s = self._thinking_since_s
        if thinking_s is not None and at_s >= thinking_s + _LONGEST_THOUGHT_S:
            return self._idle(at_s)
        if self._held_since_s is not None:
            wordless = self._speech is _Speech.SPEAKING and not self._worded
            if wordless and at_s >= self._since_s + _WORDLESS_S:
                self._noise = True
                return self._resume()
            if at_s >= self._held_since_s + _LONGEST_HOLD_S:
                self._noise = True
                return self._resume()
        elif self._may_hold and self._speech is _Speech.SPEAKING:
            if at_s >= self._since_s + self.profile.grace_s:
                return self._hold(at_s)
        return []

    def interrupted(self) -> None:
        """Somebody else has interrupted the bot, or the turn has begun."""
        self._busy = False
        self._held_since_s = self._backchannel = self._thinking_since_s = None

    def _begin(self, speech: _Speech, since_s: float) -> None:
        self._speech, self._since_s = speech, since_s
        self._worded = self._noise = False

    def _settled(self) -> list[BargeInEvent]:
        """The bot goes on: what may have been an answer was a backchannel."""
        backchannel, self._backchannel = self._backchannel, None
        return [] if backchannel is None else [Backchannel(backchannel[0])]

    def _hold(self, at_s: float) -> list[BargeInEvent]:
        if not self._may_hold:
            return []
        self._held_since_s = at_s
        return [Hold()]

    def _resume(self) -> list[BargeInEvent]:
        if not self.held or (self._speech is _Speech.SPEAKING and not self._noise):
            return []
        self._held_since_s = None
        return [Resume()]

    def _resume_unless_onset(self) -> list[BargeInEvent]:
        """Go on, but not into a sound that may be speech: its end decides then."""
        return [] if self._speech is _Speech.ONSET else self._resume()

    def _interrupt(self) -> list[BargeInEvent]:
        self.interrupted()
        return [Interrupt()]
