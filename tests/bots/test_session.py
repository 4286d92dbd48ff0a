"""What comes before the callers: a bot's models, or the servers it hears through."""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import ClientSession
from loguru import logger

from talkpath.agent.config import load_config
from talkpath.agent.errors import ServersRefused
from talkpath.agent.runtime import Runtime, set_runtime
from talkpath.bots.session import prepare_speech
from tests.agent.server.serving import serving


async def run(tmp_path: Path, port: int, model: str) -> asyncio.subprocess.Process:
    command = ["-m", "talkpath.bots.captions", "-t", "webrtc", "--host", "127.0.0.1"]
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *command,
        "--port",
        str(port),
        cwd=tmp_path,
        env=os.environ | {"TALKPATH_WHISPER_MODEL": model},
        stderr=asyncio.subprocess.PIPE,
    )


async def test_a_bot_without_its_model_lets_nobody_in(tmp_path: Path, free_port: int) -> None:
    process = await run(tmp_path, free_port, str(tmp_path / "nowhere"))
    _, errors = await asyncio.wait_for(process.communicate(), 300)
    assert process.returncode
    assert "nowhere" in errors.decode()
    assert "Uvicorn running" not in errors.decode()


async def test_a_bot_lets_callers_in_with_its_model_and_ends_when_it_is_told_to(
    tmp_path: Path, free_port: int
) -> None:
    process = await run(tmp_path, free_port, "tiny.en")
    assert process.stderr is not None
    async with asyncio.timeout(300):
        while b"Uvicorn running" not in await process.stderr.readline():
            assert process.returncode is None
        async with ClientSession() as session:
            async with session.get(f"http://127.0.0.1:{free_port}/status") as response:
                assert response.status == 200
        process.terminate()
        _, errors = await process.communicate()
    assert b"Application shutdown complete" in errors
    assert b"Traceback" not in errors


@contextlib.asynccontextmanager
async def hearing_through(url: str, key: str | None = None) -> AsyncIterator[list[str]]:
    """Settings with a server; gives the warnings."""
    warnings: list[str] = []
    sink = logger.add(warnings.append, level="WARNING", format="{level}: {message}")
    settings = {"whisper.servers": (url,), "whisper.api_key": key, "whisper.model": "/no/model"}
    runtime = Runtime(load_config(settings, environ={}))
    set_runtime(runtime)
    try:
        yield warnings
    finally:
        set_runtime(None)
        await runtime.aclose()
        logger.remove(sink)


async def test_a_server_that_cannot_be_reached_is_warned_of_at_the_start(free_port: int) -> None:
    url = f"ws://127.0.0.1:{free_port}"
    async with hearing_through(url) as warnings:
        await prepare_speech()
        (warning,) = warnings
        assert warning.startswith("WARNING: No speech-to-text server is available now")
        assert url in warning
        async with serving({"serve.port": free_port}):
            await prepare_speech()
        assert len(warnings) == 1


async def test_a_wrong_key_for_the_servers_is_an_error_at_the_start() -> None:
    async with serving({"serve.api_keys": ("right",)}) as url:
        async with hearing_through(url, "wrong"):
            with pytest.raises(ServersRefused, match="401"):
                await prepare_speech()
        async with hearing_through(url, "right") as warnings:
            await prepare_speech()
            assert not warnings
