"""What a desk writes, and when: a real database, a caller's words, and a model that may be bad."""

import asyncio
import contextlib
import sqlite3
from pathlib import Path

import pytest

from talkpath.agent.appointments import AppointmentBook
from talkpath.agent.front_desk import Answer, FrontDesk
from tests.agent.front_desk_calls import (
    ANNA,
    HOURS,
    NOW,
    YES_OR_NO,
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
