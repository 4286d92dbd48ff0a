"""What callers say, in the words that a recognizer writes."""

import pytest

from talkpath.agent.answers import (
    clauses,
    clearly_yes,
    declines,
    listens,
    only_refuses,
    refuses,
    says_farewell,
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
        ("I do.", True),
        ("Well, I have, thank you.", True),
        ("Yes I did it once.", True),
        ("It's fine.", True),
        ("Mhm.", True),
        ("No.", False),
        ("Well, actually no.", False),
        ("Not really.", False),
        ("I don't think so.", False),
        ("That's not right.", False),
        ("I never did.", False),
        ("That is wrong.", False),
        ("Absolutely not.", False),
        ("Definitely not!", False),
        ("Of course not.", False),
        ("No idea.", None),
        ("Yes and no.", None),
        ("No, that's right.", None),
        ("I'm right in the middle of lunch.", None),
        ("I am calling for the first time.", None),
        ("I am a new customer.", None),
        ("I have to go.", None),
        ("I have called a few times.", None),
        ("I have only just moved here.", None),
        ("Never mind.", None),
        ("No doubt.", None),
        ("No doubt about it.", None),
        ("I don't mind.", None),
        ("Not too bad.", None),
        ("No one helped me.", None),
        ("I have no complaints.", None),
        ("I'm sure it was bad.", None),
        ("Absolutely terrible.", None),
        ("Good question.", None),
        ("This is a great idea.", None),
        ("It was late, no?", None),
        ("Please.", None),
        ("Twenty.", None),
        ("...", None),
        ("", None),
    ],
)
def test_yes_and_no_are_told_from_what_is_neither(text: str, meaning: bool | None) -> None:
    assert yes_no(text) is meaning


@pytest.mark.parametrize(
    "said",
    [
        ["Yes."],
        ["Yes, please."],
        ["Okay."],
        ["Right."],
        ["Um, yeah, that's right, thank you."],
        ["Mhm, yes."],
        ["Um.", "Yes.", "Thank you."],
        ["Yes, great, go ahead."],
        ["Great, yes please."],
        ["Yes, please book it."],
        ["Sure, go ahead and book it."],
    ],
)
def test_a_plain_yes_is_clear(said: list[str]) -> None:
    assert clearly_yes(said, "book")


@pytest.mark.parametrize(
    "said",
    [
        [],
        [""],
        ["Yes, but at eleven."],
        ["Yes?"],
        ["Yes, on Wednesday."],
        ["Sure, wait."],
        ["Yes, cancel it."],
        ["I have to go now."],
        ["I have to go now, thank you."],
        ["Okay, and the"],
        ["It's all good, I am just"],
        ["Right.", "Good, I have to do this again"],
        ["mhm", "Thank you."],
        ["mhm"],
        ["I have it now"],
        ["That's it, thank you"],
        ["I would like to"],
        ["Good, it's the"],
        ["So much to do, I am"],
        ["I do love it"],
        ["I am all good"],
        ["Okay thank you very much it's just"],
        ["Great."],
        ["Great.", "Thank you."],
        ["That would be great, thanks."],
        ["Yeah, so it is the"],
        ["Yes, I would"],
        ["Why not."],
        ["I guess so."],
        ["Book it"],
        ["Go", "ahead"],
        ["Yes.", "Well"],
        ["Yes.", "On Wednesday."],
        ["Thank you."],
    ],
)
def test_a_yes_with_more_in_it_or_broken_off_or_not_said_is_not_clear(said: list[str]) -> None:
    assert not clearly_yes(said, "book")


@pytest.mark.parametrize("text", ["Mhm.", "Okay, okay.", "Uh-huh.", "Yes, right.", ""])
def test_who_listens_says_nothing_else(text: str) -> None:
    assert listens(text)
    assert not listens(f"{text} At eleven.")


@pytest.mark.parametrize(
    "text",
    [
        "No, thank you.",
        "Goodbye.",
        "That's all.",
        "No, nothing else. Goodbye.",
        "Okay, great, thank you very much, bye bye.",
        "That's it, thanks. Have a nice day!",
    ],
)
def test_a_farewell_is_heard(text: str) -> None:
    assert says_farewell(text)


@pytest.mark.parametrize(
    "text",
    [
        "No, I want Wednesday instead.",
        "I can't come on Tuesday",
        "Thank you, and could you also cancel my other one?",
        "No.",
        "Thank you, it's the",
        "",
    ],
)
def test_more_than_a_farewell_is_none(text: str) -> None:
    assert not says_farewell(text)


def test_an_offer_is_declined_with_a_no_alone() -> None:
    assert declines("No.")
    assert declines("No thank you, I'm fine.")
    assert not declines("No, I want Wednesday instead.")
    assert not declines("Thank you.")


@pytest.mark.parametrize(
    "text", ["No idea.", "I'd rather not say.", "Sorry, I don't know.", "Pass."]
)
def test_who_does_not_want_to_answer_says_so(text: str) -> None:
    assert refuses(text)
    assert only_refuses(text)


@pytest.mark.parametrize(
    "text", ["I don't know how you do it, but I like it.", "I'm not sure, seven."]
)
def test_a_doubt_may_come_with_an_answer(text: str) -> None:
    assert refuses(text)
    assert not only_refuses(text)


@pytest.mark.parametrize(
    "text", ["Twice a week.", "I pass by every day.", "Nothing.", "I don't.", ""]
)
def test_an_answer_is_no_refusal(text: str) -> None:
    assert not refuses(text)


@pytest.mark.parametrize(
    "text",
    [
        "Sorry?",
        "Pardon?",
        "Could you repeat that?",
        "Say that again, please.",
        "What was that?",
        "What?",
        "Sorry, I didn't catch that.",
        "I did not understand the question.",
    ],
)
def test_a_wish_to_hear_it_again_is_heard(text: str) -> None:
    assert wants_repeat(text)


@pytest.mark.parametrize(
    "text",
    [
        "Sorry, no.",
        "You should not make me repeat everything",
        "The agent did not understand my problem",
        "I had to repeat my order three times",
        "I didn't understand my bill",
        "I was passed around: what was that for",
        "",
    ],
)
def test_words_about_repeating_are_no_wish_to_hear_it_again(text: str) -> None:
    assert not wants_repeat(text)


def test_words_lose_case_and_punctuation() -> None:
    assert words("It\u2019s TWENTY-one, 'okay'?") == ["it's", "twenty", "one", "okay"]


def test_clauses_end_at_punctuation_and_at_a_but() -> None:
    assert clauses("No, 2.5 or 1,200 but NOT ten!") == ["no", "2 5 or 1 200", "not ten"]
