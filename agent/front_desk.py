"""A receptionist's desk during one call: what a language model may do with the appointments.

The model hears the caller and chooses; the desk believes neither. Every argument is checked, a
name and a number must have been said by the caller, and nothing is written before this has
happened in this order:

1. a proposal: all details are valid and the time is free;
2. the desk's own words with these details were played to the caller, to the last word;
3. the caller said yes, and nothing but yes, before the bot said anything else;
4. the model asks for the write.

A model too small for the job, or one that invents things, therefore ends in a question too many
and never in a wrong row. Answers are sentences to be spoken as they are.
"""

import asyncio
import datetime
import difflib
import logging
import re
import sqlite3
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from talkpath.agent.answers import choices, clearly_yes, digits, words, yes_no
from talkpath.agent.appointments import Appointment, AppointmentBook, NotPossible
from talkpath.agent.calendar_words import Unclear, parse_day, parse_time, say_day, say_time

__all__ = ["Answer", "FrontDesk"]

_logger = logging.getLogger(__name__)

_REMEMBERED = 500
"""Utterances of the caller in which names and numbers are looked for: an hour of talking."""
_SIMILAR = 0.7
"""Ratio of `difflib.SequenceMatcher` from which a name is one that was heard: recognizers and
models spell names in their own ways."""
_WITHIN_NUMBERS = frozenset("double triple and then uh um er".split())
_NAME = re.compile(r"[^\W\d_](?:[^\W\d_]|[ .'\u2019-])+")
_LONGEST_NAME = 80
_OFFERED = 3
_SEARCHED_DAYS = 14
_ANYTHING_ELSE = "Is there anything else I can do for you?"
_FAREWELLS = (
    "bye",
    "goodbye",
    "that's all",
    "that is all",
    "that's it",
    "nothing else",
    "no thanks",
    "no thank you",
    "have a nice day",
    "thank you",
    "thanks",
)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a tool says.

    Attributes:
        status: ``proposed``, ``done``, ``information``, ``problem`` or ``waiting``.
        say: words for the caller; empty where there is nothing to say now.
    """

    status: str
    say: str = ""


@dataclass(frozen=True, slots=True)
class _Proposal:
    details: str
    question: str
    verbs: Sequence[str]
    write: Callable[[], str]

    @property
    def say(self) -> str:
        return f"{self.details} {self.question}"


class FrontDesk:
    """One call's desk.

    Args:
        book: the appointments.
        now: the clock, with a time zone.
    """

    def __init__(self, book: AppointmentBook, now: Callable[[], datetime.datetime]) -> None:
        self._book = book
        self._hours = book.hours
        self._now = now
        self._heard: deque[str] = deque(maxlen=_REMEMBERED)
        self._proposal: _Proposal | None = None
        self._spoken = ""
        self._answers: list[str] = []
        self._stale = False
        self._replied = False
        self._done = ""

    # -- what happens in the call --------------------------------------------------------------

    def heard(self, text: str) -> None:
        """The caller has said this."""
        self._heard.append(text)
        if self._proposal is None:
            return
        self._replied = True
        rest = self._after_details()
        if rest is None:
            self._stale = self._stale or yes_no(text) is False
        elif _letters(self._proposal.question).startswith(rest):
            self._answers.append(text)
        else:
            self._stale = True  # an answer to something else

    def spoken(self, text: str) -> None:
        """These words of the bot's have been played to the caller."""
        if self._proposal is not None:
            self._spoken += _letters(text)

    def _after_details(self) -> str | None:
        """What was played behind the proposal's details, None while these were not."""
        assert self._proposal is not None
        _, found, rest = self._spoken.rpartition(_letters(self._proposal.details))
        return rest if found else None

    # -- tools ---------------------------------------------------------------------------------

    async def free_times(self, service: str, day: str) -> Answer:
        """Which times are free for a service, on a day or the next one that has any."""
        return await self._answer(lambda: self._free_times(service, day))

    async def propose_booking(
        self, name: str, phone: str, service: str, day: str, time: str
    ) -> Answer:
        """Read back an appointment that could be booked."""
        return await self._answer(lambda: self._propose_booking(name, phone, service, day, time))

    async def propose_move(self, phone: str, day: str, time: str, current_day: str = "") -> Answer:
        """Read back how an appointment would be moved."""
        return await self._answer(lambda: self._propose_move(phone, day, time, current_day))

    async def propose_cancellation(self, phone: str, current_day: str = "") -> Answer:
        """Read back which appointment would be cancelled."""
        return await self._answer(lambda: self._propose_cancellation(phone, current_day))

    async def confirm(self) -> Answer:
        """Write what was proposed, if the caller has agreed to exactly that.

        Cancelled in the middle, it still is either written or not, and `outcome` says so.
        """
        proposal = self._proposal
        if proposal is None:
            if self._done:
                return Answer("information", f"{self._done} {_ANYTHING_ELSE}")
            return Answer("problem", "There is nothing to confirm yet. What can I do for you?")
        answer = " ".join(self._answers)
        if not self._stale and clearly_yes(answer, harmless=proposal.verbs):
            self._proposal = None  # at once: a second call must not write it again
            return await self._answer(lambda: self._write(proposal))
        if not self._replied:
            return Answer("waiting")  # the model did not wait for the caller
        if yes_no(answer) is False:
            self._proposal = None
            return Answer("problem", "All right, I changed nothing. What would you like instead?")
        return self._propose(proposal)

    @property
    def outcome(self) -> str:
        """What was written last in this call, in a sentence; empty before."""
        return self._done

    def may_end(self) -> bool:
        """Whether the caller's last words allow to hang up: a farewell, or a plain no."""
        last = self._heard[-1] if self._heard else ""
        text = f" {' '.join(words(last))} "
        return yes_no(last) is False or any(f" {phrase} " in text for phrase in _FAREWELLS)

    # -- how they do it ------------------------------------------------------------------------

    async def _answer(self, work: Callable[[], Answer]) -> Answer:
        """Do the work in a thread, to its end: a caller who interrupts does not leave a half."""
        task = asyncio.create_task(asyncio.to_thread(work))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            await asyncio.wait({task})
            if not task.cancelled() and task.exception() is not None:
                _logger.error("a tool failed after its cancellation: %s", task.exception())
            raise
        except (NotPossible, Unclear) as error:
            return Answer("problem", str(error))
        except sqlite3.Error:
            _logger.exception("the appointments are out of reach")
            return Answer(
                "problem",
                "I am sorry, I cannot open the appointments now. Please call again later.",
            )

    def _free_times(self, service: str, day: str) -> Answer:
        kind, asked = self._service(service), self._day(day)
        for ahead in range(_SEARCHED_DAYS):
            date = asked + datetime.timedelta(days=ahead)
            free = self._book.free(date, kind, self._now())
            if free:
                none = f"Nothing is free on {say_day(asked)}. " if ahead else ""
                return Answer("information", f"{none}On {say_day(date)} I have {_times(free)}.")
        return Answer("problem", f"Nothing is free in the two weeks from {say_day(asked)}.")

    def _propose_booking(self, name: str, phone: str, service: str, day: str, time: str) -> Answer:
        kind = self._service(service)
        start = self._start(self._day(day), time, kind)
        who, number = self._name(name), self._phone(phone)
        spelled = ", ".join(who.split()[-1].upper())
        details = (
            f"A {kind} for {who}, spelled {spelled}, phone {_spaced(number)}, on {_when(start)}."
        )

        def write() -> str:
            self._book.book(who, number, kind, start, self._now())
            return f"Your {kind} is booked for {_when(start)}."

        return self._propose(
            _Proposal(details, "Shall I book it?", ("book", "correct", "right"), write)
        )

    def _propose_move(self, phone: str, day: str, time: str, current_day: str) -> Answer:
        old = self._booked(phone, current_day)
        date = self._day(day) if day.strip() else old.start.date()
        new = self._start(date, time, old.service, moving=old)
        if new == old.start:
            raise NotPossible(f"It is on {_when(new)} already. When would you like to come?")
        details = (
            f"The {old.service} for {old.name} would move from {_when(old.start)} to {_when(new)}."
        )

        def write() -> str:
            self._book.move(old, new, self._now())
            return f"Your {old.service} is now on {_when(new)}."

        return self._propose(
            _Proposal(details, "Shall I move it?", ("move", "correct", "right"), write)
        )

    def _propose_cancellation(self, phone: str, current_day: str) -> Answer:
        old = self._booked(phone, current_day)
        details = f"The {old.service} for {old.name} on {_when(old.start)} would be cancelled."

        def write() -> str:
            self._book.cancel(old)
            return f"Your {old.service} on {_when(old.start)} is cancelled."

        return self._propose(
            _Proposal(details, "Shall I cancel it?", ("cancel", "correct", "right"), write)
        )

    def _propose(self, proposal: _Proposal) -> Answer:
        """Put a proposal on the desk, in place of any other, to be read to the caller."""
        self._proposal = proposal
        self._spoken, self._stale, self._replied = "", False, False
        self._answers.clear()
        return Answer("proposed", proposal.say)

    def _write(self, proposal: _Proposal) -> Answer:
        self._done = proposal.write()
        return Answer("done", f"{self._done} {_ANYTHING_ELSE}")

    # -- arguments -----------------------------------------------------------------------------

    def _service(self, text: str) -> str:
        services = list(self._hours.services)
        named = choices(text, {name: [name] for name in services})
        if len(services) == 1:
            return services[0]
        if len(named) != 1:
            raise Unclear(f"We offer {_either(services)}. Which would you like?")
        return named[0]

    def _day(self, text: str) -> datetime.date:
        return parse_day(text, self._now().astimezone(self._hours.timezone).date())

    def _start(
        self, day: datetime.date, time: str, service: str, moving: Appointment | None = None
    ) -> datetime.datetime:
        """A start that the rules allow and that is free."""
        clock = parse_time(time, self._hours.opens, self._hours.closes)
        start = datetime.datetime.combine(day, clock, self._hours.timezone)
        now = self._now()
        self._hours.check(start, self._hours.services.get(service, 0), now)
        free = self._book.free(day, service, now)
        if start not in free and not (moving and _overlap(start, moving)):
            near = sorted(sorted(free, key=lambda each: abs(each - start))[:_OFFERED])
            instead = f" On that day I have {_times(near)}." if near else " That day is full."
            raise NotPossible(f"{_when(start)} is taken.{instead}")
        return start

    def _booked(self, phone: str, current_day: str) -> Appointment:
        """The one appointment that is meant."""
        found = self._book.find(self._phone(phone), self._now())
        if not found:
            raise NotPossible("I find no appointment under that phone number.")
        if len(found) > 1 and current_day.strip():
            day = self._day(current_day)
            found = [each for each in found if each.start.date() == day] or found
        if len(found) > 1:
            days = _either([_when(each.start) for each in found])
            raise NotPossible(f"There is more than one: {days}. Which one do you mean?")
        return found[0]

    def _phone(self, text: str) -> str:
        """A number that the caller has said, digit for digit."""
        number = digits(text)
        if not 5 <= len(number) <= 15:
            raise Unclear("What is your phone number, please?")
        if not any(run in (number, number * 2) for run in _numbers(" ".join(self._heard))):
            raise Unclear("I am not sure about the phone number. Please say it digit by digit.")
        return number

    def _name(self, text: str) -> str:
        """A name that the caller has said, or something that sounds and looks like it."""
        name = " ".join(text.split())
        if len(name) > _LONGEST_NAME or not _NAME.fullmatch(name):
            raise Unclear("What is your name, please?")
        heard = words(" ".join(self._heard))
        spelled = "".join(word for word in heard if len(word) == 1)
        for part in words(name):
            if not any(_alike(part, word) for word in heard) and part not in spelled:
                raise Unclear("I am not sure about the name. Please say it again and spell it.")
        return name


