"""A questionnaire, and one interview by it. No input or output but reading the TOML file.

A file looks like this; only ``text`` must be there, and ``choices`` for that kind::

    greeting = "Hello, may I ask you three questions?"
    farewell = "Thank you for your time. Goodbye."

    [[question]]
    id = "visits"
    kind = "number"              # or yes_no, choice, text (the default)
    text = "How often did you come this year?"
    again = "How many times was it? Please say a number."
    min = 0
    max = 50
    confirm = true               # "You said 20. Is that right?"

    [[question]]
    id = "mood"
    kind = "choice"
    text = "Was it good, fair or poor?"
    choices = { good = ["good", "great"], fair = ["fair", "okay"], poor = ["poor", "bad"] }

A number is typed on the keypad with ``#`` behind it, a choice by its place, yes is 1 and no is 2;
``*`` says the question again.
"""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from talkpath.agent.answers import only_refuses, refuses, wants_repeat, words, yes_no
from talkpath.agent.dialogue import Step
from talkpath.agent.errors import ConfigError
from talkpath.agent.spoken_choices import are_phrases, choices, confusable
from talkpath.agent.spoken_numbers import number

__all__ = ["Interview", "Question", "Questionnaire", "Value", "load_questionnaire"]

Value: TypeAlias = bool | float | str | None

