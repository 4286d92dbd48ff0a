"""Which of several options a caller means."""

import pytest

from talkpath.agent.spoken_choices import choices, confusable

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
        ("Um, the second one, please.", ["good"]),
        ("No, the second one.", ["good"]),
        ("2", ["good"]),
        ("I think the second one", ["good"]),
        ("option two please", ["good"]),
        ("One.", ["bad"]),
        ("Bad, no, good.", ["good"]),
        ("Bad? No.", []),
        ("Not very good", []),
        ("not so great, excellent", ["very good"]),
        ("It wasn't good", []),
        ("no good", []),
        ("never good", []),
        ("It was not at all good", []),
        ("Neither good nor bad.", []),
        ("hardly good, but not bad", []),
        ("the first time it was awful", []),
        ("the last time was a disaster", []),
        ("I have one complaint", []),
        ("one moment please", []),
        ("hold on one second", []),
        ("No one helped me", []),
        ("This is my first call", []),
        ("Hm.", []),
        ("", []),
    ],
)
def test_a_choice_is_named_by_phrase_or_place(text: str, names: list[str]) -> None:
    assert choices(text, OPTIONS) == names


SATISFACTION = {name: [name] for name in ("very satisfied", "satisfied", "dissatisfied")}
LIKELY = {name: [name] for name in ("likely", "unlikely")}
IMPORTANT = {name: [name] for name in ("important", "very important")}
PLACES = {"appointments": ["appointment"], "the assistant": ["talk"], "billing": ["invoice"]}


@pytest.mark.parametrize(
    ("text", "options", "names"),
    [
        ("I'm dissatisfied.", SATISFACTION, ["dissatisfied"]),
        ("very dissatisfied", SATISFACTION, ["dissatisfied"]),
        ("very satisfied", SATISFACTION, ["very satisfied"]),
        ("satisfyed", SATISFACTION, ["satisfied"]),
        ("unsatisfied", SATISFACTION, []),
        ("not satisfied", SATISFACTION, []),
        ("very unlikely", LIKELY, ["unlikely"]),
        ("unlikely", {"likely": ["likely"], "maybe": ["maybe"]}, []),
        ("unimportant", IMPORTANT, []),
        ("It is a great disappointment.", PLACES, []),
        ("I don't want to talk to a machine.", PLACES, []),
        ("My appointments, please.", PLACES, ["appointments"]),
        ("About two invoices.", PLACES, ["billing"]),
    ],
)
def test_opposites_and_denials_are_not_taken_for_one_another(
    text: str, options: dict[str, list[str]], names: list[str]
) -> None:
    assert choices(text, options) == names


def test_options_that_sound_alike_are_found() -> None:
    assert confusable({"a": ["billing"], "b": ["sales", "biling"]}) == ("billing", "biling")
    assert confusable({"a": ["a repair bill"], "b": ["the repair bills"]}) is None
    assert confusable(SATISFACTION) is None
    assert confusable(OPTIONS) is None
