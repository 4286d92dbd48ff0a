"""Calls by chan_websocket, with a peer written from its source, over real sockets."""

import asyncio
from typing import Any

import pytest
from pipecat.audio.dtmf.types import KeypadEntry
from pipecat.frames.frames import (
    EndFrame,
    EndWorkerFrame,
    InputDTMFFrame,
    OutputDTMFUrgentFrame,
    TTSAudioRawFrame,
)
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection
from websockets.asyncio.server import serve as serve_websocket
from websockets.exceptions import InvalidStatus

from talkpath.agent.asterisk_sections import AsteriskConfig
from talkpath.agent.audio import float_to_pcm16
from talkpath.agent.web_server import SocketProtocol
from talkpath.processors.frames import HoldPlaybackFrame, ResumePlaybackFrame, TransferFrame
from talkpath.transports.asterisk import websocket
from talkpath.transports.asterisk.websocket import join_call
from talkpath.transports.sessions import Sessions
from tests.browser import eventually
from tests.transports.asterisk.websocket_peer import (
    Connection,
    Peer,
    called,
    likeness,
    loud_samples,
    speech_like,
)
from tests.transports.stage import OUT_HZ, Scene, StageBot, served, settled

LEAD_FRAMES = 10  # 40 ms, the frame that is just being sent, and what a busy machine lets pile up


async def speak(scene: Scene, seconds: float) -> None:
    pcm = float_to_pcm16(speech_like(seconds, OUT_HZ))
    await scene.frames(TTSAudioRawFrame(audio=pcm, sample_rate=OUT_HZ, num_channels=1))


@pytest.mark.parametrize(("format", "as_json"), [("slin16", True), ("ulaw", False)])
async def test_sound_goes_both_ways_and_never_far_ahead(format: str, as_json: bool) -> None:
    bot = StageBot()
    async with served(bot) as url, called(url, format, as_json=as_json) as peer:
        scene = await bot.scene()
        peer.say(speech_like(0.6, peer.format.rate_hz))
        await speak(scene, 0.6)
        await eventually(lambda: len(peer.sound) >= 0.6 * peer.format.rate_hz, "the bot's voice")
        await eventually(lambda: scene.ears.loudest > 0.35, "the caller's voice")
        assert likeness(peer.sound, speech_like(0.6, peer.format.rate_hz)) > 0.95
        assert 0.35 < scene.ears.loudest < 0.45
        assert peer.longest <= LEAD_FRAMES
        assert peer.thrown_away == 0
        assert scene.arguments.body["call_id"] == "1761245643.1"
        assert scene.arguments.body["variables"]["dialled"] == "100"
        assert "ANSWER" in peer.commands


async def test_an_interruption_flushes_and_the_next_words_come_whole() -> None:
    bot = StageBot()
    async with served(bot) as url, called(url) as peer:
        scene = await bot.scene()
        await speak(scene, 5)
        await eventually(lambda: len(peer.sound) > 4_000, "the bot's voice")
        await scene.interrupt()
        await eventually(lambda: "FLUSH_MEDIA" in peer.commands, "the flush")
        assert peer.queued == 0
        heard, ticks = len(peer.sound), len(peer.heard)
        await eventually(lambda: len(peer.heard) > ticks + 5, "a tenth of a second")
        assert len(peer.sound) == heard
        await speak(scene, 0.5)
        await eventually(lambda: len(peer.sound) - heard >= 8_000, "the next words")
        assert likeness(peer.sound[heard:], speech_like(0.5, 16_000)) > 0.95


async def test_a_hold_is_silent_within_a_frame_and_goes_on_with_the_next_sample() -> None:
    bot = StageBot()
    async with served(bot) as url, called(url) as peer:
        scene = await bot.scene()
        await speak(scene, 1)
        await eventually(lambda: len(peer.sound) > 4_000, "the bot's voice")
        await scene.frames(HoldPlaybackFrame())
        await eventually(lambda: "PAUSE_MEDIA" in peer.commands, "the hold")
        ticks = len(peer.heard)
        await eventually(lambda: len(peer.heard) > ticks + 10, "two tenths of a second")
        assert not any(data for _, data in peer.heard[ticks:])
        await scene.frames(ResumePlaybackFrame())
        await eventually(lambda: len(peer.sound) >= 16_000, "the rest")
        assert likeness(peer.sound[:16_000], speech_like(1, 16_000)) > 0.95


