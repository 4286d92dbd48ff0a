"""The speech-to-text server's WebSockets: real sockets, and everything that can go wrong on one."""

import asyncio
import base64
import contextlib
import json
import logging
import re
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from talkpath.agent.audio import float_to_pcm16
from talkpath.agent.server.protocols.baseten import BasetenCodec
from tests.agent.server.serving import serving, the_service
from tests.agent.whisper.helpers import WAIT_S, until
from tests.speech import clip, silence, word_error_rate

NAME = "librivox-0930"
BASETEN, REALTIME = "/environments/production/websocket", "/v1/realtime?intent=transcription"
CONFIGURATION = {
    "whisper_params": {"audio_language": "en"},
    "streaming_params": {"enable_partial_transcripts": True},
}


def speech() -> bytes:
    return float_to_pcm16(clip(NAME).samples()) + float_to_pcm16(silence(0.5))


def right(*texts: str) -> bool:
    return word_error_rate([clip(NAME).text], [" ".join(texts)]) <= 0.3


@contextlib.asynccontextmanager
async def dial(url: str, path: str = BASETEN, **options: Any) -> AsyncIterator[ClientConnection]:
    """A client that waits as long as a test may last."""
    address = url.replace("http", "ws", 1) + path
    dialling = connect(
        address, compression=None, open_timeout=WAIT_S, ping_interval=None, **options
    )
    async with asyncio.timeout(WAIT_S), dialling as client:
        yield client


async def say(client: ClientConnection, message: object) -> None:
    await client.send(json.dumps(message))


async def hear(client: ClientConnection) -> list[dict[str, Any]]:
    """All messages to the end of the connection, or to the end of the audio."""
    heard: list[dict[str, Any]] = []
    with contextlib.suppress(ConnectionClosed):
        async for message in client:
            heard.append(json.loads(message))
            if heard[-1].get("body") == {"status": "finished"}:
                break
    return heard


def finals(heard: list[dict[str, Any]]) -> list[str]:
    return [
        " ".join(segment["text"] for segment in message["segments"])
        for message in heard
        if message.get("is_final")
    ]


async def transcribed(client: ClientConnection) -> list[str]:
    """What one sentence became, over a connection that was not used before."""
    await say(client, CONFIGURATION)
    pcm = speech()
    for start in range(0, len(pcm), 1024):
        await client.send(pcm[start : start + 1024])
    await say(client, {"type": "end_audio"})
    return finals(await hear(client))


# -- what goes well --------------------------------------------------------------------------


@pytest.mark.parametrize("path", [BASETEN, "/websocket"])
async def test_both_paths_speak_basetens_protocol(path: str) -> None:
    async with serving() as url, dial(url, path) as client:
        assert right(*await transcribed(client))


async def test_the_query_tells_togethers_dialect_from_openais() -> None:
    together = "/v1/realtime?model=openai/whisper-large-v3&input_audio_format=pcm_s16le_16000"
    async with serving() as url:
        async with dial(url, together) as client:
            created = json.loads(await client.recv())
            assert created["session"]["modalities"] == ["audio"]
            for start in range(0, len(speech()), 3200):
                audio = base64.b64encode(speech()[start : start + 3200]).decode()
                await say(client, {"type": "input_audio_buffer.append", "audio": audio})
            async for text in client:
                message = json.loads(text)
                if message["type"].endswith(".completed"):
                    break
            assert right(message["transcript"])
        async with dial(url, REALTIME) as client:
            created = json.loads(await client.recv())
            assert created["session"]["type"] == "transcription"


async def test_older_clients_of_openais_are_answered_in_the_older_shape() -> None:
    async with serving() as url:
        async with dial(url, REALTIME, additional_headers={"OpenAI-Beta": "realtime=v1"}) as client:
            assert json.loads(await client.recv())["type"] == "transcription_session.created"
        offered = [Subprotocol(name) for name in ("realtime", "openai-beta.realtime-v1")]
        async with dial(url, REALTIME, subprotocols=offered) as client:
            assert client.subprotocol == "realtime"
            assert json.loads(await client.recv())["type"] == "transcription_session.created"


@pytest.mark.parametrize(
    "query", ["intent=conversation", "input_audio_format=pcm_s16le_16000&threshold=2"]
)
async def test_a_wrong_query_is_refused_before_the_connection(query: str) -> None:
    async with serving() as url:
        with pytest.raises(InvalidStatus) as refused:
            async with dial(url, f"/v1/realtime?{query}"):
                pass
        assert refused.value.response.status_code == 400
        body = json.loads(refused.value.response.body)
        assert query.split("=")[0] in body["error"]["message"] or "threshold" in str(body)


# -- faults ----------------------------------------------------------------------------------