def _numbers(text: str) -> list[str]:
    """Runs of digits with nothing else between them: a time of day is no part of a number."""
    runs = [""]
    for word in words(text):
        if digits(word) or word in _WITHIN_NUMBERS:
            runs[-1] += f" {word}"
        elif runs[-1]:
            runs.append("")
    return [digits(run) for run in runs]


def _alike(name: str, heard: str) -> bool:
    return difflib.SequenceMatcher(None, name, heard).ratio() >= _SIMILAR


def _letters(text: str) -> str:
    """Letters and digits alone: spaces and punctuation are lost where words are spoken."""
    return "".join(filter(str.isalnum, text.casefold()))


def _spaced(number: str) -> str:
    """Digits to be read one by one, in groups of three."""
    return ", ".join(" ".join(number[i : i + 3]) for i in range(0, len(number), 3))


def _when(start: datetime.datetime) -> str:
    return f"{say_day(start.date())} at {say_time(start.time())}"


def _either(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _times(starts: Sequence[datetime.datetime]) -> str:
    """A few of them, spread over the day."""
    step = max(1, (len(starts) + _OFFERED - 1) // _OFFERED)
    return _either([say_time(start.time()) for start in starts[::step][:_OFFERED]])


def _overlap(start: datetime.datetime, other: Appointment) -> bool:
    return abs(start - other.start) < datetime.timedelta(minutes=other.minutes)
