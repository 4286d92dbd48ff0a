"""Appointments in an SQLite database, with rules that hold whoever writes.

An appointment takes one or more slots, and a slot is a primary key: two calls, or two processes,
cannot book the same time. All methods block for a few milliseconds; call them in a thread.
"""

import contextlib
import datetime
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from zoneinfo import ZoneInfo

from talkpath.agent.bot_sections import WEEKDAYS, ReceptionistConfig
from talkpath.agent.calendar_words import say_day, say_time
from talkpath.agent.errors import TalkpathError

__all__ = ["Appointment", "AppointmentBook", "NotPossible", "OpeningHours"]

_BUSY_S = 5.0
"""Longest wait for another writer, whose transaction takes milliseconds."""
_LAST = datetime.time(23, 59)
_SCHEMA = """
CREATE TABLE IF NOT EXISTS appointments (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL CHECK (length(trim(name)) BETWEEN 2 AND 80),
    phone TEXT NOT NULL CHECK (length(phone) BETWEEN 5 AND 15 AND phone NOT GLOB '*[^0-9]*'),
    service TEXT NOT NULL CHECK (length(service) > 0),
    starts_at TEXT NOT NULL
        CHECK (starts_at GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]T[0-9][0-9]:[0-9][0-9]Z'),
    minutes INTEGER NOT NULL CHECK (minutes BETWEEN 5 AND 1440),
    status TEXT NOT NULL DEFAULT 'booked' CHECK (status IN ('booked', 'cancelled'))
) STRICT;
CREATE INDEX IF NOT EXISTS appointments_by_phone ON appointments (phone, status);
CREATE TABLE IF NOT EXISTS taken_slots (
    starts_at TEXT PRIMARY KEY,
    appointment INTEGER NOT NULL REFERENCES appointments (id)
) STRICT, WITHOUT ROWID;
"""


