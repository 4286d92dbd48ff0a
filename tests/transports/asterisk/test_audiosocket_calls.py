"""Calls by AudioSocket, with a peer written from Asterisk's source, over real sockets."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from pipecat.frames.frames import EndFrame, InputDTMFFrame, TTSAudioRawFrame

from talkpath.agent.asterisk_sections import AsteriskConfig
from talkpath.agent.audio import float_to_pcm16
from talkpath.agent.config import Config, ServerConfig
from talkpath.processors.frames import HoldPlaybackFrame, ResumePlaybackFrame
from talkpath.transports.asterisk import audiosocket, transport
from talkpath.transports.asterisk.audiosocket import serve_audiosocket
from talkpath.transports.sessions import Bot
from tests.browser import eventually
from tests.transports.asterisk.audiosocket_peer import called
from tests.transports.asterisk.websocket_peer import likeness, loud_samples, speech_like
from tests.transports.stage import OUT_HZ, Scene, StageBot


@contextlib.asynccontextmanager
async def served(
    bot: Bot, *, asterisk: AsteriskConfig | None = None, max_sessions: int = 4
) -> AsyncIterator[str]:
    """Serve a bot inside the block; gives the address."""
    config = Config(
        server=ServerConfig(host="127.0.0.1", port=0, max_sessions=max_sessions),
        asterisk=asterisk or AsteriskConfig(),
    )
    url: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    server = asyncio.create_task(serve_audiosocket(bot, config, on_listening=url.set_result))
    try:
        yield await url
    finally:
        server.cancel()
        await asyncio.wait({server})


async def speak(scene: Scene, seconds: float) -> None:
    pcm = float_to_pcm16(speech_like(seconds, OUT_HZ))
    await scene.frames(TTSAudioRawFrame(audio=pcm, sample_rate=OUT_HZ, num_channels=1))


@pytest.mark.parametrize("format", ["slin", "slin16"])
async def test_sound_and_keys_go_their_ways_in_a_steady_stream(format: str, keys: None) -> None:
    bot = StageBot()
    async with served(bot) as url, called(url, format) as peer:
        scene = await bot.scene()
        assert scene.arguments.body["call_id"] == str(peer.id)
        peer.press("7")
        peer.say(speech_like(0.5, peer.format.rate_hz))
        began = len(peer.heard)
        await speak(scene, 0.5)
        await eventually(lambda: len(peer.sound) >= 0.5 * peer.format.rate_hz, "the bot's voice")
        await eventually(lambda: scene.ears.loudest > 0.35, "the caller's voice")
        await eventually(lambda: len(peer.heard) > began + 30, "silence after it")
        assert likeness(peer.sound, speech_like(0.5, peer.format.rate_hz)) > 0.95
        pressed = [item for item in scene.behind.frames if isinstance(item, InputDTMFFrame)]
        assert [item.button.value for item in pressed] == ["7"]
        assert not peer.errors


async def test_an_interruption_and_a_hold_leave_nothing_in_asterisks_hand() -> None:
    bot = StageBot()
    async with served(bot) as url, called(url) as peer:
        scene = await bot.scene()
        await speak(scene, 1)
        await eventually(lambda: len(peer.sound) > 2_000, "the bot's voice")
        await scene.frames(HoldPlaybackFrame())
        await eventually(lambda: not any(any(data) for _, data in peer.heard[-5:]), "the hold")
        assert len(peer.sound) < 7_000
        await scene.frames(ResumePlaybackFrame())
        await eventually(lambda: len(peer.sound) >= 8_000, "the rest")
        assert likeness(peer.sound[:8_000], speech_like(1, 8_000)) > 0.95
        heard = len(peer.sound)
        await speak(scene, 5)
        await eventually(lambda: len(peer.sound) > heard + 2_000, "further words")
        await scene.interrupt()
        await eventually(lambda: not any(any(data) for _, data in peer.heard[-5:]), "silence")
        assert len(peer.sound) < heard + 20_000


async def test_the_end_of_the_bot_hangs_up_after_its_last_words() -> None:
    bot = StageBot()
    async with served(bot) as url, called(url) as peer:
        scene = await bot.scene()
        await speak(scene, 0.4)
        await scene.frames(EndFrame())
        await eventually(peer.hung_up.is_set, "the hangup")
        assert likeness(peer.sound, speech_like(0.4, 8_000)) > 0.95
        await eventually(lambda: bot.open == 0, "the end of the session")


@pytest.mark.parametrize(
    "hangup", [b"\0\0\0", b"\x10\x01\x40half a frame", b"\x02\0\0", b"\1\0\x10" + bytes(16), b""]
)
async def test_a_hangup_however_it_comes_ends_the_session(hangup: bytes) -> None:
    bot = StageBot()
    async with served(bot) as url, called(url) as peer:
        await bot.scene()
        peer.writer.write(hangup)
        peer.writer.write_eof()
        await eventually(lambda: bot.open == 0, "the end of the session")


async def test_an_error_of_asterisks_is_told_and_the_call_goes_on(log: list[str]) -> None:
    bot = StageBot()
    async with served(bot) as url, called(url) as peer:
        scene = await bot.scene()
        peer.writer.write(b"\xff\0\1\2" + b"\xff\0\0")
        heard_s = scene.ears.heard_s
        await eventually(lambda: scene.ears.heard_s > heard_s + 0.1, "the caller's voice")
    assert any("a frame could not be forwarded" in line for line in log)


@pytest.mark.parametrize(
    ("first", "reason"),
    [
        (b"\x10\0\2ab", "the first message is not the UUID"),
        (b"\1\0\4abcd", "a UUID of 4 bytes"),
        (b"GET / HTTP/1.1\r\n\r\n", "no message of kind 0x47"),
        (b"\1\0\x10" + bytes(7), "no UUID within"),
        (b"", "no UUID within"),
    ],
)
async def test_who_does_not_begin_with_a_uuid_is_refused(
    first: bytes, reason: str, log: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if "within" in reason:
        monkeypatch.setattr(audiosocket, "_IDENTITY_S", 0.3)
    async with served(StageBot()) as url:
        host, port = url.removeprefix("tcp://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(first)
        assert await reader.read() == b"\0\0\0"
        writer.close()
        await writer.wait_closed()
    assert any(reason in line for line in log)


async def test_only_the_networks_named_may_call() -> None:
    async with (
        served(StageBot(), asterisk=AsteriskConfig(allow=("192.0.2.0/24",))) as url,
        called(url) as peer,
    ):
        await eventually(peer.hung_up.is_set, "the refusal")
        assert not peer.heard


async def test_a_peer_that_takes_nothing_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "STALLED_S", 0.5)
    bot = StageBot()
    async with served(bot) as url, called(url, "slin192") as peer:
        await bot.scene()
        peer.reading.clear()
        await eventually(lambda: bot.open == 0, "the end of the session")


async def test_thirty_calls_at_once_hear_themselves() -> None:
    bot = StageBot(echo=True)
    async with served(bot, max_sessions=30) as url:

        async def call() -> None:
            async with called(url) as peer:
                await eventually(lambda: len(peer.heard) > 0, "the answer")
                spoken = speech_like(1.0, 8_000)
                peer.say(spoken)
                wanted = 0.95 * loud_samples(spoken)
                await eventually(
                    lambda: peer.voiced > 47 and loud_samples(peer.sound) > wanted, "the echo", 60
                )
                assert not peer.errors

        await asyncio.gather(*(call() for _ in range(30)))
        await eventually(lambda: bot.open == 0, "the end of the sessions")


def test_addresses_are_compared_as_networks() -> None:
    config = AsteriskConfig()
    assert config.allows("10.1.2.3") and config.allows("::ffff:10.1.2.3")
    assert config.allows("fe80::1%eth0")
    assert not config.allows("192.0.2.1") and not config.allows("testclient")
