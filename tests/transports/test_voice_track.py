"""The voice that waits for a connection, read as a connection reads it."""

import asyncio
import time

import numpy as np
import pytest
from aiortc.mediastreams import MediaStreamError
from numpy.typing import NDArray

from talkpath.transports.webrtc import voice_track
from talkpath.transports.webrtc.voice_track import Voice, VoiceTrack

RATE_HZ = 24_000
CHUNK = RATE_HZ * 3 // 100  # as long as the transport's


def count(samples: int) -> NDArray[np.int16]:
    return (1 + np.arange(samples) % 32_000).astype(np.int16)


async def write(voice: Voice, samples: NDArray[np.int16]) -> list[bool]:
    chunks = [samples[start : start + CHUNK] for start in range(0, len(samples), CHUNK)]
    return [await voice.write(chunk.tobytes()) for chunk in chunks]


async def read(voice: Voice, seconds: float) -> NDArray[np.int16]:
    """Read in real time, without the silence that a track begins with."""
    track = VoiceTrack(voice)
    await track.recv()
    frames = [await track.recv() for _ in range(round(seconds / 0.02))]
    track.stop()
    return np.concatenate([frame.to_ndarray()[0] for frame in frames])


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine may stand still for longer than a voice waits to be read."""
    monkeypatch.setattr(voice_track, "_STRANDED_AFTER_S", 60.0)


async def test_every_sample_is_sent_once_whatever_is_held_and_resumed(patient: None) -> None:
    voice = Voice()
    voice.start(RATE_HZ)
    samples = count(10 * CHUNK)
    writing = asyncio.create_task(write(voice, samples))
    reading = asyncio.create_task(read(voice, 2.4))
    while not reading.done():  # every 70 ms, in the middle of whatever happens to be under way
        voice.hold()
        await asyncio.sleep(0.03)
        voice.resume()
        await asyncio.sleep(0.04)
    sent = await reading
    assert all(await writing)
    np.testing.assert_array_equal(sent[sent != 0], samples)


async def test_nothing_is_dropped_where_the_process_itself_stood_still() -> None:
    voice = Voice()
    voice.start(RATE_HZ)
    samples = count(4 * CHUNK)
    writing = asyncio.create_task(write(voice, samples))
    reading = asyncio.create_task(read(voice, 0.3))
    asyncio.get_running_loop().call_later(0.05, time.sleep, 0.6)
    sent = await reading
    assert all(await writing)
    np.testing.assert_array_equal(sent[sent != 0], samples)


async def test_speech_goes_on_in_the_next_connection_where_it_was_in_the_last(
    patient: None,
) -> None:
    voice = Voice()
    voice.start(RATE_HZ)
    samples = count(6 * CHUNK)
    writing = asyncio.create_task(write(voice, samples))
    sent = np.concatenate([await read(voice, 0.08), await read(voice, 0.2)])
    assert all(await writing)
    np.testing.assert_array_equal(sent[sent != 0], samples)


async def test_what_nobody_reads_for_a_while_is_dropped() -> None:
    voice = Voice()
    voice.start(RATE_HZ)
    assert await write(voice, count(2 * CHUNK)) == [True, False]
    assert not voice.take(CHUNK).strip(b"\0")


async def test_a_hold_is_no_reason_to_drop_anything() -> None:
    voice = Voice()
    voice.start(RATE_HZ)
    voice.hold()
    samples = count(2 * CHUNK)
    writing = asyncio.create_task(write(voice, samples))
    await asyncio.wait({writing}, timeout=0.7)
    assert not writing.done()
    voice.resume()
    assert voice.take(len(samples)) == samples.tobytes()
    assert await writing == [True, True]


async def test_a_connection_that_is_up_early_sends_once_the_rate_is_known() -> None:
    voice = Voice()
    track = VoiceTrack(voice)
    first = asyncio.create_task(track.recv())
    await asyncio.wait({first}, timeout=0.1)
    assert not first.done()
    voice.start(16_000)
    frame = await first
    assert frame.sample_rate == 16_000
    track.stop()
    with pytest.raises(MediaStreamError):
        await track.recv()


async def test_frames_come_in_real_time() -> None:
    voice = Voice()
    voice.start(RATE_HZ)
    started = time.monotonic()
    await read(voice, 0.4)
    assert time.monotonic() - started >= 0.39
