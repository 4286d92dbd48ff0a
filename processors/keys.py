"""Keys of a telephone: some that do something by themselves, and numbers; and what to say again.

Frames in: ``InputDTMFFrame``. Frames out: everything, and for each number that was keyed in a
``TranscriptionFrame``, ``DTMF: 12345``, as a language model reads it. ``KeyPad`` stands before the
turns, ``LastWords`` before the voice and behind ``thinking()``.

Pipecat's ``DTMFAggregator`` was not enough where keys are also a menu: it takes each key for the
beginning of a number.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from pipecat.frames.frames import (
    AggregatedTextFrame,
    Frame,
    InputDTMFFrame,
    LLMFullResponseStartFrame,
    TranscriptionFrame,
    TTSSpeakFrame,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.utils.time import time_now_iso8601

__all__ = ["KeyPad", "LastWords"]

_LATE_S = 3.0
"""So long after a number was taken for complete, its terminator may still come."""

_LONGEST = 32  # more digits are no number; a handset that hangs sends them for ever


class KeyPad(FrameProcessor):
    """Runs the action of a key that is pressed alone, and gathers all others into numbers.

    A key of the menu acts at once, unless it comes in the middle of a number. The terminator of a
    number that was complete by then, because its caller was slow, does nothing. A key silences
    the bot.

    Args:
        menu: actions by key.
        timeout_s: seconds without a further key after which a number is complete.
        terminator: key that completes a number; it is no part of it.
    """

    def __init__(
        self,
        menu: Mapping[str, Callable[[], Awaitable[None]]] | None = None,
        *,
        timeout_s: float = 2.0,
        terminator: str = "#",
    ) -> None:
        super().__init__()
        self._menu = dict(menu or {})
        self._timeout_s = timeout_s
        self._terminator = terminator
        self._number = ""
        self._timer: asyncio.Task[None] | None = None
        self._late_until_s = 0.0

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Forward the frame; then act if it was a key."""
        await super().process_frame(frame, direction)
        await self.push_frame(frame, direction)
        if isinstance(frame, InputDTMFFrame):
            await self._pressed(frame.button.value)

    async def cleanup(self) -> None:
        """Wait for no further key."""
        await self._stop()
        await super().cleanup()  # type: ignore[no-untyped-call]

    async def _pressed(self, key: str) -> None:
        await self._stop()
        late = asyncio.get_running_loop().time() < self._late_until_s
        self._late_until_s = 0.0
        if late and key == self._terminator:
            return
        if not self._number:
            await self.broadcast_interruption()  # type: ignore[no-untyped-call]
            if key in self._menu:
                await self._menu[key]()
                return
        if key == self._terminator:
            await self._complete()
            return
        self._number += key
        if len(self._number) >= _LONGEST:
            await self._complete_early()
            return
        self._timer = self.create_task(self._wait())

    async def _wait(self) -> None:
        await asyncio.sleep(self._timeout_s)
        self._timer = None
        await self._complete_early()

    async def _stop(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            await self.cancel_task(timer)

    async def _complete_early(self) -> None:
        self._late_until_s = asyncio.get_running_loop().time() + _LATE_S
        await self._complete()

    async def _complete(self) -> None:
        number, self._number = self._number, ""
        if number:
            text = f"DTMF: {number}"
            await self.push_frame(TranscriptionFrame(text, "", time_now_iso8601(), finalized=True))


class LastWords(FrameProcessor):
    """Knows what the bot said last, or was about to say when it was interrupted.

    Attributes:
        text: the reply or sentence; empty before the first one.
    """

    def __init__(self) -> None:
        super().__init__()
        self.text = ""
        self._begins = False

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Note the words, and forward the frame."""
        await super().process_frame(frame, direction)
        if isinstance(frame, TTSSpeakFrame):
            self.text = frame.text
        elif isinstance(frame, LLMFullResponseStartFrame):
            self._begins = True
        elif isinstance(frame, AggregatedTextFrame):
            self.text = frame.text if self._begins else f"{self.text} {frame.text}"
            self._begins = False
        await self.push_frame(frame, direction)
