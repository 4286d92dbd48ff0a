"""A first phrase that comes token by token: it ends with the token that tells."""

import pytest

from talkpath.processors.first_phrase import FirstPhrase


@pytest.mark.parametrize(
    ("text", "tells", "phrase", "rest"),
    [
        ("The| capital| of| France| is| Paris.", 5, "The capital of France", "is Paris."),
        ("I'm| here| to| help| with|in| reason.", 5, "I'm here to help", "within reason."),
        ("I'm| sorry| to| say| so,| but| no.", 6, "I'm sorry to say so,", "but no."),
    ],
)
async def test_a_word_that_one_breathes_before_ends_the_phrase_at_once(
    text: str, tells: int, phrase: str, rest: str
) -> None:
    phrases = FirstPhrase()
    said = []
    for number, token in enumerate(text.split("|"), 1):
        said += [(number, part.text) async for part in phrases.aggregate(token)]
    assert said == [(tells, phrase)]
    last = await phrases.flush()
    assert last is not None and last.text == rest
