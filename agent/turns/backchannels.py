"""Backchannels: "mhm", "yeah, right": signs that somebody listens, and wants no turn."""

import re
import unicodedata

__all__ = ["is_backchannel", "word_count"]

# As Whisper writes them. What is also an answer ("yes", "no", "okay") is one only while the bot
# speaks, which is when this is asked; "no", "stop" and "wait" are none at all.
_WORDS = frozenset(
    # sounds
    "mhm mm mmm mmhmm mmhm hm hmm hmmm mhmm mmm-hmm mm-hmm uh-huh uhhuh uh huh uhuh ah aha ahah oh "
    "ooh ohh um er eh hum "
    # English
    "yeah yea yep yup yes ok okay right sure alright good great cool nice fine true exactly "
    "absolutely totally indeed really wow i see got it gotcha of course all right "
    # German
    "ja jaja genau gut stimmt klar achso ach so richtig aha okay ne "
    # French
    "oui ouais d'accord bien voilà ah bon exactement "
    # Spanish, Portuguese
    "sí si claro vale ya bueno bien sim pois tá certo é isso "
    # Italian
    "sì già certo va bene esatto capito".split()
)
_MOST_WORDS = 4


def is_backchannel(text: str) -> bool:
    """Whether these words, said while the bot speaks, only show that somebody listens.

    Args:
        text: what was said, as Whisper writes it; without any words it is none.
    """
    words = _words(text)
    return 0 < len(words) <= _MOST_WORDS and all(word in _WORDS for word in words)


def word_count(text: str) -> int:
    """Number of words; scripts without spaces count as one word for each run of letters."""
    return len(_words(text))


def _words(text: str) -> list[str]:
    folded = unicodedata.normalize("NFC", text).replace("\u2019", "'").lower()
    return re.findall(r"[^\W\d_]+(?:['-][^\W\d_]+)*|\d+", folded)
