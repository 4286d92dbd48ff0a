"""What Smart Turn listens to: the last seconds of a turn, and the silence after it."""

import asyncio
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from talkpath.agent.audio import SAMPLE_RATE_HZ, FloatArray

if TYPE_CHECKING:
    from talkpath.agent.smart_turn import SmartTurn

__all__ = ["TurnAudio"]

_HEARD_S = 8.0  # as much as Smart Turn listens to
_BEFORE_S = 0.5  # of audio before the speech, as in its training (Pipecat's ``pre_speech_ms``)
_PAUSE_S = 0.2  # the silence after which it was trained to decide (Pipecat's ``stop_secs``)

# Of their own: the event loop's usual ones may all be reading recordings. The model computes on
# one processor.
_THREADS = ThreadPoolExecutor(max_workers=2, thread_name_prefix="smart turn")


class TurnAudio:
    """The audio of one caller's turn. It keeps 8 s, the last ones, whatever comes.

    Args:
        model: the caller's analyser.
    """

    def __init__(self, model: "SmartTurn") -> None:
        self._model = model
        self._blocks: deque[FloatArray] = deque()
        self._samples = 0

    @property
    def seconds(self) -> float:
        """How much there is."""
        return self._samples / SAMPLE_RATE_HZ

    def append(self, audio: FloatArray) -> None:
        """Take the next samples, float32 ``[n]``, 16 kHz."""
        self._blocks.append(audio)
        self._samples += len(audio)
        self._keep(_HEARD_S)

    def speech_started(self, ago_s: float) -> None:
        """A turn begins with speech so many seconds ago; what came long before is not part."""
        self._keep(ago_s + _BEFORE_S)

    def clear(self) -> None:
        """Forget all."""
        self._blocks.clear()
        self._samples = 0

    async def completeness(self, silence_s: float) -> float:
        """How finished it sounds, 0 to 1.

        Args:
            silence_s: seconds of silence at its end; what is missing of the 0.2 s that the
                model expects is made up for.
        """
        missing = max(round((_PAUSE_S - silence_s) * SAMPLE_RATE_HZ), 0)
        audio = np.concatenate([*self._blocks, np.zeros(missing, np.float32)])
        heard = audio[-round(_HEARD_S * SAMPLE_RATE_HZ) :]
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(_THREADS, self._model.completeness, heard)

    def _keep(self, seconds: float) -> None:
        most = round(seconds * SAMPLE_RATE_HZ)
        while self._blocks and self._samples - len(self._blocks[0]) >= most:
            self._samples -= len(self._blocks.popleft())