async def test_nothing_is_sent_between_xoff_and_xon() -> None:
    bot = StageBot()
    async with served(bot) as url, called(url) as peer:
        scene = await bot.scene()
        await speak(scene, 1)
        await eventually(lambda: len(peer.sound) > 4_000, "the bot's voice")
        await peer.event("MEDIA_XOFF")
        await peer.press("1")
        await eventually(lambda: scene.ears.keys == "1", "what was said behind it")
        await settled(lambda: len(peer.sound))
        heard = len(peer.sound)
        ticks = len(peer.heard)
        await eventually(lambda: len(peer.heard) > ticks + 10, "two tenths of a second")
        assert len(peer.sound) == heard < 16_000
        await peer.event("MEDIA_XON")
        await eventually(lambda: len(peer.sound) >= 16_000, "the rest")
        assert likeness(peer.sound[:16_000], speech_like(1, 16_000)) > 0.95


async def test_the_end_of_the_bot_hangs_up_after_its_last_words() -> None:
    bot = StageBot()
    async with served(bot) as url, called(url) as peer:
        scene = await bot.scene()
        await speak(scene, 0.5)
        await scene.frames(EndFrame())
        await eventually(peer.hung_up.is_set, "the hangup")
        assert peer.commands[-1] == "HANGUP"
        assert likeness(peer.sound, speech_like(0.5, 16_000)) > 0.95
        await eventually(lambda: bot.open == 0, "the end of the session")


async def test_a_caller_who_cannot_be_put_through_stays_until_the_next_end() -> None:
    bot = StageBot()
    async with served(bot) as url, called(url) as peer:
        scene = await bot.scene()
        await speak(scene, 0.2)
        await scene.frames(TransferFrame(target="+4930123"), EndWorkerFrame())
        await eventually(lambda: bool(scene.behind.refusals), "the refusal")
        assert scene.behind.refusals == ["this line cannot transfer calls"]
        heard = len(peer.sound)
        await speak(scene, 0.5)
        await eventually(lambda: len(peer.sound) - heard >= 8_000, "the apology")
        assert not peer.hung_up.is_set()
        await scene.frames(EndWorkerFrame())
        await eventually(peer.hung_up.is_set, "the hangup")


async def test_keys_arrive_and_rubbish_loses_nothing_else(keys: None, log: list[str]) -> None:
    bot = StageBot()
    async with served(bot) as url, called(url, as_json=False) as peer:
        scene = await bot.scene()
        for rubbish in (
            b"",
            b"odd",
            bytes(64_000),
            "{",
            "DTMF_END digit:",
            "STATUS queue_length:x",
        ):
            await peer.socket.send(rubbish)
        await peer.press("5")
        await peer.press("A")
        await peer.press("#")
        await eventually(
            lambda: (
                [
                    frame.button.value
                    for frame in scene.behind.frames
                    if isinstance(frame, InputDTMFFrame)
                ]
                == ["5", "#"]
            ),
            "both keys",
        )
        peer.say(speech_like(0.3, 16_000))
        await eventually(lambda: scene.ears.loudest > 0.35, "the caller's voice")
        await scene.frames(*(OutputDTMFUrgentFrame(button=KeypadEntry.ONE) for _ in range(2)))
        await eventually(lambda: len(peer.sound) > 1_000, "a tone for a key")
    assert sum("sent as tones" in line and "WARNING" in line for line in log) == 1


async def test_who_sends_faster_than_time_is_held_back_and_can_hang_up() -> None:
    bot = StageBot()
    async with served(bot) as url, called(url) as peer:
        scene = await bot.scene()
        for _ in range(40):
            await peer.socket.send(float_to_pcm16(speech_like(0.1, 16_000)))
        await eventually(lambda: scene.ears.heard_s > 2.2, "some of it")
        assert scene.ears.heard_s < 3.5
        await peer.socket.close()
        await eventually(lambda: bot.open == 0, "the end of the session")


