"""Twelve calls and more to the receptionist, with a real database and a real server for the model.

Two callers speak aloud and are heard by Whisper: the one who corrects herself and the one who talks
over the bot. The others type. What the language model says is scripted but in one call, and in one
it is a bad one.
"""

import asyncio
import contextlib
import datetime
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from talkpath.agent.appointments import AppointmentBook, OpeningHours
from talkpath.agent.config import ReceptionistConfig
from talkpath.bots import receptionist
from talkpath.bots.testing import call
from tests.bots.receptionist_brain import BadModel, decent_model
from tests.bots.typed_calls import typed_call, without_sound
from tests.llm_server import llm_server
from tests.local_models import reply_model, voice_model

EVERY_DAY = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
ANNA = "five five five, zero one zero one"
DETAILS = "My name is {name}, and my number is {number}."
ROBERT = ("Robert King", "five five five, zero one zero five")
HELEN = ("Helen Young", "five five five, zero one zero six")
BOOK = "I would like to book a check-up, {when}. " + DETAILS


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    voice_model()
    without_sound(receptionist, monkeypatch)
    return {
        "whisper.model": "tiny.en",
        "idle.after_s": 4.0,
        "receptionist.database": str(tmp_path / "appointments.db"),
        "receptionist.weekdays": EVERY_DAY,
        "reply.model": "any",
    }


@contextlib.asynccontextmanager
async def calling(settings: dict[str, Any], *, aloud: bool = False) -> AsyncIterator[Any]:
    """Call, by voice (tiny.en is at the other end) or typed."""
    made: Any = call("receptionist", settings=settings)
    if not aloud:
        made = typed_call(receptionist, settings)
    async with made as caller:
        await caller.hears("book, move or cancel an appointment?")
        yield caller


async def agrees(caller: Any, outcome: str) -> None:
    """Hear a proposal out, say yes, and goodbye."""
    await caller.hears("Shall I", within_s=30)
    await caller.says("Yes, please.")
    await caller.hears(outcome, within_s=20)
    await says_goodbye(caller)


async def says_goodbye(caller: Any) -> None:
    await caller.says("No, nothing else. Goodbye.")
    await caller.hears("Thank you for calling. Goodbye.")
    await caller.is_hung_up_on()


class Calls:
    """Each call books under a number of its own, so that its rows are known."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._settings = settings
        self._both_proposed = asyncio.Barrier(2)

    async def corrects_the_time(self) -> None:
        async with calling(self._settings, aloud=True) as caller:
            await caller.says("I would like to book a check-up. My name is Anna Miller.")
            await caller.hears("What is your phone?", within_s=20)
            await caller.presses("5550101#")
            await caller.hears("What is your day?", within_s=20)
            await caller.says("Tomorrow at 10 a.m.")
            await caller.hears("at 10 AM. Shall I book it?", within_s=30)
            await caller.says("No, at 11 a.m.")
            await caller.hears("at 11 AM.", within_s=30)
            await agrees(caller, "Your check-up is booked for")

    async def names_a_day_that_does_not_exist(self) -> None:
        async with calling(self._settings) as caller:
            number = "five five five, zero one zero two"
            await caller.says(
                BOOK.format(when="on February 30 at 2 p.m.", name="Peter Brown", number=number)
            )
            await caller.hears("There is no 30 February. Which day would you like?", within_s=20)
            await caller.says("Then the day after tomorrow.")
            await agrees(caller, "is booked for")

    async def names_a_day_that_has_passed(self) -> None:
        async with calling(self._settings) as caller:
            number = "five five five, zero one zero three"
            await caller.says(
                BOOK.format(when="yesterday at 10 a.m.", name="Mary Jones", number=number)
            )
            await caller.hears("has already passed", within_s=20)
            await caller.says("I don't want it any more.")
            await caller.hears("nothing was booked", within_s=20)
            await says_goodbye(caller)

    async def wants_a_time_that_is_taken(self) -> None:
        async with calling(self._settings) as caller:
            number = "five five five, zero one zero four"
            await caller.says(
                BOOK.format(when="tomorrow at 9 a.m.", name="Susan Clark", number=number)
            )
            await caller.hears("at 9 AM is taken. On that day I have", within_s=20)
            await caller.says("Then at 4 p.m.")
            await agrees(caller, "is booked for")

    async def wants_the_same_time_as_another(self, name: str, number: str) -> bool:
        """Whether this caller got it."""
        async with calling(self._settings) as caller:
            await caller.says(
                BOOK.format(when="the day after tomorrow at 10 a.m.", name=name, number=number)
            )
            await caller.hears("Shall I", within_s=30)
            async with asyncio.timeout(60):
                await self._both_proposed.wait()
            await caller.says("Yes, please.")
            answer = await caller.hears_turn(within_s=30)
            await says_goodbye(caller)
        return "is booked for" in answer.text

    async def talks_over_the_proposal(self) -> None:
        async with calling(self._settings, aloud=True) as caller:
            await caller.says("A check-up tomorrow at 2 p.m. My name is David Green.")
            await caller.hears("What is your phone?", within_s=20)
            await caller.presses("5550107#")
            await caller.hears("A check-up for", within_s=20)
            await caller.says("Yes, yes, that is fine, please do it.", over_bot=True)
            await caller.hears("A check-up for", within_s=20)  # all of it, once more
            await agrees(caller, "is booked for")

    async def says_nothing(self) -> None:
        async with calling(self._settings) as caller:
            await caller.hears("Are you still there?")
            await caller.hears("I will hang up now. Goodbye.", within_s=30)
            await caller.is_hung_up_on()

    async def says_yes_to_another_question(self) -> None:
        async with calling(self._settings) as caller:
            number = "five five five, zero one zero eight"
            await caller.says(
                BOOK.format(when="tomorrow at 3 p.m.", name="Laura White", number=number)
            )
            await caller.hears("Shall I book it?", within_s=30)
            await caller.hears("Are you still there?")
            await caller.says("Yes.")
            await caller.hears("A check-up for", within_s=20)  # the desk makes sure
            await caller.hangs_up()

    async def cancels_what_is_not_there(self) -> None:
        async with calling(self._settings) as caller:
            await caller.says(
                "Please cancel my appointment. My number is five five five, zero one zero nine."
            )
            await caller.hears("I find no appointment under that phone number", within_s=20)
            await says_goodbye(caller)

    async def cancels(self) -> None:
        async with calling(self._settings) as caller:
            await caller.says(
                "Please cancel my appointment. My number is five five five, zero two zero two."
            )
            await caller.hears("would be cancelled", within_s=20)
            await agrees(caller, "is cancelled")

    async def moves(self) -> None:
        async with calling(self._settings) as caller:
            await caller.says("I want to move my appointment to the day after tomorrow.")
            await caller.hears("What is your phone?", within_s=20)
            await caller.says("My number is five five five, zero two zero three.")
            await caller.hears("What is your time?", within_s=20)
            await caller.says("At 3 p.m.")
            await agrees(caller, "Your check-up is now on")

    async def hangs_up_before_the_yes(self) -> None:
        async with calling(self._settings) as caller:
            number = "five five five, zero one one one"
            await caller.says(
                BOOK.format(when="tomorrow at 3 p.m.", name="Tom Baker", number=number)
            )
            await caller.hears("Shall I book it?", within_s=30)
            await caller.hangs_up()


def seeded(settings: dict[str, Any]) -> tuple[AppointmentBook, datetime.datetime]:
    """A book with three appointments, and tomorrow's midnight."""
    hours = OpeningHours.of(ReceptionistConfig(weekdays=EVERY_DAY))
    book = AppointmentBook(Path(settings["receptionist.database"]), hours)
    now = datetime.datetime.now(hours.timezone)
    tomorrow = now.replace(hour=0, minute=0, second=0, microsecond=0) + datetime.timedelta(days=1)
    for number, hour in ("5550201", 9), ("5550202", 12), ("5550203", 13):
        start = tomorrow + datetime.timedelta(hours=hour)
        book.book("Somebody Else", number, "check-up", start, now)
    return book, tomorrow


