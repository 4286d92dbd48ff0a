"""Numbers and digits in what callers say, in words or figures. English.

A number that is denied, compared or cut in half ("not ten", "less than five", "seven and a half")
is none, and "one" is a number only where it cannot be anything else.
"""

import re
from collections.abc import Sequence

from talkpath.agent.answers import FILLERS, UNSURE, words

__all__ = ["digits", "number"]

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
_ALONE = {
    **{"to": 2, "too": 2, "for": 4, "won": 1, "ate": 8, "tree": 3, "sex": 6},
    **{"none": 0, "never": 0, "not once": 0},
}
"""What a recognizer writes for a number that was said alone, and words that are one alone."""
_TIMES = {"double": 2, "triple": 3}
_AMOUNTS = {"dozen": 12, "couple": 2, "once": 1, "twice": 2}
_BEFORE_ONE = (
    *(
        "",
        "number",
        "a",
        "about",
        "around",
        "only",
        "just",
        "maybe",
        "exactly",
        "say",
        "give",
        "think",
    ),
    *("gave", "it", "it's", "is", "was", "or", "to", "called", "came", "been", "there", "went"),
)
"""Words before a "one" that is a number; the empty one is the beginning of the clause."""
_AFTER_ONE = (
    *("", "or", "to", "time", "times", "star", "stars", "point", "points", "please"),
    *("a", "per", "this", "last"),
)
"""Words behind it; the empty one is the end of the clause."""
_CORRECTION = re.compile(
    r"\b(?:no(?! one)|sorry|i mean|actually|rather|wait|correction|make that)\b"
)
_DENIED = re.compile(r"\b(?:not|never|cannot|nor|neither|without)\b|n't\b")
_COMPARED = re.compile(
    r"\b(?:less|more|fewer|under|over|above|below|at least|at most|up to|half|quarters?|thirds?"
    r"|a bit|hold on|hang on|moment)\b"
)
_UNSURE = re.compile(rf"\b(?:{'|'.join(UNSURE)})\b")


def number(text: str) -> float | None:
    """The number in an answer, None if there is none or more than one.

    "Seven, no, eight" is eight; "seven out of ten" is seven; "about twenty" is twenty.
    """
    plain = text.casefold().replace("\u2019", "'").replace("\u2212", "-")
    plain = re.sub(r"(?<=\d),(?=\d{3}\b)", "", plain)
    plain = _UNSURE.sub(",", re.sub(r"\bmore or less\b", "about", plain))
    plain = re.sub(r"(?<=\d)\s*/\s*\d+\b", ",", plain)
    plain = re.sub(r"\bout of\s+(?:a\s+)?[\w.]+", "outof,", plain)
    alone = " ".join(word for word in words(plain) if word not in FILLERS)
    if alone in _ALONE:
        return float(_ALONE[alone])
    if _COMPARED.search(plain):
        return None
    found: set[float] = set()
    corrects = False
    for clause in re.split(r"[,:.](?!\d)|[;!?]|\bbut\b", _CORRECTION.sub(r"; \g<0>", plain)):
        corrects = corrects or bool(_CORRECTION.match(clause.strip()))
        values = set() if _DENIED.search(clause) else _numbers(clause)
        if values and corrects:
            found.clear()
            corrects = False
        found |= values
    return found.pop() if len(found) == 1 else None


def digits(text: str) -> str:
    """All digits in a text, spoken or written: "double five, oh one, twenty" gives "550120"."""
    result, times, after_tens = "", 1, False
    for word in re.findall(r"[0-9]+|[^\W\d]+", text.casefold()):
        if word in _TIMES:
            times = _TIMES[word]
            continue
        value = "0" if word in ("oh", "o") else str(_SMALL.get(word, word))
        if value.isdigit() and value.isascii():
            if after_tens and word in _UNITS[1:10]:
                result = result[:-1]  # "twenty", then "one"
            result += value * times
        times, after_tens = 1, word in _TENS
    return result


def _numbers(clause: str) -> set[float]:
    """All numbers in a clause, from words and figures."""
    tokens = re.findall(r"-?\d+(?:\.\d+)?[a-z]*|[^\W\d]+(?:'[^\W\d]+)?", clause)
    tokens = [token for token in tokens if token not in FILLERS]
    found = set()
    position = 0
    while position < len(tokens):
        value, end = _number_at(tokens, position)
        if value is None:
            position += 1
            continue
        before, after = tokens[position - 1] if position else "", [*tokens, ""][end]
        if tokens[position:end] not in (["one"], ["once"]) or _is_one(before, after):
            found.add(-value if before in ("minus", "negative") else value)
        position = end
    return found


def _is_one(before: str, after: str) -> bool:
    """Whether "one" or "once" is a number between these words of its clause, "" for its ends."""
    return after == "outof" or (before in _BEFORE_ONE and after in _AFTER_ONE)


def _number_at(tokens: Sequence[str], start: int) -> tuple[float | None, int]:
    """The number that begins at a token, and where it ends."""
    token = tokens[start]
    if re.fullmatch(r"-?\d+(\.\d+)?x?", token):
        return float(token.rstrip("x")), start + 1
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