async def test_ten_thousand_pieces_of_garbage_are_answered_and_the_session_goes_on() -> None:
    async with serving() as url, dial(url, REALTIME) as client:

        async def flood() -> None:
            for number in range(10_000):
                await client.send(f'{{"garbage": {number}' if number % 2 else "\x00 {{{")
            turns = {"audio": {"input": {"turn_detection": None}}}
            update = {"type": "session.update", "session": {"type": "transcription", **turns}}
            await say(client, update)

        flooding = asyncio.create_task(flood())
        errors = 0
        async for text in client:
            kind = json.loads(text)["type"]
            errors += kind == "error"
            if kind == "session.updated":
                break
        await flooding
        assert errors == 10_000


async def test_one_long_answer_does_not_count_as_a_client_that_does_not_read() -> None:
    prompt = "x" * 300_000
    session = {"type": "transcription", "audio": {"input": {"transcription": {"prompt": prompt}}}}
    async with serving() as url, dial(url, REALTIME) as client:
        assert json.loads(await client.recv())["type"] == "session.created"
        for _ in range(3):
            await say(client, {"type": "session.update", "session": session})
            assert prompt in await client.recv()


@pytest.mark.parametrize("values", ["[]," * 2_000_000, '{"a":[1]},' * 500_000])
async def test_megabytes_of_values_are_not_read_as_json(values: str) -> None:
    long = f'{{"type": "x", "values": [{values}1]}}'
    async with serving() as url:
        async with dial(url, REALTIME) as client:
            await client.recv()
            await client.send(long)
            assert "more values" in json.loads(await client.recv())["error"]["message"]
        async with dial(url) as client:
            await client.send(long)
            (error,) = await hear(client)
            assert "too much" in error["message"]
            assert client.close_code == 1003


async def test_garbage_ends_a_connection_of_basetens_after_a_hundred_errors() -> None:
    async with serving() as url, dial(url) as client:
        await say(client, CONFIGURATION)
        for _ in range(200):
            with contextlib.suppress(ConnectionClosed):
                await client.send("no JSON")
        heard = await hear(client)
        assert len(heard) == 100
        assert client.close_code == 1008


async def test_audio_before_a_configuration_closes_and_a_second_configuration_does_not() -> None:
    async with serving() as url:
        async with dial(url) as client:
            await client.send(bytes(1024))
            (error,) = await hear(client)
            assert "configuration" in error["body"]["error"]
            assert client.close_code == 1003
        async with dial(url) as client:
            await say(client, CONFIGURATION)
            await client.send(bytes(1024))
            assert right(*await transcribed(client))


async def test_audio_after_the_end_is_dropped_and_said_to_be_once() -> None:
    async with serving() as url, dial(url) as client:
        await transcribed(client)
        for _ in range(20):
            await client.send(bytes(1024))
        await say(client, {"type": "health_check"})
        kinds = [json.loads(await client.recv())["type"] for _ in range(2)]
        assert kinds == ["error", "health_check"]


async def test_a_message_of_a_hundred_megabytes_closes_with_1009() -> None:
    async with serving() as url, dial(url, max_size=None) as client:
        await say(client, CONFIGURATION)
        with contextlib.suppress(ConnectionClosed):
            await client.send(bytes(100 * 2**20))
        await hear(client)
        assert client.close_code in (1009, 1006)  # or the reset that our sending met
        async with dial(url) as other:
            assert right(*await transcribed(other))


async def test_a_hundred_of_two_hundred_get_a_place_and_the_others_a_reason() -> None:
    async with the_service({"whisper.max_streams": 100}) as service, serving(service) as url:
        async with contextlib.AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(dial(url)) for _ in range(200)]
            await until(lambda: service.metrics.denied.value == 100)
            refused = 0
            for client in clients[100:]:
                (error,) = await hear(client)
                refused += client.close_code == 1013 and "100 streams" in error["message"]
            assert refused == 100
            assert service.admission.streams == 100
            assert right(*await transcribed(clients[0]))
        await until(lambda: not service.admission.streams)


async def test_streams_of_one_key_have_a_limit_of_their_own() -> None:
    settings = {"serve.api_keys": ("one", "two"), "serve.max_streams_per_key": 1}
    async with serving(settings) as url, contextlib.AsyncExitStack() as stack:

        async def take(key: str) -> ClientConnection:
            headers = {"Authorization": f"Api-Key {key}"}
            return await stack.enter_async_context(dial(url, additional_headers=headers))

        first = await take("one")
        await say(first, {"type": "health_check"})
        await first.recv()
        (error,) = await hear(await take("one"))
        assert "1 streams of this key" in error["message"]
        assert right(*await transcribed(await take("two")))


