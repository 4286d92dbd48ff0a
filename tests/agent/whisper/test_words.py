"""Words: times of tokens become times of words, and none of them lasts absurdly long."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from talkpath.agent.whisper.backend import TimedText
from talkpath.agent.whisper.results import Word
from talkpath.agent.whisper.words import Alignment, place_words

Piece = tuple[str, float]  # text, and when it begins


def place(
    *segments: tuple[float, float, list[Piece]], end_s: float, duration_s: float = 30.0
) -> list[list[tuple[str, float, float]]]:
    """Place words of one token each."""
    pieces = [piece for _, _, parts in segments for piece in parts]
    alignment = Alignment((*(start_s for _, start_s in pieces), end_s), tuple(0.5 for _ in pieces))
    placed = place_words(
        [TimedText(start_s, stop_s, "") for start_s, stop_s, _ in segments],
        [[(text, 1) for text, _ in parts] for _, _, parts in segments],
        alignment,
        duration_s,
    )
    return [
        [(word.text, round(word.start_s, 2), round(word.end_s, 2)) for word in words]
        for words in placed
    ]


def test_each_word_lasts_until_the_next_one() -> None:
    assert place((0, 1, [(" one", 0.0), (" two", 0.4), (" three", 0.7)]), end_s=1.0) == [
        [("one", 0.0, 0.4), ("two", 0.4, 0.7), ("three", 0.7, 1.0)]
    ]


def test_a_word_of_several_tokens_has_their_mean_probability() -> None:
    alignment = Alignment((0.0, 0.2, 0.4, 0.6), (0.9, 0.5, 0.1))
    texts = [[(" hello", 2), (" you", 1)]]
    ((hello, you),) = place_words([TimedText(0, 0.6, "")], texts, alignment, 1.0)
    assert replace(hello, probability=0.0) == Word(0.0, 0.4, "hello", 0.0)
    assert replace(you, probability=0.0) == Word(0.4, 0.6, "you", 0.0)
    assert hello.probability == pytest.approx(0.7)
    assert you.probability == pytest.approx(0.1)


def test_a_word_whose_tokens_were_not_all_placed_is_left_out() -> None:
    alignment = Alignment((0.0, 0.2, 0.4), (0.9, 0.5))
    ((hello,),) = place_words(
        [TimedText(0, 0.6, "")], [[(" hello", 1), (" you", 2)]], alignment, 1.0
    )
    assert (hello.text, hello.start_s, hello.end_s) == ("hello", 0.0, 0.2)


def test_punctuation_belongs_to_the_word_beside_it() -> None:
    parts = [(' "', 0.0), ("one", 0.0), (",", 0.5), (" two", 0.5), (".", 1.0), ('"', 1.0)]
    assert place((0, 1, parts), end_s=1.0) == [[('"one,', 0.0, 0.5), ('two."', 0.5, 1.0)]]


def test_a_pause_between_sentences_belongs_to_no_word() -> None:
    words = [(" a", 0.0), (" b", 0.2), (".", 0.4), (" c", 3.4), (" d", 3.6), (" e", 3.8)]
    assert place((0, 4, words), end_s=4.0)[0][:3] == [
        ("a", 0.0, 0.2),
        ("b.", 0.2, 0.4),
        ("c", 3.4, 3.6),
    ]
    words = [(" a", 0.0), (" b", 0.2), (".", 0.4), (" c", 0.6), (" d", 3.6), (" e", 3.8)]
    assert place((0, 4, words), end_s=4.0)[0][2] == ("c", 3.2, 3.6)


def test_the_first_word_does_not_begin_in_the_silence_before_it() -> None:
    words = [(" a", 0.0), (" b", 5.0), (" c", 5.2), (" d", 5.4)]
    assert place((0, 6, words), end_s=5.6)[0][0] == ("a", 4.6, 5.0)


def test_the_second_word_shares_a_pause_with_the_first() -> None:
    words = [(" a", 0.0), (" b", 1.0), (" c", 5.0), (" d", 5.2), (" e", 5.4), (" f", 5.6)]
    found = place((0, 6, words), end_s=5.8)[0]
    assert found[:3] == [("a", 4.2, 4.6), ("b", 4.6, 5.0), ("c", 5.0, 5.2)]


def test_time_stamps_hold_words_that_reach_far_over_them() -> None:
    early = [(" a", 0.0), (" b", 1.0), (" c", 2.0)]
    assert place((0.8, 3, early), end_s=3.0)[0][0] == ("a", 0.3, 1.0)
    late = [(" a", 0.0), (" b", 0.3), (" c", 0.6)]
    assert place((0, 0.9, late), end_s=5.0)[0][-1] == ("c", 0.6, 0.9)


def test_segments_keep_their_words_apart() -> None:
    one, two = [(" a", 0.0), (" b", 0.3)], [(" c", 0.6), (" d", 0.9)]
    found = place((0, 0.6, one), (0.6, 1.2, two), (1.2, 1.2, []), end_s=1.2)
    assert [[word[0] for word in words] for words in found] == [["a", "b"], ["c", "d"], []]


def test_a_word_of_spaces_is_none() -> None:
    assert place((0, 1, [(" a", 0.0), (" ", 0.5)]), end_s=1.0) == [[("a", 0.0, 0.5)]]


@given(st.lists(st.lists(st.floats(0, 2), max_size=6), min_size=1, max_size=4), st.floats(0, 12))
def test_words_are_in_order_inside_the_audio(lengths: list[list[float]], duration_s: float) -> None:
    at_s, segments = 0.0, []
    for part in lengths:
        start_s, pieces = at_s, []
        for length_s in part:
            pieces.append((" w" if length_s < 1.5 else ".", at_s))
            at_s += length_s
        segments.append((start_s, at_s, pieces))
    found = [
        word for words in place(*segments, end_s=at_s, duration_s=duration_s) for word in words
    ]
    times = [time_s for _, start_s, end_s in found for time_s in (start_s, end_s)]
    assert times == sorted(times)
    assert all(0 <= time_s <= duration_s + 0.01 for time_s in times)
