"""Output that is held and resumed, over the transports that callers use."""

import contextlib
from collections.abc import AsyncIterator

import numpy as np
import pytest
from numpy.typing import NDArray
from pipecat.frames.frames import EndFrame, OutputAudioRawFrame
from websockets.asyncio.client import connect

from talkpath.processors.frames import HoldPlaybackFrame, ResumePlaybackFrame
from talkpath.transports import holding
from tests.browser import eventually
from tests.transports.socket_caller import Ear
from tests.transports.stage import OUT_HZ, Scene, StageBot, served, settled
from tests.transports.test_signalling import Caller, calling


def words(count: int, word_s: float = 0.19) -> dict[str, bytes]:
    """Words whose audio is a count of samples, so that none can be missed."""
    length = int(word_s * OUT_HZ)
    samples = 1 + np.arange(count * length) % 32_000
    pieces = samples.astype("<i2").reshape(count, length)
    return {f"word{number}": piece.tobytes() for number, piece in enumerate(pieces)}


@contextlib.asynccontextmanager
async def on_the_line() -> AsyncIterator[tuple[Scene, Ear]]:
    bot = StageBot()
    async with served(bot) as url, connect(url.replace("http", "ws") + "/ws") as socket:
        ear = Ear(socket)
        yield await bot.scene(), ear
        await ear.close()


async def heard(ear: Ear, seconds: float) -> None:
    await eventually(lambda: len(ear.sound) >= 2 * OUT_HZ * seconds, f"{seconds} s of sound")


async def falls_silent(ear: Ear) -> int:
    """Wait for the silence; gives the bytes that came before it."""
    await settled(lambda: len(ear.sound))
    return len(ear.sound)


async def test_after_a_resume_no_sample_is_missing_and_none_comes_twice() -> None:
    async with on_the_line() as (scene, ear):
        said = words(10)
        everything = b"".join(said.values())
        await scene.say(said)
        for seconds in (0.3, 0.9):
            await heard(ear, seconds)
            await scene.frames(HoldPlaybackFrame(), HoldPlaybackFrame())
            played = await falls_silent(ear)
            assert 0 < played < len(everything)
            # What comes out of the transport is what the caller has, words in line with it.
            assert scene.behind.spoken_s == pytest.approx(played / 2 / OUT_HZ)
            word_bytes = len(said["word0"])
            assert abs(len(scene.behind.words) - played / word_bytes) <= 1
            assert scene.behind.stops == 0
            await scene.frames(ResumePlaybackFrame())
        await eventually(lambda: scene.behind.stops == 1, "the end of the speech")
        assert bytes(ear.sound[: len(everything)]) == everything
        assert not any(ear.sound[len(everything) :])  # the last chunk is filled up
        assert scene.behind.words == list(said)


async def test_an_interruption_drops_the_rest_and_ends_the_hold() -> None:
    async with on_the_line() as (scene, ear):
        await scene.say(words(10))
        await heard(ear, 0.3)
        await scene.frames(HoldPlaybackFrame())
        played = await falls_silent(ear)
        told = scene.behind.words
        await scene.interrupt()
        await eventually(lambda: scene.behind.stops == 1, "the end of the speech")
        next_words = {f"next-{word}": pcm for word, pcm in words(2).items()}
        await scene.say(next_words)
        await eventually(lambda: scene.behind.stops == 2, "the end of what came next")
        assert scene.behind.words == [*told, *next_words]
        expected = b"".join(next_words.values())
        assert bytes(ear.sound[played : played + len(expected)]) == expected


async def test_what_no_interruption_may_drop_is_heard_after_it() -> None:
    async with on_the_line() as (scene, ear):
        await scene.frames(HoldPlaybackFrame())
        pcm = words(1)["word0"]
        notice = OutputAudioRawFrame(pcm, OUT_HZ, 1)
        notice.interruptible = False
        await scene.frames(notice)
        await scene.interrupt()
        await eventually(lambda: len(ear.sound) > 0.8 * len(pcm), "the notice")
        assert pcm.startswith(ear.sound)


async def test_a_bot_that_ends_is_not_held_any_longer() -> None:
    async with on_the_line() as (scene, ear):
        said = words(4)
        await scene.say(said)
        await heard(ear, 0.3)
        await scene.frames(HoldPlaybackFrame(), EndFrame())
        everything = b"".join(said.values())
        await eventually(lambda: len(ear.sound) >= len(everything), "the last words")
        assert bytes(ear.sound[: len(everything)]) == everything


async def test_a_hold_that_nobody_ends_is_over_after_a_while(
    monkeypatch: pytest.MonkeyPatch, log: list[str]
) -> None:
    monkeypatch.setattr(holding, "LONGEST_HOLD_S", 0.5)
    async with on_the_line() as (scene, ear):
        said = words(4)
        await scene.frames(HoldPlaybackFrame())
        await scene.say(said)
        await eventually(lambda: scene.behind.stops == 1, "the end of the speech")
        everything = b"".join(said.values())
        assert bytes(ear.sound[: len(everything)]) == everything
    assert len([line for line in log if "nobody ended it" in line]) == 1


# -- WebRTC ----------------------------------------------------------------------------------


def loud_s(caller: Caller) -> float:
    """Seconds of sound, in steps of 5 ms."""
    samples: NDArray[np.int16] = np.concatenate(caller.sound)
    steps = samples[: len(samples) // 240 * 240].reshape(-1, 240)
    return float((np.abs(steps).max(axis=1) > 1000).sum() * 0.005)


async def quiet(caller: Caller) -> bool:
    """Whether the next packets, three tenths of a second of them, are silent."""
    caller.loudest, packets = 0, len(caller.sound)
    await eventually(lambda: len(caller.sound) > packets + 15, "packets")
    return caller.loudest < 100


async def test_over_webrtc_a_hold_is_silence_and_what_was_on_its_way_comes_after_it() -> None:
    bot = StageBot()
    async with served(bot) as url, calling(url) as [caller]:
        await caller.connect()
        scene = await bot.scene()
        await scene.speak(2)
        await eventually(lambda: bool(caller.sound) and loud_s(caller) > 0.5, "the tone")
        await scene.frames(HoldPlaybackFrame())
        await eventually(lambda: quiet(caller), "silence")
        assert loud_s(caller) < 1.9
        assert scene.behind.stops == 0
        await scene.frames(ResumePlaybackFrame())
        await eventually(lambda: loud_s(caller) > 1.9, "the rest of the tone")
        await eventually(lambda: quiet(caller), "the end of the tone")
        # Where the tone is cut and taken up, Opus rings for some ms: on a busy machine, often.
        assert loud_s(caller) < 2.5


async def test_over_webrtc_nothing_is_heard_after_an_interruption_not_even_what_was_under_way() -> (
    None
):
    bot = StageBot()
    async with served(bot) as url, calling(url) as [caller]:
        await caller.connect()
        scene = await bot.scene()
        await scene.speak(2)
        await eventually(lambda: bool(caller.sound) and loud_s(caller) > 0.5, "the tone")
        await scene.frames(HoldPlaybackFrame())
        await eventually(lambda: quiet(caller), "silence")
        before_s = loud_s(caller)
        await scene.interrupt()
        await eventually(lambda: scene.behind.stops == 1, "the end of the speech")
        assert await quiet(caller)
        assert loud_s(caller) == before_s
        await scene.speak(0.3)
        await eventually(lambda: loud_s(caller) > before_s + 0.2, "what comes next")
