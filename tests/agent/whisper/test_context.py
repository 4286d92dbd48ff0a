"""Context: what the model is told was said before fits its room, the newest words last."""

from hypothesis import given
from hypothesis import strategies as st

from talkpath.agent.whisper.context import MAX_CONTEXT, context_tokens


def tokenize(text: str) -> tuple[int, ...]:
    """One token a word; words here are numbers."""
    return tuple(int(word) for word in text.split())


def numbers(first: int, count: int) -> str:
    return " ".join(str(number) for number in range(first, first + count))


def build(hotwords: str = "", prompt: str = "", context: str = "") -> tuple[int, ...]:
    return context_tokens(tokenize, hotwords=hotwords, prompt=prompt, context=context)


def test_hotwords_come_first_and_the_words_just_before_come_last() -> None:
    assert build("1 2", "3 4 5", "6 7") == (1, 2, 3, 4, 5, 6, 7)
    assert build() == ()


def test_a_long_context_loses_its_oldest_words_down_to_a_multiple_of_eight() -> None:
    assert build(context=numbers(0, 13)) == tuple(range(5, 13))
    assert build(prompt="100 101", context=numbers(0, 16)) == (100, 101, *range(16))
    # Rounding a short one down would leave nothing of it.
    assert build(context=numbers(0, 7)) == tuple(range(7))


def test_what_does_not_fit_goes_from_the_prompt_first_and_its_oldest_part() -> None:
    tokens = build(numbers(0, 20), numbers(1000, 300), numbers(2000, 40))
    assert tokens[:20] == tuple(range(20))
    assert tokens[-40:] == tuple(range(2000, 2040))
    assert tokens[20:-40] == tuple(range(1300 - (MAX_CONTEXT - 60), 1300))


def test_too_many_hotwords_leave_no_room_for_anything_else() -> None:
    assert build(numbers(0, 400), "1000", "2000") == tuple(range(MAX_CONTEXT))


def test_of_a_megabyte_only_what_can_fit_is_looked_at() -> None:
    seen: list[int] = []

    def count(text: str) -> tuple[int, ...]:
        seen.append(len(text))
        return tokenize(text)

    long = "12345678 " * 120_000
    tokens = context_tokens(count, hotwords="7 " * 600_000, prompt=long, context="")
    assert tokens == (7,) * MAX_CONTEXT
    assert context_tokens(count, hotwords="", prompt=long, context="") == (12345678,) * MAX_CONTEXT
    assert max(seen) < 10_000


counts = st.integers(0, 400)


@given(counts, counts, counts)
def test_it_always_fits(hot: int, prompt: int, context: int) -> None:
    tokens = build(numbers(0, hot), numbers(1000, prompt), numbers(2000, context))
    assert len(tokens) <= MAX_CONTEXT
    assert len(tokens) >= min(MAX_CONTEXT - 7, hot + prompt + context - 7)
    assert list(tokens) == sorted(tokens)
