"""Appointments in a real database, whoever writes at once."""

import asyncio
import dataclasses
import datetime
import sqlite3
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from talkpath.agent.appointments import Appointment, AppointmentBook, NotPossible, OpeningHours
from talkpath.agent.errors import TalkpathError

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
TUESDAY = datetime.date(2026, 11, 24)


def at(hour: int, minute: int = 0, day: datetime.date = TUESDAY) -> datetime.datetime:
    return datetime.datetime.combine(day, datetime.time(hour, minute), BERLIN)


@pytest.fixture
def book(tmp_path: Path) -> AppointmentBook:
    return AppointmentBook(tmp_path / "appointments.db", HOURS)


def booked(
    book: AppointmentBook, start: datetime.datetime, service: str = "check-up"
) -> Appointment:
    return book.book("Anna Miller", "5550123", service, start, NOW)


def test_what_was_booked_is_found_and_its_time_is_not_free(book: AppointmentBook) -> None:
    appointment = booked(book, at(10), "treatment")
    assert book.find("5550123", NOW) == [appointment]
    assert book.find("5550124", NOW) == []
    free = book.free(TUESDAY, "check-up", NOW)
    assert at(9, 30) in free and at(11) in free
    assert at(10) not in free and at(10, 30) not in free
    # An hour does not fit into the half that is left before it.
    assert at(9, 30) not in book.free(TUESDAY, "treatment", NOW)


def test_a_taken_time_cannot_be_booked_again_nor_overlapped(book: AppointmentBook) -> None:
    booked(book, at(10))
    for start, service in ((at(10), "check-up"), (at(9, 30), "treatment")):
        with pytest.raises(NotPossible, match="already taken"):
            booked(book, start, service)
    assert len(book.find("5550123", NOW)) == 1


@pytest.mark.parametrize(
    "change",
    [{"slot_minutes": 15}, {"opens": datetime.time(9, 15)}, {"opens": datetime.time(8, 50)}],
)
def test_nothing_overlaps_what_was_booked_when_the_hours_were_others(
    book: AppointmentBook, tmp_path: Path, change: dict[str, Any]
) -> None:
    later = AppointmentBook(tmp_path / "appointments.db", dataclasses.replace(HOURS, **change))
    booked(book, at(10), "treatment")
    half_hour = datetime.timedelta(minutes=30)
    free = later.free(TUESDAY, "check-up", NOW)
    for start in later.hours.starts(TUESDAY, 30):
        overlaps = at(10) - half_hour < start < at(11)
        assert overlaps != (start in free)
        if overlaps:
            with pytest.raises(NotPossible, match="already taken"):
                booked(later, start)
    elsewhere = booked(later, later.hours.starts(TUESDAY, 30)[-1])
    with pytest.raises(NotPossible, match="already taken"):
        later.move(elsewhere, next(s for s in later.hours.starts(TUESDAY, 30) if s > at(10)), NOW)


def test_an_appointment_keeps_its_length_when_its_service_has_another_or_is_gone(
    book: AppointmentBook, tmp_path: Path
) -> None:
    appointment = booked(book, at(10), "treatment")
    booked(book, at(15, 30))
    hours = dataclasses.replace(HOURS, services={"check-up": 30})
    later = AppointmentBook(tmp_path / "appointments.db", hours)
    free = later.free(TUESDAY, appointment.service, NOW, minutes=appointment.minutes)
    assert at(14, 30) in free and at(15) not in free and at(16, 30) not in free
    assert later.move(appointment, free[-1], NOW).minutes == 60


def test_nobody_else_on_the_machine_can_read_the_names(
    book: AppointmentBook, tmp_path: Path
) -> None:
    booked(book, at(10))
    assert (tmp_path / "appointments.db").stat().st_mode & 0o777 == 0o600


