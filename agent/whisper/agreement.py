"""Agreement: which words of a growing hypothesis have settled.

LocalAgreement-2 (Liu, Niehues, Polák: https://arxiv.org/abs/2307.14743): the prefix on which
two consecutive hypotheses agree is stable. A stable word is never taken back; when a later
hypothesis disagrees with it, only what follows is taken from that hypothesis.
"""

import re
from collections.abc import Iterable
from difflib import SequenceMatcher

__all__ = ["Agreement", "Flicker", "join_texts", "split_words", "word_key"]

# Scripts that are written without spaces between words: Thai and Lao, Myanmar, Khmer, kana
# and their punctuation, Chinese characters, full-width forms. Each letter counts as a word.
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3001-\u30ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uff00-\uffef\U00020000-\U0003ffff"
)
_WORD = re.compile(rf"[{_UNSPACED}]|[^\s{_UNSPACED}]+")
_STOPS = ".!?\u2026\u3002\uff01\uff1f"
_UNSPACED_LETTER = re.compile(rf"[{_UNSPACED}]")


def split_words(text: str) -> list[str]:
    """Cut a text into words; where the script has no spaces, each letter is one."""
    return _WORD.findall(text)


def join_texts(texts: Iterable[str]) -> str:
    """Put words or longer texts together, with a space where the script has spaces."""
    joined = ""
    for text in texts:
        unspaced = _UNSPACED_LETTER.match(joined[-1:]) or _UNSPACED_LETTER.match(text)
        joined += text if unspaced or not joined or not text else f" {text}"
    return joined


def word_key(word: str) -> str:
    """Give a word without case and punctuation, which change as a sentence goes on."""
    return "".join(letter for letter in word.casefold() if letter.isalnum()) or word


class Agreement:
    """The settled prefix of one utterance's partials."""

    def __init__(self) -> None:
        self._stable: list[str] = []
        self._previous: list[str] = []

    @property
    def begun(self) -> bool:
        """Whether there was a hypothesis already."""
        return bool(self._stable or self._previous)

    def update(self, text: str) -> tuple[str, str]:
        """Take the next hypothesis of the whole utterance.

        Args:
            text: words with spaces between them. Scripts without spaces are taken letter by
                letter.

        Returns:
            The stable words and the rest. The stable words start with those of the last call.
        """
        words = split_words(text)
        rest = words[self._end_of_stable(words) :]
        agreed = 0
        for mine, theirs in zip(rest, self._previous, strict=False):
            if word_key(mine) != word_key(theirs):
                break
            agreed += 1
        settled = rest[:agreed]
        if settled and agreed == len(rest):
            # The last word so far: its full stop comes from the end of the audio, not of the
            # sentence.
            settled[-1] = settled[-1].rstrip(_STOPS) or settled[-1]
        self._stable += settled
        self._previous = rest[agreed:]
        return join_texts(self._stable), join_texts(self._previous)

    def _end_of_stable(self, words: list[str]) -> int:
        """Where in the hypothesis the stable words end."""
        stable = [word_key(word) for word in self._stable]
        keys = [word_key(word) for word in words]
        if keys[: len(stable)] == stable:
            return len(stable)
        # The hypothesis says something else there: line the two up and go on after the
        # last stable word that both have, counting the stable words after it as said.
        blocks = SequenceMatcher(a=stable, b=keys, autojunk=False).get_matching_blocks()
        last = next((block for block in reversed(blocks) if block.size), None)
        if last is None:
            return min(len(stable), len(words))
        missing = len(stable) - (last.a + last.size)
        return min(last.b + last.size + missing, len(words))


class Flicker:
    """How restless the partials of a stream are.

    Attributes:
        shown: words that were shown, each as often as a partial showed it.
        changed: words that the next partial of the same utterance replaced or dropped. Case and
            punctuation do not count, nor do words that came after them.
        retracted: words that had been called stable and were taken back.
    """

    def __init__(self) -> None:
        self.shown = 0
        self.changed = 0
        self.retracted = 0
        self._utterance = 0
        self._stable: list[str] = []
        self._words: list[str] = []

    @property
    def rate(self) -> float:
        """Changed words by words shown."""
        return self.changed / max(self.shown, 1)

    def update(self, utterance: int, stable: str, rest: str) -> int:
        """Take the next partial; gives how many words changed that the last one showed."""
        if utterance != self._utterance:
            self._utterance, self._stable, self._words = utterance, [], []
        settled = [word_key(word) for word in split_words(stable)]
        words = settled + [word_key(word) for word in split_words(rest)]
        changed = len(self._words) - _common(self._words, words)
        self.retracted += len(self._stable) - _common(self._stable, settled)
        self.changed += changed
        self.shown += len(words)
        self._stable, self._words = settled, words
        return changed


def _common(before: list[str], after: list[str]) -> int:
    """Length of the prefix that two lists share."""
    pairs = enumerate(zip(before, after, strict=False))
    return next((at for at, (left, right) in pairs if left != right), min(len(before), len(after)))
