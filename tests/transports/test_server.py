"""The server as a process sees it: start, page files, stop."""

import asyncio
import gc
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import aiohttp
import pytest

from talkpath.agent.config import Config, ServerConfig
from talkpath.agent.errors import ConfigError
from talkpath.transports.server import serve
from tests.browser import eventually
from tests.transports.stage import StageBot, served
from tests.transports.test_signalling import calling

SCRIPT = """
import asyncio
import sys
from loguru import logger
from talkpath.agent.config import Config, ServerConfig
from talkpath.transports.server import serve

async def bot(arguments):
    await asyncio.Event().wait()

async def main():
    try:
        await serve(bot, Config(server=ServerConfig(port=0)), name="idler")
    finally:
        sys.stdout.write("cleaned up\\n")

asyncio.run(main())
"""


async def test_the_page_and_its_files_have_their_types_and_a_strict_policy() -> None:
    async with served(StageBot()) as url, aiohttp.ClientSession(url) as http:
        for path, kind in (
            ("/", "text/html; charset=utf-8"),
            ("/app.js", "text/javascript; charset=utf-8"),
            ("/style.css", "text/css; charset=utf-8"),
            ("/favicon.svg", "image/svg+xml"),
        ):
            async with http.get(path) as response:
                assert response.status == 200
                assert response.headers["Content-Type"] == kind
                assert response.headers["Cache-Control"] == "no-cache"
                assert response.headers["X-Content-Type-Options"] == "nosniff"
                policy = response.headers["Content-Security-Policy"]
                assert policy.startswith("default-src 'none'; script-src 'self';")
                assert "unsafe" not in policy
                assert await response.read()
                tag = response.headers["ETag"]
            async with http.get(path, headers={"If-None-Match": tag}) as response:
                assert response.status == 304
        for path in ("/no-such-file.js", "/docs", "/openapi.json", "/%2e%2e/signalling.py"):
            async with http.get(path) as response:
                assert response.status == 404


async def test_nobody_is_let_in_before_all_is_prepared(free_port: int) -> None:
    prepared = asyncio.Event()
    listening = asyncio.Event()
    server = asyncio.create_task(
        serve(
            StageBot(),
            Config(server=ServerConfig(port=free_port)),
            prepare=lambda: prepared.wait(),  # type: ignore[arg-type, return-value]
            on_listening=lambda url: listening.set(),
        )
    )
    await asyncio.sleep(0)
    with pytest.raises(OSError):
        await asyncio.open_connection("127.0.0.1", free_port)
    assert not listening.is_set()
    prepared.set()
    await listening.wait()
    _, writer = await asyncio.open_connection("127.0.0.1", free_port)
    writer.close()
    await writer.wait_closed()
    server.cancel()
    with pytest.raises(asyncio.CancelledError):
        await server


async def test_what_was_loaded_is_frozen_before_callers_come_also_without_a_prepare() -> None:
    frozen: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    gc.unfreeze()
    config = Config(server=ServerConfig(port=0))
    server = asyncio.create_task(
        serve(StageBot(), config, on_listening=lambda _: frozen.set_result(gc.get_freeze_count()))
    )
    assert await frozen > 0
    server.cancel()
    await asyncio.wait({server})


async def test_a_taken_port_is_one_sentence_and_nothing_is_prepared() -> None:
    async def prepare() -> None:
        raise AssertionError("this takes long and was for nothing")

    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        with pytest.raises(ConfigError, match=f"cannot listen at 127.0.0.1 port {port} .*--port"):
            await serve(StageBot(), Config(server=ServerConfig(port=port)), prepare=prepare)


async def test_a_host_that_does_not_exist_is_one_sentence() -> None:
    with pytest.raises(ConfigError, match=r"cannot listen at 'no\.such\.host\.invalid'"):
        await serve(StageBot(), Config(server=ServerConfig(host="no.such.host.invalid")))


async def test_open_sessions_end_with_the_server() -> None:
    bot = StageBot()
    async with served(bot) as url, calling(url) as [caller]:
        await caller.connect()
        scene = await bot.scene()
        tasks = asyncio.all_tasks()
        [server] = [task for task in tasks if task.get_name() == "server under test"]
        server.cancel()
        await asyncio.wait({server})
        assert bot.open == 0
        assert scene.worker.has_finished()
        # The caller is told, and does not have to find out.
        await eventually(
            lambda: {"type": "peerLeft"} in [item.get("message") for item in caller.messages],
            "the message that the server left",
        )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_ends_the_server_with_a_call_open_and_lets_the_program_clean_up(
    number: int, tmp_path: Path
) -> None:
    script = tmp_path / "idler.py"
    script.write_text(SCRIPT)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(script),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONWARNINGS": ""},
    )
    assert process.stdout is not None
    async with asyncio.timeout(60):
        line = (await process.stdout.readline()).decode()
    start = "talkpath: idler is listening at "
    assert line.startswith(start + "http://127.0.0.1:")
    async with calling(line.removeprefix(start).strip()) as [caller]:
        await caller.connect()
        process.send_signal(number)
        async with asyncio.timeout(60):
            rest, log = await process.communicate()
    assert rest.decode() == "cleaned up\n"
    assert process.returncode == 0
    assert "Traceback" not in log.decode()
