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
import logging
import sqlite3
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from talkpath.agent.answers import clearly_yes, declines, listens, says_farewell, yes_no
from talkpath.agent.appointments import Appointment, AppointmentBook, NotPossible
from talkpath.agent.calendar_words import Unclear, parse_day, parse_time, say_day, say_time
from talkpath.agent.caller_details import CallerDetails
from talkpath.agent.spoken_choices import choices

__all__ = ["Answer", "FrontDesk"]

_logger = logging.getLogger(__name__)

_OFFERED = 3
_SEARCHED_DAYS = 14
_ANYTHING_ELSE = "Is there anything else I can do for you?"
_REMEMBERED = 60
"""Letters of what was played last, in which the question stands that a plain no answers."""
_READINGS = 3
"""Times that a proposal is read to a caller who says neither yes nor no to it."""


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
    verb: str
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
        self._caller = CallerDetails()
        self._played = ""
        self._nothing_else = False
        self._proposal: _Proposal | None = None
        self._readings = 0
        self._spoken = ""
        self._answers: list[str] = []
        self._stale = False
        self._replied = False
        self._writing: asyncio.Task[Answer] | None = None
        self._done = ""

    # -- what happens in the call --------------------------------------------------------------

    def heard(self, text: str) -> None:
        """The caller has said this."""
        self._caller.heard(text)
        asked = _letters("anything else") in self._played
        self._nothing_else = says_farewell(text) or (asked and declines(text))
        if self._proposal is None:
            return
        self._replied = True
        rest = self._after_details()
        if rest is None:
            self._stale = self._stale or not listens(text)  # a correction, perhaps
        elif _letters(self._proposal.question).startswith(rest):
            self._answers.append(text)
        else:
            self._stale = True  # an answer to something else

    def spoken(self, text: str) -> None:
        """These words of the bot's have been played to the caller."""
        self._played = (self._played + _letters(text))[-_REMEMBERED:]
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
        return await self._propose(lambda: self._booking(name, phone, service, day, time))

    async def propose_move(self, phone: str, day: str, time: str, current_day: str = "") -> Answer:
        """Read back how an appointment would be moved."""
        return await self._propose(lambda: self._move(phone, day, time, current_day))

    async def propose_cancellation(self, phone: str, current_day: str = "") -> Answer:
        """Read back which appointment would be cancelled."""
        return await self._propose(lambda: self._cancellation(phone, current_day))

    async def confirm(self) -> Answer:
        """Write what was proposed, if the caller has agreed to exactly that.

        Cancelled in the middle, it still is either written or not, and `outcome` says so.
        """
        if self._writing is not None and not self._writing.done():
            await asyncio.wait({self._writing})  # asked for twice: the first one tells
            return Answer(self._writing.result().status)
        proposal = self._proposal
        if proposal is None:
            if self._done:
                return Answer("information", f"{self._done} {_ANYTHING_ELSE}")
            return Answer("problem", "There is nothing to confirm yet. What can I do for you?")
        if not self._stale and clearly_yes(self._answers, proposal.verb):
            self._proposal = None  # at once: a second call must not write it again
            self._writing = asyncio.create_task(self._write(proposal))
            return await _to_its_end(self._writing)
        if not self._replied:
            return Answer("waiting")  # the model did not wait for the caller
        return self._not_agreed(proposal)

    @property
    def outcome(self) -> str:
        """What was written last, in a sentence; empty before, and from the next proposal on."""
        return self._done

    def before_the_end(self) -> Answer | None:
        """What there is to say before the call may end; None if it may.

        It may end on a farewell, or on a no to the question whether there is anything else, and
        not while the caller may take for done what was only proposed.
        """
        if self._writing is not None and not self._writing.done():
            return Answer("waiting")
        if self._proposal is not None:
            if not self._replied:
                return Answer("waiting")
            answer = self._not_agreed(self._proposal)
            if self._proposal is not None or not self._nothing_else:
                return answer
        return None if self._nothing_else else Answer("problem", _ANYTHING_ELSE)

    # -- how they do it ------------------------------------------------------------------------

    async def _answer(self, work: Callable[[], Answer]) -> Answer:
        """Do the work in a thread, to its end."""
        return await _to_its_end(_spoken_errors(asyncio.to_thread(work)))

    async def _propose(self, work: Callable[[], _Proposal]) -> Answer:
        """Put a proposal on the desk, in place of any other, to be read to the caller.

        It is made in a thread, and put there outside of it: a yes to the last one, heard
        meanwhile, is none to this one.
        """
        made: list[_Proposal] = []

        def make() -> Answer:
            made.append(work())
            return Answer("proposed", made[0].say)

        answer = await self._answer(make)
        if made:
            self._done = ""
            self._readings = 0
            self._read(made[0])
        return answer

    def _read(self, proposal: _Proposal) -> None:
        """From now on the caller's words answer this."""
        self._proposal = proposal
        self._readings += 1
        self._spoken, self._stale, self._replied = "", False, False
        self._answers.clear()

    def _not_agreed(self, proposal: _Proposal) -> Answer:
        """Drop what the caller does not want; else read it once more, a few times."""
        if yes_no(". ".join(self._answers)) is False:
            self._proposal = None
            return Answer("problem", "All right, I changed nothing. What would you like instead?")
        if self._readings >= _READINGS:
            self._proposal = None
            return Answer(
                "problem", "I am not sure what you want, so I changed nothing. How can I help?"
            )
        self._read(proposal)
        return Answer("proposed", f"Please answer with yes or no. {proposal.say}")

    async def _write(self, proposal: _Proposal) -> Answer:
        work = asyncio.to_thread(lambda: Answer("done", proposal.write()))
        answer = await _spoken_errors(work)
        if answer.status != "done":
            return answer
        self._done = answer.say
        return Answer("done", f"{self._done} {_ANYTHING_ELSE}")

    def _free_times(self, service: str, day: str) -> Answer:
        kind, asked = self._service(service), self._day(day)
        until = self._day("today") + datetime.timedelta(days=self._hours.days_ahead)
        if asked < self._day("today"):
            raise NotPossible(f"{say_day(asked)} has already passed.")
        if asked > until:
            raise NotPossible(f"I can only book {self._hours.days_ahead} days ahead.")
        for ahead in range(min(_SEARCHED_DAYS, (until - asked).days + 1)):
            date = asked + datetime.timedelta(days=ahead)
            free = self._book.free(date, kind, self._now())
            if free:
                none = f"Nothing is free on {say_day(asked)}. " if ahead else ""
                return Answer("information", f"{none}On {say_day(date)} I have {_times(free)}.")
        return Answer("problem", f"Nothing is free from {say_day(asked)} to {say_day(date)}.")

    def _booking(self, name: str, phone: str, service: str, day: str, time: str) -> _Proposal:
        kind = self._service(service)
        start = self._start(self._day(day), time, kind, self._hours.services[kind])
        who, number = self._caller.name(name), self._caller.phone(phone)
        spelled = ", ".join(who.split()[-1].upper())
        details = (
            f"A {kind} for {who}, spelled {spelled}, phone {_spaced(number)}, on {_when(start)}."
        )

        def write() -> str:
            self._book.book(who, number, kind, start, self._now())
            return f"Your {kind} is booked for {_when(start)}."

        return _Proposal(details, "Shall I book it?", "book", write)

    def _move(self, phone: str, day: str, time: str, current_day: str) -> _Proposal:
        old = self._booked(phone, current_day)
        date = self._day(day) if day.strip() else old.start.date()
        new = self._start(date, time, old.service, old.minutes, moving=old)
        if new == old.start:
            raise NotPossible(f"It is on {_when(new)} already. When would you like to come?")
        details = (
            f"The {old.service} for {old.name} would move from {_when(old.start)} to {_when(new)}."
        )

        def write() -> str:
            self._book.move(old, new, self._now())
            return f"Your {old.service} is now on {_when(new)}."

        return _Proposal(details, "Shall I move it?", "move", write)

    def _cancellation(self, phone: str, current_day: str) -> _Proposal:
        old = self._booked(phone, current_day)
        details = f"The {old.service} for {old.name} on {_when(old.start)} would be cancelled."

        def write() -> str:
            self._book.cancel(old)
            return f"Your {old.service} on {_when(old.start)} is cancelled."

        return _Proposal(details, "Shall I cancel it?", "cancel", write)

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
        self,
        day: datetime.date,
        time: str,
        service: str,
        minutes: int,
        moving: Appointment | None = None,
    ) -> datetime.datetime:
        """A start that the rules allow and that is free."""
        clock = parse_time(time, self._hours.opens, self._hours.closes)
        start = datetime.datetime.combine(day, clock, self._hours.timezone)
        now = self._now()
        self._hours.check(start, minutes, now)
        free = self._book.free(day, service, now, minutes=minutes)
        if start not in free and not (moving and _overlap(start, moving)):
            near = sorted(sorted(free, key=lambda each: abs(each - start))[:_OFFERED])
            instead = f" On that day I have {_times(near)}." if near else " That day is full."
            raise NotPossible(f"{_when(start)} is taken.{instead}")
        return start

    def _booked(self, phone: str, current_day: str) -> Appointment:
        """The one appointment that is meant."""
        found = self._book.find(self._caller.phone(phone), self._now())
        if not found:
            raise NotPossible("I find no appointment under that phone number.")
        if len(found) > 1 and current_day.strip():
            day = self._day(current_day)
            found = [each for each in found if each.start.date() == day] or found
        if len(found) > 1:
            days = _either([_when(each.start) for each in found])
            raise NotPossible(f"There is more than one: {days}. Which one do you mean?")
        return found[0]


async def _to_its_end(work: Coroutine[Any, Any, Answer] | asyncio.Task[Answer]) -> Answer:
    """Wait for it, even when cancelled: a caller who interrupts does not leave a half."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        if not task.cancelled() and task.exception() is not None:
            _logger.error("a tool failed after its cancellation: %s", task.exception())
        raise


async def _spoken_errors(work: Coroutine[Any, Any, Answer]) -> Answer:
    """Errors that callers may hear, as answers."""
    try:
        return await work
    except (NotPossible, Unclear) as error:
        return Answer("problem", str(error))
    except sqlite3.Error:
        _logger.exception("the appointments are out of reach")
        return Answer(
            "problem", "I am sorry, I cannot open the appointments now. Please call again later."
        )


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