class NotPossible(TalkpathError):
    """A rule is against it. The message is a sentence for the caller."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpeningHours:
    """When there are appointments, and for what.

    Attributes:
        timezone: of all times that people say.
        weekdays: 0 is Monday.
        opens: first start of the day, local.
        closes: by then the last appointment is over, local.
        slot_minutes: appointments start at multiples of it after ``opens``.
        services: names with their durations in minutes, multiples of a slot.
        days_ahead: how far ahead one can book.
    """

    timezone: ZoneInfo
    weekdays: frozenset[int]
    opens: datetime.time
    closes: datetime.time
    slot_minutes: int
    services: Mapping[str, int]
    days_ahead: int

    @classmethod
    def of(cls, config: ReceptionistConfig) -> "OpeningHours":
        """Those of the settings."""
        return cls(
            timezone=ZoneInfo(config.timezone),
            weekdays=frozenset(map(WEEKDAYS.index, config.weekdays)),
            opens=datetime.time.fromisoformat(config.opens),
            closes=datetime.time.fromisoformat(config.closes),
            slot_minutes=config.slot_minutes,
            services=config.services,
            days_ahead=config.days_ahead,
        )

    def starts(self, day: datetime.date, minutes: int) -> list[datetime.datetime]:
        """Every start on a day at which so many minutes fit, whether taken or not."""
        if day.weekday() not in self.weekdays:
            return []
        opens = datetime.datetime.combine(day, self.opens)
        closes = datetime.datetime.combine(day, self.closes)
        starts = []
        while opens + datetime.timedelta(minutes=minutes) <= closes:
            starts.append(opens.replace(tzinfo=self.timezone))
            opens += datetime.timedelta(minutes=self.slot_minutes)
        return starts

    def check(self, start: datetime.datetime, minutes: int, now: datetime.datetime) -> None:
        """Whether an appointment may start then, as far as the hours go.

        Raises:
            NotPossible: it is in the past, too far ahead, outside the hours or between slots.
        """
        day, today = start.date(), now.astimezone(self.timezone).date()
        if start <= now:
            raise NotPossible(f"{say_day(day)} at {say_time(start.time())} has already passed.")
        if (day - today).days > self.days_ahead:
            raise NotPossible(f"I can only book {self.days_ahead} days ahead.")
        starts = self.starts(day, minutes)
        if not starts:
            raise NotPossible(f"We are closed on {say_day(day)}.")
        if start < starts[0] or start > starts[-1]:
            first, last = (say_time(each.time()) for each in (starts[0], starts[-1]))
            raise NotPossible(f"Such an appointment can start between {first} and {last}.")
        if start not in starts:
            raise NotPossible(f"Appointments start every {self.slot_minutes} minutes.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Appointment:
    """One that was booked.

    Attributes:
        id: its row.
        name: whose it is.
        phone: digits only.
        service: what for.
        start: in the time zone of the hours.
        minutes: how long it takes.
    """

    id: int
    name: str
    phone: str
    service: str
    start: datetime.datetime
    minutes: int


class AppointmentBook:
    """The appointments of one place.

    Args:
        path: the database; made with its tables where it is not there yet.
        hours: the rules.

    Raises:
        TalkpathError: the file cannot be opened, or is no such database.
    """

    def __init__(self, path: Path, hours: OpeningHours) -> None:
        self._path = path
        self.hours = hours
        try:
            with contextlib.closing(self._connect()) as database:
                database.executescript(_SCHEMA)
        except sqlite3.Error as error:
            raise TalkpathError(f"the appointments in {path} cannot be opened: {error}") from error

    def free(
        self, day: datetime.date, service: str, now: datetime.datetime
    ) -> list[datetime.datetime]:
        """Starts on a day that are free and not over, in order."""
        minutes = self.hours.services[service]
        with contextlib.closing(self._connect()) as database:
            rows = database.execute(
                "SELECT starts_at FROM taken_slots WHERE starts_at BETWEEN ? AND ?",
                (_utc(self._local(day, datetime.time(0))), _utc(self._local(day, _LAST))),
            ).fetchall()
        taken = {row[0] for row in rows}
        return [
            start
            for start in self.hours.starts(day, minutes)
            if start > now and not taken.intersection(self._slots(start, minutes))
        ]

    def find(self, phone: str, now: datetime.datetime) -> list[Appointment]:
        """What is booked under a number and has not begun, soonest first."""
        with contextlib.closing(self._connect()) as database:
            rows = database.execute(
                "SELECT id, name, phone, service, starts_at, minutes FROM appointments"
                " WHERE phone = ? AND status = 'booked' AND starts_at > ? ORDER BY starts_at",
                (phone, _utc(now)),
            ).fetchall()
        return [self._appointment(row) for row in rows]

    def book(
        self, name: str, phone: str, service: str, start: datetime.datetime, now: datetime.datetime
    ) -> Appointment:
        """Write an appointment.

        Raises:
            NotPossible: a rule is against it, or somebody else has the time.
        """
        minutes = self.hours.services[service]
        self.hours.check(start, minutes, now)
        with self._transaction(start) as database:
            row = database.execute(
                "INSERT INTO appointments (name, phone, service, starts_at, minutes)"
                " VALUES (?, ?, ?, ?, ?)",
                (name, phone, service, _utc(start), minutes),
            )
            identity = int(row.lastrowid or 0)
            self._take(database, identity, start, minutes)
        return Appointment(
            id=identity, name=name, phone=phone, service=service, start=start, minutes=minutes
        )

    def move(
        self, appointment: Appointment, start: datetime.datetime, now: datetime.datetime
    ) -> Appointment:
        """Give an appointment another time.

        Raises:
            NotPossible: a rule is against it, it is gone, or somebody else has the time.
        """
        self.hours.check(start, appointment.minutes, now)
        with self._transaction(start) as database:
            self._change(database, appointment, "starts_at = ?", _utc(start))
            self._take(database, appointment.id, start, appointment.minutes)
        return Appointment(
            id=appointment.id,
            name=appointment.name,
            phone=appointment.phone,
            service=appointment.service,
            start=start,
            minutes=appointment.minutes,
        )

    def cancel(self, appointment: Appointment) -> None:
        """Cancel an appointment; its row stays, as cancelled.

        Raises:
            NotPossible: it is gone.
        """
        with self._transaction(appointment.start) as database:
            self._change(database, appointment, "status = ?", "cancelled")

    def _change(
        self, database: sqlite3.Connection, appointment: Appointment, what: str, value: str
    ) -> None:
        """Change an appointment that is as it was when it was read, and free its slots."""
        changed = database.execute(
            f"UPDATE appointments SET {what} WHERE id = ? AND status = 'booked' AND starts_at = ?",
            (value, appointment.id, _utc(appointment.start)),
        )
        if changed.rowcount != 1:
            raise NotPossible("That appointment has been changed in the meantime.")
        database.execute("DELETE FROM taken_slots WHERE appointment = ?", (appointment.id,))

    def _take(
        self,
        database: sqlite3.Connection,
        identity: int,
        start: datetime.datetime,
        minutes: int,
    ) -> None:
        database.executemany(
            "INSERT INTO taken_slots (starts_at, appointment) VALUES (?, ?)",
            [(slot, identity) for slot in self._slots(start, minutes)],
        )

    @contextlib.contextmanager
    def _transaction(self, start: datetime.datetime) -> Iterator[sqlite3.Connection]:
        """All that is written inside the block, or nothing."""
        with contextlib.closing(self._connect()) as database:
            database.execute("BEGIN IMMEDIATE")
            try:
                yield database
                database.execute("COMMIT")
            except BaseException as error:
                database.execute("ROLLBACK")
                if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY:
                    when = f"{say_day(start.date())} at {say_time(start.time())}"
                    raise NotPossible(f"{when} is already taken.") from None
                raise

    def _connect(self) -> sqlite3.Connection:
        database = sqlite3.connect(self._path, timeout=_BUSY_S, isolation_level=None)
        database.execute("PRAGMA foreign_keys = ON")
        return database

    def _local(self, day: datetime.date, time: datetime.time) -> datetime.datetime:
        return datetime.datetime.combine(day, time, self.hours.timezone)

    def _slots(self, start: datetime.datetime, minutes: int) -> list[str]:
        step = self.hours.slot_minutes
        utc = start.astimezone(datetime.UTC)
        return [_utc(utc + datetime.timedelta(minutes=m)) for m in range(0, minutes, step)]

    def _appointment(self, row: tuple[int, str, str, str, str, int]) -> Appointment:
        identity, name, phone, service, starts_at, minutes = row
        start = datetime.datetime.fromisoformat(starts_at).astimezone(self.hours.timezone)
        return Appointment(
            id=identity, name=name, phone=phone, service=service, start=start, minutes=minutes
        )


def _utc(time: datetime.datetime) -> str:
    """As it stands in the database: sortable, to the minute."""
    return time.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%MZ")
