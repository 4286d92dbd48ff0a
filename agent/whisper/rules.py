"""Rules: which token may come next. Whisper's own, for decoding with time stamps.

As in ``openai/whisper`` (``decoding.py``: ``SuppressTokens``, ``ApplyTimestampRules``), for all
positions of a draft at once. Its rule against an empty beginning is not needed: an answer begins
with a time stamp, and text follows it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

__all__ = ["TokenRules"]

_NEVER = float("-inf")


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRules:
    """The special tokens of a model, and what may follow what.

    Attributes:
        end_of_text: the token that ends an answer; all below it are text.
        timestamp_begin: the token of 0.00 s; all from there on are time stamps.
        suppressed: mask ``[vocabulary]``, minus infinity where a token may never come.
        max_initial: latest first time stamp, in steps of 0.02 s (Whisper's 1.0 s).
    """

    end_of_text: int
    timestamp_begin: int
    suppressed: torch.Tensor
    max_initial: int = 50

    def apply(self, logits: torch.Tensor, tokens: Sequence[int], first: int) -> None:
        """Take the forbidden tokens out.

        Args:
            logits: float32, ``[n, vocabulary]``, changed in place; row ``i`` is about the token
                that follows ``tokens[: first + i]``.
            tokens: the answer so far and the draft behind it, without the prompt.
            first: length of the answer that the first row continues.
        """
        logits += self.suppressed
        begin = self.timestamp_begin
        for row in range(len(logits)):
            self._apply_order(logits[row], tokens[: first + row])
        # Where all time stamps together are likelier than the likeliest word, one comes.
        stamps = torch.logsumexp(logits[:, begin:], dim=1)
        words = logits[:, :begin].amax(dim=1)
        for row in torch.nonzero(stamps > words).flatten().tolist():
            logits[row, :begin] = _NEVER

    def _apply_order(self, row: torch.Tensor, tokens: Sequence[int]) -> None:
        begin = self.timestamp_begin
        if not tokens:
            row[:begin] = _NEVER
            row[begin + self.max_initial + 1 :] = _NEVER
            return
        last = next((token for token in reversed(tokens) if token >= begin), begin)
        if tokens[-1] < begin:
            row[begin : last + 1] = _NEVER  # a segment has a length
            return
        opening = len(tokens) < 2 or tokens[-2] >= begin
        if opening:
            row[begin:] = _NEVER
            return
        row[: self.end_of_text] = _NEVER  # after an end stamp: the next start, or the end
        row[begin:last] = _NEVER  # time does not run backwards
