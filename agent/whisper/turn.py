"""Turn: what the speaker said before, for the decoder to go on from.

A short pause cuts a sentence in two, and a piece of a sentence is harder to understand than
all of it. Measured with ``base`` int8 on the reference clips (utterances cut at pauses of
0.2 s; wrong words without and with what was said before): sentences of one reader with pauses
of 0.3 to 0.8 s between them 21 and 15 of 596, digits 11 and 10 of 60, names of cards 7 and 6
of 19, single clips 14 and 15 of 414. It has to be in this form:

- between time stamps, as in the model's training; without them it says short sentences twice
  (76 wrong of 596);
- without the full stop, or each piece begins as a sentence of its own;
- one utterance, for pieces under four seconds: more of the turn is worse (28 of 596), and
  longer pieces gain nothing;
- decoded again without it where it seems to have misled the model.
"""

import re

from talkpath.agent.audio import SAMPLE_RATE_HZ
from talkpath.agent.whisper.agreement import join_texts, split_words, word_key

__all__ = ["Turn", "misled"]

_MAX_LETTERS = 200  # about 50 tokens: Whisper's prompt holds 223
_REMEMBERED = 4  # utterances
_LONGEST_S = 4.0
_WORD_S = 0.3  # for the stamp at the end, where nobody knows the true one
_MARKS = " .,;:!?\u2026\u3002\u3001\uff01\uff1f"
_STAMP = re.compile(r"<\|[\d.]+\|>")
_TELLING_WORDS = 3  # so many words tell a repetition


class Turn:
    """The words of the utterances of one turn, each as far as it is known.

    Args:
        max_words: most words that ``before`` gives; 0 for none.
    """

    def __init__(self, max_words: int) -> None:
        self._max_words = max_words
        self._texts: dict[int, str] = {}

    def clear(self) -> None:
        """The turn is over."""
        self._texts = {}

    def heard(self, utterance: int, text: str) -> None:
        """An utterance says this, as far as is known by now."""
        self._texts[utterance] = text
        while len(self._texts) > _REMEMBERED:
            del self._texts[min(self._texts)]

    def before(self, utterance: int, samples: int) -> str:
        """What to tell the decoder that was said before so many samples of an utterance.

        Returns:
            The last words of the utterance before, between Whisper's time stamps; or nothing.
        """
        if not self._max_words or samples >= _LONGEST_S * SAMPLE_RATE_HZ:
            return ""
        numbers = [number for number, text in self._texts.items() if number < utterance and text]
        words = split_words(self._texts[max(numbers)]) if numbers else []
        words = words[-self._max_words :]
        while sum(len(word) + 1 for word in words) > _MAX_LETTERS:
            words = words[1:]
        text = join_texts(words).strip(_MARKS)
        return f"<|0.00|> {text}<|{min(len(words) * _WORD_S, 28.0):.2f}|>" if text else ""


def misled(text: str, context: str) -> bool:
    """Whether a context seems to have misled the decoder.

    It does in three ways: nothing is heard; the words before are said again; or the words are
    there twice. Without a context, nothing is wrong.
    """
    if not context:
        return False
    said = [word_key(word) for word in split_words(_STAMP.sub(" ", context))]
    words = [word_key(word) for word in split_words(text)]
    begins = words[:_TELLING_WORDS]
    half = len(words) // 2
    return (
        not words
        or (
            len(begins) == _TELLING_WORDS
            and any(said[at : at + _TELLING_WORDS] == begins for at in range(len(said)))
        )
        or (half > 1 and words[:half] == words[half:])
        or any(
            words[-size:] == words[-2 * size : -size] for size in range(_TELLING_WORDS, half + 1)
        )
    )