_KINDS = ("choice", "number", "text", "yes_no")
_TRIES = 3
"""Times that a question is put before the next one's turn."""
_REPEATS = 3
"""Times that it is said again for who asks; after them, to ask counts as a try."""
_YES_NO_KEYS = {"1": True, "2": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One question.

    Attributes:
        id: name of the answer in the results.
        text: as it is asked.
        again: as it is asked after an answer that was not understood; empty repeats ``text``.
        kind: ``yes_no``, ``number``, ``choice`` or ``text``.
        low: smallest number.
        high: largest number.
        choices: names with the phrases that stand for them.
        confirm: whether the answer is read back.
    """

    id: str
    text: str
    again: str = ""
    kind: str = "text"
    low: float = 0
    high: float = 1_000_000
    choices: Mapping[str, Sequence[str]] = field(default_factory=dict)
    confirm: bool = False

    def __post_init__(self) -> None:
        texts = (self.id, self.text, self.again)
        self._require(
            (all(isinstance(text, str) for text in texts), "id, text and again must be texts"),
            (isinstance(self.confirm, bool), "confirm must be true or false"),
            (
                isinstance(self.choices, Mapping) and all(map(are_phrases, self.choices.values())),
                "choices must be lists of phrases, one phrase or more for each",
            ),
        )
        phrases = [" ".join(words(phrase)) for each in self.choices.values() for phrase in each]
        self._require(
            (bool(self.id and self.text.strip()), "it needs an id and a text"),
            (self.kind in _KINDS, f"its kind must be one of {', '.join(_KINDS)}"),
            (self.low <= self.high, "its min is larger than its max"),
            (self.kind != "choice" or len(self.choices) >= 2, "it needs two choices or more"),
            (len(set(phrases)) == len(phrases), "a phrase is there twice in its choices"),
            (confusable(self.choices) is None, "phrases of two choices are too alike"),
        )

    def _require(self, *conditions: tuple[bool, str]) -> None:
        for holds, otherwise in conditions:
            if not holds:
                raise ConfigError(f"question {self.id!r}: {otherwise}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Questionnaire:
    """Questions in their order.

    Attributes:
        greeting: said before the first.
        farewell: said after the last.
        questions: one or more, with ids of their own.
    """

    greeting: str = "Hello, I have a few short questions for you."
    farewell: str = "Thank you very much for your answers. Goodbye."
    questions: tuple[Question, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.greeting, str) or not isinstance(self.farewell, str):
            raise ConfigError("greeting and farewell must be texts")
        ids = [question.id for question in self.questions]
        if not ids or len(set(ids)) < len(ids):
            raise ConfigError("a questionnaire needs questions, each with an id of its own")


def load_questionnaire(file: Path) -> Questionnaire:
    """Read a questionnaire.

    Raises:
        ConfigError: the file cannot be read, or something in it is wrong.
    """
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
        entries = content.pop("question", [])
        questions = tuple(_question(index, dict(entry)) for index, entry in enumerate(entries, 1))
        return Questionnaire(**content, questions=questions)
    except (OSError, ValueError) as error:  # TOML's and Unicode's errors are ValueErrors
        raise ConfigError(f"cannot read the questions in {file}: {error}") from error
    except (TypeError, AttributeError) as error:
        raise ConfigError(f"wrong entry in the questions in {file}: {error}") from error
    except ConfigError as error:
        raise ConfigError(f"{file}: {error}") from None


def _question(index: int, entry: dict[str, Any]) -> Question:
    for name, ours in (("min", "low"), ("max", "high")):
        if name in entry:
            entry[ours] = float(entry.pop(name))
    if isinstance(entry.get("choices"), list):
        entry["choices"] = {name: [name] for name in entry["choices"]}
    return Question(**{"id": f"question-{index}", "text": ""} | entry)


class Interview:
    """One call by a questionnaire; a `talkpath.agent.dialogue.Dialogue`.

    Args:
        questionnaire: the questions.

    Attributes:
        answers: what is known so far by question id; None where the caller had no answer.
        complete: whether all questions were put.
    """

    def __init__(self, questionnaire: Questionnaire) -> None:
        self._plan = questionnaire
        self._index = 0
        self._tries = 0
        self._repeats = 0
        self._typed = ""
        self._pending: Value = None
        self._confirming = False
        self.answers: dict[str, Value] = {}

    @property
    def complete(self) -> bool:
        """Whether all questions were put."""
        return self._index == len(self._plan.questions)

    @property
    def _question(self) -> Question:
        return self._plan.questions[self._index]

    def start(self) -> Step:
        """Greet and ask the first question."""
        return Step(f"{self._plan.greeting} {self._question.text}".strip())

    def silent(self) -> str:
        """Ask again; a number of which only a part was typed is typed anew."""
        if self.complete:
            return self._plan.farewell
        if self._typed:
            self._typed = ""
            return f"Please type all of the number, then the hash key. {self._asked()}"
        return f"I did not hear anything. {self._asked()}"

    def heard(self, text: str) -> Step:
        """Take an answer in words."""
        self._typed = ""
        if self.complete:
            return Step()
        if wants_repeat(text):
            self._repeats += 1
            return Step(self._asked()) if self._repeats <= _REPEATS else self._retry("")
        if self._confirming:
            return self._confirmed(yes_no(text))
        value = _understood(self._question, text)
        if only_refuses(text) or (value is None and refuses(text)):
            return self._next("All right.")
        return self._take(value)

    def pressed(self, key: str) -> Step:
        """Take a key."""
        if self.complete:
            return Step()
        if key == "*":
            self._typed = ""
            return Step(self._asked())
        question = self._question
        if self._confirming:
            return self._confirmed(_YES_NO_KEYS.get(key))
        if question.kind == "yes_no":
            return self._take(_YES_NO_KEYS.get(key))
        if question.kind == "choice":
            names = list(question.choices)
            place = int(key) - 1 if key.isdigit() else -1
            return self._take(names[place] if 0 <= place < len(names) else None)
        if question.kind == "number":
            return self._type(key)
        return Step(f"Please say it in words. {question.text}")

    def _type(self, key: str) -> Step:
        """Collect digits until ``#``, or until no more fit."""
        longest = len(str(int(self._question.high)))
        if key != "#":
            self._typed += key
        if key != "#" and len(self._typed) < longest:
            return Step()
        typed, self._typed = self._typed, ""
        return self._take(float(typed) if typed else None)

    def _take(self, value: Value) -> Step:
        question = self._question
        if isinstance(value, float) and not question.low <= value <= question.high:
            limits = f"{question.low:g} to {question.high:g}"
            return self._retry(f"Please say a number from {limits}.")
        if value is None:
            return self._retry("Sorry, I did not get that.")
        if question.confirm:
            self._pending, self._confirming = value, True
            return Step(self._asked())
        self.answers[question.id] = value
        return self._next("")

    def _confirmed(self, answer: bool | None) -> Step:
        if answer:
            self.answers[self._question.id] = self._pending
            return self._next("")
        self._confirming = answer is None
        if answer is None:
            return self._retry("Please say yes or no.")
        return self._retry("Then once more.")

    def _retry(self, why: str) -> Step:
        self._tries += 1
        if self._tries >= _TRIES:
            return self._next("Let us leave it at that.")
        return Step(f"{why} {self._asked(again=True)}".strip())

    def _next(self, remark: str) -> Step:
        """Go on; a question that was not answered keeps a None."""
        self.answers.setdefault(self._question.id, None)
        self._index += 1
        self._tries, self._repeats, self._confirming, self._pending = 0, 0, False, None
        if self.complete:
            return Step(f"{remark} {self._plan.farewell}".strip(), ends=True)
        return Step(f"{remark} {self._question.text}".strip())

    def _asked(self, again: bool = False) -> str:
        """What is being asked."""
        if self._confirming:
            return f"You said {_spoken(self._pending)}. Is that right?"
        return (again and self._question.again) or self._question.text


def _understood(question: Question, text: str) -> Value:
    if question.kind == "yes_no":
        return yes_no(text)
    if question.kind == "number":
        return number(text)
    if question.kind == "choice":
        named = choices(text, question.choices)
        return named[0] if len(named) == 1 else None
    return text.strip() or None


def _spoken(value: Value) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)
