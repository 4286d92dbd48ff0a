"""Context: what the model is told was said before, as tokens. Pure functions."""

from collections.abc import Callable

__all__ = ["MAX_CONTEXT", "context_tokens"]

MAX_CONTEXT = 223
"""Most tokens before the start token: half of Whisper's 448 positions, as it was trained."""

_STEP = 8
# More text than 223 tokens ever are, at 18 letters each: a client may send megabytes, and of a
# million letters the tokens take half a second, before every decode.
_MOST_LETTERS = 4096


def context_tokens(
    tokenize: Callable[[str], tuple[int, ...]], *, hotwords: str, prompt: str, context: str
) -> tuple[int, ...]:
    """Put hotwords, prompt and the words before together.

    Where a backend cannot mix them, requests share a batch only with contexts of one length.
    The length of hotwords and prompt
    is the same for all streams with the same settings; that of the words before is rounded
    down to a multiple of eight tokens, at the cost of the oldest.

    Args:
        tokenize: tokens of a text.
        hotwords: what to expect; what does not fit goes from the end.
        prompt: what stands for the beginning of the speech; the oldest of it goes first.
        context: what was said just before; it goes after the prompt does. A time stamp that
            it begins with (``<|0.00|>``) stays.

    Returns:
        At most 223 tokens.
    """
    fixed = tokenize(hotwords[:_MOST_LETTERS])[:MAX_CONTEXT]
    room = MAX_CONTEXT - len(fixed)
    newest = tokenize(context)
    if len(newest) > _STEP:
        kept = 1 if context.startswith("<|") else 0  # a time stamp
        newest = newest[:kept] + newest[kept + len(newest) % _STEP :]
    newest = _last(newest, room)
    return fixed + _last(tokenize(prompt[-_MOST_LETTERS:]), room - len(newest)) + newest


def _last(tokens: tuple[int, ...], count: int) -> tuple[int, ...]:
    return tokens[len(tokens) - count :] if count < len(tokens) else tokens
