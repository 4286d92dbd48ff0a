"""Rules: what may follow what in an answer with time stamps."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from talkpath.agent.whisper.rules import TokenRules

END, BEGIN, STAMPS = 10, 12, 20  # ten words, the end, one other mark, twenty time stamps
SUPPRESSED = torch.zeros(BEGIN + STAMPS)
SUPPRESSED[[4, 11]] = float("-inf")
RULES = TokenRules(end_of_text=END, timestamp_begin=BEGIN, suppressed=SUPPRESSED, max_initial=5)


def allowed(*tokens: int) -> set[int]:
    """Tokens that may come next where every one is as likely as any other word."""
    logits = torch.zeros(1, BEGIN + STAMPS)
    logits[:, BEGIN:] -= 20.0
    RULES(logits, list(tokens), len(tokens))
    return set(torch.nonzero(logits[0].isfinite()).flatten().tolist())


WORDS = {0, 1, 2, 3, 5, 6, 7, 8, 9}


def test_an_answer_begins_with_a_time_stamp_of_the_first_moment() -> None:
    assert allowed() == set(range(BEGIN, BEGIN + 6))


def test_words_follow_a_first_time_stamp() -> None:
    assert allowed(BEGIN) == WORDS | {END}
    assert allowed(BEGIN, 1, BEGIN + 3, BEGIN + 3) == WORDS | {END}


def test_a_segment_has_a_length() -> None:
    assert allowed(BEGIN + 2, 1) == WORDS | {END} | set(range(BEGIN + 3, BEGIN + STAMPS))


def test_after_an_end_comes_the_next_start_or_the_end_of_all() -> None:
    assert allowed(BEGIN, 1, BEGIN + 7) == {END} | set(range(BEGIN + 7, BEGIN + STAMPS))


def test_a_time_stamp_comes_where_all_of_them_together_are_likelier_than_any_word() -> None:
    logits = torch.zeros(1, BEGIN + STAMPS)
    RULES(logits, [BEGIN, 1], 2)
    assert not logits[0, :BEGIN].isfinite().any()
    assert logits[0, BEGIN + 1 :].isfinite().all()


@given(st.integers(0, 2**32 - 1))
def test_greedy_answers_under_the_rules_are_well_formed(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    tokens: list[int] = []
    while len(tokens) < 30:
        logits = 3 * torch.randn(1, BEGIN + STAMPS, generator=generator)
        RULES(logits, tokens, len(tokens))
        if not logits.isfinite().any() or (token := int(logits.argmax())) == END:
            break
        tokens.append(token)
    assert not {4, 11} & set(tokens)
    assert not tokens or tokens[0] >= BEGIN
    stamps = [token for token in tokens if token >= BEGIN]
    assert stamps == sorted(stamps)
    kinds = "".join("t" if token >= BEGIN else "w" for token in tokens)
    assert "ttt" not in kinds


@given(st.integers(0, 2**32 - 1), st.integers(1, 6))
def test_a_draft_is_judged_as_its_tokens_would_be_one_by_one(seed: int, first: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    tokens = [BEGIN, 1, 2, BEGIN + 4, BEGIN + 4, 3, BEGIN + 9, BEGIN + 10, 5]
    logits = torch.randn(len(tokens) - first + 1, BEGIN + STAMPS, generator=generator)
    together = logits.clone()
    RULES(together, tokens, first)
    for row in range(len(logits)):
        alone = logits[row : row + 1].clone()
        RULES(alone, tokens[: first + row], first + row)
        assert torch.equal(alone[0], together[row])
