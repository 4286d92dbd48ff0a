"""A bot under Pipecat's own runner: its models come before its callers."""

import asyncio
import os
import sys
from pathlib import Path

from aiohttp import ClientSession


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
    _, errors = await asyncio.wait_for(process.communicate(), 120)
    assert process.returncode
    assert "nowhere" in errors.decode()
    assert "Uvicorn running" not in errors.decode()


async def test_a_bot_lets_callers_in_with_its_model_and_ends_when_it_is_told_to(
    tmp_path: Path, free_port: int
) -> None:
    process = await run(tmp_path, free_port, "tiny.en")
    assert process.stderr is not None
    async with asyncio.timeout(120):
        while b"Uvicorn running" not in await process.stderr.readline():
            assert process.returncode is None
        async with ClientSession() as session:
            async with session.get(f"http://127.0.0.1:{free_port}/status") as response:
                assert response.status == 200
        process.terminate()
        _, errors = await process.communicate()
    assert b"Application shutdown complete" in errors
    assert b"Traceback" not in errors
