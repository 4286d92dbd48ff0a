"""What a caller's words mean: yes or no, a number, one of several choices, digits. English.

A recognizer's text comes in with punctuation, hesitation and politeness ("Um, yeah, sure."), and
what was said may be no answer at all ("No idea."). Each function gives None where it is not
sure: to ask again is cheap, and a wrong answer is written down.
"""

import difflib
import re
from collections.abc import Mapping, Sequence

__all__ = [
    "choices",
    "clearly_yes",
    "digits",
    "number",
    "refuses",
    "wants_repeat",
    "words",
    "yes_no",
]

_UNSURE = (
    "no idea",
    "no clue",
    "no opinion",
    "no comment",
    "don't know",
    "do not know",
    "dunno",
    "can't say",
    "cannot say",
    "can't remember",
    "don't remember",
    "not sure",
    "unsure",
    "hard to say",
    "rather not",
    "prefer not",
    "yes and no",
)
_REFUSALS = (*_UNSURE, "skip", "next question", "pass", "none of your business", "no answer")
_REPEATS = (
    "repeat",
    "say that again",
    "say it again",
    "come again",
    "pardon",
    "what did you say",
    "what was the question",
    "what was that",
    "didn't hear",
    "did not hear",
    "didn't catch",
    "did not catch",
    "didn't understand",
    "did not understand",
)
_YES = (
    "yes",
    "yeah",
    "yep",
    "yup",
    "yea",
    "sure",
    "of course",
    "absolutely",
    "definitely",
    "certainly",
    "exactly",
    "indeed",
    "affirmative",
    "go ahead",
    "please do",
    "sounds good",
    "sounds right",
    "that works",
    "that's it",
    "that's right",
    "that is right",
    "that's correct",
    "that is correct",
    "i do",
    "i did",
    "i am",
    "i have",
    "i would",
    "i think so",
    "i guess so",
    "i believe so",
    "no problem",
    "why not",
)
_WEAK_YES = ("right", "correct", "fine", "ok", "okay", "perfect", "good", "great", "true", "mhm")
"""Words that mean yes by themselves, and something else within a sentence."""
_NO = (
    "no",
    "nope",
    "nah",
    "never",
    "negative",
    "wrong",
    "incorrect",
    "not",
    "don't",
    "didn't",
    "doesn't",
    "isn't",
    "wasn't",
    "haven't",
    "wouldn't",
    "won't",
    "can't",
    "not really",
    "not at all",
    "not right",
    "not correct",
    "isn't right",
    "i don't think so",
    "don't think so",
)
_HARMLESS = frozenset(
    "a again ahead all and appointment do go good great i is it it's like love make much now oh "
    "please so thank thanks that that's the this to uh um very well will works would you "
    "yours i'd there just lovely".split()
)
"""Words that change nothing of a yes."""

_UNITS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
    "fifteen sixteen seventeen eighteen nineteen"
).split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
_SMALL = {word: value for value, word in enumerate(_UNITS)} | {
    word: 10 * value for value, word in enumerate(_TENS, 2)
}
_SCALES = {"hundred": 100, "thousand": 1000}
_AFTER_AND = [[word] for word in _SMALL]
_SOUNDS_LIKE = {"to": 2, "too": 2, "for": 4, "won": 1, "ate": 8, "tree": 3, "sex": 6, "none": 0}
"""What a recognizer writes for a number that was said alone."""
_TIMES = {"double": 2, "triple": 3}
_AMOUNTS = {"dozen": 12, "couple": 2}
_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth")
_CORRECTIONS = frozenset("no sorry mean actually rather wait correction".split())
_SIMILAR = 0.84
"""Ratio of `difflib.SequenceMatcher` from which two words of five letters and more are one."""


def words(text: str) -> list[str]:
    """Words of a text in lower case, without punctuation; hyphens part words."""
    plain = text.casefold().replace("\u2019", "'")
    return [word.strip("'") for word in re.findall(r"[\w']+", plain) if word.strip("'")]


def yes_no(text: str) -> bool | None:
    """Whether it is a yes or a no; None if it is neither, or both."""
    rest = words(text)
    if _has_any(rest, _UNSURE):
        return None
    weak = len(rest) <= 3 or rest[0] in _WEAK_YES
    rest, positive = _without(rest, ("no problem", "why not"))
    rest, negative = _without(rest, _NO)
    positive = positive or _has_any(rest, (*_YES, *_WEAK_YES) if weak else _YES)
    return None if positive == negative else positive


def clearly_yes(text: str, *, harmless: Sequence[str] = ()) -> bool:
    """Whether it is a yes and nothing else: no correction, no condition, no question.

    Args:
        text: what was said.
        harmless: more words that may stand beside the yes, such as "book".
    """
    if yes_no(text) is not True or "?" in text:
        return False
    rest, _ = _without(words(text), (*_YES, *_WEAK_YES))
    return all(word in _HARMLESS or word in harmless for word in rest)


def refuses(text: str) -> bool:
    """Whether somebody does not know, or does not want to say."""
    return _has_any(words(text), _REFUSALS)


def wants_repeat(text: str) -> bool:
    """Whether somebody asks to hear it again."""
    spoken = words(text)
    return _has_any(spoken, _REPEATS) or spoken in (["sorry"], ["what"], ["huh"], ["excuse", "me"])


