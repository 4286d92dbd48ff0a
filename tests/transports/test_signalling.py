"""Signalling and sessions, with aiortc as the caller."""

import asyncio
import contextlib
import gc
import json
import threading
import weakref
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import numpy as np
import pytest
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import AudioStreamTrack, MediaStreamError, MediaStreamTrack
from av import AudioFrame
from numpy.typing import NDArray

from talkpath.agent.errors import ConfigError, EngineOverloaded
from talkpath.transports.sessions import Limits
from talkpath.transports.webrtc.signalling import ice_server
from tests.browser import eventually
from tests.transports.stage import StageBot, served

READY = {
    "label": "rtvi-ai",
    "type": "client-ready",
    "id": "1",
    "data": {"version": "2.2.0", "about": {"library": "test"}},
}
PAST = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n"


class Caller:
    """A small WebRTC client on aiortc."""

    def __init__(self, http: aiohttp.ClientSession, path: str = "/api/offer") -> None:
        self.http = http
        self.path = path
        self.pc = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.pc.addTrack(AudioStreamTrack())
        self.channel = self.pc.createDataChannel("chat")
        self.messages: list[dict[str, Any]] = []
        self.loudest = 0
        self.sound: list[NDArray[np.int16]] = []  # left channel, 48 kHz
        self.opened = asyncio.Event()
        self.pc_id = ""
        self._listening: asyncio.Task[None] | None = None
        self._pinging: asyncio.Task[None] | None = None
        self.channel.on("message", lambda text: self.messages.append(json.loads(text)))
        self.channel.on("open", self._open)
        self.pc.on("track", self._listen)

    def _open(self) -> None:
        self.channel.send(json.dumps(READY))
        self.opened.set()
        self._pinging = asyncio.create_task(self._ping())

    async def _ping(self) -> None:
        while self.channel.readyState == "open":
            self.channel.send("ping")
            await asyncio.sleep(1)

    def _listen(self, track: MediaStreamTrack) -> None:
        self._listening = asyncio.create_task(self._measure(track))

    async def _measure(self, track: MediaStreamTrack) -> None:
        with contextlib.suppress(MediaStreamError):  # the track's end
            while True:
                frame = await track.recv()
                assert isinstance(frame, AudioFrame)
                samples = np.asarray(frame.to_ndarray(), np.int16).reshape(-1, 2)[:, 0]
                self.sound.append(samples)
                self.loudest = max(self.loudest, int(np.abs(samples).max(initial=0)))

    async def offer(self, **extra: Any) -> tuple[int, Any]:
        await self.pc.setLocalDescription(await self.pc.createOffer())
        description = self.pc.localDescription
        return await self.post({"sdp": description.sdp, "type": description.type, **extra})

    async def post(self, body: Any) -> tuple[int, Any]:
        async with self.http.post(self.path, json=body) as response:
            return response.status, await response.json()

    async def patch(self, body: Any) -> tuple[int, Any]:
        async with self.http.patch(self.path, json=body) as response:
            return response.status, await response.json()

    async def connect(self, **extra: Any) -> None:
        status, answer = await self.offer(**extra)
        assert status == 200, answer
        self.pc_id = answer["pc_id"]
        await self.pc.setRemoteDescription(RTCSessionDescription(answer["sdp"], answer["type"]))
        async with asyncio.timeout(30):
            await self.opened.wait()

    def of_type(self, kind: str) -> list[dict[str, Any]]:
        return [message for message in self.messages if message["type"] == kind]

    async def close(self) -> None:
        await self.pc.close()
        for task in (self._listening, self._pinging):
            if task is not None:
                task.cancel()
                await asyncio.wait({task})


@contextlib.asynccontextmanager
async def calling(
    url: str, count: int = 1, path: str = "/api/offer"
) -> AsyncIterator[list[Caller]]:
    async with aiohttp.ClientSession(url) as http:
        callers = [Caller(http, path) for _ in range(count)]
        try:
            yield callers
        finally:
            for caller in callers:
                await caller.close()


