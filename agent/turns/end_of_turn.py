"""When a turn is over: from speech, silence, sound and words to eager, withdrawn, over.

Sans-IO: what the detector, Smart Turn and Whisper say goes in with the time, decisions come out.

::

                    early pause                  stop
        SPEAKING ────────────────► PAUSED ─────────────► SILENT ──► End, once there is silence
           ▲    Judge: how finished?  │                    │         enough for how finished it
           ├──────── resumed ─────────┘                    │         sounds, and the final is in
           └─────────────────────── started ───────────────┘

While it is paused or silent, an eager machine says what the turn would be as soon as it is
known and likely; speech that goes on withdraws it. Speech over a bot that speaks may take no
turn at all: only in an open turn is anything begun. Smart Turn and the speculative final are
asked for at the same moment, and neither waits for the other.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto

from talkpath.agent.turns.completeness import is_unfinished, required_silence_s
from talkpath.agent.turns.profiles import TurnProfile

__all__ = ["Eager", "End", "EndOfTurn", "Judge", "TurnEvent", "Withdraw"]

# Without Smart Turn's opinion (it failed, or no early pause was told of) silence decides.
_UNJUDGED = 0.3
# A final that is not in by then will not come, or too late to wait for.
_LATEST_FINAL_S = 4.0
# An eager reply costs a language model's work. Before the stop it is for what is more likely
# finished than not; after it, with the final in, whatever it sounds like: the wait is long then.
_EAGER_FROM = 0.5


@dataclass(frozen=True, slots=True)
class Judge:
    """Ask Smart Turn about the audio so far, and bring the answer back under this ticket."""

    ticket: int


@dataclass(frozen=True, slots=True)
class Eager:
    """The turn is probably over, and this would be all of it."""

    text: str
    completeness: float | None


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Speech went on, or the words became others: what was begun for ``Eager`` is void."""


@dataclass(frozen=True, slots=True)
class End:
    """The turn is over.

    Attributes:
        text: all that was said in it; empty where there was nothing but sound.
        confirms_eager: whether this is what the last ``Eager`` said.
        completeness: how finished it sounded, None where nobody said.
    """

    text: str
    confirms_eager: bool
    completeness: float | None


TurnEvent = Judge | Eager | Withdraw | End


class _State(Enum):
    SPEAKING = auto()
    PAUSED = auto()
    SILENT = auto()


