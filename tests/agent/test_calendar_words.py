"""Days and times, as callers say them and models pass them on."""

import datetime

import pytest

from talkpath.agent.calendar_words import Unclear, parse_day, parse_time, say_day, say_time

SATURDAY = datetime.date(2026, 11, 21)
OPENS, CLOSES = datetime.time(9), datetime.time(17)


@pytest.mark.parametrize(
    ("text", "day"),
    [
        ("2026-11-24", "2026-11-24"),
        ("tomorrow", "2026-11-22"),
        ("The day after tomorrow.", "2026-11-23"),
        ("yesterday", "2026-11-20"),
        ("Tuesday", "2026-11-24"),
        ("next Friday", "2026-11-27"),
        ("the 24th", "2026-11-24"),
        ("the 3rd", "2026-12-03"),
        ("Tuesday, 24 November", "2026-11-24"),
        ("the twenty-fourth", "2026-11-24"),
        ("November 20", "2026-11-20"),
        ("3 January", "2027-01-03"),
        ("May 5, 2027", "2027-05-05"),
    ],
)
def test_a_day_is_read(text: str, day: str) -> None:
    assert parse_day(text, SATURDAY).isoformat() == day


@pytest.mark.parametrize(
    "text",
    [
        "30 February",
        "2026-02-30",
        "2026-13-01",
        "03/04",
        "Saturday",
        "Monday, 24 November",
        "November",
        "Monday or Tuesday",
        "the 24th or the 25th",
        "the 32nd",
        "29 February",
        "whenever",
        "",
    ],
)
def test_a_day_that_does_not_exist_or_has_two_readings_is_asked_back(text: str) -> None:
    with pytest.raises(Unclear, match=r"[.?]$"):
        parse_day(text, SATURDAY)


TUESDAY = datetime.date(2026, 11, 24)


@pytest.mark.parametrize(
    ("text", "day"),
    [
        ("Tuesday in a week", "2026-12-01"),
        ("in a week", "2026-12-01"),
        ("next Tuesday", "2026-12-01"),
        ("one week from today", "2026-12-01"),
        ("a week from tomorrow", "2026-12-02"),
        ("tomorrow week", "2026-12-02"),
        ("Wednesday next week", "2026-12-02"),
        ("next week on Monday", "2026-11-30"),
        ("next Monday", "2026-11-30"),
        ("Wednesday in two weeks", "2026-12-09"),
        ("a week from Thursday", "2026-12-03"),
        ("in 3 days", "2026-11-27"),
        ("three days from now", "2026-11-27"),
        ("in 2 weeks", "2026-12-08"),
        ("in two weeks", "2026-12-08"),
        ("the day before yesterday", "2026-11-22"),
        ("today, Tuesday", "2026-11-24"),
        ("May I come on Thursday?", "2026-11-26"),
        ("tomorrow morning at ten", "2026-11-25"),
        ("Friday the 27th at 10", "2026-11-27"),
        ("Thursday at 2:30 p.m.", "2026-11-26"),
        ("Um, on thurs please", "2026-11-26"),
        ("twenty second of December", "2026-12-22"),
        ("December the twenty fifth", "2026-12-25"),
        ("the thirty first", "2026-12-31"),
        ("9999-12-31", "9999-12-31"),
    ],
)
def test_a_day_is_read_from_how_far_away_it_is(text: str, day: str) -> None:
    assert parse_day(text, TUESDAY).isoformat() == day


@pytest.mark.parametrize(
    "text",
    [
        "not today, Thursday",
        "not tomorrow but Friday",
        "Thursday, not Friday",
        "today or tomorrow",
        "the first available day",
        "any day but Thursday",
        "any time after Thursday",
        "before Thursday",
        "the day after",
        "Wednesday after next",
        "the second Wednesday in December",
        "the 2nd Wednesday of December",
        "the last Friday",
        "next Thursday",
        "next week",
        "next month on the 2nd",
        "in a week or two",
        "Thursday in 3 days",
        "the end of the month",
        "this weekend",
        "early December",
        "five December",
        "tomorrow, Friday",
        "tomorrow, the 27th",
        "3 pm",
        "0000-01-01",
    ],
)
def test_words_beside_a_day_that_may_change_it_are_asked_back(text: str) -> None:
    with pytest.raises(Unclear, match=r"[.?]$"):
        parse_day(text, TUESDAY)


def test_the_question_whether_today_or_in_a_week_is_answered_by_its_own_words() -> None:
    with pytest.raises(Unclear, match="Do you mean today, or Tuesday in a week"):
        parse_day("Tuesday", TUESDAY)
    assert parse_day("today", TUESDAY) == TUESDAY
    assert parse_day("Tuesday in a week", TUESDAY) == TUESDAY + datetime.timedelta(days=7)


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("10:30", "10:30"),
        ("09:00:00", "09:00"),
        ("3 pm", "15:00"),
        ("2.30 p.m.", "14:30"),
        ("10am", "10:00"),
        ("half past two", "14:30"),
        ("quarter to three", "14:45"),
        ("ten thirty", "10:30"),
        ("10 o'clock", "10:00"),
        ("three in the afternoon", "15:00"),
        ("noon", "12:00"),
        ("3", "15:00"),
        ("8", "08:00"),
        ("14:00", "14:00"),
    ],
)
def test_a_time_is_read_within_opening_hours(text: str, time: str) -> None:
    assert parse_time(text, OPENS, CLOSES).isoformat("minutes") == time


@pytest.mark.parametrize("text", ["25:00", "10:75", "soon", "ten or eleven", "13 o'clock pm x", ""])
def test_a_time_that_is_none_is_asked_back(text: str) -> None:
    with pytest.raises(Unclear):
        parse_time(text, OPENS, CLOSES)


def test_an_hour_that_may_be_morning_and_evening_is_asked_back() -> None:
    with pytest.raises(Unclear, match="morning or in the afternoon"):
        parse_time("8", datetime.time(7), datetime.time(22))


def test_days_and_times_are_said_as_people_say_them() -> None:
    assert say_day(datetime.date(2026, 11, 24)) == "Tuesday, 24 November"
    assert [say_time(datetime.time(10)), say_time(datetime.time(14, 30))] == ["10 AM", "2:30 PM"]