def number(text: str) -> float | None:
    """The number in an answer, None if there is none or more than one.

    "Seven, no, eight" is eight; "seven out of ten" is seven; "about twenty" is twenty.
    """
    if refuses(text):
        return None
    plain = re.sub(r"(?<=\d),(?=\d{3}\b)", "", text.casefold())
    plain = re.sub(r"\bout of\s+(a\s+)?[\w.]+", " ", plain)
    minus = bool(re.search(r"(\bminus |\bnegative |(?<!\S)[-\u2212](?=\d))", plain))
    tokens = re.findall(r"\d+(?:\.\d+)?|[^\W\d]+(?:'[^\W\d]+)?", plain)
    found: list[float] = []
    position = last_end = 0
    while position < len(tokens):
        value, end = _number_at(tokens, position)
        if value is None:
            position += 1
            continue
        if found and _CORRECTIONS & set(tokens[last_end:position]):
            found.clear()
        found.append(value)
        position = last_end = end
    if not found and len(tokens) == 1:
        alone = _SOUNDS_LIKE.get(tokens[0])
        return None if alone is None else float(alone)
    values = set(found)
    if len(values) != 1:
        return None
    return -values.pop() if minus else values.pop()


def choices(text: str, options: Mapping[str, Sequence[str]]) -> list[str]:
    """Which options an answer names, in their order.

    Args:
        text: what was said.
        options: names, each with the phrases that stand for it.

    Returns:
        Names; more than one where the answer is ambiguous, none where it names none. Of phrases
        within one another, "good" and "very good", the longer one counts.
    """
    spoken = re.sub(r"\bnot (the |a |an )?\w+( one)?", " ", " ".join(words(text)))
    rest = spoken.split()
    phrases = sorted(
        ((words(phrase), name) for name, phrases in options.items() for phrase in phrases),
        key=lambda each: -len(each[0]),
    )
    found = set()
    for phrase, name in phrases:
        start = _find(rest, phrase)
        if start is not None:
            found.add(name)
            rest[start : start + len(phrase)] = [""]
    if not found:
        place = _place(rest, len(options))
        if place is not None:
            found.add(list(options)[place])
    return [name for name in options if name in found]


def digits(text: str) -> str:
    """All digits in a text, spoken or written: "double five, oh one, twenty" gives "550120"."""
    result, times, after_tens = "", 1, False
    for word in re.findall(r"\d+|[^\W\d]+", text.casefold()):
        if word in _TIMES:
            times = _TIMES[word]
            continue
        value = "0" if word in ("oh", "o") else str(_SMALL.get(word, word))
        if value.isdigit():
            if after_tens and word in _UNITS[1:10]:
                result = result[:-1]  # "twenty", then "one"
            result += value * times
        times, after_tens = 1, word in _TENS
    return result


def _number_at(tokens: Sequence[str], start: int) -> tuple[float | None, int]:
    """The number that begins at a token, and where it ends."""
    token = tokens[start]
    if token[0].isdigit():
        return float(token), start + 1
    if token in _AMOUNTS:
        return float(_AMOUNTS[token]), start + 1
    total, current, last, end = 0, 0, 0, start
    for end in range(start, len(tokens) + 1):
        word = tokens[end] if end < len(tokens) else ""
        value = _SMALL.get(word)
        if value is not None and (end == start or _goes_on(last, value)):
            current, last = current + value, value
        elif word in _SCALES:
            last = _SCALES[word]
            current = max(current, 1) * last
            if last == 1000:
                total, current = total + current, 0
        elif word != "and" or last < 100 or tokens[end + 1 : end + 2] not in _AFTER_AND:
            break
    return (float(total + current), end) if end > start else (None, start)


def _goes_on(last: int, value: int) -> bool:
    """Whether a word continues a number: "twenty" with "one", "hundred" with anything small."""
    return last >= 100 or (20 <= last < 100 and last % 10 == 0 and 0 < value < 10)


def _place(spoken: Sequence[str], count: int) -> int | None:
    """Which place is meant by "the second one", "number two" or "the last"."""
    places = {_ORDINALS.index(word) for word in spoken if word in _ORDINALS}
    if "last" in spoken:
        places.add(count - 1)
    if not places:
        value = number(" ".join(spoken))
        if value is not None and value == int(value):
            places.add(int(value) - 1)
    place = places.pop() if len(places) == 1 else -1
    return place if 0 <= place < count else None


def _find(spoken: Sequence[str], phrase: Sequence[str]) -> int | None:
    for start in range(len(spoken) - len(phrase) + 1):
        if all(map(_same, spoken[start : start + len(phrase)], phrase)):
            return start
    return None


def _same(heard: str, meant: str) -> bool:
    if heard == meant:
        return True
    if min(len(heard), len(meant)) < 5:
        return False
    return difflib.SequenceMatcher(None, heard, meant).ratio() >= _SIMILAR


def _has_any(spoken: Sequence[str], phrases: Sequence[str]) -> bool:
    text = f" {' '.join(spoken)} "
    return any(f" {phrase} " in text for phrase in phrases)


def _without(spoken: Sequence[str], phrases: Sequence[str]) -> tuple[list[str], bool]:
    """Take phrases out, longest first; and whether there were any."""
    text = f" {' '.join(spoken)} "
    found = False
    for phrase in sorted(phrases, key=len, reverse=True):
        while f" {phrase} " in text:
            text = text.replace(f" {phrase} ", " ")
            found = True
    return text.split(), found
