"""Word times of two sides are compared on the words that both have."""

import math

import pytest

from talkpath.agent.bench.word_times import compare_word_times
from talkpath.agent.whisper.results import Word


def words(text: str, *starts_s: float) -> list[Word]:
    return [
        Word(start_s, start_s + 0.1, word, 1.0)
        for word, start_s in zip(text.split(), starts_s, strict=True)
    ]


def test_the_same_words_are_compared_whatever_stands_between_them() -> None:
    ours = {"a": words("One, two four", 0.0, 1.0, 2.0), "b": words("five", 0.5)}
    theirs = {"a": words("one um two three Four.", 0.1, 0.5, 1.0, 1.5, 2.3), "b": words("5", 0.0)}
    found = compare_word_times(ours, theirs)
    assert found.matched == 3
    assert found.mean_s == pytest.approx((0.1 + 0.0 + 0.3) / 3)
    assert found.p95_s == pytest.approx(0.3)


def test_one_word_in_twenty_may_lie_beyond_the_95th_percentile() -> None:
    text = " ".join(f"w{index}" for index in range(20))
    ours = {"a": words(text, *range(20))}
    theirs = {"a": words(text, *range(19), 29.0)}
    assert compare_word_times(ours, theirs).p95_s == 0.0


def test_clips_of_one_side_do_not_count_and_no_words_have_no_mean() -> None:
    found = compare_word_times({"a": words("one", 0.0)}, {"b": words("one", 3.0)})
    assert found.matched == 0
    assert math.isnan(found.mean_s)
    assert math.isnan(found.p95_s)
