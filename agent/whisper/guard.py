"""Guard: does a text look like a decoder that went round in circles, or made it up?"""

import re
import zlib

from talkpath.agent.whisper.agreement import split_words

__all__ = ["compression_ratio", "is_loop", "is_too_fast"]

_MAX_COMPRESSION_RATIO = 2.4  # Whisper's own threshold for its fallback
_MIN_REPEATS = 4
_MAX_PERIOD = 8
# Conversation has 2 to 4 words a second, fast readers 5 to 6 and about 20 letters.
_MAX_WORDS_PER_S = 8
_MAX_LETTERS_PER_S = 25
_CUT_OFF_S = 0.3  # so much of a short answer may lie outside the audio that was cut out
_MARKS = re.compile(r"[\W_]+")
_APOSTROPHES = re.compile("['\u2019]")  # "don't" is one word


def compression_ratio(text: str) -> float:
    """UTF-8 bytes over zlib-compressed bytes; repetition compresses well. 0.0 for no text."""
    data = text.encode()
    return len(data) / len(zlib.compress(data)) if data else 0.0


def is_loop(text: str) -> bool:
    """Whether the text repeats itself as no speaker does.

    Either its compression ratio is over 2.4, or it ends in the same one to eight words said
    four times or more, which shorter texts than zlib needs can show. A run of single short
    words ("no no no no", digits) counts only from eight on. What a hyphen or another mark
    joins counts as words of its own: decoders also get stuck in "y-y-y-y".
    """
    if compression_ratio(text) > _MAX_COMPRESSION_RATIO:
        return True
    words = _MARKS.sub(" ", " ".join(split_words(text.lower()))).split()
    for period in range(1, _MAX_PERIOD + 1):
        repeats = 1
        while (
            len(words) >= period * (repeats + 1)
            and words[-period * (repeats + 1) : len(words) - period * repeats] == words[-period:]
        ):
            repeats += 1
        if repeats >= (2 * _MIN_REPEATS if period == 1 else _MIN_REPEATS):
            return True
    return False


def is_too_fast(text: str, duration_s: float) -> bool:
    """Whether nobody can say so much in so short a time.

    Whisper knows whole phrases that often stand under silence and noise, and gives them
    however short the sound is. More than 8 words or 25 letters a second are not spoken.

    Args:
        text: what is said to be in the audio.
        duration_s: length of the audio, not of the speech in it.
    """
    seconds = duration_s + _CUT_OFF_S
    letters = sum(letter.isalpha() for letter in text)
    # A script without spaces is counted by its letters alone. What marks join is said one by
    # one, too: under coughs it writes "1.0.1.1.1.1.1.".
    words = len(_MARKS.sub(" ", _APOSTROPHES.sub("", text)).split())
    return words > _MAX_WORDS_PER_S * seconds or letters > _MAX_LETTERS_PER_S * seconds
