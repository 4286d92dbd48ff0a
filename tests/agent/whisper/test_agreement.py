"""Agreement: a word that was called stable stays."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from talkpath.agent.whisper.agreement import Agreement, Flicker, join_texts


def run(*hypotheses: str) -> list[tuple[str, str]]:
    agreement = Agreement()
    return [agreement.update(text) for text in hypotheses]


def test_nothing_is_stable_at_first() -> None:
    agreement = Agreement()
    assert not agreement.begun
    assert agreement.update("to be or") == ("", "to be or")
    assert agreement.begun


def test_the_prefix_that_two_hypotheses_share_is_stable() -> None:
    assert run("to be or", "to be or not", "to be or not two", "to be or not to be") == [
        ("", "to be or"),
        ("to be or", "not"),
        ("to be or not", "two"),
        ("to be or not", "to be"),
    ]


def test_two_in_a_row_are_needed_not_any_two() -> None:
    assert run("a cat", "the cat", "a cat", "a cat sat") == [
        ("", "a cat"),
        ("", "the cat"),
        ("", "a cat"),
        ("a cat", "sat"),
    ]


def test_case_and_punctuation_do_not_count_and_stay_as_first_seen() -> None:
    assert run("Well, it", "well it is", "Well! It is so")[-1] == ("well it is", "so")


def test_the_full_stop_at_the_end_of_the_audio_does_not_settle() -> None:
    assert run("it is.", "It is.", "It is so.")[1:] == [("It is", ""), ("It is", "so.")]


def test_a_full_stop_where_the_audio_ends_is_not_the_sentences() -> None:
    heard = run("so it is.", "so it is.", "so it is good.", "so it is good. Well", "so it is good.")
    assert heard[1] == ("so it is", "")
    assert heard[3] == ("so it is good.", "Well")
    assert run("好。", "好。")[-1] == ("好。", "")  # a letter of its own


def test_a_dash_is_a_word_of_its_own() -> None:
    assert run("yes - no", "yes no", "yes no") == [("", "yes - no"), ("yes", "no"), ("yes no", "")]


def test_a_later_change_of_mind_does_not_take_a_stable_word_back() -> None:
    heard = run("four queen", "four queen of", "for queen of clubs", "for queen of clubs and")
    assert heard[1] == ("four queen", "of")
    assert heard[2] == ("four queen of", "clubs")
    assert heard[3] == ("four queen of clubs", "and")


def test_a_stable_word_that_the_hypothesis_dropped_does_not_shift_the_others() -> None:
    heard = run("well I think so", "well I think so", "I think so too", "I think so too my friend")
    assert heard[2] == ("well I think so", "too")
    assert heard[3] == ("well I think so too", "my friend")


def test_a_word_that_came_in_the_middle_does_not_shift_the_others() -> None:
    heard = run("I think so", "I think so", "I do think so too", "I do think so too my")
    assert heard[2] == ("I think so", "too")
    assert heard[3] == ("I think so too", "my")


def test_a_shorter_hypothesis_has_no_rest() -> None:
    assert run("one two three", "one two three", "one")[-1] == ("one two three", "")
    assert run("one two", "one two", "")[-1] == ("one two", "")


def test_a_hypothesis_without_a_common_word_goes_on_behind_the_stable_ones() -> None:
    assert run("one two", "one two", "eins zwei drei")[-1] == ("one two", "drei")


@pytest.mark.parametrize(
    "text",
    [
        "今日はいい天気ですね散歩に行きましょう",
        "我们今天去北京看朋友",
        "สวัสดีครับวันนี้อากาศดีมาก",
        "我用Python写程序",
    ],
)
def test_scripts_without_spaces_settle_letter_by_letter(text: str) -> None:
    agreement = Agreement()
    stable, rest = "", ""
    for end in range(1, len(text) + 1):
        before = stable
        stable, rest = agreement.update(text[:end])
        assert stable.startswith(before)
        assert join_texts([stable, rest]) == text[:end]
    assert agreement.update(text) == (text, "")


def test_two_segments_of_a_script_without_spaces_are_one_text() -> None:
    heard = run("今日は", "今日は いい天気", "今日は いい天気 ですね")
    assert heard[1:] == [("今日は", "いい天気"), ("今日はいい天気", "ですね")]


@pytest.mark.parametrize(
    ("texts", "joined"),
    [
        ([], ""),
        (["", "a"], "a"),
        (["a", ""], "a"),
        (["to be", "or not"], "to be or not"),
        (["今日は", "いい"], "今日はいい"),
        (["안녕", "하세요"], "안녕 하세요"),
    ],
)
def test_texts_are_joined_as_their_script_wants(texts: list[str], joined: str) -> None:
    assert join_texts(texts) == joined


words = st.sampled_from(["a", "A,", "b", "c.", "no", "-", "今", "日", "は", "ok今"])
texts = st.lists(words, max_size=12).map(" ".join)


@given(st.lists(texts, max_size=12))
@settings(deadline=None)
def test_the_stable_words_only_grow(hypotheses: list[str]) -> None:
    agreement = Agreement()
    stable = ""
    for text in hypotheses:
        before = stable
        stable, rest = agreement.update(text)
        assert stable.startswith(before)
        assert join_texts([before, stable[len(before) :].strip()]) == stable
        # What the rest holds was said in this hypothesis, at its end.
        assert "".join(text.split()).endswith("".join(rest.split()))


@given(st.lists(st.lists(st.sampled_from("abc"), max_size=8), max_size=8))
@settings(deadline=None)
def test_as_long_as_stable_words_hold_it_is_local_agreement_2(
    hypotheses: list[list[str]],
) -> None:
    agreement = Agreement()
    stable: list[str] = []
    previous: list[str] = []
    for hypothesis in hypotheses:
        if hypothesis[: len(stable)] != stable:
            return
        common = 0
        while previous[common : common + 1] == hypothesis[common : common + 1] != []:
            common += 1
        stable = hypothesis[: max(common, len(stable))]
        assert agreement.update(" ".join(hypothesis)) == (
            " ".join(stable),
            " ".join(hypothesis[len(stable) :]),
        )
        previous = hypothesis


def test_a_word_that_the_next_partial_replaces_flickers() -> None:
    flicker = Flicker()
    changes = [
        flicker.update(1, "", "for queen"),
        flicker.update(1, "", "four queen of"),
        flicker.update(1, "four queen", "of clubs"),
        flicker.update(1, "Four queen of", "clubs."),
        flicker.update(1, "four queen of", ""),
        flicker.update(2, "", "seven"),
    ]
    assert changes == [0, 2, 0, 0, 1, 0]
    assert (flicker.shown, flicker.changed, flicker.retracted) == (17, 3, 0)
    assert flicker.rate == pytest.approx(3 / 17)


def test_a_stable_word_that_is_taken_back_counts_as_a_retraction() -> None:
    flicker = Flicker()
    assert flicker.rate == 0.0
    flicker.update(1, "to be or", "not")
    flicker.update(1, "to be", "or not")
    assert (flicker.changed, flicker.retracted) == (0, 1)


@given(st.lists(texts, max_size=12))
@settings(deadline=None)
def test_the_partials_of_an_agreement_are_never_retracted(hypotheses: list[str]) -> None:
    agreement, flicker = Agreement(), Flicker()
    for text in hypotheses:
        flicker.update(1, *agreement.update(text))
    assert flicker.retracted == 0
    assert 0 <= flicker.changed <= flicker.shown
