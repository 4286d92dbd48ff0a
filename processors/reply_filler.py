"""Words while the caller waits: for a model's first word, or for a tool."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

__all__ = ["Filler", "ReplyFiller"]

_WORDS_S = 3.0
"""How long the words before a call keep the caller busy: about a sentence."""


@dataclass(frozen=True, slots=True)
class Filler:
    """What is said while a tool runs.

    Attributes:
        text: the words; empty says nothing.
        after_s: seconds that the tool has first; None means those of the settings, 0 says nothing.
    """

    text: str
    after_s: float | None = None


class ReplyFiller:
    """Says one filler at most for each wait, and none once there is something better.

    Args:
        say: speaks a text.
        default: for a tool that has no filler of its own.
        tools: fillers by the tools' names.
    """

    def __init__(
        self,
        say: Callable[[str], Awaitable[None]],
        default: Filler,
        tools: Mapping[str, Filler | str] | None = None,
    ) -> None:
        self._say = say
        self._default = default
        self._tools = {
            name: Filler(filler) if isinstance(filler, str) else filler
            for name, filler in (tools or {}).items()
        }
        self._running: set[str] = set()
        self._task: asyncio.Task[None] | None = None

    def tool_started(self, call: str, name: str, *, has_spoken: bool) -> None:
        """A tool runs. Of several at once, the first one's filler is said.

        Args:
            call: tells this call from others.
            name: the tool's.
            has_spoken: whether the reply had words before the call.
        """
        self._running.add(call)
        filler = self._tools.get(name, self._default)
        after_s = self._default.after_s if filler.after_s is None else filler.after_s
        if filler.text and after_s:
            self.wait(filler.text, after_s + (_WORDS_S if has_spoken else 0.0))

    def tool_ended(self, call: str) -> None:
        """A tool is through, or was cancelled."""
        self._running.discard(call)
        if not self._running:
            self.stop()

    def wait(self, text: str, after_s: float) -> None:
        """Say a text after a time, unless something is to be said already."""
        if self._task is None:
            self._task = asyncio.create_task(self._fill(text, after_s), name="reply filler")

    def stop(self) -> None:
        """The wait is over."""
        self._running.clear()
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _fill(self, text: str, after_s: float) -> None:
        await asyncio.sleep(after_s)
        await self._say(text)
