"""Interviews, answer by answer, as a recognizer would write them."""

from pathlib import Path

import pytest

from talkpath.agent.errors import ConfigError
from talkpath.agent.questionnaire import (
    Interview,
    Question,
    Questionnaire,
    Value,
    load_questionnaire,
)

VISITED = Question(id="visited", kind="yes_no", text="Have you been here before?")
TIMES = Question(
    id="times",
    kind="number",
    text="How often did you come?",
    again="How many times was it?",
    low=1,
    high=50,
)
MOOD = Question(
    id="mood",
    kind="choice",
    text="Was it good, fair or poor?",
    choices={"good": ["good", "great"], "fair": ["fair"], "poor": ["poor", "bad"]},
)
REMARK = Question(id="remark", text="What else would you like to tell us?")


def interview(*questions: Question) -> Interview:
    return Interview(Questionnaire(greeting="Hello.", farewell="Goodbye.", questions=questions))


def test_an_interview_greets_asks_and_says_goodbye() -> None:
    call = interview(VISITED, TIMES, MOOD, REMARK)
    assert call.start().say == "Hello. Have you been here before?"
    assert call.heard("Yeah, sure.").say == TIMES.text
    assert call.heard("About twenty.").say == MOOD.text
    assert call.heard("The second one.").say == REMARK.text
    assert not call.complete
    end = call.heard("The coffee was cold.")
    assert (end.say, end.ends) == ("Goodbye.", True)
    assert call.answers == {
        "visited": True,
        "times": 20.0,
        "mood": "fair",
        "remark": "The coffee was cold.",
    }
    assert call.complete
    assert call.heard("Hello?").say == ""


@pytest.mark.parametrize(
    ("question", "said", "answer"),
    [
        (VISITED, "Nope.", False),
        (VISITED, "No idea.", None),
        (TIMES, "I'd rather not say.", None),
        (TIMES, "Twice? No, seven times.", 7.0),
        (MOOD, "Great!", "good"),
        (MOOD, "Skip that, please.", None),
        (TIMES, "I'm not sure, maybe seven.", 7.0),
        (TIMES, "I don't know.", None),
        (VISITED, "I'm not sure, I think so.", None),
        (REMARK, "No idea.", None),
        (REMARK, "I have no idea, sorry.", None),
        (REMARK, "Nothing.", "Nothing."),
        (REMARK, "I have no idea why it was cold.", "I have no idea why it was cold."),
    ],
)
def test_an_answer_is_understood_or_left_out(question: Question, said: str, answer: Value) -> None:
    call = interview(question)
    call.start()
    assert call.heard(said).ends
    assert call.answers == {question.id: answer}


def test_what_was_not_understood_is_asked_again_in_other_words_and_given_up() -> None:
    call = interview(TIMES, VISITED)
    call.start()
    assert call.heard("Well, you know.").say == (
        "Sorry, I did not get that. How many times was it?"
    )
    assert (
        call.heard("A hundred.").say == "Please say a number from 1 to 50. How many times was it?"
    )
    assert call.heard("Blue.").say == f"Let us leave it at that. {VISITED.text}"
    assert call.answers == {"times": None}


def test_two_choices_at_once_are_asked_again() -> None:
    call = interview(MOOD)
    call.start()
    assert "did not get that" in call.heard("Good or fair, I don't mind.").say
    assert call.answers == {}


def test_the_question_is_said_again_for_who_asks_but_not_for_ever() -> None:
    call = interview(MOOD)
    call.start()
    for _ in range(5):
        assert call.heard("Pardon?").say == MOOD.text
        assert call.pressed("*").say == MOOD.text
    assert call.silent() == f"I did not hear anything. {MOOD.text}"
    assert call.heard("Pardon?").ends
    assert call.answers == {"mood": None}


@pytest.mark.parametrize(
    "said",
    ["You should not make me repeat everything.", "The agent did not understand my problem."],
)
def test_words_about_repeating_are_an_answer(said: str) -> None:
    call = interview(REMARK)
    call.start()
    assert call.heard(said).ends
    assert call.answers == {"remark": said}


@pytest.mark.parametrize("said", ["One moment please.", "Hold on one second.", "I have to go."])
@pytest.mark.parametrize("question", [VISITED, TIMES, MOOD])
def test_what_is_no_answer_is_asked_again(question: Question, said: str) -> None:
    call = interview(question)
    call.start()
    assert "did not get that" in call.heard(said).say
    assert call.answers == {}