class EndOfTurn:
    """The turns of one caller. Times are seconds on any one clock that does not go back.

    Args:
        profile: threshold, wait and whether it is eager.
        stop_s: seconds of silence after which the detector says that speech has stopped.
    """

    def __init__(self, profile: TurnProfile, stop_s: float) -> None:
        self.profile = profile
        self._stop_s = stop_s
        self._ticket = 0
        self._open = False
        self._state = _State.SILENT
        self._events: list[TurnEvent] = []
        self._clear()

    def _clear(self) -> None:
        self._said: list[str] = []
        self._owed = 0  # stops whose final is not in
        self._heard = False  # speech since the last turn
        self._eager: str | None = None
        self._pause()

    def _pause(self) -> None:
        self._completeness: float | None = None
        self._awaited: int | None = None  # the ticket of a judgement
        self._likely: str | None = None  # what the speculative final says
        self._refused = False  # an eager reply to this pause came to nothing
        self._silent_since_s = 0.0

    @property
    def text(self) -> str:
        """What was said in this turn so far, as far as it is written down."""
        return " ".join(self._said)

    @property
    def due_s(self) -> float | None:
        """When to call ``tick``: the turn is over then, if nothing happens before; or None."""
        if self._state is not _State.SILENT or not self._heard:
            return None
        if self._owed:
            return self._silent_since_s + max(self.profile.wait_s, _LATEST_FINAL_S)
        if self._awaited is not None:
            return self._silent_since_s + max(self.profile.wait_s, self._stop_s)
        return self._silent_since_s + self._required_s()

    def opened(self, at_s: float) -> list[TurnEvent]:
        """A turn is open: what was heard so far is part of it."""
        self._open = True
        return self.tick(at_s)

    def started(self) -> list[TurnEvent]:
        """Speech has started."""
        return self._go_on(_State.SPEAKING)

    def early_pause(self, at_s: float, silence_s: float) -> list[TurnEvent]:
        """It has been silent for a moment: a good time to ask how finished it sounds."""
        if self._state is not _State.SPEAKING:
            return []
        self._state = _State.PAUSED
        self._pause()
        self._silent_since_s = at_s - silence_s
        self._ticket += 1
        self._awaited = self._ticket
        return [Judge(self._ticket)]

    def resumed(self) -> list[TurnEvent]:
        """Speech went on after an early pause."""
        return self._go_on(_State.SPEAKING) if self._state is _State.PAUSED else []

    def stopped(self, at_s: float, silence_s: float) -> list[TurnEvent]:
        """Speech has stopped; a final, or that there is none, will follow."""
        if self._state is _State.SILENT:
            return []
        if self._state is _State.SPEAKING:  # a detector without early pauses
            self._pause()
        self._state = _State.SILENT
        self._silent_since_s = at_s - silence_s
        self._owed += 1
        return self.tick(at_s)

    def judged(self, ticket: int, completeness: float | None, at_s: float) -> list[TurnEvent]:
        """Smart Turn's answer, 0 to 1; None where it failed."""
        if ticket != self._awaited:
            return []
        self._awaited = None
        self._completeness = completeness
        return self.tick(at_s)

    def likely(self, text: str, at_s: float) -> list[TurnEvent]:
        """The speculative final: what was said, should this pause be the end."""
        if self._state is _State.SPEAKING:
            return []
        self._likely = text
        return self.tick(at_s)

    def final(self, text: str, at_s: float, *, ends_speech: bool = True) -> list[TurnEvent]:
        """A final; empty where the sound held no words. ``ends_speech`` answers a stop."""
        if text.strip():
            self._said.append(text.strip())
            self._heard = True
        if ends_speech:
            self._owed = max(self._owed - 1, 0)
            self._likely = None
        return self.tick(at_s)

    def tick(self, at_s: float) -> list[TurnEvent]:
        """Time has passed."""
        due_s = self.due_s
        wordless = not self._said and not self._owed
        if due_s is not None and (wordless or at_s >= due_s):
            return self._end()
        return self._maybe_eager()

    def refused(self) -> None:
        """Whoever was to begin the eager reply gave it up: the end will have to start it."""
        self._eager, self._refused = None, True

    def ended(self) -> None:
        """Somebody else has ended the turn."""
        speaking = self._state is not _State.SILENT
        self._clear()
        self._open, self._heard = False, speaking

    def _go_on(self, state: _State) -> list[TurnEvent]:
        self._state = state
        self._heard = True
        self._pause()
        if self._eager is None:
            return []
        self._eager = None
        return [Withdraw()]

    def _required_s(self) -> float:
        completeness = _UNJUDGED if self._completeness is None else self._completeness
        return required_silence_s(
            completeness,
            self.profile,
            self._stop_s,
            unfinished=is_unfinished(self._said[-1]) if self._said else False,
        )

    def _maybe_eager(self) -> list[TurnEvent]:
        if not self.profile.eager or not self._open:
            return []
        if self._eager is not None or self._refused:
            return []
        if self._state is _State.SPEAKING or self._awaited is not None:
            return []
        written = self._state is _State.SILENT and not self._owed
        if not written and (self._completeness or 0.0) < _EAGER_FROM:
            return []
        # The pause's own words are the speculative final's until the final is in.
        missing = self._owed + (self._state is _State.PAUSED)
        if missing > (self._likely is not None):
            return []
        text = _joined([*self._said, self._likely or ""])
        if not text or is_unfinished(text):
            return []
        self._eager = text
        return [Eager(text, self._completeness)]

    def _end(self) -> list[TurnEvent]:
        text, eager, completeness = self.text, self._eager, self._completeness
        self._clear()
        confirms = eager is not None and _same_words(eager, text)
        events: list[TurnEvent] = [Withdraw()] if eager is not None and not confirms else []
        return [*events, End(text, confirms, completeness)]


def _joined(texts: Sequence[str]) -> str:
    return " ".join(text.strip() for text in texts if text.strip())


def _same_words(one: str, other: str) -> bool:
    return re.findall(r"\w+", one.lower()) == re.findall(r"\w+", other.lower())
