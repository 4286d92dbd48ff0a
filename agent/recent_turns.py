"""Recent turns: what of a long conversation goes to a language model with little room."""

import itertools
import json
from collections.abc import Sequence
from typing import Any

__all__ = ["RecentTurns", "token_estimate"]

_CHARACTERS_PER_TOKEN = 3
"""English has four or more."""
_TOKENS_PER_MESSAGE = 8
_SHARE_KEPT = 4
"""A cut leaves one part of so many."""


class RecentTurns:
    """Leaves out the oldest turns, never the system message or the newest turn.

    A turn begins with the user's message, so a tool's call and its result stay together.
    The server reads again all that follows a cut, while the caller waits: so a cut goes down
    to a quarter of the room, and stays where it is until the conversation is full again.
    SmolLM2 135M takes 6 ms of one core a token: 3.4 s for half of its 2048, 1.7 s for a quarter.

    Args:
        budget: tokens that the server has for the conversation; None leaves out nothing.
    """

    def __init__(self, budget: int | None) -> None:
        self._budget = budget
        self._forgotten = 0

    def of(self, messages: Sequence[Any], *, beside: int = 0) -> list[Any]:
        """Give the messages that fit, oldest first.

        Args:
            messages: all of them.
            beside: tokens that go along with them, such as the tools' descriptions.
        """
        if self._budget is None:
            return list(messages)
        heads = list(itertools.takewhile(lambda message: message["role"] == "system", messages))
        rest = messages[len(heads) :]
        starts = [number for number, message in enumerate(rest) if message["role"] == "user"]
        if self._forgotten not in starts:  # also when another context is given
            self._forgotten = 0
        fixed = beside + sum(map(token_estimate, heads))
        sizes = [token_estimate(message) for message in rest]
        room = self._budget - fixed
        if sum(sizes[self._forgotten :]) > room:
            for start in starts:
                self._forgotten = max(self._forgotten, start)
                if sum(sizes[self._forgotten :]) <= room // _SHARE_KEPT:
                    break
        return [*heads, *rest[self._forgotten :]]


def token_estimate(message: Any) -> int:
    """Estimate a message's length in tokens, rather too high than too low."""
    text = json.dumps(message, ensure_ascii=False, default=str)
    # Tokens are bytes at worst, and for other scripts than Latin they may be.
    ascii_characters = sum(map(str.isascii, text))
    others = len(text.encode(errors="replace")) - ascii_characters
    return _TOKENS_PER_MESSAGE + ascii_characters // _CHARACTERS_PER_TOKEN + others
