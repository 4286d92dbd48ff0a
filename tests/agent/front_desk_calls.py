"""A desk's hours, and a caller named Anna, for the tests of the receptionist's desk."""

import datetime
from zoneinfo import ZoneInfo

from talkpath.agent.appointments import Appointment, AppointmentBook, OpeningHours
from talkpath.agent.front_desk import Answer, FrontDesk

__all__ = [
    "ANNA",
    "ANYTHING_ELSE",
    "BERLIN",
    "HOURS",
    "NOW",
    "PHONE",
    "YES_OR_NO",
    "booked",
    "play",
    "proposed",
    "rows",
]

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
