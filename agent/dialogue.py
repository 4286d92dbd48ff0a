"""What a bot without a language model says next: steps of a dialogue, without any input or output.

A dialogue is told what the caller said or pressed, and answers with a `Step`.
"""

from dataclasses import dataclass
from typing import Protocol

__all__ = ["Dialogue", "Step"]


@dataclass(frozen=True, slots=True)
class Step:
    """The bot's next move.

    Attributes:
        say: words to be spoken; empty for none.
        ends: whether the call ends behind them.
        target: where the caller is sent behind them; empty for nowhere.
    """

    say: str = ""
    ends: bool = False
    target: str = ""


class Dialogue(Protocol):
    """One call."""

    def start(self) -> Step:
        """The caller is there."""

    def heard(self, text: str) -> Step:
        """The caller has said this, in one turn."""

    def pressed(self, key: str) -> Step:
        """The caller has pressed one of 0 to 9, ``*`` or ``#``."""

    def silent(self) -> str:
        """The caller says nothing: what to say, or to ask again."""
