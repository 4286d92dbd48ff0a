"""Language models for the receptionist, without a language model: a decent one and a bad one.

The decent one reads the conversation by rules of its own and calls the tools as a model of some
size would.
"""

import itertools
import re
from typing import Any

from tests.llm_server import Answer, Call, Request, Say, last_user

__all__ = ["BadModel", "decent_model"]

_DAY = re.compile(
    r"day after tomorrow|tomorrow|yesterday|\d+(?:st|nd|rd|th)?(?: of)? (?:february|march)"
    r"|(?:february|march) \d+",
)
_TIME = re.compile(r"\b(?:\d+(?::\d+)?|nine|ten|eleven|two|three|four) ?(?:am|pm|o'clock|in the)")
_YES = re.compile(r"\W*(?:yes|yeah|sure)\b(?!.*\?)")
_CHECK_UP = re.compile(r"\bcheck.?up\b")
_DIGITS = {
    word: str(value)
    for value, word in enumerate("zero one two three four five six seven eight nine".split())
} | {"oh": "0"}
_NAME = re.compile(r"[Nn]ame is (\w+ \w+)")


def decent_model(request: Request) -> Answer:
    """Call what the caller wants as soon as all is said; ask for what is missing."""
    users = [message["content"] for message in request["messages"] if message["role"] == "user"]
    said = last_user(request).lower()
    if "bye" in said or "nothing else" in said:
        return Call("end_call")
    if "don't want" in said:
        return Say("All right, nothing was booked. Is there anything else?")
    if _proposed(request) and _YES.match(said):
        return Call("confirm")
    everything = " ".join(users)
    details = {
        "name": _last(_NAME, everything),
        "phone": _phone(everything),
        "service": "check-up" if _CHECK_UP.search(everything.lower()) else "",
        "day": _last(_DAY, everything.lower()),
        "time": _last(_TIME, everything.lower().replace(".", "")).replace("in the", "am"),
    }
    if "cancel" in everything.lower():
        return _call("propose_cancellation", details, "phone")
    if "move" in everything.lower():
        return _call("propose_move", details, "phone", "day", "time")
    return _call("propose_booking", details, "name", "phone", "service", "day", "time")


def _proposed(request: Request) -> bool:
    """Whether the last thing that a tool did was to propose something."""
    results = [message["content"] for message in request["messages"] if message["role"] == "tool"]
    return bool(results) and '"proposed"' in results[-1]


def _phone(text: str) -> str:
    """The digits behind the last "number is", or of the last keys."""
    start = re.split("number is|dtmf:", text.lower())[1:]
    found = re.findall(r"[0-9]+|[a-z]+", start[-1]) if start else []
    digits = [word if word.isdigit() else _DIGITS.get(word, "") for word in found]
    return "".join(itertools.takewhile(bool, digits))


def _last(pattern: re.Pattern[str], text: str) -> str:
    found = [match.group(match.lastindex or 0) for match in pattern.finditer(text)]
    return found[-1] if found else ""


def _call(tool: str, details: dict[str, str], *needed: str) -> Answer:
    missing = [name for name in needed if not details[name]]
    if missing:
        return Say(f"What is your {missing[0]}?")
    return Call(tool, {name: details[name] for name in needed})


class BadModel:
    """Invents tools, arguments and bookings, one after the other, whatever the caller says."""

    def __init__(self) -> None:
        self._answers: list[Any] = [
            Call("delete_everything"),
            Call("confirm"),
            Call("propose_booking", {"name": "John Doe", "phone": "123456789", "time": "10:00"}),
            Call("propose_booking", {"name": ["Anna"], "phone": None, "day": {"a": 1}, "time": 7}),
            Call("propose_booking", '{"name": "Anna'),
            [Call("propose_booking", GOOD), Call("confirm")],
            [Say("You are booked for ten. Goodbye!"), Call("end_call")],
        ]

    def __call__(self, request: Request) -> Answer:
        answer: Answer = self._answers.pop(0) if self._answers else Call("confirm")
        return answer


GOOD = {
    "name": "Anna Miller",
    "phone": "5550101",
    "service": "check-up",
    "day": "tomorrow",
    "time": "10:00",
}