async def test_a_caller_is_heard_and_hears_and_gets_the_bots_messages() -> None:
    bot = StageBot(echo=True)
    async with served(bot) as url, calling(url) as [caller]:
        await caller.connect(request_data={"name": "Ada"})
        scene = await bot.scene()
        assert scene.arguments.body == {"name": "Ada"}
        await eventually(lambda: len(caller.of_type("bot-ready")) == 1, "bot-ready")
        await scene.speak(1)
        await eventually(lambda: caller.loudest > 4000, "the bot's tone at the caller")
        await eventually(lambda: scene.ears.heard_s > 1, "audio at the bot")
        await scene.caption(1, "hello", " wor")
        await eventually(lambda: len(caller.of_type("server-message")) == 1, "the caption")


async def test_a_started_session_keeps_its_name_and_its_body() -> None:
    bot = StageBot()
    async with served(bot) as url, aiohttp.ClientSession(url) as http:
        async with http.post("/start", json={"body": {"topic": "tides"}}) as response:
            started = await response.json()
        assert started["iceConfig"] == {"iceServers": []}
        async with calling(url, path=f"/sessions/{started['sessionId']}/api/offer") as [caller]:
            await caller.connect()
            scene = await bot.scene()
            assert scene.arguments.session_id == started["sessionId"]
            assert scene.arguments.body == {"topic": "tides"}
        async with calling(url, path="/sessions/other/api/offer") as [stranger]:
            assert (await stranger.offer())[0] == 404


async def start(http: aiohttp.ClientSession) -> str:
    async with http.post("/start", json={}) as response:
        return f"/sessions/{(await response.json())['sessionId']}/api/offer"


async def test_a_started_session_is_forgotten_once_used() -> None:
    bot = StageBot()
    async with served(bot) as url, aiohttp.ClientSession(url) as http:
        async with calling(url, 2, await start(http)) as [caller, late]:
            assert (await caller.post({"sdp": "no SDP", "type": "offer"}))[0] == 400
            await caller.connect()
            await bot.scene()
            await caller.close()
            await eventually(lambda: bot.open == 0, "the end of the session")

            async def forgotten() -> bool:
                return (await late.post({"sdp": "no SDP", "type": "offer"}))[0] == 404

            await eventually(forgotten, "the end of its name")


async def test_a_started_session_is_forgotten_when_it_is_not_used() -> None:
    async with (
        served(StageBot(), limits=Limits(started_s=0)) as url,
        aiohttp.ClientSession(url) as http,
        calling(url, path=await start(http)) as [late],
    ):
        assert (await late.offer())[0] == 404


async def test_a_body_to_remember_may_not_be_long() -> None:
    async with served(StageBot()) as url, aiohttp.ClientSession(url) as http:
        async with http.post("/start", json={"body": "x" * 5_000}) as response:
            assert response.status == 413
            assert (await response.json())["detail"].endswith(".")


async def test_candidates_may_come_after_the_answer() -> None:
    async with served(bot := StageBot()) as url, calling(url) as [caller]:
        await caller.pc.setLocalDescription(await caller.pc.createOffer())
        lines = caller.pc.localDescription.sdp.splitlines()
        candidates = [line.removeprefix("a=") for line in lines if line.startswith("a=candidate")]
        bare = [line for line in lines if not line.startswith(("a=candidate", "a=end-of"))]
        status, answer = await caller.post({"sdp": "\r\n".join([*bare, ""]), "type": "offer"})
        assert status == 200
        await caller.pc.setRemoteDescription(RTCSessionDescription(answer["sdp"], answer["type"]))
        trickled = [
            {"candidate": candidate, "sdp_mid": "0", "sdp_mline_index": 0}
            for candidate in [*dict.fromkeys(candidates), ""]
        ]
        status, _ = await caller.patch({"pc_id": answer["pc_id"], "candidates": trickled})
        assert status == 200
        await caller.opened.wait()
        await bot.scene()


async def test_speech_goes_on_over_a_restarted_connection() -> None:
    bot = StageBot()
    async with served(bot) as url, calling(url, 2) as [lost, again]:
        await lost.connect()
        scene = await bot.scene()
        await scene.speak(60)
        await eventually(lambda: lost.loudest > 4000, "the bot's tone at the caller")
        await again.connect(pc_id=lost.pc_id, restart_pc=True)
        await eventually(lambda: again.loudest > 4000, "the rest of the tone after it")


