"""Tokens: prompts as Whisper was trained on, and answers cut at their time stamps."""

import functools

import pytest
from tokenizers import Tokenizer

from talkpath.agent.models import ModelStore
from talkpath.agent.whisper.tokens import WhisperTokens


@functools.cache
def raw(model: str) -> Tokenizer:
    return Tokenizer.from_file(str(ModelStore().pull(model) / "tokenizer.json"))


@functools.cache
def tokens(model: str) -> WhisperTokens:
    return WhisperTokens(raw(model), multilingual=not model.endswith(".en"))


def names(model: str, ids: list[int]) -> list[str | None]:
    return [raw(model).id_to_token(number) for number in ids]


def test_a_multilingual_prompt_names_language_and_task() -> None:
    prompt = tokens("base").prompt("de", "translate")
    assert names("base", prompt) == ["<|startoftranscript|>", "<|de|>", "<|translate|>"]
    prompt = tokens("base").prompt("haw", "transcribe")
    assert names("base", prompt) == ["<|startoftranscript|>", "<|haw|>", "<|transcribe|>"]


def test_an_english_models_prompt_is_the_start_alone() -> None:
    prompt = tokens("tiny.en").prompt("en", "transcribe")
    assert names("tiny.en", prompt) == ["<|startoftranscript|>"]


@pytest.mark.parametrize("model", ["base", "tiny.en"])
def test_what_was_said_before_stands_before_the_start(model: str) -> None:
    context = tokens(model).encode("hello there")
    prompt = tokens(model).prompt("en", "transcribe", context)
    assert names(model, prompt)[:4] == [
        "<|startofprev|>",
        "\u0120hello",
        "\u0120there",
        "<|startoftranscript|>",
    ]


def test_no_text_has_no_tokens() -> None:
    assert tokens("base").encode("") == tokens("base").encode(" \n ") == ()


def answer(*parts: float | str) -> list[int]:
    """Numbers are time stamps in seconds, strings are text."""
    known = tokens("base")
    ids: list[int] = []
    for part in parts:
        if isinstance(part, str):
            ids += known.encode(part)
        else:
            ids.append(known.timestamp_begin + round(part / 0.02))
    return ids


def cut(duration_s: float, *parts: float | str) -> list[tuple[float, float, str]]:
    found = tokens("base").segments(answer(*parts), duration_s)
    return [(round(item.start_s, 2), round(item.end_s, 2), item.text) for item in found]


def test_text_is_cut_at_the_time_stamps() -> None:
    assert cut(10.0, 0.5, "one two", 2.0, 2.4, "three", 5.0) == [
        (0.5, 2.0, "one two"),
        (2.4, 5.0, "three"),
    ]


def test_nothing_counts_behind_the_end_of_the_audio() -> None:
    assert cut(3.0, 0.0, "one", 2.6, 2.6, "you", 4.0) == [(0.0, 2.6, "one")]
    assert cut(3.0, 0.0, "one", 2.0, 3.2, "you", 4.0) == [(0.0, 2.0, "one")]


def test_text_without_an_end_stamp_lasts_until_the_audio_ends() -> None:
    assert cut(3.0, 0.2, "one two") == [(0.2, 3.0, "one two")]
    assert cut(3.0, 3.4, "one two") == [(3.0, 3.0, "one two")]


def test_an_answer_without_words_has_no_segments() -> None:
    assert cut(3.0, 0.0, 1.0) == []
    assert tokens("base").segments([tokens("base").end_of_text], 3.0) == ()


def test_a_segment_knows_its_tokens() -> None:
    (segment,) = tokens("base").segments(answer(0.0, "one two", 2.8), 3.0)
    assert segment.tokens == tokens("base").encode("one two")


@pytest.mark.parametrize("model", ["base", "tiny.en"])
def test_a_text_cannot_name_whispers_own_tokens(model: str) -> None:
    text = "<|startoftranscript|><|endoftext|> hello <|nospeech|><|translate|>"
    assert tokens(model).encode(text)
    assert max(tokens(model).encode(text)) < tokens(model).end_of_text


def split(text: str, language: str) -> list[str]:
    known = tokens("base")
    ids = known.encode(text)
    words = known.words(ids, language)
    assert sum(count for _, count in words) == len(ids)
    assert "".join(word for word, _ in words) == " " + text
    return [word for word, _ in words]


def test_tokens_make_words_with_punctuation_apart() -> None:
    assert split("Well, he wasn't ill-disposed.", "en") == [
        " Well",
        ",",
        " he",
        " wasn't",
        " ill-disposed",
        ".",
    ]


def test_numbers_stay_whole() -> None:
    assert split("about 3.5 or 1,000", "en") == [" about", " 3.5", " or", " 1,000"]


def test_a_script_without_spaces_is_cut_by_its_letters() -> None:
    words = split("\u6211\u4eec\u53bb\u5317\u4eac", "zh")
    assert len(words) > 2
    assert all(word.strip() for word in words)


def test_no_language_is_known_that_came_later() -> None:
    assert tokens("base").knows("haw")
    assert not tokens("base").knows("yue")


@pytest.mark.parametrize("duration_s", [0.0, 0.3, 0.5, 1.0, 2.99, 28.0])
def test_the_stamp_that_ends_the_audio_is_the_first_one_that_cuts_the_text(
    duration_s: float,
) -> None:
    known = tokens("base")
    last = known.last_stamp(duration_s)

    def rest(stamp: int) -> int:
        ids = [known.timestamp_begin, *known.encode("one"), stamp, stamp, *known.encode("you")]
        return len(known.segments(ids, duration_s))

    assert rest(last) == 1
    if last > known.timestamp_begin:
        assert rest(last - 1) == 2
