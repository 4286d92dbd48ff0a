"""Calls of carriers, with a WebSocket client that speaks each carrier's messages."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

import numpy as np
import pytest
from pipecat.frames.frames import EndFrame, EndWorkerFrame, OutputTransportMessageUrgentFrame
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from talkpath.agent.audio import FloatArray, Resampler
from talkpath.agent.config import CarriersConfig
from talkpath.processors.frames import HoldPlaybackFrame, ResumePlaybackFrame, TransferFrame
from talkpath.transports.sessions import Limits
from tests.browser import eventually
from tests.speech import clip
from tests.transports.carrier_peer import (
    CARRIERS,
    CONNECTED,
    NOBODY,
    TWILIO_START,
    Line,
    genesys,
    genesys_open,
)
from tests.transports.stage import Scene, StageBot, served, settled

TOKEN = "a-token-of-these-tests"
LET_IN = CarriersConfig(token=TOKEN)
SHOWN = {"X-API-KEY": TOKEN}


@contextlib.asynccontextmanager
async def line(url: str, name: str, *, announced: bool = True) -> AsyncIterator[Line]:
    """A connection of a carrier that shows the token."""
    address = f"{url.replace('http', 'ws')}/{name}"
    async with connect(address, additional_headers=SHOWN) as socket:
        call = Line(CARRIERS[name], socket)
        if announced:
            await call.open()
        yield call
        await call.close()


def likeness(sent: FloatArray, heard: FloatArray) -> float:
    """The highest normalised correlation of what was sent with what came back, at any delay."""
    size = 1 << (len(sent) + len(heard)).bit_length()
    product = np.fft.rfft(heard, size) * np.conj(np.fft.rfft(sent, size))
    peak = float(np.fft.irfft(product).max())
    return peak / float(np.linalg.norm(sent) * np.linalg.norm(heard))


# -- every carrier ---------------------------------------------------------------------------


async def _conversation(url: str, bot: StageBot, name: str, scenes: dict[str, Scene]) -> None:
    speech = clip("librivox-0930").samples()
    async with line(url, name) as call:
        scene = await bot.scene()
        scenes[scene.arguments.body["carrier"]] = scene
        rate_hz = call.carrier.rate_hz
        sent = Resampler(16_000, rate_hz).process(speech)
        await call.socket.send(call.carrier.key("5"))
        await call.talk(sent)
        await call.socket.send(call.carrier.key("#"))
        await eventually(lambda: len(call.sound()) > 0.85 * len(sent), f"{name}'s echo")
        assert likeness(sent, call.sound()) > 0.9, name


async def test_speech_and_keys_of_every_carrier_reach_the_bot_and_its_voice_comes_back() -> None:
    bot, scenes = StageBot(echo=True), dict[str, Scene]()
    async with served(bot, max_sessions=8, carriers=LET_IN) as url:
        await asyncio.gather(*(_conversation(url, bot, name, scenes) for name in CARRIERS))
        await eventually(lambda: bot.open == 0, "the end of every session")
    assert set(scenes) == set(CARRIERS)
    for name, scene in scenes.items():
        assert scene.ears.keys == "5#", name
        assert scene.arguments.body["parameters"] == {"campaign": "7"}
        assert scene.arguments.transport_type == name
    twilio, genesys = scenes["twilio"].arguments, scenes["genesys"].arguments
    assert (twilio.body["call_id"], twilio.body["stream_id"]) == ("CA1", "MZ1")
    assert (genesys.body["from"], genesys.body["to"]) == ("+4930111", "+4930222")
    assert genesys.call_data.from_number == "+4930111"


async def _barge_in(url: str, bot: StageBot, name: str) -> None:
    async with line(url, name) as call:
        scene = await bot.scene()
        await scene.speak(20.0)
        await eventually(lambda: len(call.audio()) >= 2, f"{name} hears the bot")
        await scene.interrupt()
        await eventually(lambda: call.clear_at() is not None, f"{name} is told to drop the rest")
        cleared = call.clear_at()
        assert cleared is not None
        await scene.speak(0.4)
        rate_hz = call.carrier.rate_hz
        await eventually(lambda: len(call.sound(cleared)) >= 0.4 * rate_hz, "the next words")
        # Of the twenty seconds nothing came any more.
        assert len(call.sound(cleared)) <= 0.41 * rate_hz
        sizes = {len(samples) / rate_hz for samples in call.audio()}
        assert sizes == {0.2 if name in ("exotel", "genesys") else 0.02}


async def test_a_barge_in_clears_what_the_carrier_has_and_sends_nothing_more_of_it() -> None:
    async def one(name: str) -> None:
        bot = StageBot()
        async with served(bot, carriers=LET_IN) as url:
            await _barge_in(url, bot, name)

    await asyncio.gather(*(one(name) for name in CARRIERS))


async def test_while_held_nothing_is_sent_and_afterwards_all_of_it() -> None:
    bot = StageBot()

    def mark(name: str) -> OutputTransportMessageUrgentFrame:
        return OutputTransportMessageUrgentFrame({"event": "mark", "mark": {"name": name}})

    async with served(bot, carriers=LET_IN) as url, line(url, "twilio") as call:
        scene = await bot.scene()

        def marked(name: str) -> int | None:
            found = (at for at, item in enumerate(call.messages) if f'"{name}"' in str(item))
            return next(found, None)

        await scene.speak(1.0)
        await eventually(lambda: len(call.audio()) >= 5, "the bot speaks")
        await scene.frames(HoldPlaybackFrame())
        await settled(lambda: len(call.audio()))
        await scene.frames(mark("held"))
        await eventually(lambda: marked("held") is not None, "the first mark")
        await asyncio.sleep(0.4)  # in which twenty chunks would have come
        await scene.frames(mark("still held"))
        await eventually(lambda: marked("still held") is not None, "the second mark")
        first, last = marked("held"), marked("still held")
        assert first is not None and last == first + 1
        assert call.clear_at() is None
        await scene.frames(ResumePlaybackFrame())
        await eventually(lambda: len(call.sound()) == 8_000, "the rest of it")


async def test_a_caller_who_cannot_be_put_through_stays_until_the_next_end() -> None:
    bot = StageBot()
    async with served(bot, carriers=LET_IN) as url, line(url, "twilio") as call:
        scene = await bot.scene()
        await scene.speak(0.1)
        await scene.frames(TransferFrame(target="+4930123"), EndWorkerFrame())
        await eventually(lambda: bool(scene.behind.refusals), "the refusal")
        assert scene.behind.refusals == ["this line cannot transfer calls"]
        heard = len(call.sound())
        await scene.speak(0.4)
        await eventually(lambda: len(call.sound()) - heard >= 3_200, "the apology")
        await scene.frames(EndWorkerFrame())
        await call.socket.wait_closed()


# -- the first messages ----------------------------------------------------------------------


async def test_a_call_that_is_not_announced_as_it_should_be_is_ended(log: list[str]) -> None:
    first_messages: list[list[str | bytes]] = [
        ["no JSON"],
        ["[" * 10_000],
        ["x" * 100_000],
        [json.dumps([1])],
        [b"audio"],
        [json.dumps(CONNECTED)] * 4,
        [json.dumps({"event": "media", "media": {"payload": ""}})],
        [json.dumps({**TWILIO_START, "start": {}})],
        [json.dumps({**TWILIO_START, "start": {"callSid": 1, "streamSid": "MZ1"}})],
        [json.dumps({"event": "start", "start": {"callSid": "x" * 300}})],
    ]

    async def one(messages: list[str | bytes]) -> None:
        async with line(url, "twilio", announced=False) as call:
            with contextlib.suppress(ConnectionClosed):
                for message in messages:
                    await call.socket.send(message)
            await call.socket.wait_closed()
            assert call.socket.close_code == 1008, messages

    bot = StageBot()
    async with served(bot, max_sessions=16, carriers=LET_IN) as url:
        await asyncio.gather(*(one(messages) for messages in first_messages))
    assert bot.open == 0
    assert not any("Traceback" in entry for entry in log)


async def test_a_carrier_that_says_nothing_is_not_waited_for() -> None:
    bot = StageBot()
    async with (
        served(bot, carriers=LET_IN, limits=Limits(announce_s=0.2)) as url,
        line(url, "telnyx", announced=False) as call,
    ):
        await call.socket.send(json.dumps(CONNECTED))
        await call.socket.wait_closed()
        assert call.socket.close_code == 1008
        assert "no call within" in (call.socket.close_reason or "")


async def test_genesys_is_answered_when_it_only_tries_the_connection() -> None:
    bot = StageBot()
    async with (
        served(bot, carriers=LET_IN) as url,
        line(url, "genesys", announced=False) as call,
    ):
        await call.socket.send(json.dumps(genesys_open(NOBODY)))
        await eventually(lambda: len(call.messages) == 1, "opened")
        await call.socket.send(json.dumps(genesys("close", 2, {"reason": "end"})))
        await call.socket.wait_closed()
        kinds = [json.loads(message)["type"] for message in call.messages]
        assert kinds == ["opened", "closed"]
    assert bot.open == 0


# -- during and after the call ---------------------------------------------------------------


async def test_messages_that_make_no_sense_lose_nothing_else(log: list[str]) -> None:
    bot = StageBot()
    async with served(bot, carriers=LET_IN) as url, line(url, "exotel") as call:
        scene = await bot.scene()
        for rubbish in (
            "no JSON",
            "[]",
            json.dumps({"event": "media"}),
            json.dumps({"event": "media", "media": {"payload": "%%%"}}),
            json.dumps({"event": "media", "media": {"payload": "AAAA"}}),  # an odd byte
            json.dumps({"event": "media", "media": {"track": "outbound", "payload": "AAAAAA=="}}),
            json.dumps({"event": "dtmf", "dtmf": {"digit": "?"}}),
            call.carrier.media(np.zeros(16_000, dtype=np.float32)),  # two seconds at once
        ):
            await call.socket.send(rubbish)
        await call.talk(np.full(1_600, 0.5, dtype=np.float32))
        await eventually(lambda: scene.ears.heard_s > 0.19, "the audio after it")
        assert scene.ears.heard_s < 0.21
        assert scene.ears.keys == ""
    dropped = [entry for entry in log if "dropped a message of exotel" in entry]
    assert len(dropped) == 1


async def test_the_end_of_the_stream_is_the_end_of_the_session() -> None:
    bot = StageBot()
    async with served(bot, carriers=LET_IN) as url, line(url, "plivo") as call:
        scene = await bot.scene()
        await call.socket.send(json.dumps({"event": "stop"}))
        await scene.left.wait()
        await call.socket.wait_closed()
        await eventually(lambda: bot.open == 0, "the end of the session")


# By Pipecat's serializer.
@pytest.mark.filterwarnings("ignore:BasicAuth is deprecated")
@pytest.mark.filterwarnings("ignore:The 'auth' parameter is deprecated")
async def test_a_bot_that_ends_hangs_up_through_the_carriers_interface(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []

    async def api(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = int(head.lower().partition("content-length: ")[2].partition("\r\n")[0])
        asked.append(head.partition("\r\n")[0] + " " + (await reader.read(length)).decode())
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(api, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    monkeypatch.setenv("TWILIO_AUTH_TOKEN", "secret")
    monkeypatch.setenv("TWILIO_API_URL", f"http://127.0.0.1:{port}")
    bot = StageBot()
    async with server, served(bot, carriers=LET_IN) as url, line(url, "twilio") as call:
        scene = await bot.scene()
        await scene.frames(EndFrame())
        await call.socket.wait_closed()
    assert asked == ["POST /2010-04-01/Accounts/AC1/Calls/CA1.json HTTP/1.1 Status=completed"]


async def test_the_call_after_the_last_place_is_told_to_try_again() -> None:
    bot = StageBot()
    async with served(bot, max_sessions=1, carriers=LET_IN) as url, line(url, "twilio"):
        await bot.scene()
        async with line(url, "telnyx", announced=False) as second:
            await second.socket.wait_closed()
            assert second.socket.close_code == 1013