async def test_a_lost_connection_is_restarted_in_the_same_session() -> None:
    bot = StageBot()
    async with served(bot) as url, calling(url, 2) as [lost, again]:
        await lost.connect()
        scene = await bot.scene()
        scene.connected.clear()
        await again.connect(pc_id=lost.pc_id, restart_pc=True)
        assert again.pc_id != lost.pc_id
        await scene.connected.wait()
        await scene.message({"type": "hello"})
        await eventually(lambda: bool(again.of_type("server-message")), "a message after it")
        assert bot.open == 1
        assert not scene.left.is_set()
        # The old id is gone with the old connection.
        assert (await again.patch({"pc_id": lost.pc_id, "candidates": []}))[0] == 404


async def test_a_restart_that_fails_ends_the_session_and_forgets_it() -> None:
    sdp = PAST + "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\n"  # without a codec or a transport
    async with served(bot := StageBot()) as url:
        async with aiohttp.ClientSession(url) as http:
            async with http.post("/start", json={}) as response:
                path = f"/sessions/{(await response.json())['sessionId']}/api/offer"
        async with calling(url, path=path) as [caller]:
            await caller.connect()
            await bot.scene()
            bad = {"sdp": sdp, "type": "offer", "pc_id": caller.pc_id, "restart_pc": True}
            assert (await caller.post(bad))[0] == 400
            await eventually(lambda: bot.open == 0, "the end of the session")
            assert (await caller.patch({"pc_id": caller.pc_id, "candidates": []}))[0] == 404
            assert (await caller.post(bad))[0] == 404


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 422),
        ({"sdp": PAST, "type": "answer"}, 422),
        ({"sdp": 5, "type": "offer"}, 422),
        ([], 422),
        ({"sdp": "", "type": "offer"}, 400),
        ({"sdp": "no SDP", "type": "offer"}, 400),
        ({"sdp": PAST, "type": "offer"}, 400),
        ({"sdp": PAST + "m=audio x UDP/TLS/RTP/SAVPF 111\r\n", "type": "offer"}, 400),
        ({"sdp": PAST + "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\n", "type": "offer"}, 400),
        ({"sdp": PAST + "m=video 9 UDP/TLS/RTP/SAVPF 96\r\n", "type": "offer"}, 400),
        ({"sdp": PAST + "m=audio 9 UDP/TLS/RTP/SAVPF 0\r\n" * 9, "type": "offer"}, 400),
        ({"sdp": "v=0\r\n" * 20_000, "type": "offer"}, 413),
        ({"sdp": PAST, "type": "offer", "request_data": "x" * 300_000}, 413),
        ({"sdp": PAST + "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\n", "type": "offer", "pc_id": "?"}, 404),
    ],
)
async def test_an_offer_that_cannot_be_answered_gets_one_sentence_and_leaves_nothing(
    body: Any, status: int
) -> None:
    gc.collect()
    before = {id(item) for item in gc.get_objects() if type(item) is RTCPeerConnection}
    async with served(bot := StageBot()) as url, aiohttp.ClientSession(url) as http:
        async with http.post("/api/offer", json=body) as response:
            answer = await response.json()
            assert response.status == status, answer
        assert list(answer) == ["detail"]
        assert answer["detail"].endswith(".")
        assert "Traceback" not in answer["detail"]
        assert bot.open == 0
    gc.collect()
    left = [item for item in gc.get_objects() if type(item) is RTCPeerConnection]
    assert [
        item for item in left if id(item) not in before and item.connectionState != "closed"
    ] == []


async def test_a_body_that_is_no_json_is_refused() -> None:
    async with served(StageBot()) as url, aiohttp.ClientSession(url) as http:
        for content in (b"{", b"\xff\xfe", b"[" * 100_000):
            async with http.post("/api/offer", data=content) as response:
                assert response.status == 400
                assert await response.json() == {"detail": "The request is not JSON."}


