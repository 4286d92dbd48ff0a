"""The server stops before all is done: every client is told so, and the log stays readable."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from talkpath.agent.audio import float_to_pcm16
from talkpath.agent.models import ModelStore
from tests.agent.server.process import WAIT_S, process
from tests.browser import eventually
from tests.speech import clip, join, write_wav

SPOKEN = clip("librivox-0930")
TRANSCRIPTIONS = "/v1/audio/transcriptions"
CONFIGURATION = {
    "whisper_params": {"audio_language": "en"},
    "streaming_params": {"enable_partial_transcripts": True},
}


@pytest.fixture(autouse=True)
def whisper() -> None:
    ModelStore().pull("tiny.en")


@pytest.fixture(scope="module")
def minutes(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A recording that takes longer than any of these tests."""
    sound = join(["librivox-0880", "librivox-0930", "librivox-0870"] * 30, gap_s=1.0)
    path: Path = write_wav(tmp_path_factory.mktemp("sound") / "long.wav", sound)
    return path.read_bytes()


async def _never_ending(sound: bytes) -> AsyncIterator[bytes]:
    yield sound[:100_000]
    await asyncio.Event().wait()


class _Uploads:
    """Three recordings: one on its way, one being decoded, and one whose text comes in pieces."""

    def __init__(self, http: aiohttp.ClientSession, sound: bytes) -> None:
        self._http = http
        self._speaking = asyncio.Event()
        self.answers = [
            asyncio.create_task(self._ask(_never_ending(sound))),
            asyncio.create_task(self._ask(sound)),
        ]
        self.events = asyncio.create_task(self._stream(sound))

    async def begun(self) -> None:
        await self._speaking.wait()
        await eventually(self._all_there, "all of them under way")

    async def _all_there(self) -> bool:
        async with self._http.get("/metrics") as response:
            return f"talkpath_server_live_uploads {len(self.answers) + 1}" in await response.text()

    async def _ask(self, sound: bytes | AsyncIterator[bytes]) -> tuple[int, Any]:
        async with self._http.post(TRANSCRIPTIONS, data=_form(sound)) as response:
            return response.status, await response.json()

    async def _stream(self, sound: bytes) -> list[dict[str, Any]]:
        found = []
        data = _form(sound, stream="true")
        async with self._http.post(TRANSCRIPTIONS, data=data) as response:
            assert response.status == 200
            async for line in response.content:
                if line.startswith(b"data: "):
                    found.append(json.loads(line.removeprefix(b"data: ")))
                    self._speaking.set()
        return found

    async def check(self) -> None:
        """All of them are told why there is no transcript."""
        for answer in self.answers:
            status, body = await answer
            assert status == 503
            assert set(body["error"]) == {"message", "type", "param", "code"}
            assert body["error"]["code"] == "server_overloaded"
            assert "about to stop" in body["error"]["message"]
        *deltas, last = await self.events
        assert deltas and {delta["type"] for delta in deltas} == {"transcript.text.delta"}
        assert (last["type"], last["error"]["code"]) == ("error", "server_overloaded")


def _form(sound: bytes | AsyncIterator[bytes], **fields: str) -> aiohttp.FormData:
    data = aiohttp.FormData(fields)
    data.add_field("file", sound, filename="speech.wav", content_type="audio/wav")
    return data


def _is_clean(log: str) -> bool:
    return not any(bad in log for bad in ("Traceback", "ERROR", "Cancel "))


@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")
async def test_recordings_that_take_longer_than_they_may_are_told_so(minutes: bytes) -> None:
    async with (
        asyncio.timeout(2 * WAIT_S),
        process("--drain", "0.5") as server,
        aiohttp.ClientSession(server.url) as http,
    ):
        uploads = _Uploads(http, minutes)
        await uploads.begun()
        server.process.send_signal(signal.SIGTERM)
        await uploads.check()
        code, log = await server.end()
    assert code == 0
    assert "stopping: 0 streams and 3 recordings have 0.5 s to end" in log
    assert "3 recordings given up" in log
    assert _is_clean(log), log


async def _in_the_middle_of_a_sentence(client: ClientConnection) -> None:
    pcm = float_to_pcm16(SPOKEN.samples())
    await client.send(json.dumps(CONFIGURATION))
    await client.send(pcm[: len(pcm) // 2])
    while json.loads(await client.recv()).get("is_final") is not False:
        pass


async def _rest(client: ClientConnection) -> list[dict[str, Any]]:
    found = []
    try:
        while True:
            found.append(json.loads(await client.recv()))
    except ConnectionClosed:
        return found


@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")
async def test_a_second_signal_ends_all_at_once_and_everybody_is_told(minutes: bytes) -> None:
    async with (
        asyncio.timeout(2 * WAIT_S),
        process("--drain", "1000") as server,
        aiohttp.ClientSession(server.url) as http,
        connect(f"ws{server.url[4:]}/websocket", compression=None) as client,
    ):
        await _in_the_middle_of_a_sentence(client)
        uploads = _Uploads(http, minutes)
        await uploads.begun()
        server.process.send_signal(signal.SIGINT)

        async def draining() -> bool:
            async with http.get("/readyz") as response:
                return response.status == 503

        await eventually(draining, "a draining server")
        server.process.send_signal(signal.SIGINT)
        *_, last = await _rest(client)
        assert (last["type"], client.close_code) == ("error", 1012)
        assert client.close_reason == "this server is about to stop"
        await uploads.check()
        code, log = await server.end()
    assert code == 0
    assert "another signal stops at once" in log
    assert _is_clean(log), log
