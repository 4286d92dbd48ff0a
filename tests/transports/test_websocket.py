"""WebSocket sessions, with a plain WebSocket client that speaks protobuf."""

import time
from typing import Any

import numpy as np
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from talkpath.agent.errors import EngineOverloaded
from talkpath.transports.sessions import Limits
from tests.browser import eventually
from tests.transports.socket_caller import RATE_HZ, READY, Ear, audio, message
from tests.transports.stage import StageBot, served


def tone(rate_hz: int = RATE_HZ, seconds: float = 0.02, at_s: float = 0.0) -> bytes:
    time_s = at_s + np.arange(int(rate_hz * seconds)) / rate_hz
    return (12_000 * np.sin(2 * np.pi * 400 * time_s)).astype("<i2").tobytes()


@pytest.mark.parametrize("path", ["/ws", "/ws-client"])
async def test_audio_comes_back_and_messages_arrive(path: str) -> None:
    bot = StageBot(echo=True)
    async with served(bot) as url, connect(url.replace("http", "ws") + path) as socket:
        ear = Ear(socket)
        scene = await bot.scene()
        await socket.send(READY)
        await eventually(lambda: ear.got("bot-ready"), "bot-ready")
        for number in range(50):
            await socket.send(audio(tone(at_s=number * 0.02)))
        await eventually(lambda: ear.loudest > 8_000, "the echo")
        await scene.caption(1, "hello")
        await eventually(lambda: ear.got("server-message"), "the caption")
        await socket.close()
        await eventually(lambda: bot.open == 0, "the end of the session")
        await ear.close()


async def test_audio_at_another_rate_is_converted() -> None:
    bot = StageBot()
    async with served(bot) as url, connect(url.replace("http", "ws") + "/ws") as socket:
        scene = await bot.scene()
        for number in range(100):
            await socket.send(audio(tone(48_000, at_s=number * 0.02), 48_000))
        await eventually(lambda: scene.ears.heard_s > 1.999, "two seconds of audio")
        assert scene.ears.heard_s < 2.001
        assert 0.3 < scene.ears.loudest < 0.45


@pytest.mark.parametrize(
    "rubbish",
    [
        "text",
        b"",
        b"\xff\xff\xff\xff",
        audio(b"odd"),
        audio(tone(), channels=2),
        audio(tone(), rate_hz=0),
        audio(tone(), rate_hz=2**31),
        audio(tone(seconds=1.1)),
        message({}),
        message({"label": "rtvi-ai"}),
        message({"label": "rtvi-ai", "type": "no such thing", "id": "1"}),
    ],
)
async def test_a_message_that_makes_no_sense_loses_nothing_else(rubbish: str | bytes) -> None:
    bot = StageBot()
    async with served(bot) as url, connect(url.replace("http", "ws") + "/ws") as socket:
        scene = await bot.scene()
        await socket.send(rubbish)
        for number in range(10):
            await socket.send(audio(tone(at_s=number * 0.02)))
        await eventually(lambda: scene.ears.heard_s > 0.19, "the audio after it")
        assert scene.ears.heard_s < 0.21


async def test_a_caller_who_is_faster_than_speech_is_held_back() -> None:
    bot = StageBot()
    async with served(bot) as url, connect(url.replace("http", "ws") + "/ws") as socket:
        scene = await bot.scene()
        started = time.monotonic()
        for number in range(4):
            await socket.send(audio(tone(seconds=1.0, at_s=number)))
        await eventually(lambda: scene.ears.heard_s > 3.9, "all of the audio")
        # Four seconds, of which two may come ahead.
        assert time.monotonic() - started >= 2.0


async def test_only_the_first_message_that_makes_no_sense_is_a_warning(log: list[str]) -> None:
    bot = StageBot()
    async with served(bot) as url, connect(url.replace("http", "ws") + "/ws") as socket:
        scene = await bot.scene()
        for _ in range(5):
            await socket.send("text")
        await socket.send(audio(tone()))
        await eventually(lambda: scene.ears.heard_s > 0, "the audio after them")
    lines = [line for line in log if "dropped a WebSocket message" in line]
    assert len([line for line in lines if line.startswith("WARNING")]) == 1


async def test_a_message_that_is_too_long_ends_the_session() -> None:
    bot = StageBot()
    limits = Limits(message_bytes=10_000)
    async with (
        served(bot, limits=limits) as url,
        connect(url.replace("http", "ws") + "/ws") as socket,
    ):
        await bot.scene()
        await socket.send(audio(bytes(20_000)))
        await socket.wait_closed()
        assert socket.close_code == 1009
        await eventually(lambda: bot.open == 0, "the end of the session")


async def test_the_caller_after_the_last_place_is_told_to_try_again() -> None:
    bot = StageBot()
    async with served(bot, max_sessions=1) as url:
        address = url.replace("http", "ws") + "/ws"
        async with connect(address):
            await bot.scene()
            async with connect(address) as second:
                with pytest.raises(ConnectionClosed):
                    await second.recv()
                assert second.close_code == 1013
                assert "try again later" in (second.close_reason or "")
        await eventually(lambda: bot.open == 0, "the end of the first session")
        async with connect(address):
            await bot.scene()


async def test_a_bot_that_stays_is_cancelled_when_its_caller_is_gone(log: list[str]) -> None:
    bot = StageBot(stays=True)
    async with served(bot, limits=Limits(grace_s=0.5)) as url:
        async with connect(url.replace("http", "ws") + "/ws"):
            await bot.scene()
        await eventually(lambda: bot.open == 0, "the end of the session")
    assert any("did not end with its caller" in line for line in log)


async def test_a_bot_that_fails_closes_with_a_reason(log: list[str]) -> None:
    async def bot(arguments: Any) -> None:
        raise EngineOverloaded("All streams are taken.")

    async with served(bot) as url, connect(url.replace("http", "ws") + "/ws") as socket:
        await socket.wait_closed()
        assert socket.close_code == 1011
        assert socket.close_reason == "All streams are taken."
    assert any("the bot failed" in line for line in log)
