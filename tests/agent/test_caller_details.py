"""Names and numbers are those that the caller has said."""

import pytest

from talkpath.agent.calendar_words import Unclear
from talkpath.agent.caller_details import CallerDetails


def caller(*said: str) -> CallerDetails:
    details = CallerDetails()
    for text in said:
        details.heard(text)
    return details


@pytest.mark.parametrize(
    ("said", "number"),
    [
        (["My number is 555", "0101."], "5550101"),
        (["555 0101, yes, 555 0101."], "5550101"),
        (["555 0101 555 0101"], "5550101"),
        (["555 1234", "5 5 5 1 2 3 9"], "5551239"),
        (["555 1234", "Sorry, 555 1239."], "5551239"),
        (["555", "um", "01", "01"], "5550101"),
        (["5", "5 5 0", "1 0", "1"], "5550101"),
        (["double five five, oh one oh one"], "5550101"),
    ],
)
def test_a_number_that_was_said_is_taken(said: list[str], number: str) -> None:
    assert caller(*said).phone(number) == number


@pytest.mark.parametrize(
    ("said", "number"),
    [
        (["Tomorrow at 10 a.m., 555 0101."], "105550101"),
        (["555 0101.", "At 4."], "55501014"),
        (["555 0101."], "50101"),
        (["555 12", "My number is 555 0101"], "555125550101"),
        ([], "5550101"),
        (["555 0101"], "unknown"),
        (["555 0101"], "555\u0660\u0661\u0660\u0661"),
    ],
)
def test_a_number_that_was_not_said_from_its_first_digit_to_its_last_is_not(
    said: list[str], number: str
) -> None:
    with pytest.raises(Unclear):
        caller(*said).phone(number)


def test_a_number_that_was_asked_for_again_begins_anew() -> None:
    details = caller("five five five")
    with pytest.raises(Unclear, match="digit by digit"):
        details.phone("5550101")
    details.heard("555 0101")
    with pytest.raises(Unclear, match="digit by digit"):
        details.phone("5555550101")
    assert details.phone("5550101") == "5550101"


@pytest.mark.parametrize(
    ("said", "name"),
    [
        (["It's Ana Muhler, M-U-E-L-L-E-R."], "Anna Mueller"),
        (["My name is Anna.", "Um, Miller."], "Anna Miller"),
        (["Miller, M I L L E R, first name Anna."], "Anna Miller"),
        (["Anna-Maria O\u2019Brien"], "Anna-Maria O'Brien"),
    ],
)
def test_a_name_that_was_said_or_spelled_is_taken(said: list[str], name: str) -> None:
    assert caller(*said).name(name) == name


@pytest.mark.parametrize("name", ["Tom Morrow", "Like Tat", "Jon Doe", "I do", "", "<script>"])
def test_a_name_is_not_made_of_words_from_all_over_the_call(name: str) -> None:
    details = caller("Hi, I'd like to do a check-up tomorrow at ten, my number is 555 0123")
    with pytest.raises(Unclear, match=r"name"):
        details.name(name)