def rows(settings: dict[str, Any], tomorrow: datetime.datetime) -> dict[str, tuple[int, str]]:
    """Hours after tomorrow's midnight, and the status, by phone number."""
    with contextlib.closing(sqlite3.connect(settings["receptionist.database"])) as database:
        found = database.execute("SELECT phone, starts_at, status FROM appointments").fetchall()
    return {
        phone: (
            int((datetime.datetime.fromisoformat(at) - tomorrow).total_seconds() // 3600),
            status,
        )
        for phone, at, status in found
    }


async def test_twelve_calls_end_in_the_right_rows_and_politely(settings: dict[str, Any]) -> None:
    _, tomorrow = seeded(settings)
    async with llm_server(decent_model) as server:
        calls = Calls(settings | {"reply.url": server.url})
        async with asyncio.TaskGroup() as group:
            for scene in (
                calls.corrects_the_time,
                calls.names_a_day_that_does_not_exist,
                calls.names_a_day_that_has_passed,
                calls.wants_a_time_that_is_taken,
                calls.talks_over_the_proposal,
                calls.says_nothing,
                calls.says_yes_to_another_question,
                calls.cancels_what_is_not_there,
                calls.cancels,
                calls.moves,
                calls.hangs_up_before_the_yes,
            ):
                group.create_task(scene())
            first = group.create_task(calls.wants_the_same_time_as_another(*ROBERT))
            second = group.create_task(calls.wants_the_same_time_as_another(*HELEN))
        assert not server.refusals
    assert first.result() != second.result()
    assert rows(settings, tomorrow) == {
        "5550201": (9, "booked"),
        "5550202": (12, "cancelled"),
        "5550203": (24 + 15, "booked"),
        "5550101": (11, "booked"),
        "5550102": (24 + 14, "booked"),
        "5550104": (16, "booked"),
        "5550107": (14, "booked"),
        "5550105" if first.result() else "5550106": (24 + 10, "booked"),
    }


async def test_a_model_that_invents_everything_writes_nothing(settings: dict[str, Any]) -> None:
    _, tomorrow = seeded(settings)
    before = rows(settings, tomorrow)
    async with llm_server(BadModel()) as server:
        async with calling(settings | {"reply.url": server.url}) as caller:
            for said in (
                BOOK.format(when="tomorrow at 10 a.m.", name="Anna Miller", number=ANNA),
                "Yes.",
                "Yes, please.",
                "Yes.",
                "Yes, tomorrow.",
                "At 10 a.m.",
            ):
                await caller.says(said)
                await caller.hears_turn(within_s=40)
        assert len(server.requests) >= 6
    assert rows(settings, tomorrow) == before


async def test_a_model_too_small_for_the_job_writes_and_promises_nothing(
    settings: dict[str, Any],
) -> None:
    reply_model()
    _, tomorrow = seeded(settings)
    before = rows(settings, tomorrow)
    small = settings | {"reply.model": "smollm2-135m"}
    async with typed_call(receptionist, small) as caller:
        await caller.hears(receptionist.CLOSED)
        for said in (
            BOOK.format(when="tomorrow at 10 a.m.", name="Anna Miller", number=ANNA),
            "Yes, please book it.",
        ):
            await caller.says(said)
            assert (await caller.hears_turn(within_s=60)).text == receptionist.CLOSED
        await caller.says("Goodbye.")
        await caller.is_hung_up_on()
    assert rows(settings, tomorrow) == before
