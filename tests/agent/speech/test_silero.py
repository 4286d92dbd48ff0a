"""Silero: streams in one batch do not know of each other."""

import numpy as np
import pytest

from talkpath.agent.audio import FloatArray
from talkpath.agent.speech import WINDOW_SAMPLES, SileroState, SileroVad
from tests.speech import clip, clips


@pytest.fixture(scope="module")
def vad() -> SileroVad:
    return SileroVad()


def _streams(count: int, windows: int) -> FloatArray:
    """Different speech in each stream, ``[streams, windows, 512]``."""
    speech = np.concatenate([item.samples() for item in clips()])
    length = windows * WINDOW_SAMPLES
    starts = np.linspace(0, len(speech) - length, count).astype(int)
    return np.stack([speech[at : at + length].reshape(windows, -1) for at in starts])


def test_a_batch_equals_one_stream_after_the_other(vad: SileroVad) -> None:
    streams = _streams(12, 40)
    states = [SileroState() for _ in streams]
    together = np.stack(
        [vad.advance(streams[:, window], states) for window in range(streams.shape[1])], axis=1
    )
    alone = np.stack([vad.probabilities(stream.ravel()) for stream in streams])
    assert together.dtype == np.float32
    assert together.shape == (12, 40)
    np.testing.assert_allclose(together, alone, atol=1e-4)
    assert together.max() > 0.9
    assert together.min() < 0.1


def test_streams_may_come_and_go_and_change_places(vad: SileroVad) -> None:
    streams = _streams(3, 30)
    alone = [vad.probabilities(stream.ravel()) for stream in streams]
    states = [SileroState() for _ in streams]
    for window in range(30):
        order = [[0, 1, 2], [2, 0, 1], [1, 2, 0]][window % 3]
        if window % 4 == 3:  # the second one has nothing to say now: it comes a little later
            order.remove(1)
        probabilities = vad.advance(streams[order, window], [states[index] for index in order])
        for index, probability in zip(order, probabilities, strict=True):
            assert abs(probability - alone[index][window]) < 1e-4
        if window % 4 == 3:
            late = vad.advance(streams[[1], window], [states[1]])
            assert abs(late[0] - alone[1][window]) < 1e-4


def test_a_rest_is_filled_up_and_an_empty_stretch_is_empty(vad: SileroVad) -> None:
    audio = clip("cards-002").samples()[: 3 * WINDOW_SAMPLES + 5]
    assert vad.probabilities(audio).shape == (4,)
    assert vad.probabilities(audio[:0]).shape == (0,)


def test_a_stretch_can_be_gone_on_from_and_forgotten(vad: SileroVad) -> None:
    audio = clip("librivox-0890").samples()[: 60 * WINDOW_SAMPLES]
    whole = vad.probabilities(audio)
    state = SileroState()
    first = vad.probabilities(audio[: 20 * WINDOW_SAMPLES], state)
    second = vad.probabilities(audio[20 * WINDOW_SAMPLES :], state)
    np.testing.assert_allclose(np.concatenate([first, second]), whole, atol=1e-5)
    state.reset()
    np.testing.assert_allclose(vad.probabilities(audio, state), whole, atol=1e-5)
