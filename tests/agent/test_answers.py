"""What callers say, in the words that a recognizer writes."""

import pytest

from talkpath.agent.answers import (
    choices,
    clearly_yes,
    digits,
    number,
    refuses,
    wants_repeat,
    words,
    yes_no,
)


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("Yes.", True),
        ("Yeah, sure.", True),
        ("Of course!", True),
        ("No problem.", True),
        ("I think so.", True),
        ("That\u2019s right.", True),
        ("Right.", True),
        ("No.", False),
        ("Not really.", False),
        ("I don't think so.", False),
        ("That's not right.", False),
        ("No idea.", None),
        ("Yes and no.", None),
        ("No, that's right.", None),
        ("I'm right in the middle of lunch.", None),
        ("Twenty.", None),
        ("", None),
    ],
)
def test_yes_and_no_are_told_from_what_is_neither(text: str, meaning: bool | None) -> None:
    assert yes_no(text) is meaning


@pytest.mark.parametrize("text", ["Yes.", "Yes, please.", "Um, yeah, that's right, thank you."])
def test_a_plain_yes_is_clear(text: str) -> None:
    assert clearly_yes(text)


@pytest.mark.parametrize(
    "text", ["Yes, but at eleven.", "Yes?", "Yes, on Wednesday.", "Sure, wait.", "Yes, cancel it."]
)
def test_a_yes_with_a_condition_is_not_clear(text: str) -> None:
    assert not clearly_yes(text)


def test_the_word_that_names_what_is_asked_is_harmless() -> None:
    assert clearly_yes("Yes, cancel it.", harmless=("cancel",))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("7", 7),
        ("About twenty.", 20),
        ("twenty-one", 21),
        ("A hundred.", 100),
        ("one hundred and five", 105),
        ("two thousand and three", 2003),
        ("1,200", 1200),
        ("2.5", 2.5),
        ("Seven, no, eight.", 8),
        ("Seven out of ten.", 7),
        ("a couple of times", 2),
        ("minus five", -5),
        ("To.", 2),
        ("None.", 0),
        ("Seven or eight.", None),
        ("No idea.", None),
        ("To be honest I like it.", None),
        ("", None),
    ],
)
def test_a_number_is_read_from_words_and_digits(text: str, value: float | None) -> None:
    assert number(text) == value


OPTIONS = {"bad": ["bad"], "good": ["good"], "very good": ["very good", "excellent"]}


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("Very good.", ["very good"]),
        ("Good, I'd say.", ["good"]),
        ("The second one.", ["good"]),
        ("Number three.", ["very good"]),
        ("The last.", ["very good"]),
        ("Exellent.", ["very good"]),
        ("Not bad, good.", ["good"]),
        ("Good or bad.", ["bad", "good"]),
        ("The fifth.", []),
        ("Hm.", []),
        ("", []),
    ],
)
def test_a_choice_is_named_by_phrase_or_place(text: str, names: list[str]) -> None:
    assert choices(text, OPTIONS) == names


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("555-0123", "5550123"),
        ("five five five, oh one two three", "5550123"),
        ("double five, five zero", "5550"),
        ("twenty-one, thirty", "2130"),
        ("It's 0151 234.", "0151234"),
        ("none", ""),
    ],
)
def test_digits_are_collected(text: str, found: str) -> None:
    assert digits(text) == found


def test_refusals_and_requests_to_repeat_are_told_from_answers() -> None:
    assert refuses("I'd rather not say.")
    assert refuses("No idea.")
    assert not refuses("Twice a week.")
    assert wants_repeat("Sorry?")
    assert wants_repeat("Could you repeat that?")
    assert not wants_repeat("Sorry, no.")


def test_words_lose_case_and_punctuation() -> None:
    assert words("It\u2019s TWENTY-one, 'okay'?") == ["it's", "twenty", "one", "okay"]