async def test_of_twenty_who_book_one_time_at_once_one_gets_it(
    book: AppointmentBook, tmp_path: Path
) -> None:
    books = [book, AppointmentBook(tmp_path / "appointments.db", HOURS)]
    results = await asyncio.gather(
        *(asyncio.to_thread(booked, books[i % 2], at(10), "treatment") for i in range(20)),
        return_exceptions=True,
    )
    assert sum(isinstance(result, Appointment) for result in results) == 1
    assert sum(isinstance(result, NotPossible) for result in results) == 19
    assert len(book.find("5550123", NOW)) == 1


def test_a_moved_appointment_frees_its_time_and_may_overlap_itself(book: AppointmentBook) -> None:
    moved = book.move(booked(book, at(10), "treatment"), at(10, 30), NOW)
    assert book.find("5550123", NOW) == [moved]
    booked(book, at(9, 30))
    booked(book, at(10))
    with pytest.raises(NotPossible, match="already taken"):
        booked(book, at(11))


def test_a_move_to_a_taken_time_changes_nothing(book: AppointmentBook) -> None:
    first, second = booked(book, at(10)), booked(book, at(11))
    with pytest.raises(NotPossible, match="already taken"):
        book.move(first, second.start, NOW)
    assert book.find("5550123", NOW) == [first, second]
    with pytest.raises(NotPossible):
        booked(book, at(10))


def test_a_cancelled_appointment_is_free_again_and_cannot_be_changed(
    book: AppointmentBook,
) -> None:
    appointment = booked(book, at(10))
    book.cancel(appointment)
    assert book.find("5550123", NOW) == []
    for change in (lambda: book.cancel(appointment), lambda: book.move(appointment, at(11), NOW)):
        with pytest.raises(NotPossible, match="in the meantime"):
            change()
    assert booked(book, at(10)).id != appointment.id


@pytest.mark.parametrize(
    ("start", "reason"),
    [
        (at(10, day=datetime.date(2026, 11, 20)), "passed"),
        (at(10, day=datetime.date(2026, 11, 22)), "closed"),
        (at(10, day=datetime.date(2027, 5, 4)), "90 days ahead"),
        (at(8, 30), "between 9 AM and 4:30 PM"),
        (at(17), "between 9 AM and 4:30 PM"),
        (at(10, 10), "every 30 minutes"),
    ],
)
def test_the_rules_hold_and_say_why(
    book: AppointmentBook, start: datetime.datetime, reason: str
) -> None:
    with pytest.raises(NotPossible, match=reason):
        booked(book, start)
    assert book.find("5550123", NOW) == []


def test_the_clocks_going_back_changes_no_appointments_hour(book: AppointmentBook) -> None:
    now = datetime.datetime(2026, 10, 23, 12, tzinfo=BERLIN)
    start = at(10, day=datetime.date(2026, 10, 26))
    book.book("Anna Miller", "5550123", "check-up", start, now)
    assert [each.start for each in book.find("5550123", now)] == [start]


def test_the_database_itself_refuses_what_makes_no_sense(
    book: AppointmentBook, tmp_path: Path
) -> None:
    for name, phone in (("", "5550123"), ("Anna", "call me"), ("Anna", "")):
        with pytest.raises(sqlite3.IntegrityError):
            book.book(name, phone, "check-up", at(10), NOW)
    assert at(10) in book.free(TUESDAY, "check-up", NOW)


def test_a_database_that_is_away_for_a_while_is_not_made_anew(
    book: AppointmentBook, tmp_path: Path
) -> None:
    appointment = booked(book, at(10))
    file = (tmp_path / "appointments.db").rename(tmp_path / "away.db")
    with pytest.raises(sqlite3.Error):
        booked(book, at(11))
    assert list(tmp_path.iterdir()) == [file]
    file.rename(tmp_path / "appointments.db")
    assert book.find("5550123", NOW) == [appointment]


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("not a database, but long enough to be taken for something else " * 10)
    with pytest.raises(TalkpathError, match=r"notes\.txt"):
        AppointmentBook(file, HOURS)
