"""Words of a language model without its thoughts, as they come.

Reasoning models write what they think between ``<think>`` and ``</think>``, before the answer.
Servers that know the model keep it apart; others send it along.
"""

__all__ = ["WithoutThoughts"]

_BEGIN, _END = "<think>", "</think>"


class WithoutThoughts:
    """Takes a text piece by piece; a mark may be spread over several."""

    def __init__(self) -> None:
        self._rest = ""
        self._is_thinking = False

    def take(self, piece: str) -> str:
        """Take a piece and give what is to be said by now."""
        text, said = self._rest + piece, ""
        while True:
            mark = _END if self._is_thinking else _BEGIN
            before, found, after = text.partition(mark)
            if not found:
                break
            said += "" if self._is_thinking else before
            text, self._is_thinking = after, not self._is_thinking
        kept = _begun(text, mark)
        self._rest = text[len(text) - kept :]
        return said if self._is_thinking else said + text[: len(text) - kept]

    def end(self) -> str:
        """Give what looked like the beginning of a mark and was none."""
        rest, self._rest = self._rest, ""
        return "" if self._is_thinking else rest


def _begun(text: str, mark: str) -> int:
    """How many characters at the end of a text may be the beginning of a mark."""
    most = min(len(text), len(mark) - 1)
    return next((n for n in range(most, 0, -1) if mark.startswith(text[-n:])), 0)
