"""Callers who are sent on, by what they say or press."""

from pathlib import Path

import pytest

from talkpath.agent.departments import Department, Directory, Routing, load_directory
from talkpath.agent.errors import ConfigError

BILLING = Department(name="billing", words=("bill", "invoice"), target="sip:1@x", key="1")
REPAIRS = Department(name="repairs", words=("broken", "repair"), target="sip:2@x", key="2")
OPERATOR = Department(name="an operator", target="sip:0@x", key="0", fallback=True)


def routing(*departments: Department) -> Routing:
    call = Routing(Directory(departments=departments or (BILLING, REPAIRS, OPERATOR)))
    assert call.start().say == "Hello, how can I help you?"
    return call


@pytest.mark.parametrize(
    ("said", "target"),
    [
        ("I have a question about my invoice.", "sip:1@x"),
        ("My heating is broken.", "sip:2@x"),
        ("The second one.", "sip:2@x"),
        ("An operator, please.", "sip:0@x"),
    ],
)
def test_a_caller_who_names_one_department_goes_there(said: str, target: str) -> None:
    call = routing()
    step = call.heard(said)
    assert (step.ends, step.target, call.target) == (True, target, target)
    assert step.say.startswith("I will put you through to ")
    assert call.heard("And another thing.").say == ""


def test_a_caller_who_names_two_is_asked_which() -> None:
    call = routing()
    assert call.heard("The bill for my repair.").say == "Do you mean billing or repairs?"
    assert call.heard("Pardon?").say == "Do you mean billing or repairs?"
    assert call.heard("The first one.").target == "sip:1@x"


def test_a_caller_who_means_neither_may_name_a_third() -> None:
    call = routing()
    call.heard("The bill for my repair.")
    assert call.heard("No, an operator.").target == "sip:0@x"


def test_a_caller_who_names_none_hears_what_there_is_then_the_keys_then_gets_the_fallback() -> None:
    call = routing()
    assert call.heard("Lovely weather.").say == "You can say billing, repairs or an operator."
    assert call.heard("Is it not?").say == (
        "Sorry, I did not get that. Please press 1 for billing, press 2 for repairs, press 0 for "
        "an operator."
    )
    assert call.heard("Well.").target == "sip:0@x"


@pytest.mark.parametrize(
    "said",
    [
        "I don't want an operator.",
        "The first time it was awful.",
        "One moment please.",
        "This is my first call.",
        "I have one complaint.",
        "The agent did not understand my problem.",
    ],
)
def test_nobody_is_sent_on_by_words_that_name_no_department(said: str) -> None:
    call = routing()
    assert call.heard(said).say == "You can say billing, repairs or an operator."
    assert call.target == ""


def test_who_asks_for_ever_gets_the_fallback() -> None:
    call = routing()
    for _ in range(5):
        assert not call.heard("Pardon?").ends
    assert call.heard("Pardon?").target == "sip:0@x"


def test_without_a_fallback_the_call_ends_politely() -> None:
    call = routing(BILLING, REPAIRS)
    steps = [call.heard("Well.") for _ in range(3)]
    assert [step.ends for step in steps] == [False, False, True]
    assert "call again later" in steps[-1].say
    assert call.target == ""


def test_a_key_sends_at_once_and_a_wrong_one_says_which_there_are() -> None:
    call = routing()
    assert "press 1 for billing" in call.pressed("7").say
    assert call.silent().startswith("I did not hear anything. Please press 1")
    assert call.pressed("2").target == "sip:2@x"


def test_a_directory_is_read_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "departments.toml"
    file.write_text(
        'greeting = "Hi."\n[[department]]\nname = "a"\ntarget = "1"\n'
        '[[department]]\nname = "b"\ntarget = "2"\nwords = ["c"]\nkey = "0"\nfallback = true\n'
    )
    directory = load_directory(file)
    assert directory.greeting == "Hi."
    assert [each.target for each in directory.departments] == ["1", "2"]
    assert directory.departments[1].fallback


TWO = (
    "[[department]]\nname = 'appointment'\ntarget = '1'\n[[department]]\nname = 'b'\ntarget = '2'\n"
)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "x",
        "department = 1",
        "[[department]]\nname = 'a'\ntarget = '1'",
        "[[department]]\nname = 'a'\n[[department]]\nname = 'b'",
        "[[department]]\nname = 'a'\ntarget = '1'\n[[department]]\nname = 'a'\ntarget = '2'",
        "[[department]]\nname = 'a'\ntarget = '1'\nkey = '12'",
        TWO + "words = 'bill'",
        TWO + "words = [5]",
        TWO + "fallback = 'no'",
        TWO + "key = 1",
        TWO + "words = ['appointmemt']",
        TWO.replace("'2'", "2"),
        "greeting = 5\n" + TWO,
    ],
)
def test_a_file_with_a_mistake_is_named(tmp_path: Path, content: str) -> None:
    file = tmp_path / "departments.toml"
    file.write_text(content)
    with pytest.raises(ConfigError, match=r"departments\.toml"):
        load_directory(file)
