"""What a desk tells callers: wrong arguments, free times, other people's appointments, the end."""

import dataclasses
from pathlib import Path

import pytest

from talkpath.agent.appointments import AppointmentBook
from talkpath.agent.front_desk import Answer, FrontDesk
from tests.agent.front_desk_calls import (
    ANNA,
    ANYTHING_ELSE,
    HOURS,
    NOW,
    PHONE,
    YES_OR_NO,
    booked,
    play,
    proposed,
    rows,
)


@pytest.fixture
def book(tmp_path: Path) -> AppointmentBook:
    return AppointmentBook(tmp_path / "appointments.db", HOURS)


@pytest.fixture
def desk(book: AppointmentBook) -> FrontDesk:
    desk = FrontDesk(book, lambda: NOW)
    desk.heard(ANNA)
    return desk


@pytest.mark.parametrize(
    ("arguments", "say"),
    [
        ({"name": "John Doe"}, "not sure about the name"),
        ({"name": ""}, "What is your name"),
        ({"name": "x" * 300}, "What is your name"),
        ({"name": "<script>"}, "What is your name"),
        ({"phone": "123456789"}, "not sure about the phone number"),
        ({"phone": "unknown"}, "What is your phone number"),
        ({"service": "haircut"}, "We offer check-up and treatment"),
        ({"day": "30 February"}, "There is no 30 February"),
        ({"day": "2026-11-20"}, "has already passed"),
        ({"day": "03/04"}, "month's name"),
        ({"day": "Sunday"}, "We are closed on Sunday, 22 November"),
        ({"time": "25:00"}, "What time"),
        ({"time": "8 pm"}, "between 9 AM and 4:30 PM"),
        ({"time": "10:07"}, "every 30 minutes"),
        ({"time": "11"}, "is taken. On that day I have 10 AM, 10:30 AM and 11:30 AM."),
    ],
)
async def test_a_wrong_argument_is_a_sentence_and_no_proposal(
    desk: FrontDesk, book: AppointmentBook, arguments: dict[str, str], say: str
) -> None:
    booked(book, 11)
    good = {
        "name": "Anna Miller",
        "phone": PHONE,
        "service": "check-up",
        "day": "Tuesday",
        "time": "10:00",
    }
    answer = await desk.propose_booking(**(good | arguments))
    assert answer.status == "problem"
    assert say in answer.say
    desk.heard("Yes.")
    assert "nothing to confirm" in (await desk.confirm()).say


async def test_an_appointment_is_moved(desk: FrontDesk, book: AppointmentBook) -> None:
    booked(book)
    answer = await desk.propose_move(PHONE, "", "half past two")
    assert answer.say == (
        "The check-up for Anna Miller would move from Tuesday, 24 November at 10 AM to Tuesday, "
        "24 November at 2:30 PM. Shall I move it?"
    )
    play(desk, answer.say)
    desk.heard("Yes, move it, please.")
    assert (await desk.confirm()).status == "done"
    assert rows(book) == ["check-up 24 14:30"]


async def test_of_several_appointments_the_caller_chooses(
    desk: FrontDesk, book: AppointmentBook
) -> None:
    booked(book)
    booked(book, day=25)
    assert "more than one" in (await desk.propose_cancellation(PHONE)).say
    answer = await desk.propose_cancellation(PHONE, "Wednesday")
    play(desk, answer.say)
    desk.heard("Yes, cancel it.")
    assert (await desk.confirm()).status == "done"
    assert rows(book) == ["check-up 24 10:00"]


async def test_an_appointment_that_is_not_there_is_not_cancelled(desk: FrontDesk) -> None:
    answer = await desk.propose_cancellation(PHONE)
    assert answer == Answer("problem", "I find no appointment under that phone number.")


async def test_nobody_else_s_appointment_is_found_by_a_number_that_was_not_said(
    book: AppointmentBook,
) -> None:
    booked(book)
    desk = FrontDesk(book, lambda: NOW)
    desk.heard("Cancel my appointment.")
    assert "not sure about the phone number" in (await desk.propose_cancellation(PHONE)).say


async def test_an_appointment_is_moved_as_long_as_it_was_booked(
    desk: FrontDesk, book: AppointmentBook, tmp_path: Path
) -> None:
    booked(book)
    fewer = dataclasses.replace(HOURS, services={"treatment": 60})
    later = FrontDesk(AppointmentBook(tmp_path / "appointments.db", fewer), lambda: NOW)
    later.heard(ANNA)
    play(later, (await later.propose_move(PHONE, "", "16:30")).say)
    later.heard("Yes.")
    assert (await later.confirm()).status == "done"
    assert rows(book) == ["check-up 24 16:30"]


@pytest.mark.parametrize(
    ("day", "say"),
    [
        ("9999-12-31", "I can only book 90 days ahead."),
        ("1 March 2027", "I can only book 90 days ahead."),
        ("yesterday", "Friday, 20 November has already passed."),
        ("19 February", "On Friday, 19 February I have 9 AM, 12 PM and 3 PM."),
    ],
)
async def test_free_times_are_offered_only_where_one_can_book(
    desk: FrontDesk, day: str, say: str
) -> None:
    assert (await desk.free_times("check-up", day)).say == say


async def test_free_times_are_those_of_the_next_day_that_has_any(
    desk: FrontDesk, book: AppointmentBook
) -> None:
    assert (await desk.free_times("check-up", "tomorrow")).say == (
        "Nothing is free on Sunday, 22 November. On Monday, 23 November I have 9 AM, 12 PM and "
        "3 PM."
    )


@pytest.mark.parametrize("said", ["No, thank you.", "Goodbye.", "That's all."])
async def test_a_call_may_end_on_a_farewell(desk: FrontDesk, said: str) -> None:
    assert desk.before_the_end() is not None
    desk.heard(said)
    assert desk.before_the_end() is None


@pytest.mark.parametrize(
    "said",
    [
        "No.",
        "No, I want Wednesday instead.",
        "I can't come on Tuesday",
        "Thank you, and could you also cancel my other one?",
    ],
)
async def test_a_call_does_not_end_in_the_middle(desk: FrontDesk, said: str) -> None:
    play(desk, "Would you like to come on Tuesday?")
    desk.heard(said)
    assert desk.before_the_end() == Answer("problem", ANYTHING_ELSE)


async def test_a_plain_no_ends_the_call_where_it_wants_nothing_else(desk: FrontDesk) -> None:
    play(desk, ANYTHING_ELSE)
    desk.heard("No.")
    assert desk.before_the_end() is None
    desk.heard("No, I want Wednesday instead.")
    assert desk.before_the_end() is not None


async def test_a_call_does_not_end_while_a_proposal_is_open(
    desk: FrontDesk, book: AppointmentBook
) -> None:
    first = await proposed(desk)
    assert desk.before_the_end() == Answer("waiting")
    play(desk, first.say)
    desk.heard("Thanks, bye.")  # as if it were booked
    again = desk.before_the_end()
    assert again == Answer("proposed", f"{YES_OR_NO} {first.say}")
    play(desk, again.say)
    desk.heard("No, thank you, goodbye.")
    assert desk.before_the_end() is None
    assert rows(book) == []


async def test_a_database_that_went_away_is_an_apology(
    desk: FrontDesk, book: AppointmentBook, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "appointments.db").unlink()
    answer = await proposed(desk)
    assert answer.status == "problem"
    assert "call again later" in answer.say
    assert "out of reach" in caplog.text
