"""Days and times of day in words, as callers say them and language models pass them on. English.

What can be read in two ways is not guessed at: the error is a sentence that asks back.
"""

import datetime
import re
from typing import TypeVar

from talkpath.agent.errors import TalkpathError

__all__ = ["Unclear", "parse_day", "parse_time", "say_day", "say_time"]

_T = TypeVar("_T")
_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_MONTHS = (
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
)
_ORDINALS = (
    "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth "
    "fourteenth fifteenth sixteenth seventeenth eighteenth nineteenth twentieth twenty-first "
    "twenty-second twenty-third twenty-fourth twenty-fifth twenty-sixth twenty-seventh "
    "twenty-eighth twenty-ninth thirtieth thirty-first"
).split()
_NUMBERS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen twenty"
).split()
_RELATIVE = {
    "day after tomorrow": 2,
    "day before yesterday": -2,
    "tomorrow": 1,
    "today": 0,
    "yesterday": -1,
}
_WEEKDAY_NAMES = r"(?:mon|tues?|wednes|wed|thurs?|thu|fri|satur|sat|sun)(?:day)?"
_COUNT = rf"(?:\d{{1,3}}|an?|{'|'.join(_NUMBERS[1:])})"
_RELATIVE_DAY = re.compile(rf"\b(?:{'|'.join(_RELATIVE)})\b")
_WEEKDAY = re.compile(rf"\b{_WEEKDAY_NAMES}\b")
_NEXT = re.compile(rf"\bnext (?={_WEEKDAY_NAMES}\b)")
_NEXT_WEEK = re.compile(r"\bnext week\b")
_WEEK_LATER = re.compile(rf"\b(today|tomorrow|{_WEEKDAY_NAMES}) week\b")
_LATER = re.compile(
    rf"\bin {_COUNT} (?:day|week)s?(?: time)?(?: from(?: now)?)?\b"
    rf"|\b{_COUNT} (?:day|week)s?(?: time)? from(?: now)?\b"
)
"""How much later than another day, or than today: "in two weeks", "a week from"."""
_NTH_WEEKDAY = re.compile(
    rf"\b(?:{'|'.join(_ORDINALS[:5])}|[1-5](?:st|nd|rd|th)|last) {_WEEKDAY_NAMES}\b"
)
_MONTH = re.compile(rf"\b(?:{'|'.join(_MONTHS)}|sept|{'|'.join(month[:3] for month in _MONTHS)})\b")
_YEAR = re.compile(r"\b20\d\d\b")
_NUMBER = re.compile(rf"\b\d{{1,2}}(?:st|nd|rd|th)?\b|(?<![\w-])(?:{'|'.join(_ORDINALS)})(?![\w-])")
_CLOCK = rf"(?:\d{{1,2}}(?::\d\d)?|{'|'.join(_NUMBERS[1:13])})(?: thirty| fifteen| forty-five)?"
_TIME_OF_DAY = re.compile(
    r"\b(?:in the )?(?:morning|afternoon|evening)\b|\bat (?:noon|midday)\b"
    rf"|\bat {_CLOCK}(?: ?[ap] ?m| o'clock)?(?!\w)|\b{_CLOCK} ?(?:[ap] ?m\b|o'clock)"
)
_HARMLESS = frozenset(
    "a about appointment be best better come coming could day for how i i'd i'll i'm is it it's "
    "let's like make my of oh okay on please perhaps prefer say so take that that's the then this "
    "to uh um us want well what will would yes yeah".split()
)
"""Words that change nothing of a day that is named beside them."""
_WHICH = "Which day do you mean? Please say its name or its date."
_ONE_OF_THESE = "Which of these days would you like?"
_MINUTES = {"fifteen": 15, "thirty": 30, "forty-five": 45, "ten": 10, "twenty": 20, "forty": 40}


class Unclear(TalkpathError):
    """The words mean no day or time, or more than one. The message asks the speaker back."""


