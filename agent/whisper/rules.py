"""Rules: which token may come next. Whisper's own, for decoding with time stamps.

As in ``openai/whisper`` (``decoding.py``: ``SuppressTokens``, ``ApplyTimestampRules``), for all
positions of a draft at once. Its rule against an empty beginning is not needed: an answer begins
with a time stamp, and text follows it.

In the part of Python that TorchScript compiles, as ``greedy`` calls it after every pass.
"""

import torch
from torch import Tensor, nn

__all__ = ["TokenRules"]


class TokenRules(nn.Module):
    """The special tokens of a model, and what may follow what.

    Args:
        end_of_text: the token that ends an answer; all below it are text.
        timestamp_begin: the token of 0.00 s; all from there on are time stamps.
        suppressed: mask ``[vocabulary]``, minus infinity where a token may never come.
        max_initial: latest first time stamp, in steps of 0.02 s (Whisper's 1.0 s).
    """

    def __init__(
        self, *, end_of_text: int, timestamp_begin: int, suppressed: Tensor, max_initial: int = 50
    ) -> None:
        super().__init__()
        self.end_of_text = end_of_text
        self.timestamp_begin = timestamp_begin
        self.max_initial = max_initial
        self.suppressed = suppressed

    def forward(self, logits: Tensor, tokens: list[int], first: int) -> None:
        """Take the forbidden tokens out.

        Args:
            logits: float32, ``[n, vocabulary]``, changed in place; row ``i`` is about the token
                that follows ``tokens[: first + i]``.
            tokens: the answer so far and the draft behind it, without the prompt.
            first: length of the answer that the first row continues.
        """
        logits += self.suppressed
        begin = self.timestamp_begin
        for row in range(logits.shape[0]):
            self._keep_order(logits[row], tokens[: first + row])
        # Where all time stamps together are likelier than the likeliest word, one comes.
        stamps = torch.logsumexp(logits[:, begin:], dim=1)
        words = logits[:, :begin].amax(dim=1)
        one_comes: list[bool] = (stamps > words).tolist()
        for row in range(logits.shape[0]):
            if one_comes[row]:
                logits[row, :begin] = float("-inf")

    def _keep_order(self, row: Tensor, tokens: list[int]) -> None:
        begin = self.timestamp_begin
        count = len(tokens)
        if count == 0:
            row[:begin] = float("-inf")
            row[begin + self.max_initial + 1 :] = float("-inf")
            return
        at = count - 1
        while at >= 0 and tokens[at] < begin:
            at -= 1
        last = tokens[at] if at >= 0 else begin
        if tokens[count - 1] < begin:
            row[begin : last + 1] = float("-inf")  # a segment has a length
            return
        opening = count < 2 or tokens[count - 2] >= begin
        if opening:
            row[begin:] = float("-inf")
            return
        row[: self.end_of_text] = float("-inf")  # after an end stamp: the next start, or the end
        row[begin:last] = float("-inf")  # time does not run backwards
