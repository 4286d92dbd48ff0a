"""A desk with a real database, a caller's words, and a language model that may be a bad one."""

import asyncio
import contextlib
import dataclasses
import datetime
import sqlite3
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from talkpath.agent.appointments import Appointment, AppointmentBook, OpeningHours
from talkpath.agent.front_desk import Answer, FrontDesk

BERLIN = ZoneInfo("Europe/Berlin")
HOURS = OpeningHours(
    timezone=BERLIN,
    weekdays=frozenset(range(5)),
    opens=datetime.time(9),
    closes=datetime.time(17),
    slot_minutes=30,
    services={"check-up": 30, "treatment": 60},
    days_ahead=90,
)
NOW = datetime.datetime(2026, 11, 21, 20, tzinfo=BERLIN)
ANNA = "I am Anna Miller and my number is five five five, oh one two three."
PHONE = "555 0123"
YES_OR_NO = "Please answer with yes or no."
ANYTHING_ELSE = "Is there anything else I can do for you?"


@pytest.fixture
def book(tmp_path: Path) -> AppointmentBook:
    return AppointmentBook(tmp_path / "appointments.db", HOURS)


@pytest.fixture
def desk(book: AppointmentBook) -> FrontDesk:
    desk = FrontDesk(book, lambda: NOW)
    desk.heard(ANNA)
    return desk


def rows(book: AppointmentBook) -> list[str]:
    return [f"{each.service} {each.start:%d %H:%M}" for each in book.find("5550123", NOW)]


def booked(book: AppointmentBook, hour: int = 10, day: int = 24) -> Appointment:
    start = datetime.datetime(2026, 11, day, hour, tzinfo=BERLIN)
    return book.book("Anna Miller", "5550123", "check-up", start, NOW)


async def proposed(desk: FrontDesk, time: str = "10:00", day: str = "2026-11-24") -> Answer:
    return await desk.propose_booking("Anna Miller", PHONE, "check-up", day, time)


def play(desk: FrontDesk, text: str) -> None:
    for word in text.split():
        desk.spoken(word)


async def test_what_was_read_back_and_agreed_to_is_written(
    desk: FrontDesk, book: AppointmentBook
) -> None:
    answer = await proposed(desk)
    assert answer == Answer(
        "proposed",
        "A check-up for Anna Miller, spelled M, I, L, L, E, R, phone 5 5 5, 0 1 2, 3, on Tuesday, "
        "24 November at 10 AM. Shall I book it?",
    )
    assert rows(book) == []
    play(desk, answer.say)
    desk.heard("Yes, please book it.")
    done = await desk.confirm()
    assert (done.status, done.say.split(".")[0]) == (
        "done",
        "Your check-up is booked for Tuesday, 24 November at 10 AM",
    )
    assert rows(book) == ["check-up 24 10:00"]
    # A model that confirms twice writes once.
    assert (await desk.confirm()).status == "information"
    assert rows(book) == ["check-up 24 10:00"]


async def test_nothing_is_written_before_the_caller_answers(
    desk: FrontDesk, book: AppointmentBook
) -> None:
    answer = await proposed(desk)
    assert await desk.confirm() == Answer("waiting")
    play(desk, answer.say)
    assert await desk.confirm() == Answer("waiting")
    assert rows(book) == []


@pytest.mark.parametrize(
    "said",
    [
        ["Yes, but at eleven."],
        ["Yes, on Wednesday."],
        ["What was the time?"],
        ["Yes, cancel it."],
        ["I have to go now."],
        ["Okay, and the"],
        ["It's all good, I am just"],
        ["Right.", "Good, I have to do this again"],
        ["mhm", "Thank you."],
        ["I have it now"],
        ["That's it, thank you"],
    ],
)
async def test_an_answer_that_is_more_than_a_yes_has_it_read_again(
    desk: FrontDesk, book: AppointmentBook, said: list[str]
) -> None:
    first = await proposed(desk)
    play(desk, first.say)
    for text in said:
        desk.heard(text)
    again = await desk.confirm()
    assert again == Answer("proposed", f"{YES_OR_NO} {first.say}")
    assert rows(book) == []
    play(desk, again.say)
    desk.heard("Yes.")
    assert (await desk.confirm()).status == "done"


async def test_a_yes_to_half_of_it_does_not_count(desk: FrontDesk, book: AppointmentBook) -> None:
    answer = await proposed(desk)
    play(desk, answer.say[:60])
    desk.heard("Yes, yes.")
    assert await desk.confirm() == Answer("proposed", f"{YES_OR_NO} {answer.say}")
    assert rows(book) == []


