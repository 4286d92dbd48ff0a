"""Batches of windows: what the streams of an event loop have ready together is advanced at once.

No thread: a batch costs less than handing it to one. A stream alone never waits: its window is
taken in the same turn of the event loop. Where several streams came together the last time,
the next batch begins 4 ms after that one, and what comes until then goes into it. So batches
grow with the load, when they pay, and the wait does not.

Measured with 100 paced streams on a busy machine: 4 windows a batch without this wait and 18
with it, for a fifth less processor time; with one worker thread instead 4, for 1.8 times as much.
"""

import asyncio
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from talkpath.agent.audio import FloatArray
from talkpath.agent.errors import ModelError

if TYPE_CHECKING:
    from talkpath.agent.speech.silero import SileroState

__all__ = ["WindowBatcher"]

_APART_S = 0.004  # an eighth of a window

_Advance = Callable[[FloatArray, Sequence["SileroState"]], FloatArray]


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    window: FloatArray
    state: "SileroState"
    probability: asyncio.Future[float]


class WindowBatcher:
    """Collects windows for the model and hands the probabilities back.

    Each event loop has batches of its own. Nothing is ever full here: a stream waits for its
    window before it brings the next one, so there are never more windows than streams.

    Args:
        advance: the model: windows ``[n, samples]`` and their states to probabilities ``[n]``.
        largest: windows in one call of the model; the event loop does nothing else meanwhile.
    """

    def __init__(self, advance: _Advance, largest: int) -> None:
        self._advance = advance
        self._largest = largest
        self._queues: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Queue] = (
            weakref.WeakKeyDictionary()
        )

    @property
    def waiting(self) -> int:
        """Windows that wait, of all event loops."""
        return sum(queue.waiting for queue in self._queues.values())

    async def probability(self, window: FloatArray, state: "SileroState") -> float:
        """Advance one stream by one window, together with those of other streams.

        Raises:
            ModelError: the model failed on the batch; the states are as before.
        """
        loop = asyncio.get_running_loop()
        queue = self._queues.get(loop)
        if queue is None:
            queue = self._queues[loop] = _Queue(self._advance, self._largest)
        waiting = _Waiting(window, state, loop.create_future())
        queue.add(waiting)
        return await waiting.probability


class _Queue:
    """What the streams of one event loop have brought."""

    def __init__(self, advance: _Advance, largest: int) -> None:
        self._advance = advance
        self._largest = largest
        self._waiting: list[_Waiting] = []
        self._next_s = 0.0  # on the loop's clock: not before it, when streams come together

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def add(self, waiting: _Waiting) -> None:
        loop = asyncio.get_running_loop()
        if not self._waiting:
            if loop.time() < self._next_s:
                loop.call_at(self._next_s, self._flush)
            else:
                loop.call_soon(self._flush)
        self._waiting.append(waiting)

    def _flush(self) -> None:
        loop = asyncio.get_running_loop()
        ready = self._waiting[: self._largest]
        self._waiting = self._waiting[self._largest :]
        self._next_s = loop.time() + _APART_S if len(ready) > 1 else 0.0
        if self._waiting:
            loop.call_soon(self._flush)  # after whatever else is due
        # A stream that was closed meanwhile has cancelled its future: its window is left out.
        batch = [item for item in ready if not item.probability.done()]
        if not batch:
            return
        try:
            probabilities = self._advance(
                np.stack([item.window for item in batch]), [item.state for item in batch]
            )
        except Exception as error:
            for item in batch:
                failure = ModelError(f"the voice activity model failed: {error}")
                failure.__cause__ = error
                item.probability.set_exception(failure)
            return
        for item, probability in zip(batch, probabilities.tolist(), strict=True):
            item.probability.set_result(probability)
