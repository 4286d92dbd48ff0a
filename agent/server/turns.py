"""Semantic turns: a pause ends what sounds complete, and a long wait ends anything."""

import asyncio
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from talkpath.agent.audio import FloatArray
from talkpath.agent.speech import (
    WINDOW_S,
    EarlyPause,
    SpeechEvent,
    SpeechResumed,
    SpeechStarted,
    SpeechStopped,
)

if TYPE_CHECKING:
    from talkpath.agent.smart_turn import SmartTurn

__all__ = ["SemanticTurns"]

_HEARD_S = 8.0  # as much as Smart Turn listens to
_BEFORE_S = 0.5  # of audio before the speech, as in its training (Pipecat's ``pre_speech_ms``)
_PAUSE_S = 0.2  # the silence after which it was trained to decide (Pipecat's ``stop_secs``)


# Of their own: the event loop's usual ones may all be reading recordings. The model computes on
# one processor.
_THREADS = ThreadPoolExecutor(max_workers=2, thread_name_prefix="smart turn")


class SemanticTurns:
    """Asks Smart Turn once in each pause of one stream.

    Args:
        model: the stream's analyser.
        threshold: how likely the speaker must be to have finished, 0 to 1.
    """

    def __init__(self, model: "SmartTurn", threshold: float) -> None:
        self.threshold = threshold
        self._model = model
        self._windows: deque[FloatArray] = deque(maxlen=round(_HEARD_S / WINDOW_S))
        self._silence = 0  # windows, 0 outside a pause
        self._asked = False  # in this pause

    def restart(self) -> None:
        """Forget the speech so far, which has ended without a pause."""
        self._windows.clear()
        self._silence = 0

    async def complete(self, window: FloatArray, events: Sequence[SpeechEvent]) -> bool:
        """Take the next window and the events in it; tell whether the speaker has finished.

        Args:
            window: float32 ``[512]``, 16 kHz.
            events: what voice activity made of it.
        """
        self._windows.append(window)
        self._silence += self._silence > 0
        for event in events:
            self._follow(event)
        if self._asked or self._silence < round(_PAUSE_S / WINDOW_S):
            return False
        self._asked = True
        audio = np.concatenate(self._windows)
        likely = asyncio.get_running_loop().run_in_executor(
            _THREADS, self._model.completeness, audio
        )
        return await likely > self.threshold

    def _follow(self, event: SpeechEvent) -> None:
        match event:
            case SpeechStarted(ago_s):
                self._keep(ago_s + _BEFORE_S)
            case EarlyPause(silence_s):
                self._silence = round(silence_s / WINDOW_S)
                self._asked = False
            case SpeechResumed() | SpeechStopped():
                self._silence = 0

    def _keep(self, seconds: float) -> None:
        while len(self._windows) > round(seconds / WINDOW_S):
            self._windows.popleft()