def test_a_number_that_was_typed_by_half_is_typed_anew() -> None:
    call = interview(TIMES)
    call.start()
    assert call.pressed("7").say == ""
    assert call.silent() == f"Please type all of the number, then the hash key. {TIMES.text}"
    assert call.pressed("8").say == ""
    assert call.pressed("#").ends
    assert call.answers == {"times": 8.0}
    assert call.silent() == "Goodbye."


CONFIRMED = Question(id="exact", kind="number", text="How often?", high=50, confirm=True)


def test_an_answer_that_matters_is_read_back() -> None:
    call = interview(CONFIRMED)
    call.start()
    assert call.heard("Fifteen.").say == "You said 15. Is that right?"
    assert call.answers == {}
    assert call.silent() == "I did not hear anything. You said 15. Is that right?"
    assert call.heard("No.").say == "Then once more. How often?"
    assert call.heard("Fifty.").say == "You said 50. Is that right?"
    assert "yes or no" in call.heard("Hm.").say
    call.heard("Yes.")
    assert call.answers == {"exact": 50.0}


def test_an_answer_that_was_never_confirmed_is_not_written_down() -> None:
    call = interview(CONFIRMED)
    call.start()
    call.heard("Fifteen.")
    for _ in range(3):
        call.heard("Hm.")
    assert call.answers == {"exact": None}
    assert call.complete


def test_keys_answer_every_kind_but_free_text() -> None:
    call = interview(VISITED, TIMES, MOOD, CONFIRMED, REMARK)
    call.start()
    assert call.pressed("3").say.startswith("Sorry")
    assert call.pressed("1").say == TIMES.text
    assert call.pressed("7").say == ""
    assert call.pressed("#").say == MOOD.text
    assert call.pressed("9").say.startswith("Sorry")
    assert call.pressed("3").say == CONFIRMED.text
    call.pressed("1")
    assert call.pressed("2").say == "You said 12. Is that right?"  # no third digit fits
    assert call.pressed("1").say == REMARK.text
    assert call.pressed("1").say.startswith("Please say it in words.")
    assert call.answers == {"visited": True, "times": 7.0, "mood": "poor", "exact": 12.0}


FILE = """
greeting = "Hello."
[[question]]
text = "Have you been here before?"
kind = "yes_no"
[[question]]
id = "times"
text = "How often?"
kind = "number"
min = 1
max = 9
confirm = true
[[question]]
id = "mood"
text = "Good or bad?"
kind = "choice"
choices = ["good", "bad"]
"""


def test_a_questionnaire_is_read_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "questions.toml"
    file.write_text(FILE)
    questionnaire = load_questionnaire(file)
    assert questionnaire.greeting == "Hello."
    first, second, third = questionnaire.questions
    assert (first.id, first.kind) == ("question-1", "yes_no")
    assert (second.low, second.high, second.confirm) == (1, 9, True)
    assert third.choices == {"good": ["good"], "bad": ["bad"]}


CHOICES = "[[question]]\ntext = 'Well?'\nkind = 'choice'\nchoices = "


@pytest.mark.parametrize(
    "content",
    [
        "",
        "greeting = 1 = 2",
        "question = 3",
        "colour = 'red'\n[[question]]\ntext = 'Well?'",
        "[[question]]\nid = 'a'",
        "[[question]]\ntext = 'Well?'\nkind = 'song'",
        "[[question]]\ntext = 'Well?'\nkind = 'choice'",
        "[[question]]\ntext = 'Well?'\nkind = 'number'\nmin = 'few'",
        "[[question]]\ntext = 'Well?'\nkind = 'number'\nmin = 2\nmax = 1",
        "[[question]]\ntext = 'Well?'\nid = 'a'\n[[question]]\ntext = 'Well?'\nid = 'a'",
        "[[question]]\ntext = 5",
        "[[question]]\ntext = 'Well?'\nagain = 5",
        "[[question]]\ntext = 'Well?'\nid = 5",
        "[[question]]\ntext = 'Well?'\nconfirm = 'no'",
        "greeting = 5\n[[question]]\ntext = 'Well?'",
        CHOICES + "{ good = 'good', poor = 'poor' }",
        CHOICES + "{ good = [1], poor = ['poor'] }",
        CHOICES + "{ good = [], poor = ['poor'] }",
        CHOICES + "['satisfied', 'satisfyed']",
        CHOICES + "{ good = ['fine', 'good'], fair = ['fine', 'fair'] }",
        "\x00",
    ],
)
def test_a_file_with_a_mistake_is_named(tmp_path: Path, content: str) -> None:
    file = tmp_path / "questions.toml"
    file.write_text(content)
    with pytest.raises(ConfigError, match=r"questions\.toml"):
        load_questionnaire(file)
