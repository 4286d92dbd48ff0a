"""Which of several options a caller names, by their phrases or by their places. English.

What is denied is not named ("not so great"), opposites are never taken for one another
("dissatisfied", "satisfied"), and a place counts only as the whole answer: "the first time" is
none.
"""

import difflib
import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence

from talkpath.agent.answers import FILLERS, clauses, words
from talkpath.agent.spoken_numbers import number

__all__ = ["are_phrases", "choices", "confusable"]

_SIMILAR = 0.84
"""Ratio of `difflib.SequenceMatcher` from which two words of five letters and more are one."""
_SHORTEST = 5
_OPPOSITE = re.compile(r"(?:un|in|im|ir|il|dis|non|mis|anti)(?=\w{3})")
"""What makes a word another's opposite, or may do so."""
_NEGATIONS = frozenset(
    "not no never hardly barely neither nor without cannot nothing nobody none".split()
)
_TAKEN_BACK = frozenset(
    (
        "no",
        "nope",
        "no no",
        "not really",
        "not at all",
        "no wait",
        "wait no",
        "sorry no",
        "no sorry",
    )
)
_POLITE = frozenset(
    ("no", "yes", "yeah", "please", "thank you", "thanks", "sorry", "okay", "ok", *FILLERS)
)
_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth")
_PLACE = re.compile(
    r"(?:(?:i think|i'd say|i would say|i'd like|i want|i'll take|it's) )?"
    rf"(?:(?:the )?(?P<ordinal>{'|'.join(_ORDINALS)}|last)(?: one| option| choice)?"
    r"|(?:number |option )?(?P<number>\w+))(?: please)?"
)

_Same = Callable[[str, str], bool]


def choices(text: str, options: Mapping[str, Sequence[str]]) -> list[str]:
    """Which options an answer names, in their order.

    Args:
        text: what was said.
        options: names, each with the phrases that stand for it.

    Returns:
        Names; more than one where the answer is ambiguous, none where it names none. Of phrases
        within one another, "good" and "very good", the longer one counts.
    """
    said = clauses(text)
    phrases = sorted(
        ((words(phrase), name) for name, phrases in options.items() for phrase in phrases),
        key=lambda each: -len(each[0]),
    )
    found: set[str] = set()
    same: _Same
    for same in (str.__eq__, _alike):
        mentioned = False
        for clause in said:
            if clause in _TAKEN_BACK:
                found.clear()
            for name, denied in _named(clause.split(), phrases, same):
                mentioned = True
                if not denied:
                    found.add(name)
        if mentioned:
            break
    else:
        place = _place(said, len(options))
        if place is not None:
            found.add(list(options)[place])
    return [name for name in options if name in found]


def are_phrases(value: object) -> bool:
    """Whether a value from a settings file is a list of texts, one or more, each with a word."""
    return (
        isinstance(value, (list, tuple))
        and bool(value)
        and all(isinstance(phrase, str) and words(phrase) for phrase in value)
    )


def confusable(options: Mapping[str, Sequence[str]]) -> tuple[str, str] | None:
    """Two phrases of different options that are so alike that one may be heard for the other."""
    for one, other in itertools.combinations(options, 2):
        for pair in itertools.product(options[one], options[other]):
            left, right = map(words, pair)
            if left != right and len(left) == len(right) and all(map(_alike, left, right)):
                return pair
    return None


def _named(
    spoken: list[str], phrases: Sequence[tuple[Sequence[str], str]], same: _Same
) -> Iterator[tuple[str, bool]]:
    """Options that a clause mentions, and whether it denies them."""
    rest = list(spoken)
    for phrase, name in phrases:
        for start in range(len(rest) - len(phrase) + 1):
            if phrase and all(map(same, rest[start : start + len(phrase)], phrase)):
                yield name, any(map(_denies, rest[:start]))
                rest[start : start + len(phrase)] = [""]
                break


def _denies(word: str) -> bool:
    return word in _NEGATIONS or word.endswith("n't")


def _alike(heard: str, meant: str) -> bool:
    """Whether one word may be a misspelling, or the plural, of the other."""
    if heard == meant:
        return True
    short, long = sorted((heard, meant), key=len)
    if len(short) < _SHORTEST or _prefix(heard) != _prefix(meant):
        return False
    if short in long:
        return long in (f"{short}s", f"{short}es")
    return difflib.SequenceMatcher(None, heard, meant).ratio() >= _SIMILAR


def _prefix(word: str) -> str:
    found = _OPPOSITE.match(word)
    return found.group() if found else ""


def _place(said: Sequence[str], count: int) -> int | None:
    """Which place is meant by "the second one", "number two" or "the last", said alone."""
    rest = [clause for clause in said if clause not in _POLITE]
    text = " ".join(itertools.dropwhile(FILLERS.__contains__, " ".join(rest[:1]).split()))
    found = _PLACE.fullmatch(text)
    if found is None or len(rest) != 1:
        return None
    if found["ordinal"]:
        place = count - 1 if found["ordinal"] == "last" else _ORDINALS.index(found["ordinal"])
    else:
        value = number(found["number"])
        place = int(value) - 1 if value is not None and value == int(value) else -1
    return place if 0 <= place < count else None
