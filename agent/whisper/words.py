"""Words: from when each token is said to when each word is said. Pure functions.

The rules are Whisper's own (``whisper/timing.py``): punctuation belongs to the word beside it,
and words that last absurdly long are cut short, which alignment makes of those next to a pause.
"""

import dataclasses
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from talkpath.agent.whisper.backend import TimedText
from talkpath.agent.whisper.results import Word

__all__ = ["Alignment", "place_words"]

_OPENING = "\"'“¿([{-"
_CLOSING = "\"'.。,，!！?？:：”)]}、"  # noqa: RUF001
_SENTENCE_ENDS = ".。!！?？"  # noqa: RUF001
_MAX_MEDIAN_S = 0.7
_STAMP_SLACK_S = 0.5  # so far a word may reach over its segment's time stamps


@dataclass(frozen=True, slots=True)
class Alignment:
    """When the tokens of one text are said.

    Attributes:
        starts_s: when each token begins, and at last when the last one ends.
        probabilities: of each token.
    """

    starts_s: tuple[float, ...]
    probabilities: tuple[float, ...]


def place_words(
    segments: Sequence[TimedText],
    texts: Sequence[Sequence[tuple[str, int]]],
    alignment: Alignment,
    duration_s: float,
) -> tuple[tuple[Word, ...], ...]:
    """Give each word its time and probability.

    Args:
        segments: the text between time stamps.
        texts: the words of each segment, spaces included, and how many tokens each has.
        alignment: of the tokens of all segments, one after the other.
        duration_s: length of the audio; nothing is said after it.

    Returns:
        The words of each segment, in order, none before the one before it.
    """
    # Not from the words' own counts: they lack what a text that ends in mid-letter has left.
    ends = itertools.accumulate(len(segment.tokens) for segment in segments)
    spoken = [
        _timed(pieces, alignment, end - len(segment.tokens))
        for segment, pieces, end in zip(segments, texts, ends, strict=True)
    ]
    lengths = [word.end_s - word.start_s for words in spoken for word in words]
    usual_s = min(_MAX_MEDIAN_S, median([length for length in lengths if length > 0] or [0.0]))
    placed: list[tuple[Word, ...]] = []
    last_end_s = 0.0
    for segment, words in zip(segments, spoken, strict=True):
        merged = _merge(_cut_at_sentence_ends(words, 2 * usual_s))
        edged = _fix_edges(merged, segment, last_end_s, usual_s)
        placed.append(_in_order(edged, last_end_s, duration_s))
        last_end_s = placed[-1][-1].end_s if placed[-1] else last_end_s
    return tuple(placed)


def _timed(pieces: Sequence[tuple[str, int]], alignment: Alignment, at: int) -> list[Word]:
    words = []
    for text, count in pieces:
        probabilities = alignment.probabilities[at : at + count]
        if len(probabilities) < count or at + count >= len(alignment.starts_s):
            break  # the end of a text that stops in the middle of a letter
        mean = sum(probabilities) / len(probabilities)
        words.append(Word(alignment.starts_s[at], alignment.starts_s[at + count], text, mean))
        at += count
    return words


def _cut_at_sentence_ends(words: Sequence[Word], limit_s: float) -> list[Word]:
    """Full stops, and first words of sentences, do not fill the pause between these."""
    cut = list(words[:1])
    for before, word in itertools.pairwise(words):
        if word.end_s - word.start_s > limit_s:
            if word.text.strip() in _SENTENCE_ENDS:
                word = dataclasses.replace(word, end_s=word.start_s + limit_s)
            elif before.text.strip() in _SENTENCE_ENDS:
                word = dataclasses.replace(word, start_s=word.end_s - limit_s)
        cut.append(word)
    return cut


def _merge(words: Sequence[Word]) -> list[Word]:
    """Put punctuation to the word that it belongs to; that word's times stay."""
    opened: list[Word] = []
    for word in reversed(words):
        if opened and word.text.startswith(" ") and word.text.strip() in _OPENING:
            opened[-1] = dataclasses.replace(opened[-1], text=word.text + opened[-1].text)
        else:
            opened.append(word)
    merged: list[Word] = []
    for word in reversed(opened):
        if merged and word.text in _CLOSING:
            merged[-1] = dataclasses.replace(merged[-1], text=merged[-1].text + word.text)
        else:
            merged.append(word)
    return merged


def _fix_edges(
    words: list[Word], segment: TimedText, last_end_s: float, usual_s: float
) -> list[Word]:
    """Shorten the first words after a pause, and keep the edges near the time stamps."""
    if not words:
        return words
    limit_s = 2 * usual_s
    first = words[0]
    if first.end_s - last_end_s > 2 * limit_s and (
        first.end_s - first.start_s > limit_s
        or (len(words) > 1 and words[1].end_s - first.start_s > 2 * limit_s)
    ):
        if len(words) > 1 and words[1].end_s - words[1].start_s > limit_s:
            boundary_s = max(words[1].end_s / 2, words[1].end_s - limit_s)
            first = dataclasses.replace(first, end_s=boundary_s)
            words[1] = dataclasses.replace(words[1], start_s=boundary_s)
        first = dataclasses.replace(first, start_s=max(0.0, first.end_s - limit_s))
    if first.start_s < segment.start_s - _STAMP_SLACK_S and segment.start_s < first.end_s:
        start_s = max(0.0, min(first.end_s - usual_s, segment.start_s))
        first = dataclasses.replace(first, start_s=start_s)
    words[0] = first
    last = words[-1]
    if last.start_s < segment.end_s < last.end_s - _STAMP_SLACK_S:
        words[-1] = dataclasses.replace(last, end_s=max(last.start_s + usual_s, segment.end_s))
    return words


def _in_order(words: Sequence[Word], not_before_s: float, duration_s: float) -> tuple[Word, ...]:
    """Words without spaces, inside the audio, none of them before the one before it."""
    ordered = []
    for word in words:
        start_s = min(max(word.start_s, not_before_s), duration_s)
        end_s = min(max(word.end_s, start_s), duration_s)
        ordered.append(Word(start_s, end_s, word.text.strip(), word.probability))
        not_before_s = end_s
    return tuple(word for word in ordered if word.text)
