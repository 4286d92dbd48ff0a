"""Appointments in an SQLite database, with rules that hold whoever writes.

The database itself refuses two appointments that overlap: neither two calls nor two processes can
book the same time, though their opening hours or slots differ. All methods block for a few
milliseconds; call them in a thread.
"""

import contextlib
import datetime
import os
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from zoneinfo import ZoneInfo

from talkpath.agent.bot_sections import WEEKDAYS, ReceptionistConfig, clock_time
from talkpath.agent.calendar_words import say_day, say_time
from talkpath.agent.errors import TalkpathError

__all__ = ["Appointment", "AppointmentBook", "NotPossible", "OpeningHours"]

_BUSY_S = 5.0
"""Longest wait for another writer, whose transaction takes milliseconds."""
_LONGEST_MIN = 1440
_UTC = "%Y-%m-%dT%H:%MZ"
"""As times stand in the database: sortable, to the minute."""
_REFUSE_OVERLAP = f"""
WHEN NEW.status = 'booked' AND EXISTS (
    SELECT 1 FROM appointments AS other
    WHERE other.status = 'booked' AND other.id IS NOT NEW.id
    AND other.starts_at > strftime('{_UTC}', NEW.starts_at, '-{_LONGEST_MIN} minutes')
    AND other.starts_at < strftime('{_UTC}', NEW.starts_at, NEW.minutes || ' minutes')
    AND strftime('{_UTC}', other.starts_at, other.minutes || ' minutes') > NEW.starts_at)
BEGIN SELECT RAISE(ABORT, 'the time is taken'); END;
"""
_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS appointments (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL CHECK (length(trim(name)) BETWEEN 2 AND 80),
    phone TEXT NOT NULL CHECK (length(phone) BETWEEN 5 AND 15 AND phone NOT GLOB '*[^0-9]*'),
    service TEXT NOT NULL CHECK (length(service) > 0),
    starts_at TEXT NOT NULL
        CHECK (starts_at GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]T[0-9][0-9]:[0-9][0-9]Z'),
    minutes INTEGER NOT NULL CHECK (minutes BETWEEN 5 AND {_LONGEST_MIN}),
    status TEXT NOT NULL DEFAULT 'booked' CHECK (status IN ('booked', 'cancelled'))
) STRICT;
CREATE INDEX IF NOT EXISTS appointments_by_phone ON appointments (phone, status);
CREATE INDEX IF NOT EXISTS appointments_by_time ON appointments (status, starts_at);
CREATE TRIGGER IF NOT EXISTS no_overlap_in_new BEFORE INSERT ON appointments {_REFUSE_OVERLAP}
CREATE TRIGGER IF NOT EXISTS no_overlap_in_changed BEFORE UPDATE ON appointments {_REFUSE_OVERLAP}
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
            opens=clock_time(config.opens),
            closes=clock_time(config.closes),
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
        path: the database; made with its folder and tables where it is not there yet.
        hours: the rules.

    Raises:
        TalkpathError: the file cannot be opened, or is no such database.
    """

    def __init__(self, path: Path, hours: OpeningHours) -> None:
        self._path = path
        self.hours = hours
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Names and telephone numbers are nobody else's on this machine.
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
            with contextlib.closing(self._connect()) as database:
                database.executescript(_SCHEMA)
        except (OSError, sqlite3.Error) as error:
            raise TalkpathError(f"the appointments in {path} cannot be opened: {error}") from error

    def free(
        self,
        day: datetime.date,
        service: str,
        now: datetime.datetime,
        *,
        minutes: int | None = None,
    ) -> list[datetime.datetime]:
        """Starts on a day that are free and not over, in order.

        Args:
            day: local.
            service: one of the hours'.
            now: nothing before it is free.
            minutes: what it takes, in place of the service's; an appointment that was booked
                keeps its length, whatever becomes of its service.
        """
        minutes = self.hours.services[service] if minutes is None else minutes
        starts = [start for start in self.hours.starts(day, minutes) if start > now]
        if not starts:
            return []
        with contextlib.closing(self._connect()) as database:
            rows = database.execute(
                "SELECT starts_at, minutes FROM appointments"
                " WHERE status = 'booked' AND starts_at > ? AND starts_at < ?",
                (_end(starts[0], -_LONGEST_MIN), _end(starts[-1], minutes)),
            ).fetchall()
        taken = [(at, _end(datetime.datetime.fromisoformat(at), length)) for at, length in rows]
        return [
            start
            for start in starts
            if not any(_utc(start) < end and at < _end(start, minutes) for at, end in taken)
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
        """Change an appointment that is as it was when it was read."""
        changed = database.execute(
            f"UPDATE appointments SET {what} WHERE id = ? AND status = 'booked' AND starts_at = ?",
            (value, appointment.id, _utc(appointment.start)),
        )
        if changed.rowcount != 1:
            raise NotPossible("That appointment has been changed in the meantime.")

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
                if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_CONSTRAINT_TRIGGER:
                    when = f"{say_day(start.date())} at {say_time(start.time())}"
                    raise NotPossible(f"{when} is already taken.") from None
                raise

    def _connect(self) -> sqlite3.Connection:
        # It is there since the beginning: if it is away, another one would have other rows.
        name = f"{self._path.absolute().as_uri()}?mode=rw"
        return sqlite3.connect(name, timeout=_BUSY_S, isolation_level=None, uri=True)

    def _appointment(self, row: tuple[int, str, str, str, str, int]) -> Appointment:
        identity, name, phone, service, starts_at, minutes = row
        start = datetime.datetime.fromisoformat(starts_at).astimezone(self.hours.timezone)
        return Appointment(
            id=identity, name=name, phone=phone, service=service, start=start, minutes=minutes
        )


def _utc(time: datetime.datetime) -> str:
    return time.astimezone(datetime.UTC).strftime(_UTC)


def _end(start: datetime.datetime, minutes: int) -> str:
    """The end, as it stands in the database; also where clocks change in between."""
    return _utc(start.astimezone(datetime.UTC) + datetime.timedelta(minutes=minutes))
