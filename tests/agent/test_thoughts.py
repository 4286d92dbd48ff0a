"""What a reasoning model thinks is not said, however its words come in pieces."""

import pytest

from talkpath.agent.thoughts import WithoutThoughts


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("We are open.", "We are open."),
        ("<think>\nThe user wants <b>times</b>.\n</think>\n\nAt nine.", "\n\nAt nine."),
        ("Well. <think>Hm.</think>At nine.<think>Done</think>", "Well. At nine."),
        ("<think>No end", ""),
        ("2 < 3 and <thin", "2 < 3 and <thin"),
        ("<<think>a<</think>b", "<b"),
    ],
)
def test_thoughts_are_left_out_and_nothing_else(text: str, said: str) -> None:
    for size in range(1, len(text) + 1):
        words = WithoutThoughts()
        pieces = [text[at : at + size] for at in range(0, len(text), size)]
        assert "".join([*map(words.take, pieces), words.end()]) == said
