"""Peers that are programs of their own: started, watched, ended."""

import asyncio
import contextlib
import os
import secrets
import shutil
import signal
import socket
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

__all__ = ["Program", "find", "free_port", "free_ports", "listens", "program", "run"]

_END_S = 5.0

_PORTS = range(10_000, 16_000)
# Below those that the telephone has for sound, and those that the system gives out by itself: who
# asks for any port cannot be given one of these in the meantime.


def find(name: str) -> str:
    """A program's path; without it, the test is skipped (and fails where nothing may be)."""
    path = shutil.which(name, path=os.environ.get("PATH", os.defpath) + ":/usr/sbin")
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


def free_port() -> int:
    """A port of 127.0.0.1 that nobody has, UDP and TCP, for programs that must be told one."""
    return free_ports(1)


def free_ports(count: int) -> int:
    """The first of so many of them side by side; it is even."""
    while True:
        first = secrets.choice(_PORTS[::2])
        if all(_is_free(first + number) for number in range(count)):
            return first


def listens(port: int) -> bool:
    """Whether a program has taken its UDP port."""
    return not _is_free(port, socket.SOCK_DGRAM)


def _is_free(port: int, *kinds: socket.SocketKind) -> bool:
    for kind in kinds or (socket.SOCK_DGRAM, socket.SOCK_STREAM):
        with socket.socket(socket.AF_INET, kind) as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                return False
    return True


class Program:
    """A program that runs, and the lines that it has written."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._news = asyncio.Event()
        self.text = ""

    @property
    def code(self) -> int | None:
        """Its exit code, once it has ended."""
        return self._process.returncode

    async def read(self) -> None:
        """Collect what it writes, to its end."""
        assert self._process.stdout is not None
        while data := await self._process.stdout.read(65536):
            self.text += data.decode("utf-8", "replace")
            self._news.set()
        await self._process.wait()
        self._news.set()

    async def says(self, *any_of: str, within_s: float = 60.0, past: int = 0) -> None:
        """Wait until it has written one of these, from a place in its text on."""
        try:
            async with asyncio.timeout(within_s):
                while not any(part in self.text[past:] for part in any_of):
                    assert self.code is None, f"it ended without {any_of}:\n{self.text[-3000:]}"
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(f"it never said {any_of}:\n{self.text[-3000:]}") from None

    async def send(self, line: str) -> None:
        """Type a line."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n".encode())
        await self._process.stdin.drain()

    async def ended(self, within_s: float) -> int:
        """Wait for its end; gives the exit code."""
        try:
            return await asyncio.wait_for(self._process.wait(), within_s)
        except TimeoutError:
            raise AssertionError(f"it did not end:\n{self.text[-3000:]}") from None


@contextlib.asynccontextmanager
async def program(
    command: Sequence[str], folder: Path, *, end_with: signal.Signals = signal.SIGTERM
) -> AsyncIterator[Program]:
    """Run a command inside the block, with a folder as its own and as its home."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=folder,
        env=os.environ | {"HOME": str(folder)},
    )
    running = Program(process)
    reader = asyncio.create_task(running.read())
    try:
        yield running
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(end_with)
        try:
            await asyncio.wait_for(process.wait(), _END_S)
        except TimeoutError:
            process.kill()
        await reader


async def run(command: Sequence[str], folder: Path, within_s: float) -> Program:
    """Run a command to its end."""
    async with program(command, folder) as running:
        await running.ended(within_s)
    return running
