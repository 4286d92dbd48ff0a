"""Guard: decoders that went round in circles are told from speakers who repeat themselves."""

import pytest

from talkpath.agent.whisper.guard import compression_ratio, is_loop, is_too_fast

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


@pytest.mark.parametrize(
    ("text", "duration_s"),
    [
        ("", 0.0),
        ("Yes.", 0.1),
        ("Okay, thank you.", 0.4),
        ("the quick brown fox jumps over the lazy dog", 1.5),  # 6 words a second
        ("Donaudampfschifffahrtsgesellschaft", 1.5),
        ("I don't think it's what he'd've said, isn't it?", 1.3),
        ("1, 2, 3, 4, 5, 6, 7, 8, 9, 10", 2.0),
        ("私は毎日日本語を勉強します", 1.2),
    ],
)
def test_fast_speakers_pass(text: str, duration_s: float) -> None:
    assert not is_too_fast(text, duration_s)


@pytest.mark.parametrize(
    ("text", "duration_s"),
    [
        ("Thank you for watching, and see you in the next video.", 0.5),
        ("I do not know if it is so or if it is not", 1.0),  # short words
        ("Donaudampfschifffahrtsgesellschaftskapitänsmütze", 0.8),  # one long word
        ("ご視聴ありがとうございました", 0.2),
    ],
)
def test_nobody_speaks_so_fast(text: str, duration_s: float) -> None:
    assert is_too_fast(text, duration_s)
