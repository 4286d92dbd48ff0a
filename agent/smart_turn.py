"""Smart Turn: has the speaker finished, or only paused?

The model and its analyser are Pipecat's; this is the one module of the package ``agent``
that imports Pipecat. Pipecat loads the model for each session, on the event loop (60 ms and
8 MB measured); here one model serves all sessions.
"""

from typing import Any

import numpy as np
from pipecat.audio.turn.smart_turn.base_smart_turn import BaseSmartTurn
from pipecat.audio.turn.smart_turn.local_smart_turn_v3 import LocalSmartTurnAnalyzerV3

from talkpath.agent.audio import FloatArray

__all__ = ["SmartTurn", "load_smart_turn"]


def load_smart_turn() -> LocalSmartTurnAnalyzerV3:
    """Load the model that Pipecat carries. It blocks: call it in a thread."""
    return LocalSmartTurnAnalyzerV3(sample_rate=16_000)


class SmartTurn(BaseSmartTurn):
    """One session's turn analyser on the shared model.

    Args:
        model: what ``load_smart_turn`` gave; safe to use from several threads at once.
    """

    def __init__(self, model: LocalSmartTurnAnalyzerV3) -> None:
        super().__init__(sample_rate=16_000)
        self._model = model

    def completeness(self, audio: FloatArray) -> float:
        """How likely the speaker has finished, 0 to 1.

        It blocks for tens of milliseconds: call it in a thread.

        Args:
            audio: what was said and the pause after it, float32 ``[n]``, 16 kHz. The last 8 s
                count.
        """
        return float(self._predict_endpoint(audio)["probability"])

    def _predict_endpoint(self, audio_array: np.ndarray[Any, Any]) -> dict[str, Any]:
        return self._model._predict_endpoint(audio_array)
