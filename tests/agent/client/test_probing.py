"""The question before there is a stream: would a server take it?"""

import asyncio

import pytest

from talkpath.agent.client import ClientConfig, probe, probing
from talkpath.agent.errors import ConfigError, ServersRefused
from tests.agent.server.serving import serving, the_service
from tests.agent.whisper.helpers import until

ENGLISH = ClientConfig(language="en")


async def test_one_server_that_would_take_the_stream_is_enough_and_no_place_stays_taken(
    free_port: int, caplog: pytest.LogCaptureFixture
) -> None:
    absent = f"127.0.0.1:{free_port}"
    before = asyncio.all_tasks()
    async with the_service({"whisper.max_streams": 1}) as service, serving(service) as url:
        assert await probe([f"ws://{absent}", url], ENGLISH)
        await until(lambda: service.engine.streams == 0)
        assert await probe([url], ENGLISH)
    assert f"{absent}: cannot be reached" in caplog.text
    await until(lambda: asyncio.all_tasks() <= before)


async def test_servers_that_are_away_may_come_later(free_port: int) -> None:
    assert not await probe([f"ws://127.0.0.1:{free_port}"], ENGLISH)
    async with serving({"serve.port": free_port}) as url:
        assert await probe([url], ENGLISH)


async def test_a_server_that_never_answers_is_as_good_as_none(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(probing, "_PROBE_S", 0.2)
    closing = asyncio.Event()

    async def ignore(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await closing.wait()
        writer.close()

    async with await asyncio.start_server(ignore, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        assert not await probe([f"ws://{host}:{port}"], ENGLISH)
        closing.set()
    assert f"{host}:{port}: no answer within 0.2 s" in caplog.text


async def test_a_key_that_no_server_takes_is_an_error_and_that_one_does_is_none(
    free_port: int,
) -> None:
    async with serving({"serve.api_keys": ("right",)}) as first, serving() as second:
        with pytest.raises(ServersRefused, match="401"):
            await probe([first], ENGLISH, api_key="wrong")
        assert await probe([first], ENGLISH, api_key="right")
        assert await probe([first, second], ENGLISH, api_key="wrong")
        # The other one may be of use once it is there.
        assert not await probe([first, f"ws://127.0.0.1:{free_port}"], ENGLISH, api_key="wrong")


async def test_a_wish_that_no_server_can_grant_is_an_error() -> None:
    async with serving() as url:
        with pytest.raises(ServersRefused, match="does not know that language"):
            await probe([url], ClientConfig(language="tlh"))


async def test_what_is_no_url_is_told() -> None:
    with pytest.raises(ConfigError, match="is no URL"):
        await probe(["gpu-1:8000"])
