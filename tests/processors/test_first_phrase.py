"""What is spoken first of a reply that comes letter by letter or at once."""

import pytest

from talkpath.processors.first_phrase import FirstPhrase

REPLY = "Well, as far as I know, it rains today. Tomorrow, as I said, the sun shines. Yes"
SPOKEN = [
    "Well, as far as I know,",
    "it rains today.",
    "Tomorrow, as I said, the sun shines.",
    "Yes",
]


async def speak(phrases: FirstPhrase, text: str, size: int) -> list[str]:
    pieces = [text[start : start + size] for start in range(0, len(text), size)]
    spoken = []
    for piece in pieces:
        spoken += [part.text async for part in phrases.aggregate(piece)]
    rest = await phrases.flush()
    return spoken + ([rest.text] if rest else [])


@pytest.mark.parametrize("size", [1, 3, 7, 100])
async def test_only_the_first_sentence_is_cut(size: int) -> None:
    phrases = FirstPhrase()
    for _ in range(2):
        assert await speak(phrases, REPLY, size) == SPOKEN


async def test_a_short_beginning_or_a_number_is_not_cut() -> None:
    for text in ("Yes, of course.", "There are about 25,000 of them here.", "It works."):
        assert await speak(FirstPhrase(), text, 1) == [text]


async def test_an_interruption_begins_anew() -> None:
    phrases = FirstPhrase()
    for forget in (phrases.handle_interruption, phrases.reset):
        assert [part.text async for part in phrases.aggregate("As I just told you, it")] == [
            "As I just told you,"
        ]
        assert phrases.text.text == "it"
        await forget()
        assert phrases.text.text == ""
        assert await speak(phrases, REPLY, 1) == SPOKEN