@pytest.mark.parametrize("said", ["No, wait.", "At eleven, please.", "Wednesday."])
async def test_a_correction_in_the_middle_of_it_counts(
    desk: FrontDesk, book: AppointmentBook, said: str
) -> None:
    answer = await proposed(desk)
    play(desk, answer.say[:60])
    desk.heard(said)
    play(desk, answer.say[60:])
    desk.heard("Yes.")
    assert (await desk.confirm()).status == "proposed"
    assert rows(book) == []


async def test_a_sign_of_listening_in_the_middle_of_it_changes_nothing(
    desk: FrontDesk, book: AppointmentBook
) -> None:
    answer = await proposed(desk)
    play(desk, answer.say[:60])
    desk.heard("Mhm, okay.")
    play(desk, answer.say[60:])
    desk.heard("Yes.")
    assert (await desk.confirm()).status == "done"


async def test_a_caller_who_says_neither_yes_nor_no_is_not_read_to_for_ever(
    desk: FrontDesk, book: AppointmentBook
) -> None:
    answer = await proposed(desk)
    for _ in range(2):
        play(desk, answer.say)
        desk.heard("Well, you can.")
        answer = await desk.confirm()
        assert answer.status == "proposed"
    play(desk, answer.say)
    desk.heard("Well, you can.")
    assert "changed nothing" in (await desk.confirm()).say
    desk.heard("Yes.")
    assert "nothing to confirm" in (await desk.confirm()).say
    assert rows(book) == []


async def test_two_confirmations_at_once_write_once_and_tell_once(
    desk: FrontDesk, book: AppointmentBook
) -> None:
    for day in ("2026-11-24", "2026-11-25"):
        play(desk, (await proposed(desk, day=day)).say)
        assert desk.outcome == ""
        desk.heard("Yes.")
        first, second = await asyncio.gather(desk.confirm(), desk.confirm())
        assert (first.status, second) == ("done", Answer("done"))
        assert first.say.startswith(desk.outcome)
    assert rows(book) == ["check-up 24 10:00", "check-up 25 10:00"]


async def test_a_yes_to_the_last_proposal_is_none_to_one_in_the_making(
    desk: FrontDesk, book: AppointmentBook
) -> None:
    play(desk, (await proposed(desk)).say)
    desk.heard("Yes.")
    making = asyncio.create_task(proposed(desk, "11:00"))
    await asyncio.sleep(0)
    assert (await desk.confirm()).status == "done"
    assert (await making).status == "proposed"
    assert rows(book) == ["check-up 24 10:00"]
    assert await desk.confirm() == Answer("waiting")


async def test_an_interrupted_proposal_does_not_take_the_place_of_the_last_one(
    desk: FrontDesk, book: AppointmentBook
) -> None:
    play(desk, (await proposed(desk)).say)
    making = asyncio.create_task(proposed(desk, "11:00"))
    await asyncio.sleep(0)
    making.cancel()
    await asyncio.wait({making})
    desk.heard("Yes.")
    assert (await desk.confirm()).status == "done"
    assert rows(book) == ["check-up 24 10:00"]


async def test_a_yes_within_the_last_question_counts(
    desk: FrontDesk, book: AppointmentBook
) -> None:
    answer = await proposed(desk)
    play(desk, answer.say.removesuffix(" it?"))
    desk.heard("Yes.")
    assert (await desk.confirm()).status == "done"


async def test_a_yes_to_another_question_does_not_count(
    desk: FrontDesk, book: AppointmentBook
) -> None:
    answer = await proposed(desk)
    play(desk, answer.say)
    play(desk, "Are you still there?")
    desk.heard("Yes.")
    again = await desk.confirm()
    assert again.status == "proposed"
    assert rows(book) == []


async def test_words_of_the_bot_after_the_yes_take_nothing_away(
    desk: FrontDesk, book: AppointmentBook
) -> None:
    play(desk, (await proposed(desk)).say)
    desk.heard("Yes.")
    play(desk, "One moment.")
    assert (await desk.confirm()).status == "done"