async def test_the_log_has_a_line_for_each_stream_that_ended(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    keys = tmp_path / "keys.txt"
    keys.write_text("sesame Ann of sales\n")
    keys.chmod(0o600)

    def lines() -> list[str]:
        return [
            re.sub(r"\d+\.\d s", "N s", record.getMessage())
            for record in caplog.records
            if record.getMessage().startswith("stream ended")
        ]

    settings = {"serve.api_keys_file": str(keys)}
    headers = {"Authorization": "Bearer sesame"}
    async with the_service(settings) as service, serving(service) as url:
        async with dial(url, additional_headers=headers) as client:
            await client.send(bytes(1024))  # before a configuration
            await hear(client)
        async with dial(url, REALTIME, additional_headers=headers) as client:
            await client.recv()
        await until(lambda: len(lines()) == 2)
    assert lines() == [
        "stream ended: baseten, key 'Ann of sales', N s, closed with 1003",
        "stream ended: openai, key 'Ann of sales', N s, the client left",
    ]
    assert "sesame" not in caplog.text


async def test_a_connection_on_which_nothing_comes_is_closed() -> None:
    async with serving({"serve.idle_s": 0.3}) as url, dial(url) as client:
        with contextlib.suppress(ConnectionClosed):  # where this takes longer than that
            await say(client, CONFIGURATION)
        (error,) = await hear(client)
        assert "nothing came for 0.3 s" in error["message"]
        assert client.close_code == 1001


async def test_a_client_that_vanished_without_a_word_gives_its_place_back() -> None:
    """No FIN, no RST: as a machine that lost its power. Only silence tells."""
    configuration = _frame(json.dumps(CONFIGURATION).encode())
    async with the_service({"serve.idle_s": 0.5}) as service, serving(service) as url:
        ended = 0
        # On a slow machine even the configuration may come too late: then once more.
        while not service.engine.statistics.opened:
            async with _handshake(url, BASETEN) as raw:
                await asyncio.get_running_loop().sock_sendall(raw, configuration)
                ended += 1
                await until(lambda: service.metrics.closed.values.get("idle") == ended)  # noqa: B023
                await until(lambda: not service.engine.streams and not service.admission.streams)


async def test_a_client_that_leaves_in_a_long_message_gives_its_place_back() -> None:
    async with the_service({"serve.ahead_s": 1.0}) as service, serving(service) as url:
        async with dial(url) as client:
            await say(client, CONFIGURATION)
            await client.send(bytes(32_000 * 200))  # it is read at the speed of speech
            await until(lambda: service.metrics.held_back.value)
        await until(lambda: not service.admission.streams)
        assert not service.engine.streams


async def test_a_client_that_never_reads_is_closed_and_others_do_not_notice() -> None:
    async with (
        the_service({"serve.stalled_s": 0.5}) as service,
        serving(service) as url,
        _handshake(url, REALTIME, receive_bytes=4096) as raw,
    ):
        loop = asyncio.get_running_loop()
        garbage = _frame(b"x" * 100) * 100

        async def flood() -> None:
            with contextlib.suppress(OSError):
                while True:
                    await loop.sock_sendall(raw, garbage)

        flooding = asyncio.create_task(flood())
        try:
            await until(lambda: service.metrics.closed.values.get("slow_reader"))
            async with dial(url) as other:
                assert right(*await transcribed(other))
            await until(lambda: not service.admission.streams)
        finally:
            flooding.cancel()
            await asyncio.gather(flooding, return_exceptions=True)


@pytest.mark.parametrize("method", ["binary", "speech_started", "final"])
async def test_a_broken_codec_is_an_internal_error_for_one_and_nothing_for_others(
    monkeypatch: pytest.MonkeyPatch,
    method: str,
) -> None:
    def fail(self: object, *args: object) -> list[object]:
        raise RuntimeError("a defect")

    async with serving() as url:
        async with dial(url) as client, dial(url, REALTIME) as other:
            await say(client, CONFIGURATION)
            with monkeypatch.context() as patch:
                patch.setattr(BasetenCodec, method, fail)
                await client.send(speech())
                *_, error = await hear(client)  # maybe after partials
            assert error["message"] == "internal error"
            assert client.close_code == 1011
            assert json.loads(await other.recv())["type"] == "session.created"


@contextlib.asynccontextmanager
async def _handshake(url: str, path: str, receive_bytes: int = 0) -> AsyncIterator[socket.socket]:
    """A WebSocket on a bare TCP connection, on which nothing is read unless a test does it."""
    host, port = urlsplit(url).hostname or "", urlsplit(url).port or 0
    loop = asyncio.get_running_loop()
    with socket.socket() as raw:
        if receive_bytes:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        raw.setblocking(False)
        await loop.sock_connect(raw, (host, port))
        await loop.sock_sendall(
            raw,
            f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode(),
        )
        assert (await loop.sock_recv(raw, 12)) == b"HTTP/1.1 101"
        yield raw


def _frame(payload: bytes) -> bytes:
    """A text frame, masked with zeros (RFC 6455, section 5.2)."""
    length = len(payload)
    size = bytes([0x80 | length]) if length < 126 else bytes([0xFE]) + length.to_bytes(2, "big")
    return b"\x81" + size + bytes(4) + payload
