"""The words before: what the decoder is told of them, and when it took them for speech."""

import pytest

from talkpath.agent.whisper.turn import Turn, misled

SHORT = 16_000


def test_the_utterance_before_is_told_between_stamps_and_without_its_full_stop() -> None:
    turn = Turn(30)
    assert turn.before(1, SHORT) == ""
    turn.heard(1, "Well.")
    turn.heard(2, "I think so.")
    turn.heard(3, "of this one")
    assert turn.before(3, SHORT) == "<|0.00|> I think so<|0.90|>"
    turn.heard(2, "")
    assert turn.before(3, SHORT) == "<|0.00|> Well<|0.30|>"
    turn.clear()
    assert turn.before(3, SHORT) == ""


def test_long_audio_and_a_limit_of_no_words_get_no_context() -> None:
    turn = Turn(30)
    turn.heard(1, "I think so")
    assert turn.before(2, 4 * SHORT) == ""
    none = Turn(0)
    none.heard(1, "I think so")
    assert none.before(2, SHORT) == ""


def test_the_last_words_are_told_where_there_are_many() -> None:
    turn = Turn(30)
    turn.heard(1, " ".join(str(number) for number in range(100)))
    assert turn.before(2, SHORT).startswith("<|0.00|> 70 71")
    turn.heard(1, " ".join(["letters" * 4] * 20))
    assert turn.before(2, SHORT).count("letters" * 4) == 6
    turn.heard(1, "?!")
    assert turn.before(2, SHORT) == ""


def test_only_the_last_utterances_are_remembered() -> None:
    turn = Turn(30)
    for number in range(1, 100):
        turn.heard(number, f"number {number}")
    assert turn.before(100, SHORT) == "<|0.00|> number 99<|0.60|>"
    assert turn.before(96, SHORT) == ""


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a more amiable woman he might",
        "Amiable woman, he",
        "It is so. It is so.",
        "Come quickly. Come quickly.",
        "Well, it is of the first importance. It is of the first importance.",
    ],
)
def test_a_context_that_misled_the_decoder_is_noticed(text: str) -> None:
    assert misled(text, "<|0.00|> had he married a more amiable woman he<|2.40|>")
    assert not misled(text, "")


@pytest.mark.parametrize("text", ["he might", "no no", "a more respectable man", "five five two"])
def test_other_words_are_the_speakers(text: str) -> None:
    assert not misled(text, "<|0.00|> had he married a more amiable woman he<|2.40|>")