def parse_day(text: str, today: datetime.date) -> datetime.date:
    """Read a day: "2026-11-24", "tomorrow", "Tuesday", "the 24th", "Tuesday, 24 November".

    Args:
        text: the words.
        today: the day on which they are said; a day without a year or month is the next such.

    Raises:
        Unclear: there is no such day, or two readings.
    """
    plain = " ".join(
        re.sub(
            r"[.!?;]|\b(?:may|can|could) i\b", " ", text.casefold().replace("\u2019", "'")
        ).split()
    )
    if _NTH_WEEKDAY.search(plain):
        raise Unclear("Which date is that?")
    plain = " ".join(plain.replace(",", " ").split())
    if match := re.fullmatch(r"(\d{4})-(\d{1,2})-(\d{1,2})", plain):
        return _date(*map(int, match.groups()))
    if re.fullmatch(r"\d{1,2}[/ -]\d{1,2}([/ -]\d{2,4})?", plain):
        raise Unclear("Is that day and month, or month and day? Please say the month's name.")
    rest, weeks = _WEEK_LATER.subn(r"\1", _TIME_OF_DAY.sub(" ", plain))
    rest, later = _taken(rest, _LATER)
    rest, next_week = _taken(rest, _NEXT_WEEK)
    rest, next_one = _taken(rest, _NEXT)
    rest, relative = _taken(rest, _RELATIVE_DAY)
    rest, weekdays = _taken(rest, _WEEKDAY)
    rest, of_month = _day_of_month(rest, today)
    if not _HARMLESS.issuperset(rest.split()):
        raise Unclear(_WHICH)
    weekday = _only({_place(name, _WEEKDAYS) for name in weekdays})
    days = {today + datetime.timedelta(days=_RELATIVE[name]) for name in relative}
    if of_month is not None:
        days.add(of_month)
    day = _only(days)
    delay = datetime.timedelta(days=7 * weeks + sum(map(_days, later)))
    if day is not None:
        if weekday is not None and day.weekday() != weekday:
            raise Unclear(f"{say_day(day)} is no {_WEEKDAYS[weekday].title()}. Which day is it?")
        if next_week:
            raise Unclear(_WHICH)
        return day + delay
    if weekday is not None:
        return _coming_weekday(today, weekday, bool(next_week), bool(next_one), delay)
    if next_week:
        raise Unclear("Which day next week?")
    if not later:
        raise Unclear("Which day would you like?")
    return today + delay


def parse_time(text: str, opens: datetime.time, closes: datetime.time) -> datetime.time:
    """Read a time of day: "10:30", "3 pm", "half past two", "ten".

    Args:
        text: the words.
        opens: an hour without morning or afternoon is the one that lies between this,
        closes: and this.

    Raises:
        Unclear: it is no time, or could be morning and afternoon.
    """
    plain = re.sub(r"(?<=\d)\.(?=\d)", ":", text.casefold())
    plain = " ".join(re.sub(r"[.,]", "", plain).replace("o'clock", "").split())
    plain = re.sub(r"\b(at|around|about|in the)\b", " ", plain)
    half_day = None
    if re.search(r"(\bam\b|\bmorning\b|\d ?am\b)", plain):
        half_day = "am"
    elif re.search(r"(\bpm\b|\bafternoon\b|\bevening\b|\d ?pm\b)", plain):
        half_day = "pm"
    plain = " ".join(re.sub(r"(am|pm|a m|p m|morning|afternoon|evening)\b", " ", plain).split())
    if plain in ("noon", "midday"):
        return datetime.time(12)
    hour, minute = _clock(plain)
    if hour is None or hour > 23 or minute > 59:
        raise Unclear("What time would you like?")
    if half_day == "pm" and hour < 12:
        return datetime.time(hour + 12, minute)
    if half_day == "am":
        return datetime.time(hour % 12 if hour <= 12 else hour, minute)
    if hour > 12 or re.match(r"0\d", plain):
        return datetime.time(hour, minute)
    readings = [datetime.time(hour % 12 + half, minute) for half in (0, 12)]
    open_at = [time for time in readings if opens <= time < closes]
    if len(open_at) == 2:
        raise Unclear("Is that in the morning or in the afternoon?")
    return open_at[0] if open_at else datetime.time(hour, minute)


def say_day(day: datetime.date) -> str:
    """A day to be spoken: "Tuesday, 24 November"."""
    return f"{_WEEKDAYS[day.weekday()].title()}, {day.day} {_MONTHS[day.month - 1].title()}"


def say_time(time: datetime.time) -> str:
    """A time to be spoken: "10 AM", "2:30 PM"."""
    hour = time.hour % 12 or 12
    minute = f":{time.minute:02}" if time.minute else ""
    return f"{hour}{minute} {'AM' if time.hour < 12 else 'PM'}"


def _date(year: int, month: int, day: int) -> datetime.date:
    try:
        return datetime.date(year, month, day)
    except ValueError:
        name = _MONTHS[month - 1].title() if 1 <= month <= 12 else f"month {month}"
        raise Unclear(f"There is no {day} {name}. Which day would you like?") from None


