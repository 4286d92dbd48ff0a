"""Days and times of day in words, as callers say them and language models pass them on. English.

What can be read in two ways is not guessed at: the error is a sentence that asks back.
"""

import datetime
import re

from talkpath.agent.errors import TalkpathError

__all__ = ["Unclear", "parse_day", "parse_time", "say_day", "say_time"]

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
_RELATIVE = (("day after tomorrow", 2), ("tomorrow", 1), ("today", 0), ("yesterday", -1))
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
    plain = re.sub(r"[,.]", " ", text.casefold()).strip()
    plain = " ".join(plain.split())
    if match := re.fullmatch(r"(\d{4})-(\d{1,2})-(\d{1,2})", plain):
        year, month, day = map(int, match.groups())
        return _date(year, month, day)
    if re.fullmatch(r"\d{1,2}[./ -]\d{1,2}([./ -]\d{2,4})?", plain):
        raise Unclear("Is that day and month, or month and day? Please say the month's name.")
    for words, days in _RELATIVE:
        if words in plain:
            return today + datetime.timedelta(days=days)
    weekday = _one_of(plain, _WEEKDAYS)
    found = _day_of_month(plain, today)
    if found is not None:
        if weekday is not None and found.weekday() != weekday:
            raise Unclear(f"{say_day(found)} is no {_WEEKDAYS[weekday].title()}. Which day is it?")
        return found
    if weekday is None:
        raise Unclear("Which day would you like?")
    ahead = (weekday - today.weekday()) % 7
    if ahead == 0:
        raise Unclear(f"Do you mean today, or {_WEEKDAYS[weekday].title()} in a week?")
    return today + datetime.timedelta(days=ahead)


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


def _one_of(text: str, names: tuple[str, ...]) -> int | None:
    found = [i for i, name in enumerate(names) if re.search(rf"\b{name}\b|\b{name[:3]}\b", text)]
    if len(found) > 1:
        raise Unclear("Which of these days would you like?")
    return found[0] if found else None


def _day_of_month(text: str, today: datetime.date) -> datetime.date | None:
    text = text.replace("twenty ", "twenty-").replace("thirty ", "thirty-")
    year_found = re.search(r"\b(20\d\d)\b", text)
    if year_found:
        text = text.replace(year_found.group(), " ")
    numbers = {int(found) for found in re.findall(r"\b(\d{1,2})(?:st|nd|rd|th)?\b", text)}
    numbers |= {i for i, word in enumerate(_ORDINALS, 1) if re.search(rf"(?<![\w-]){word}\b", text)}
    month = _one_of(text, _MONTHS)
    if not numbers:
        if month is not None:
            raise Unclear(f"Which day in {_MONTHS[month].title()}?")
        return None
    if len(numbers) > 1:
        raise Unclear("Which of these days would you like?")
    day = numbers.pop()
    if year_found and month is not None:
        return _date(int(year_found.group()), month + 1, day)
    if month is not None:
        return _coming(today, month + 1, day)
    if not 1 <= day <= 31:
        raise Unclear(f"There is no day {day}. Which day would you like?")
    for ahead in range(12):  # the next month that has such a day
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
