"""Settings of the bots that follow a plan: frozen values, checked when they are made.

How they come in from file, environment and flags is in ``talkpath.agent.config``.
"""

import datetime
import zoneinfo
from collections.abc import Mapping
from dataclasses import dataclass, field

from talkpath.agent.errors import ConfigError

__all__ = [
    "WEEKDAYS",
    "IdleConfig",
    "ReceptionistConfig",
    "RouterConfig",
    "SurveyConfig",
    "clock_time",
]

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def clock_time(text: str) -> datetime.time:
    """A local time to the minute, as in the settings: ``09:00``.

    Raises:
        ValueError: it is none.
    """
    return datetime.datetime.strptime(text, "%H:%M").time()


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class IdleConfig:
    """What a bot says to a caller who says nothing.

    Attributes:
        after_s: seconds of silence on both sides before each prompt and before the farewell;
            0 waits for ever.
        prompts: said one after another, the first once the caller has fallen silent.
        farewell: said after them; then the call ends.
    """

    after_s: float = 8.0
    prompts: tuple[str, ...] = (
        "Are you still there?",
        "I cannot hear you. Please say something if you are there.",
    )
    farewell: str = "I cannot hear you, so I will hang up now. Goodbye."

    def __post_init__(self) -> None:
        _require(0 <= self.after_s <= 3600, "idle.after_s must lie between 0 and 3600 seconds")
        _require(all(map(str.strip, self.prompts)), "idle.prompts must not have an empty one")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceptionistConfig:
    """Appointments that the receptionist gives.

    Attributes:
        database: SQLite file; made where it is not there yet.
        business: name of the place, for the greeting.
        timezone: IANA name of the zone that people mean.
        weekdays: days with appointments, of mon, tue, wed, thu, fri, sat, sun.
        opens: local time of the day's first start.
        closes: local time by which the last appointment is over.
        slot_minutes: appointments start at multiples of it after ``opens``.
        services: minutes of each service, multiples of a slot.
        days_ahead: how far ahead one can book.
    """

    database: str = "appointments.db"
    business: str = "the practice"
    timezone: str = "UTC"
    weekdays: tuple[str, ...] = WEEKDAYS[:5]
    opens: str = "09:00"
    closes: str = "17:00"
    slot_minutes: int = 30
    services: Mapping[str, int] = field(
        default_factory=lambda: {"check-up": 30, "consultation": 30, "treatment": 60}
    )
    days_ahead: int = 90

    def __post_init__(self) -> None:
        try:
            zoneinfo.ZoneInfo(self.timezone)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
            raise ConfigError(f"receptionist.timezone is {self.timezone!r}, no time zone") from None
        _require(
            bool(self.weekdays) and set(self.weekdays) <= set(WEEKDAYS),
            f"receptionist.weekdays must be of {', '.join(WEEKDAYS)}",
        )
        try:
            opens, closes = map(clock_time, (self.opens, self.closes))
        except ValueError:
            raise ConfigError("receptionist.opens and closes must be times like 09:00") from None
        _require(opens < closes, "receptionist.closes must be later than opens")
        _require(
            5 <= self.slot_minutes <= 480, "receptionist.slot_minutes must lie between 5 and 480"
        )
        _require(
            bool(self.services)
            and all(
                isinstance(minutes, int) and minutes > 0 and minutes % self.slot_minutes == 0
                for minutes in self.services.values()
            ),
            "receptionist.services must have minutes that are multiples of slot_minutes",
        )
        longest = datetime.timedelta(minutes=max(self.services.values()))
        day = datetime.date.min
        _require(
            datetime.datetime.combine(day, opens) + longest
            <= datetime.datetime.combine(day, closes),
            "receptionist.services must all fit in between opens and closes",
        )
        _require(self.days_ahead >= 1, "receptionist.days_ahead must be 1 or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class SurveyConfig:
    """A questionnaire.

    Attributes:
        questions: TOML file (see ``talkpath.agent.questionnaire``); empty asks three examples.
        results: file to which each call adds a line of JSON.
    """

    questions: str = ""
    results: str = "survey.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterConfig:
    """Where callers are sent.

    Attributes:
        departments: TOML file (see ``talkpath.agent.departments``); empty has three examples.
    """

    departments: str = ""