async def test_bad_candidates_are_refused_and_the_call_goes_on() -> None:
    async with served(bot := StageBot(), limits=Limits(candidates=4)) as url:
        async with calling(url) as [caller]:
            await caller.connect()
            scene = await bot.scene()
            good = {"candidate": "1 1 udp 1 192.0.2.1 9 typ host", "sdp_mid": "0"}
            for candidates, status in (
                ([{"candidate": "rubbish", "sdp_mid": "0"}], 400),
                ([{"candidate": good["candidate"]}], 400),  # for which section?
                ([{"candidate": "x" * 2000}], 422),
                ("none", 422),
                ([good] * 3, 413),
            ):
                message = {"pc_id": caller.pc_id, "candidates": candidates}
                answer = await caller.patch(message)
                assert answer[0] == status, answer
                assert answer[1]["detail"].endswith(".")
            assert (await caller.patch({"pc_id": "unknown", "candidates": []}))[0] == 404
            await scene.message({"type": "still here"})
            await eventually(lambda: bool(caller.of_type("server-message")), "a message")


async def test_the_caller_after_the_last_place_is_refused_until_one_leaves() -> None:
    async with served(bot := StageBot(), max_sessions=1) as url:
        async with calling(url, 2) as [first, second]:
            await first.connect()
            await bot.scene()
            status, answer = await second.offer()
            assert status == 503
            assert "places on this server are taken" in answer["detail"]
            async with second.http.post("/start") as response:
                assert response.status == 503
            async with second.http.get("/status") as response:
                assert (await response.json())["status"] == "full"
            await first.close()
            await eventually(lambda: bot.open == 0, "the end of the first session")

            async def ready() -> bool:
                async with second.http.get("/status") as response:
                    return bool((await response.json())["status"] == "ready")

            await eventually(ready, "a free place")
            await second.connect()
            await bot.scene()


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        (None, 422),
        ("http://localhost:3000", 422),
        ("https://127.0.0.1", 422),
        ("http://[::1]:5173", 422),
        ("https://evil.example", 403),
        ("http://localhost.evil.example", 403),
        ("null", 403),
    ],
)
async def test_foreign_pages_may_not_call(origin: str | None, status: int) -> None:
    headers = {} if origin is None else {"Origin": origin}
    async with served(StageBot()) as url, aiohttp.ClientSession(url, headers=headers) as http:
        for path in ("/api/offer", "/sessions/x/api/offer"):
            async with http.post(path, json={}) as response:
                assert response.status == status
                assert (await response.json())["detail"]
        handshake = {"Connection": "Upgrade", "Upgrade": "websocket"}
        if status == 403:
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await http.ws_connect("/ws", headers=handshake)
            assert refused.value.status == 403
        async with http.get("/healthz") as response:
            assert response.status == 200


async def test_the_servers_own_pages_may_call_under_any_name() -> None:
    headers = {"Origin": "https://talk.example", "Host": "talk.example"}
    async with (
        served(StageBot(), host="0.0.0.0") as url,
        aiohttp.ClientSession(url, headers=headers) as http,
    ):
        async with http.post("/start", json={}) as response:
            assert response.status == 200


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("localhost:7860", True),
        ("127.0.0.1", True),
        ("127.8.9.10:1", True),
        ("[::1]:7860", True),
        ("talk.example", False),
        ("127.0.0.1.talk.example:7860", False),
        ("localhost.talk.example", False),
        ("192.0.2.1", False),
        ("[", False),
    ],
)
async def test_a_server_on_loopback_answers_to_loopback_names_only(host: str, local: bool) -> None:
    headers = {"Host": host, "Origin": f"http://{host}" if not local else "http://localhost"}
    async with served(StageBot()) as url, aiohttp.ClientSession(url, headers=headers) as http:
        async with http.get("/status") as response:
            assert response.status == (200 if local else 403)
        async with http.post("/start", json={}) as response:
            assert response.status == (200 if local else 403)
            assert local or (await response.json())["detail"].endswith(".")
        if local:
            await (await http.ws_connect("/ws")).close()
        else:
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await http.ws_connect("/ws")
            assert refused.value.status == 403


