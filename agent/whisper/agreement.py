"""Agreement: which words of a growing hypothesis have settled.

LocalAgreement-2 (Liu, Niehues, Polák: https://arxiv.org/abs/2307.14743): the prefix on which
two consecutive hypotheses agree is stable. A stable word is never taken back; when a later
hypothesis disagrees with it, only what follows is taken from that hypothesis.
"""

from difflib import SequenceMatcher

__all__ = ["Agreement"]


def _key(word: str) -> str:
    """A word without case and punctuation, which change as a sentence goes on."""
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
            text: words with spaces between them. Languages without spaces are taken letter
                by letter.

        Returns:
            The stable words and the rest. The stable words start with those of the last call.
        """
        spaced = " " in text or len(text) < 12
        separator = " " if spaced else ""
        words = text.split() if spaced else list(text)
        rest = words[self._end_of_stable(words) :]
        agreed = 0
        for mine, theirs in zip(rest, self._previous, strict=False):
            if _key(mine) != _key(theirs):
                break
            agreed += 1
        self._stable += rest[:agreed]
        self._previous = rest[agreed:]
        return separator.join(self._stable), separator.join(self._previous)

    def _end_of_stable(self, words: list[str]) -> int:
        """Where in the hypothesis the stable words end."""
        stable = [_key(word) for word in self._stable]
        keys = [_key(word) for word in words]
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
