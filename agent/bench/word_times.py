"""Word times against another recogniser's: how far apart the same words begin.

The two texts differ here and there; the longest runs of words that both have are lined up, and
only these count. Case and punctuation do not.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from talkpath.agent.whisper.results import Word

__all__ = ["WordTimes", "compare_word_times"]


@dataclass(frozen=True, slots=True)
class WordTimes:
    """How far apart two sides' words begin.

    Attributes:
        matched: words that both sides have.
        mean_s: mean absolute difference of their starts in seconds; NaN without any word.
        p95_s: 95 % of them are no further apart than this; NaN likewise.
    """

    matched: int
    mean_s: float
    p95_s: float


def compare_word_times(
    ours: Mapping[str, Sequence[Word]], theirs: Mapping[str, Sequence[Word]]
) -> WordTimes:
    """Compare the words of each clip that both sides have.

    Args:
        ours: words in order by clip, in seconds from the clip's start.
        theirs: the same of the other side.
    """
    errors = sorted(
        error for clip in ours.keys() & theirs.keys() for error in _errors(ours[clip], theirs[clip])
    )
    if not errors:
        return WordTimes(0, math.nan, math.nan)
    p95_s = errors[math.ceil(0.95 * len(errors)) - 1]
    return WordTimes(len(errors), math.fsum(errors) / len(errors), p95_s)


def _errors(ours: Sequence[Word], theirs: Sequence[Word]) -> list[float]:
    matcher = SequenceMatcher(
        a=[_key(word.text) for word in ours],
        b=[_key(word.text) for word in theirs],
        autojunk=False,
    )
    return [
        abs(ours[block.a + index].start_s - theirs[block.b + index].start_s)
        for block in matcher.get_matching_blocks()
        for index in range(block.size)
    ]


def _key(text: str) -> str:
    return "".join(letter for letter in text.casefold() if letter.isalnum())
