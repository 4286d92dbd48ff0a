"""Patterns in which ``*`` stands for anything, and numbers as people write them."""

import re

__all__ = ["matches", "plain_number"]

_NUMBER = re.compile(r"\+?[0-9*#]+")
_SEPARATORS = str.maketrans("", "", "-.() ")


def matches(pattern: str, text: str) -> bool:
    """Whether all of a text fits; the time is in proportion to the product of the lengths.

    ``*`` has its meaning in the pattern only: in the text it is a key of a telephone.
    """
    first, *rest = pattern.split("*")
    if not rest:
        return text == pattern
    *middle, last = rest
    if not text.startswith(first) or len(text) < len(first) + len(last):
        return False
    at, end = len(first), len(text) - len(last)
    for part in middle:
        found = text.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return text.endswith(last)


def plain_number(text: str) -> str:
    """A telephone number without what only eyes need (RFC 3966, 5.1.1); other text as it is."""
    number = text.translate(_SEPARATORS)
    return number if _NUMBER.fullmatch(number) else text
