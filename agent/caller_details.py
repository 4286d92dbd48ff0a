"""Names and telephone numbers that a caller has said in one call.

A language model passes them on, and invents some: only what was heard is taken.
"""

import difflib
import re
from collections import deque
from collections.abc import Iterator, Sequence

from talkpath.agent.answers import FILLERS, words
from talkpath.agent.calendar_words import Unclear
from talkpath.agent.spoken_numbers import digits

__all__ = ["CallerDetails"]

_REMEMBERED = 500
"""Utterances in which names and numbers are looked for: an hour of talking."""
_SIMILAR = 0.7
"""Ratio of `difflib.SequenceMatcher` from which a name is one that was heard: recognizers and
models spell names in their own ways."""
_SHORTEST_ALIKE = 3
"""Letters of a word that may be spelled in another way."""
_WITHIN_NUMBERS = frozenset(("double", "triple", "and", "then", *FILLERS))
_MOST_PIECES = 4
"""Utterances over which one number may be spread."""
_NAME = re.compile(r"[^\W\d_](?:[^\W\d_]|[ .'\u2019-])+")
_LONGEST_NAME = 80
_ASKED_AGAIN = "?"
"""Stands among the utterances where the number was asked for once more; it has no words."""


class CallerDetails:
    """What one caller said, to look names and numbers up in."""

    def __init__(self) -> None:
        self._heard: deque[str] = deque(maxlen=_REMEMBERED)

    def heard(self, text: str) -> None:
        """The caller has said this."""
        self._heard.append(text)

    def phone(self, text: str) -> str:
        """A number that the caller has said, digit for digit.

        Raises:
            Unclear: it is none, or was not said.
        """
        number = digits(text)
        if not 5 <= len(number) <= 15:
            raise Unclear("What is your phone number, please?")
        if not any(said in (number, number * 2) for said in _numbers(self._heard)):
            self._heard.append(_ASKED_AGAIN)  # what comes now is a number from its beginning
            raise Unclear("I am not sure about the phone number. Please say it digit by digit.")
        return number

    def name(self, text: str) -> str:
        """A name that the caller has said, or one that sounds and looks like it.

        Its parts were spelled, or said one right behind the other.

        Raises:
            Unclear: it is none, or was not said.
        """
        name = " ".join(text.split())
        if len(name) > _LONGEST_NAME or not _NAME.fullmatch(name):
            raise Unclear("What is your name, please?")
        heard = words(" ".join(self._heard))
        spelled = "".join(word for word in heard if len(word) == 1)
        spoken = [word for word in heard if len(word) > 1 and word not in FILLERS]
        parts = [part for part in words(name) if part not in spelled]
        starts = range(len(spoken) - len(parts) + 1)
        if not any(all(map(_alike, parts, spoken[start:])) for start in starts):
            raise Unclear("I am not sure about the name. Please say it again and spell it.")
        return name


def _numbers(utterances: Sequence[str]) -> Iterator[str]:
    """Every number that may have been said: in one go, or in utterances one after another.

    A number ends where a word stands that is none: a time of day is no part of it.
    """
    pieces: list[str] = []  # each goes on where the one before it stopped
    for text in utterances:
        runs = _runs(text)
        if runs == [""] and words(text):
            continue  # hesitation
        for index, run in enumerate(runs):
            pieces = [*pieces[1 - _MOST_PIECES :], run] if run and index == 0 else [run]
            if run:
                yield from ("".join(pieces[start:]) for start in range(len(pieces)))
        if not runs[-1]:
            pieces = []


def _runs(text: str) -> list[str]:
    """Digits between other words: the first of them begins the text, the last one ends it."""
    runs = [""]
    for word in words(text):
        if digits(word) or word in _WITHIN_NUMBERS:
            runs[-1] += f" {word}"
        elif runs[-1] or len(runs) == 1:
            runs.append("")
    return [digits(run) for run in runs]


def _alike(name: str, heard: str) -> bool:
    if name == heard:
        return True
    if min(len(name), len(heard)) < _SHORTEST_ALIKE:
        return False
    return difflib.SequenceMatcher(None, name, heard).ratio() >= _SIMILAR
