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
    for text in ("Yes, of course.", "It costs 25,000.", "It works."):
        assert await speak(FirstPhrase(), text, 1) == [text]


@pytest.mark.parametrize("size", [1, 4, 200])
@pytest.mark.parametrize(
    ("text", "spoken"),
    [
        ("The capital of France is Paris.", ["The capital of France", "is Paris."]),
        ("I'm sorry to hear that you are ill.", ["I'm sorry to hear", "that you are ill."]),
        (
            "Supercalifragilistic words everywhere around everybody here sound long. Yes.",
            ["Supercalifragilistic words everywhere around", "everybody here sound long.", "Yes."],
        ),
        ("It is what it is.", ["It is what it is."]),
    ],
)
async def test_a_first_sentence_without_a_comma_is_cut_where_one_could_breathe(
    text: str, spoken: list[str], size: int
) -> None:
    assert await speak(FirstPhrase(), text, size) == spoken


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
