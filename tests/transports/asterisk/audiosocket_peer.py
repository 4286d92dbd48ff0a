"""Asterisk's end of AudioSocket, written from its source.

It sends the UUID and a frame every 20 ms, and gives what comes at once to the caller: a frame
that comes late is a gap. It ends the call when it is sent what it does not know.
"""

import asyncio
import contextlib
import socket
import uuid
from collections import deque
from collections.abc import AsyncIterator

import numpy as np
from numpy.typing import NDArray

from talkpath.transports.asterisk.audiosocket_messages import audio_message
from talkpath.transports.asterisk.formats import FORMATS

__all__ = ["Peer", "called"]

_FRAME_S = 0.02
_KINDS = {0x10: "slin", 0x12: "slin16", 0x18: "slin192"}


class Peer:
    """One call.

    Attributes:
        heard: frames with the event loop's time.
        voiced: how many of them were not silent.
        errors: what Asterisk would log as an error.
    """

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, format: str
    ) -> None:
        self.writer = writer
        self.format = FORMATS[format]
        self.id = uuid.uuid4()
        self.heard: list[tuple[float, bytes]] = []
        self.voiced = 0
        self.errors: list[str] = []
        self.reading = asyncio.Event()
        self.reading.set()
        self.hung_up = asyncio.Event()
        self._reader = reader
        self._say: deque[bytes] = deque()
        self._frame_bytes = round(self.format.rate_hz * _FRAME_S) * 2
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self.writer.write(b"\x01\x00\x10" + self.id.bytes)
        self._tasks = [asyncio.create_task(self._read()), asyncio.create_task(self._tick())]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.writer.close()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()

    def say(self, samples: NDArray[np.float32]) -> None:
        data = self.format.encode(samples)
        self._say += [
            data[at : at + self._frame_bytes].ljust(self._frame_bytes, b"\0")
            for at in range(0, len(data), self._frame_bytes)
        ]

    def press(self, key: str) -> None:
        self.writer.write(b"\x03\x00\x01" + key.encode())

    @property
    def sound(self) -> NDArray[np.float32]:
        """All that the caller heard, silent frames left out, float32."""
        return self.format.decode(b"".join(data for _, data in self.heard if any(data)))

    async def _read(self) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            while True:
                await self.reading.wait()
                header = await self._reader.readexactly(3)
                data = await self._reader.readexactly(int.from_bytes(header[1:], "big"))
                if header[0] == 0:
                    break
                if _KINDS.get(header[0]) != self.format.name or not data:
                    self.errors.append(f"message of kind {header[0]:#x} with {len(data)} bytes")
                    break
                self.heard.append((loop.time(), data))
                self.voiced += any(data)
        self.hung_up.set()

    async def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        due_s = loop.time()
        with contextlib.suppress(OSError):
            while not self.hung_up.is_set():
                frame = self._say.popleft() if self._say else bytes(self._frame_bytes)
                self.writer.write(audio_message(frame, self.format))
                await self.writer.drain()
                due_s += _FRAME_S
                await asyncio.sleep(due_s - loop.time())


@contextlib.asynccontextmanager
async def called(url: str, format: str = "slin") -> AsyncIterator[Peer]:
    """Call, and hang up at the end of the block."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    connection.setblocking(False)
    host, port = url.removeprefix("tcp://").split(":")
    await asyncio.get_running_loop().sock_connect(connection, (host, int(port)))
    peer = Peer(*await asyncio.open_connection(sock=connection, limit=8192), format)
    peer.start()
    try:
        yield peer
    finally:
        await peer.stop()
