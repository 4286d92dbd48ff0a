"""Streams of one event loop share the model's calls and know nothing of each other."""

import asyncio
from collections.abc import Sequence

import numpy as np
import pytest

from talkpath.agent.audio import FloatArray
from talkpath.agent.errors import AudioError, ModelError
from talkpath.agent.speech import WINDOW_SAMPLES, SileroState, SileroVad
from tests.speech import clips


class Counting(SileroVad):
    """The model, and how many streams each of its calls advanced."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []
        self.failure: Exception | None = None

    def advance(self, windows: FloatArray, states: Sequence[SileroState]) -> FloatArray:
        self.sizes.append(len(states))
        if self.failure is not None:
            raise self.failure
        return super().advance(windows, states)


@pytest.fixture(scope="module")
def model() -> Counting:
    return Counting()


@pytest.fixture
def vad(model: Counting) -> Counting:
    model.sizes, model.failure = [], None
    return model


def streams(count: int, windows: int) -> FloatArray:
    """Different speech in each stream, ``[streams, windows, 512]``."""
    speech = np.concatenate([item.samples() for item in clips()])
    length = windows * WINDOW_SAMPLES
    starts = np.linspace(0, len(speech) - length, count).astype(int)
    return np.stack([speech[at : at + length].reshape(windows, -1) for at in starts])


async def follow(vad: SileroVad, windows: FloatArray, state: SileroState) -> list[float]:
    return [await vad.probability(window, state) for window in windows]


def alone(vad: SileroVad, audio: FloatArray) -> FloatArray:
    return np.stack([vad.probabilities(stream.ravel()) for stream in audio])


async def test_streams_at_once_share_calls_and_hear_what_each_hears_alone(vad: Counting) -> None:
    audio = streams(20, 30)
    together = await asyncio.gather(*(follow(vad, stream, SileroState()) for stream in audio))
    assert vad.sizes == [20] * 30
    np.testing.assert_allclose(np.array(together), alone(vad, audio), atol=1e-4)


async def test_streams_out_of_step_meet_after_the_first_that_came_together(vad: Counting) -> None:
    """Streams that are ready a moment later join the next batch instead of going one by one."""
    audio = streams(8, 20)

    async def late(index: int) -> list[float]:
        for _ in range(index // 2):  # pairs, each some turns of the loop after the other
            await asyncio.sleep(0)
        return await follow(vad, audio[index], SileroState())

    together = await asyncio.gather(*map(late, range(8)))
    assert sum(vad.sizes) == 160
    assert len(vad.sizes) < 160 / 4
    np.testing.assert_allclose(np.array(together), alone(vad, audio), atol=1e-4)


async def test_a_stream_alone_waits_for_no_clock(vad: Counting) -> None:
    """Its windows are through before the loop has gone round so often that a timer could fire."""
    turns = 0
    going = asyncio.create_task(follow(vad, streams(1, 50)[0], SileroState()))
    while not going.done():
        await asyncio.sleep(0)
        turns += 1
    assert vad.sizes == [1] * 50
    assert turns <= 3 * 50 + 3


async def test_a_large_batch_is_cut_and_others_get_their_turn_in_between(vad: Counting) -> None:
    audio = streams(200, 1)
    seen: list[int] = []

    async def watch() -> None:
        while len(vad.sizes) < 4:
            seen.append(len(vad.sizes))
            await asyncio.sleep(0)

    await asyncio.gather(*(vad.probability(stream[0], SileroState()) for stream in audio), watch())
    assert vad.sizes == [64, 64, 64, 8]
    assert {1, 2, 3} <= set(seen)


async def test_two_event_loops_at_once_do_not_take_each_others_windows(vad: Counting) -> None:
    audio = streams(2, 1)
    mine = asyncio.create_task(vad.probability(audio[0, 0], SileroState()))
    await asyncio.sleep(0)
    theirs = await asyncio.to_thread(asyncio.run, vad.probability(audio[1, 0], SileroState()))
    async with asyncio.timeout(60):
        assert 0 <= await mine <= 1
    assert 0 <= theirs <= 1


async def test_a_stream_that_is_closed_while_it_waits_leaves_nothing(vad: Counting) -> None:
    audio = streams(3, 1)
    states = [SileroState() for _ in range(3)]
    waiting = [
        asyncio.create_task(vad.probability(stream[0], state))
        for stream, state in zip(audio, states, strict=True)
    ]
    await asyncio.sleep(0)
    waiting[1].cancel()
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert vad.sizes == [2]
    assert isinstance(outcomes[1], asyncio.CancelledError)
    assert not states[1].recurrent.any()  # nobody advanced it
    assert vad._batcher.waiting == 0
    # All of them go away: the model is not even asked.
    only = asyncio.create_task(vad.probability(audio[0, 0], states[0]))
    await asyncio.sleep(0)
    only.cancel()
    await asyncio.gather(only, return_exceptions=True)
    assert await vad.probability(audio[1, 0], states[1]) == pytest.approx(
        float(alone(vad, audio[1:2])[0, 0]), abs=1e-4
    )


async def test_a_failure_comes_to_every_stream_of_the_batch_and_the_next_batch_works(
    vad: Counting,
) -> None:
    audio = streams(5, 2)
    states = [SileroState() for _ in range(5)]
    vad.failure = RuntimeError("out of memory")

    async def batch(window: int) -> list[float | BaseException]:
        return await asyncio.gather(
            *(vad.probability(audio[index, window], states[index]) for index in range(5)),
            return_exceptions=True,
        )

    failures = await batch(0)
    assert all(isinstance(item, ModelError) for item in failures)
    assert all("out of memory" in str(item) for item in failures)
    assert len({id(item) for item in failures}) == 5  # each its own, with its own traceback
    assert not any(state.recurrent.any() for state in states)
    vad.failure = None
    first = np.array([await batch(0), await batch(1)], dtype=np.float32).T
    np.testing.assert_allclose(first, alone(vad, audio), atol=1e-4)


@pytest.mark.parametrize("value", [np.nan, np.inf])
async def test_values_that_are_no_numbers_concern_one_stream_only(
    vad: Counting, value: float
) -> None:
    audio = streams(6, 30)
    spoiled = audio.copy()
    spoiled[2, 10, 100] = value
    heard = np.array(
        await asyncio.gather(*(follow(vad, stream, SileroState()) for stream in spoiled))
    )
    assert vad.sizes == [6] * 30
    expected = alone(vad, audio)
    others = [0, 1, 3, 4, 5]
    np.testing.assert_allclose(heard[others], expected[others], atol=1e-4)
    np.testing.assert_allclose(heard[2, :10], expected[2, :10], atol=1e-4)
    assert heard[2, 10] == 0
    # It starts anew behind the hole.
    np.testing.assert_allclose(heard[2, 11:], alone(vad, audio[2:3, 11:])[0], atol=1e-4)


async def test_a_window_of_another_length_is_its_streams_error_alone(vad: Counting) -> None:
    audio = streams(2, 1)
    good, bad = await asyncio.gather(
        vad.probability(audio[0, 0], SileroState()),
        vad.probability(audio[1, 0, :300], SileroState()),
        return_exceptions=True,
    )
    assert good == pytest.approx(float(alone(vad, audio[:1])[0, 0]), abs=1e-4)
    assert isinstance(bad, AudioError)


def test_a_loop_that_ended_in_between_leaves_nothing_behind(vad: Counting) -> None:
    async def ask_and_leave() -> None:
        asyncio.get_running_loop().call_soon(waiting.append, 0)
        waiting.append(asyncio.ensure_future(vad.probability(audio[0, 0], SileroState())))
        await asyncio.sleep(0)

    waiting: list[object] = []
    audio = streams(1, 1)
    asyncio.run(ask_and_leave())
    heard = asyncio.run(vad.probability(audio[0, 0], SileroState()))
    assert heard == pytest.approx(float(alone(vad, audio)[0, 0]), abs=1e-4)