@pytest.mark.parametrize(
    ("first", "reason"),
    [
        ("MEDIA_XON", "the first event is not MEDIA_START"),
        ("MEDIA_START format:opus optimal_frame_size:0", "c(slin16)"),
        ("rubbish!", "no event"),
        (None, "no MEDIA_START within"),
    ],
)
async def test_a_call_that_does_not_begin_well_is_refused(
    first: str | None, reason: str, log: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if first is None:
        monkeypatch.setattr(websocket, "_START_S", 0.3)
    async with (
        served(StageBot()) as url,
        connect(url.replace("http", "ws") + "/asterisk") as socket,
    ):
        if first is not None:
            await socket.send(first)
        await socket.wait_closed()
        assert socket.close_code == 1008
    assert any("a call from Asterisk is refused" in line and reason in line for line in log)


async def test_sound_before_the_first_event_is_kept() -> None:
    bot = StageBot()
    async with (
        served(bot) as url,
        connect(url.replace("http", "ws") + "/asterisk") as socket,
    ):
        await socket.send(float_to_pcm16(speech_like(0.2, 16_000)))
        await socket.send("MEDIA_START channel:c format:slin16 optimal_frame_size:640")
        scene = await bot.scene()
        await eventually(lambda: scene.ears.heard_s > 0.19, "the early sound")


async def test_a_server_that_is_full_closes_the_next_call() -> None:
    bot = StageBot()
    async with served(bot, max_sessions=1) as url, called(url):
        await bot.scene()
        async with called(url) as second:
            await eventually(second.hung_up.is_set, "the refusal")
            assert second.socket.close_code == 1013


async def test_thirty_calls_at_once_hear_themselves() -> None:
    bot = StageBot(echo=True)
    async with served(bot, max_sessions=30) as url:

        async def call(number: int) -> None:
            async with called(url, "slin16" if number % 2 else "ulaw") as peer:
                spoken = speech_like(1.0, peer.format.rate_hz)
                await eventually(lambda: "ANSWER" in peer.commands, "the answer")
                peer.say(spoken)
                # A busy machine tears gaps into it, but loses nothing.
                wanted = 0.95 * loud_samples(spoken)
                await eventually(
                    lambda: peer.voiced > 47 and loud_samples(peer.sound) > wanted,
                    f"echo of call {number}",
                    60,
                )

        await asyncio.gather(*(call(number) for number in range(30)))
        await eventually(lambda: bot.open == 0, "the end of the sessions")


async def test_asterisk_is_sent_no_pings_others_are(monkeypatch: pytest.MonkeyPatch) -> None:
    made = SocketProtocol.__init__

    def hasty(self: SocketProtocol, *args: Any, **options: Any) -> None:
        made(self, *args, **options)
        self.ping_interval = 0.05

    monkeypatch.setattr(SocketProtocol, "__init__", hasty)
    bot = StageBot()
    async with (
        served(bot) as url,
        called(url) as peer,
        connect(url.replace("http", "ws") + "/ws", create_connection=Connection) as other,
    ):
        assert isinstance(other, Connection)
        await eventually(lambda: other.pings > 2, "pings")
        await eventually(lambda: len(peer.heard) > 20, "four tenths of a second")
        assert not peer.hung_up.is_set()


# -- who may call ----------------------------------------------------------------------------


async def _answer(config: AsteriskConfig, **options: Any) -> int:
    """Status of the handshake."""
    bot = StageBot()
    async with served(bot, asterisk=config) as url:
        try:
            async with called(url, **options):
                await bot.scene()
        except InvalidStatus as error:
            return error.response.status_code
    return 101


async def test_the_password_counts_where_there_is_one() -> None:
    config = AsteriskConfig(password="sesame")
    assert await _answer(config, credentials="asterisk:sesame") == 101
    assert await _answer(config, credentials="asterisk:wrong") == 401
    assert await _answer(config, headers={"Authorization": "Basic !"}) == 401
    assert await _answer(config) == 401


async def test_without_a_password_only_the_networks_named_may_call() -> None:
    assert await _answer(AsteriskConfig(allow=("192.0.2.0/24",))) == 401
    # A proxy on this machine brings everybody.
    assert await _answer(AsteriskConfig(), headers={"X-Forwarded-For": "192.0.2.1"}) == 401


# -- the other way -----------------------------------------------------------------------------


async def test_a_call_that_waits_in_asterisk_is_taken() -> None:
    bot, arrived = StageBot(), asyncio.Queue[Peer]()

    async def asterisk(socket: ServerConnection) -> None:
        assert socket.request is not None and socket.request.path == "/media/abc"
        peer = Peer(socket, "ulaw")
        await peer.start()
        arrived.put_nowait(peer)
        await peer.hung_up.wait()
        await peer.stop()

    subprotocols: Any = ["media"]
    async with serve_websocket(asterisk, "127.0.0.1", 0, subprotocols=subprotocols) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        sessions = Sessions(1)
        joined = asyncio.create_task(
            join_call(bot, f"ws://127.0.0.1:{port}/media/abc", sessions=sessions)
        )
        peer, scene = await arrived.get(), await bot.scene()
        await speak(scene, 0.3)
        await eventually(lambda: len(peer.sound) >= 2_400, "the bot's voice")
        await scene.frames(EndFrame())
        await eventually(peer.hung_up.is_set, "the hangup")
        await joined
        await sessions.aclose()
