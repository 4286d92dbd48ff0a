"""``talkpath serve`` in a process of its own, as users start it."""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator

__all__ = ["Process", "process", "started"]

WAIT_S = 120  # until a hanging test fails: the machine may be slow, and not ours alone
_TALKPATH = "import sys; from talkpath.bots.cli import main; sys.exit(main())"


class Process:
    """A server that listens.

    Attributes:
        process: it.
        url: where, without a slash at the end.
    """

    def __init__(self, process: asyncio.subprocess.Process, url: str) -> None:
        self.process = process
        self.url = url

    async def end(self) -> tuple[int | None, str]:
        """Wait for it to end by itself; give exit code and log."""
        async with asyncio.timeout(WAIT_S):
            out, log = await self.process.communicate()
        assert out == b""
        return self.process.returncode, log.decode()


@contextlib.asynccontextmanager
async def process(*arguments: str) -> AsyncIterator[Process]:
    """Run a server inside the block, on a free port, with the smallest English model."""
    async with started("--port", "0", *arguments) as running:
        assert running.stdout is not None
        async with asyncio.timeout(WAIT_S):
            line = (await running.stdout.readline()).decode()
        start = "talkpath: speech-to-text is listening at "
        assert line.startswith(start + "http://127.0.0.1:")
        yield Process(running, line.removeprefix(start).strip())


@contextlib.asynccontextmanager
async def started(*arguments: str, **environ: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Start a server that may not be ready yet, or never will."""
    running = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _TALKPATH, "serve"),
        *("--model", "tiny.en", "--language", "en", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **environ},
    )
    try:
        yield running
    finally:
        if running.returncode is None:
            running.kill()
            await running.wait()
