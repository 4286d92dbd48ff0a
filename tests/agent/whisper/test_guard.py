"""Guard: decoders that went round in circles are told from speakers who repeat themselves."""

import pytest

from talkpath.agent.whisper.guard import compression_ratio, is_loop

LOOPS = [
    "Thank you. " * 12,
    "I am going to the store to buy some milk and " * 6,
    "and then we went home to see the dog and the cat play in the yard today " * 5,
    "you you you you you you you you",
    "I said so. I said so. I said so. I said so.",
    "はい" * 40,
    "そうですね" + "はい" * 4,
    "He was not an old-s-s-y-y-y-y-y-y-y-y-y",
    "and so on - and so on - and so on - and so on",
    # The circle begins behind right words.
    "And mister John Dashwood had then leisure to consider it. So it was. So it was. "
    "So it was. So it was.",
]

SPEECH = [
    "",
    "No.",
    "no no no no",
    "very very very good",
    "nine nine nine nine nine nine nine",
    "eight of spades four of clubs seven of hearts",
    "to be or not to be that is the question",
    "I said so. I said so. I said so.",
    "one-on-one, face-to-face and day-to-day",
    "call 1-800-555-5555",
    "はいはいはい",
    "...",
    "and mister john dashwood had then leisure to consider how much there might be "
    "prudently in his power to do for them",
]


@pytest.mark.parametrize("text", LOOPS)
def test_loops_are_seen(text: str) -> None:
    assert is_loop(text)


@pytest.mark.parametrize("text", SPEECH)
def test_speech_passes(text: str) -> None:
    assert not is_loop(text)


def test_case_does_not_hide_a_loop() -> None:
    assert is_loop("We are here. we are here. WE ARE HERE. We are here.")


def test_repetition_compresses_and_no_text_has_no_ratio() -> None:
    assert compression_ratio("") == 0.0
    assert compression_ratio("a few words that differ") < 1.2
    assert compression_ratio("again and again " * 20) > 10
