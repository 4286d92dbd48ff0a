"""Asterisk's end of chan_websocket, written from its source.

A playback queue with marks at 800 and 900 frames, a timer that takes a frame every 20 ms, text
commands in either form and of 128 characters at most, frames cut off a message and the rest of
it thrown away, and a hangup when a ping comes.
"""

import asyncio
import base64
import contextlib
import json
from collections import deque
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode

from talkpath.transports.asterisk.formats import FORMATS

__all__ = ["Connection", "Peer", "called", "likeness", "loud_samples", "speech_like"]

_MAX, _XOFF, _XON = 1000, 900, 800
_FRAME_S = 0.02


class Connection(ClientConnection):
    """Counts the pings that come."""

    pings = 0

    def process_event(self, event: Any) -> None:
        if isinstance(event, Frame) and event.opcode is Opcode.PING:
            self.pings += 1
        super().process_event(event)


class Peer:
    """One channel.

    Args:
        socket: its connection.
        format: the channel's audio format.
        as_json: the form of its messages.

    Attributes:
        heard: what the caller heard, a frame each 20 ms, with the event loop's time.
        voiced: how many of them there was something in.
        commands: what the channel was told.
        thrown_away: bytes of audio that made no whole frame.
        longest: most frames in the queue.
    """

    def __init__(
        self,
        socket: ClientConnection | ServerConnection,
        format: str = "slin16",
        as_json: bool = True,
    ) -> None:
        self.socket = socket
        self.format = FORMATS[format]
        self.as_json = as_json
        self.frame_bytes = round(self.format.rate_hz * _FRAME_S) * self.format.sample_bytes
        self.heard: list[tuple[float, bytes]] = []
        self.voiced = 0
        self.commands: list[str] = []
        self.thrown_away = 0
        self.longest = 0
        self.reading = True
        self.hung_up = asyncio.Event()
        self._say: deque[bytes] = deque()
        self._queue: deque[bytes | str] = deque()
        self._full = self._paused = self._bulk = self._report = False
        self._leftover = b""
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Say MEDIA_START, and live."""
        await self._event(
            "MEDIA_START",
            connection_id="talkpath",
            channel="WebSocket/talkpath/0x1",
            channel_id="1761245643.1",
            format=self.format.name,
            optimal_frame_size=self.frame_bytes,
            ptime=20,
            **({"channel_variables": {"CALLERID": "100"}} if self.as_json else {}),
        )
        self._tasks = [asyncio.create_task(self._read()), asyncio.create_task(self._tick())]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def say(self, samples: NDArray[np.float32]) -> None:
        """Let the caller speak: float32 at the channel's rate."""
        data = self.format.encode(samples)
        data += self.format.silence * ((-len(data) % self.frame_bytes) // len(self.format.silence))
        self._say += [
            data[at : at + self.frame_bytes] for at in range(0, len(data), self.frame_bytes)
        ]

    @property
    def sound(self) -> NDArray[np.float32]:
        """All that the caller heard, silence left out, float32."""
        return self.format.decode(b"".join(data for _, data in self.heard if data))

    @property
    def queued(self) -> int:
        return sum(isinstance(item, bytes) for item in self._queue)

    async def press(self, key: str) -> None:
        await self._event("DTMF_END", digit=key, channel_id="1761245643.1")

    async def event(self, name: str) -> None:
        await self._event(name, **({"channel_id": "1761245643.1"} if self.as_json else {}))

    async def _event(self, name: str, **fields: Any) -> None:
        if self.as_json:
            text = json.dumps({"event": name, **fields})
        else:
            text = " ".join([name, *(f"{key}:{value}" for key, value in fields.items())])
        with contextlib.suppress(ConnectionClosed):
            await self.socket.send(text)

    async def _read(self) -> None:
        with contextlib.suppress(ConnectionClosed):
            async for message in self.socket:
                if getattr(self.socket, "pings", 0):
                    break
                if isinstance(message, bytes):
                    await self._media(message)
                else:
                    await self._command(message)
        self.hung_up.set()
        await self.socket.close()

    async def _media(self, message: bytes) -> None:
        if self.queued >= _MAX:
            return
        data = self._leftover + message if self._bulk else message
        whole = len(data) // self.frame_bytes * self.frame_bytes
        for at in range(0, whole, self.frame_bytes):
            self._queue.append(data[at : at + self.frame_bytes])
        self._leftover = data[whole:] if self._bulk else b""
        self.thrown_away += 0 if self._bulk else len(data) - whole
        self.longest = max(self.longest, self.queued)
        if self.queued >= _XOFF and not self._full:
            self._full = True
            await self.event("MEDIA_XOFF")

    async def _command(self, text: str) -> None:
        if len(text) > 128:
            return
        if self.as_json:
            content = json.loads(text)
            name, identifier = content["command"], content.get("correlation_id", "")
        else:
            name, _, identifier = text.strip().partition(" ")
        self.commands.append(name)
        match name:
            case "HANGUP":
                await self.socket.close()
            case "START_MEDIA_BUFFERING":
                self._bulk = True
            case "STOP_MEDIA_BUFFERING":
                self._bulk, rest, self._leftover = False, self._leftover, b""
                self._queue += [rest] if rest else []
                self._queue.append(f"MEDIA_BUFFERING_COMPLETED {identifier}")
            case "MARK_MEDIA":
                self._queue.append(f"MEDIA_MARK_PROCESSED {identifier}")
            case "FLUSH_MEDIA":
                self._queue.clear()
                self._bulk, self._leftover = False, b""
            case "PAUSE_MEDIA":
                self._paused = True
            case "CONTINUE_MEDIA":
                self._paused = False
            case "REPORT_QUEUE_DRAINED":
                self._report = True
            case "GET_STATUS":
                await self._event("STATUS", queue_length=self.queued, xon_level=_XON)

    async def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        due_s = loop.time()
        with contextlib.suppress(ConnectionClosed):
            while True:
                due_s += _FRAME_S
                await asyncio.sleep(due_s - loop.time())
                frame = self._say.popleft() if self._say else self._silence()
                await self.socket.send(frame)
                await self._play(loop.time())

    def _silence(self) -> bytes:
        return self.format.silence * (self.frame_bytes // self.format.sample_bytes)

    async def _play(self, now_s: float) -> None:
        if self._paused:
            self.heard.append((now_s, b""))
            return
        if self._full and self.queued < _XON:
            self._full = False
            await self.event("MEDIA_XON")
        while self._queue and isinstance(self._queue[0], str):
            name, _, identifier = str(self._queue.popleft()).partition(" ")
            await self._event(name, correlation_id=identifier)
        self.voiced += bool(self._queue)
        self.heard.append((now_s, bytes(self._queue.popleft()) if self._queue else b""))  # type: ignore[arg-type]
        if self._report and not self._queue:
            self._report = False
            await self.event("QUEUE_DRAINED")


@contextlib.asynccontextmanager
async def called(
    url: str,
    format: str = "slin16",
    *,
    as_json: bool = True,
    credentials: str = "",
    headers: dict[str, str] | None = None,
) -> AsyncIterator[Peer]:
    """Connect as websocket_client.conf says, and hang up at the end of the block."""
    headers = dict(headers or {})
    if credentials:
        headers["Authorization"] = "Basic " + base64.b64encode(credentials.encode()).decode()
    connection = connect(
        url.replace("http", "ws") + "/asterisk?dialled=100",
        subprotocols=["media"],  # type: ignore[list-item]
        additional_headers=headers,
        compression=None,
        ping_interval=None,
        create_connection=Connection,
    )
    async with connection as socket:
        assert socket.subprotocol == "media"
        peer = Peer(socket, format, as_json)
        await peer.start()
        try:
            yield peer
        finally:
            await peer.stop()


def speech_like(seconds: float, rate_hz: int) -> NDArray[np.float32]:
    """A tone that rises from 300 to 1,500 Hz: no two moments of it are alike."""
    time_s = np.arange(round(seconds * rate_hz)) / rate_hz
    sweep = 300 * time_s + 600 * time_s**2 / seconds
    return (0.4 * np.sin(2 * np.pi * sweep)).astype(np.float32)


def likeness(heard: NDArray[np.float32], spoken: NDArray[np.float32]) -> float:
    """Highest normalised correlation of what was spoken within what was heard, 0 to 1.

    Gaps that a busy machine tore, filled up with silence, are closed: what counts is that no
    sample is missing, and none is another one.
    """
    heard = _closed_up(heard)
    size = 1 << (len(heard) + len(spoken)).bit_length()
    product = np.fft.irfft(np.fft.rfft(heard, size) * np.conj(np.fft.rfft(spoken, size)))
    return float(np.abs(product).max() / (np.linalg.norm(heard) * np.linalg.norm(spoken)))


def _closed_up(sound: NDArray[np.float32], run: int = 8) -> NDArray[np.float32]:
    """Without the runs of silence."""
    quiet = np.convolve(np.abs(sound) < 5e-4, np.ones(run), "valid") > run - 0.5
    return sound[np.convolve(quiet, np.ones(run))[: len(sound)] < 0.5]


def loud_samples(sound: NDArray[np.float32]) -> int:
    """How many samples are no silence."""
    return int((np.abs(sound) > 0.1).sum())