def _taken(text: str, pattern: re.Pattern[str]) -> tuple[str, list[str]]:
    """A text without what matches, and what that was."""
    return pattern.sub(" ", text), pattern.findall(text)


def _only(found: set[_T]) -> _T | None:
    if len(found) > 1:
        raise Unclear(_ONE_OF_THESE)
    return next(iter(found), None)


def _place(name: str, names: tuple[str, ...]) -> int:
    """Place of a name that may be cut short."""
    return [each[:3] for each in names].index(name[:3])


def _days(later: str) -> int:
    """Days in "in two weeks" or "3 days from now"."""
    count, unit = later.removeprefix("in ").split()[:2]
    number = int(count) if count.isdigit() else _NUMBERS.index(count) if count in _NUMBERS else 1
    return number * (7 if unit.startswith("week") else 1)


def _coming_weekday(
    today: datetime.date,
    weekday: int,
    of_next_week: bool,
    next_one: bool,
    delay: datetime.timedelta,
) -> datetime.date:
    """The coming day of this name, or the one that many weeks later, or that of next week."""
    name = _WEEKDAYS[weekday].title()
    coming = today + datetime.timedelta(days=(weekday - today.weekday()) % 7)
    next_monday = today + datetime.timedelta(days=7 - today.weekday())
    later = next_monday + datetime.timedelta(days=weekday)
    if of_next_week and not next_one and not delay:
        return later
    if next_one and not of_next_week and not delay:
        if today < coming < later:
            raise Unclear(f"Do you mean {say_day(coming)} or {say_day(later)}?")
        return later
    if of_next_week or next_one or delay.days % 7:
        raise Unclear(_WHICH)
    if coming == today and not delay:
        raise Unclear(f"Do you mean today, or {name} in a week?")
    return coming + delay


def _day_of_month(text: str, today: datetime.date) -> tuple[str, datetime.date | None]:
    """A text without a date, and that date."""
    text = re.sub(r"\b(twenty|thirty) (?=\w)", r"\1-", text)
    text, years = _taken(text, _YEAR)
    text, names = _taken(text, _MONTH)
    text, numbers = _taken(text, _NUMBER)
    month = _only({_place(name, _MONTHS) for name in names})
    day = _only({_day_number(number) for number in numbers})
    year = _only(set(map(int, years)))
    if day is None:
        if month is not None:
            raise Unclear(f"Which day in {_MONTHS[month].title()}?")
        return text, None
    if month is not None:
        return text, _date(year, month + 1, day) if year else _coming(today, month + 1, day)
    return text, _next_such(today, day)


def _day_number(word: str) -> int:
    found = re.match(r"\d+", word)
    return int(found.group()) if found else _ORDINALS.index(word) + 1


def _next_such(today: datetime.date, day: int) -> datetime.date:
    """The day of this month, or of the next one that has it and in which it has not passed."""
    if not 1 <= day <= 31:
        raise Unclear(f"There is no day {day}. Which day would you like?")
    for ahead in range(12):
        year, index = divmod(today.year * 12 + today.month - 1 + ahead, 12)
        try:
            candidate = datetime.date(year, index + 1, day)
        except ValueError:
            continue
        if candidate >= today:
            return candidate
    raise AssertionError("every day of a month comes within a year")


def _coming(today: datetime.date, month: int, day: int) -> datetime.date:
    """This year's, or next year's if that is long gone; a day that just passed stays passed."""
    this_year = _date(today.year, month, day)
    return _date(today.year + 1, month, day) if (today - this_year).days > 180 else this_year


def _clock(text: str) -> tuple[int | None, int]:
    if match := re.fullmatch(r"(\d{1,2})[:h ](\d{2})(?::\d{2})?", text):
        return int(match.group(1)), int(match.group(2))
    if match := re.fullmatch(r"(half past|quarter past|quarter to) (\S+)", text):
        hour = _hour(match.group(2))
        if hour is None:
            return None, 0
        if match.group(1) == "quarter to":
            return (hour - 1) % 24 or 12, 45
        return hour, 30 if match.group(1) == "half past" else 15
    head, _, tail = text.replace("forty five", "forty-five").partition(" ")
    if tail and tail not in _MINUTES:
        return None, 0
    return _hour(head), _MINUTES[tail] if tail else 0


def _hour(word: str) -> int | None:
    if word.isdigit() and len(word) <= 2:
        return int(word)
    return _NUMBERS.index(word) if word in _NUMBERS[1:] else None