async def test_a_session_leaves_no_task_thread_or_connection() -> None:
    async with served(bot := StageBot(echo=True)) as url, aiohttp.ClientSession(url) as http:
        tasks, threads = set(asyncio.all_tasks()), set(threading.enumerate())
        connections = []
        for _ in range(3):
            caller = Caller(http)
            await caller.connect()
            scene = await bot.scene()
            connections.append(weakref.ref(scene.arguments.webrtc_connection))
            await scene.speak(0.2)
            await caller.close()
            await scene.left.wait()
            del caller, scene
        await eventually(lambda: bot.open == 0, "the end of the bots")
        await eventually(lambda: set(asyncio.all_tasks()) <= tasks, "the end of their tasks")

        def left() -> set[threading.Thread]:
            # The loop's own pool of threads is shared and stays.
            return {
                thread
                for thread in set(threading.enumerate()) - threads
                if not thread.name.startswith("asyncio_")
            }

        # Nothing here collects garbage: the server does, after the last session.
        await eventually(lambda: not left(), "the end of their threads")
        await eventually(lambda: all(ref() is None for ref in connections), "the connections' end")


async def test_a_caller_that_never_connects_is_given_up(log: list[str]) -> None:
    limits = Limits(connect_s=1, grace_s=1)
    async with served(bot := StageBot(stays=True), limits=limits) as url, calling(url) as [caller]:
        status, _ = await caller.offer()  # its answer is never used
        assert status == 200
        await eventually(lambda: bot.open == 1, "the session")
        await eventually(lambda: bot.open == 0, "the end of the session and its pipeline")
    assert any("no connection came up" in line for line in log)


async def test_a_bot_that_ignores_its_callers_leaving_is_cancelled(log: list[str]) -> None:
    async with served(bot := StageBot(stays=True), limits=Limits(grace_s=0.5)) as url:
        async with calling(url) as [caller]:
            await caller.connect()
            await bot.scene()
        await eventually(lambda: bot.open == 0, "the end of the bot")
    assert any("did not end with its caller" in line for line in log)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (RuntimeError("secret detail"), "The bot stopped because of an error."),
        (EngineOverloaded("All streams are taken."), "All streams are taken."),
    ],
)
async def test_a_bot_that_fails_ends_its_session_is_logged_and_the_caller_told(
    error: Exception, told: str, log: list[str]
) -> None:
    async def bot(arguments: Any) -> None:
        raise error

    async with served(bot) as url, calling(url) as [caller]:
        await caller.connect()
        await eventually(lambda: bool(caller.of_type("error")), "the error at the caller")
        [message] = caller.of_type("error")
        assert message["data"] == {"error": told, "fatal": True}
        await eventually(lambda: caller.pc.connectionState == "closed", "the end of the call")
    [line] = [line for line in log if "the bot failed" in line]
    assert line.startswith("ERROR")
    assert str(error) in line  # the traceback


async def test_a_bot_that_returns_hangs_up() -> None:
    async def bot(arguments: Any) -> None:
        pass

    async with served(bot) as url, calling(url) as [caller]:
        status, answer = await caller.offer()
        assert status == 200
        await caller.pc.setRemoteDescription(RTCSessionDescription(answer["sdp"], answer["type"]))

        async def forgotten() -> bool:
            message = {"pc_id": answer["pc_id"], "candidates": []}
            return (await caller.patch(message))[0] == 404

        await eventually(forgotten, "the end of the session")


def test_ice_servers_are_read_from_urls() -> None:
    assert ice_server("stun:stun.example").urls == "stun:stun.example"
    turn = ice_server("turn:user:p%40ss@turn.example:3478?transport=udp")
    assert turn.urls == "turn:turn.example:3478?transport=udp"
    assert (turn.username, turn.credential) == ("user", "p@ss")


@pytest.mark.parametrize("url", ["", "http://x", "stun", "turn:"])
def test_other_urls_are_no_ice_servers(url: str) -> None:
    with pytest.raises(ConfigError, match="no STUN or TURN URL"):
        ice_server(url)
