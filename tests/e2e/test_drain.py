"""SIGTERM under load: nothing of what was said is lost."""

import asyncio
import json
import signal
import time

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from talkpath.agent.audio import float_to_pcm16
from talkpath.agent.models import ModelStore
from tests.agent.server.process import WAIT_S, process
from tests.speech import clip, silence, word_error_rate

STREAMS = 6
NAMES = ("librivox-0930", "librivox-0870")
CONFIGURATION = {
    "whisper_params": {"audio_language": "en"},
    "streaming_params": {"enable_partial_transcripts": True},
}


@pytest.fixture(autouse=True)
def whisper() -> None:
    ModelStore().pull("tiny.en")


class _Caller:
    """Says two sentences in real time and then nothing, for as long as it is let."""

    def __init__(self, client: ClientConnection) -> None:
        self._client = client
        self.in_second = asyncio.Event()
        self.texts: list[str] = []

    async def listen(self) -> None:
        try:
            async for text in self._client:
                message = json.loads(text)
                if message.get("is_final"):
                    self.texts += [segment["text"] for segment in message["segments"]]
        except ConnectionClosed:
            pass

    async def speak(self) -> None:
        await self._client.send(json.dumps(CONFIGURATION))
        first, second = (float_to_pcm16(clip(name).samples()) for name in NAMES)
        middle = len(first) + 32_000 + len(second) // 2
        pcm = first + float_to_pcm16(silence(1.0)) + second
        began, sent = time.monotonic(), 0
        try:
            while True:
                part = pcm[sent : sent + 1024] or bytes(1024)
                await self._client.send(part)
                sent += len(part)
                if sent >= middle:
                    self.in_second.set()
                await asyncio.sleep(max(0.0, began + sent / 32_000 - time.monotonic()))
        except ConnectionClosed:
            pass


async def test_what_is_being_said_at_sigterm_is_transcribed_to_its_end() -> None:
    async with process("--drain", str(WAIT_S)) as server, asyncio.timeout(2 * WAIT_S):
        address = server.url.replace("http", "ws", 1) + "/websocket"
        clients = [await connect(address, compression=None) for _ in range(STREAMS)]
        callers = [_Caller(client) for client in clients]
        tasks = [
            asyncio.create_task(work)
            for caller in callers
            for work in (caller.listen(), caller.speak())
        ]
        for caller in callers:
            await caller.in_second.wait()
        server.process.send_signal(signal.SIGTERM)
        await asyncio.gather(*tasks)
        code, log = await server.end()
    assert code == 0
    assert f"stopping: {STREAMS} streams" in log
    assert {client.close_code for client in clients} == {1012}
    words = " ".join(clip(name).text for name in NAMES)
    assert all(word_error_rate([words], [" ".join(each.texts)]) <= 0.25 for each in callers)
