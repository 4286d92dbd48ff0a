"""Silero voice activity detection: one model for the process, one small state a stream."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from talkpath.agent.audio import SAMPLE_RATE_HZ, FloatArray
from talkpath.agent.errors import AudioError, MissingDependency
from talkpath.agent.speech.batch import WindowBatcher
from talkpath.agent.speech.network import SileroNetwork

__all__ = ["WINDOW_S", "WINDOW_SAMPLES", "SileroState", "SileroVad", "windows_of"]

WINDOW_SAMPLES = 512
"""Samples that the model takes at once, at 16 kHz."""

WINDOW_S = WINDOW_SAMPLES / SAMPLE_RATE_HZ

_CONTEXT_SAMPLES = 64
_STATE_SHAPE = (2, 128)
_LARGEST_BATCH = 64  # about 1.2 ms


class SileroState:
    """What the model remembers of one stream: its recurrent state and the last 4 ms."""

    __slots__ = ("context", "recurrent")

    def __init__(self) -> None:
        self.recurrent: FloatArray = np.zeros(_STATE_SHAPE, dtype=np.float32)
        self.context: FloatArray = np.zeros(_CONTEXT_SAMPLES, dtype=np.float32)

    def reset(self) -> None:
        """Forget the stream so far."""
        self.recurrent = np.zeros(_STATE_SHAPE, dtype=np.float32)
        self.context = np.zeros(_CONTEXT_SAMPLES, dtype=np.float32)


class SileroVad:
    """The model, shared by all streams; it holds no state of theirs.

    Chosen by measurement (see ``network``): at 8 streams a batch 28 microseconds a window, where
    onnxruntime takes 61 and torch 77; alone 71, 112 and 310. A thread of its own would cost
    more than it saves.

    Raises:
        MissingDependency: silero-vad, which brings the weights, is not installed.
        ModelError: it is another version than we know.
    """

    def __init__(self) -> None:
        self._network = SileroNetwork(_model_path())
        self._batcher = WindowBatcher(self.advance, _LARGEST_BATCH)

    async def probability(self, window: FloatArray, state: SileroState) -> float:
        """Advance one stream by one window, together with those of the loop's other streams.

        A stream waits for its window before it brings the next.

        Args:
            window: float32, shape ``[512]``, 16 kHz.
            state: the stream's, changed in place.

        Raises:
            AudioError: the window has another length.
            ModelError: the model failed; the state is as before.
        """
        if window.shape != (WINDOW_SAMPLES,):
            raise AudioError(f"a window has {WINDOW_SAMPLES} samples, not {window.shape}")
        return await self._batcher.probability(window, state)

    def advance(self, windows: FloatArray, states: Sequence[SileroState]) -> FloatArray:
        """Advance one window in each of several streams.

        Args:
            windows: float32, shape ``[streams, 512]``, 16 kHz.
            states: the streams' states, changed in place.

        Returns:
            Probability of speech in each window, float32, shape ``[streams]``; 0.0 for a
            window with values that are not finite, and its stream starts anew.
        """
        samples = np.empty((len(states), _CONTEXT_SAMPLES + WINDOW_SAMPLES), dtype=np.float32)
        samples[:, _CONTEXT_SAMPLES:] = windows
        finite = np.asarray(np.isfinite(windows).all(axis=1))
        samples[~finite] = 0
        recurrent = np.empty((2, len(states), 128), dtype=np.float32)
        for index, state in enumerate(states):
            samples[index, :_CONTEXT_SAMPLES] = state.context
            recurrent[:, index] = state.recurrent
        probabilities, recurrent = self._network(samples, recurrent)
        for index, state in enumerate(states):
            # Copies: a view would keep the whole batch alive for as long as the stream.
            state.recurrent = recurrent[:, index].copy()
            state.context = samples[index, -_CONTEXT_SAMPLES:].copy()
            if not finite[index]:
                state.reset()
        return np.where(finite, probabilities, np.float32(0))

    def probabilities(self, audio: FloatArray, state: SileroState | None = None) -> FloatArray:
        """Run through a stretch of one stream.

        Args:
            audio: float32, shape ``[n]``, 16 kHz; a rest shorter than a window is filled
                up with silence.
            state: where to go on from, changed in place; None starts anew.

        Returns:
            float32, shape ``[ceil(n / 512)]``.
        """
        state = state or SileroState()
        padded = np.pad(audio, (0, -len(audio) % WINDOW_SAMPLES))
        windows = padded.reshape(-1, 1, WINDOW_SAMPLES)
        return np.array([self.advance(window, [state])[0] for window in windows], dtype=np.float32)


def windows_of(seconds: float) -> int:
    """How many windows make up a time, one at least."""
    return max(1, round(seconds / WINDOW_S))


def _model_path() -> Path:
    """The model's file, found without importing its package, which would load all of torch."""
    spec = find_spec("silero_vad")
    folders = spec.submodule_search_locations if spec is not None else None
    if not folders:
        raise MissingDependency("silero-vad is not installed: pip install silero-vad")
    return Path(folders[0], "data", "silero_vad_16k_op15.onnx")