async def test_a_write_that_is_interrupted_is_done_and_known(
    desk: FrontDesk, book: AppointmentBook, tmp_path: Path
) -> None:
    play(desk, (await proposed(desk)).say)
    desk.heard("Yes.")
    with contextlib.closing(
        sqlite3.connect(tmp_path / "appointments.db", isolation_level=None)
    ) as other:
        other.execute("BEGIN IMMEDIATE")  # the desk's write has to wait for this one
        confirming = asyncio.create_task(desk.confirm())
        await asyncio.wait({confirming}, timeout=0.1)
        assert not confirming.done()
        confirming.cancel()
        await asyncio.wait({confirming}, timeout=0.1)
        assert not confirming.done()
        other.execute("COMMIT")
        with pytest.raises(asyncio.CancelledError):
            await confirming
    assert rows(book) == ["check-up 24 10:00"]
    assert desk.outcome == "Your check-up is booked for Tuesday, 24 November at 10 AM."
    assert (await desk.confirm()).say.startswith(desk.outcome)


async def test_a_correction_replaces_what_was_proposed(
    desk: FrontDesk, book: AppointmentBook
) -> None:
    play(desk, (await proposed(desk)).say)
    desk.heard("No, at eleven.")
    play(desk, (await proposed(desk, "eleven")).say)
    desk.heard("Yes.")
    assert (await desk.confirm()).status == "done"
    assert rows(book) == ["check-up 24 11:00"]


async def test_a_no_drops_it(desk: FrontDesk, book: AppointmentBook) -> None:
    play(desk, (await proposed(desk)).say)
    desk.heard("No.")
    assert "changed nothing" in (await desk.confirm()).say
    assert "nothing to confirm" in (await desk.confirm()).say
    assert rows(book) == []


async def test_of_two_callers_the_second_hears_that_the_time_is_gone(
    desk: FrontDesk, book: AppointmentBook
) -> None:
    other = FrontDesk(book, lambda: NOW)
    other.heard("Bob Smith, 555 0999.")
    answers = [
        await proposed(desk),
        await other.propose_booking("Bob Smith", "5550999", "treatment", "Tuesday", "9:30"),
    ]
    for each, answer in zip((desk, other), answers, strict=True):
        play(each, answer.say)
        each.heard("Yes.")
    assert (await desk.confirm()).status == "done"
    assert await other.confirm() == Answer(
        "problem", "Tuesday, 24 November at 9:30 AM is already taken."
    )
    assert book.find("5550999", NOW) == []


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


async def test_a_name_is_known_as_it_was_spelled(book: AppointmentBook) -> None:
    desk = FrontDesk(book, lambda: NOW)
    desk.heard("It's Ana Muhler, M-U-E-L-L-E-R, 555 0123.")
    answer = await desk.propose_booking("Anna Mueller", PHONE, "check-up", "Tuesday", "10")
    assert "spelled M, U, E, L, L, E, R" in answer.say


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


@pytest.mark.parametrize(
    ("said", "number", "known"),
    [
        (["My number is 555", "0101."], "5550101", True),
        (["555 0101, yes, 555 0101."], "5550101", True),
        (["Tomorrow at 10 a.m., 555 0101."], "105550101", False),
        (["555 0101.", "At 4."], "55501014", False),
        (["555 0101."], "50101", False),
        (["555 1234", "5 5 5 1 2 3 9"], "5551239", True),
        (["555", "um", "01", "01"], "5550101", True),
        (["5", "5 5 0", "1 0", "1"], "5550101", True),
        (["555 12", "My number is 555 0101"], "555125550101", False),
        (["555 \u0660\u0661\u0660\u0661."], "555\u0660\u0661\u0660\u0661", False),
    ],
)
async def test_a_number_is_the_one_that_was_said_from_its_first_digit_to_its_last(
    book: AppointmentBook, said: list[str], number: str, known: bool
) -> None:
    desk = FrontDesk(book, lambda: NOW)
    for text in said:
        desk.heard(text)
    answer = await desk.propose_cancellation(number)
    assert ("find no appointment" in answer.say) is known


async def test_a_number_that_is_said_again_is_understood(book: AppointmentBook) -> None:
    desk = FrontDesk(book, lambda: NOW)
    desk.heard("five five five")
    assert "digit by digit" in (await desk.propose_cancellation("5550101")).say
    desk.heard("555 0101")
    assert "digit by digit" in (await desk.propose_cancellation("5555550101")).say
    assert "find no appointment" in (await desk.propose_cancellation("5550101")).say


@pytest.mark.parametrize("name", ["Tom Morrow", "Like Tat", "Jon Doe", "I do"])
async def test_a_name_is_not_made_of_words_from_all_over_the_call(
    book: AppointmentBook, name: str
) -> None:
    desk = FrontDesk(book, lambda: NOW)
    desk.heard("Hi, I'd like to do a check-up tomorrow at ten, my number is 555 0123")
    answer = await desk.propose_booking(name, PHONE, "check-up", "Tuesday", "10")
    assert "not sure about the name" in answer.say


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
