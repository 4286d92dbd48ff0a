"""A program that calls over a WebSocket, in Pipecat's protobuf frames."""

import asyncio
import json
from typing import Any

import numpy as np
from pipecat.frames.protobufs import frames_pb2 as protobufs
from websockets.asyncio.client import ClientConnection

__all__ = ["RATE_HZ", "READY", "Ear", "audio", "message"]

RATE_HZ = 16_000


def audio(data: bytes, rate_hz: int = RATE_HZ, channels: int = 1) -> bytes:
    """16-bit PCM as a frame for the server."""
    frame = protobufs.Frame()  # type: ignore[attr-defined]
    frame.audio.audio = data
    frame.audio.sample_rate = rate_hz
    frame.audio.num_channels = channels
    return bytes(frame.SerializeToString())


def message(content: dict[str, Any]) -> bytes:
    frame = protobufs.Frame()  # type: ignore[attr-defined]
    frame.message.data = json.dumps(content)
    return bytes(frame.SerializeToString())


READY = message(
    {
        "label": "rtvi-ai",
        "type": "client-ready",
        "id": "1",
        "data": {"version": "2.2.0", "about": {"library": "test"}},
    }
)


class Ear:
    """Reads everything the server sends."""

    def __init__(self, socket: ClientConnection) -> None:
        self.loudest = 0
        self.sound = bytearray()
        self.messages: list[dict[str, Any]] = []
        self._task = asyncio.create_task(self._read(socket))

    async def _read(self, socket: ClientConnection) -> None:
        async for data in socket:
            frame = protobufs.Frame.FromString(data)  # type: ignore[attr-defined]
            if frame.WhichOneof("frame") == "audio":
                self.sound += frame.audio.audio
                samples = np.frombuffer(frame.audio.audio, "<i2")
                self.loudest = max(self.loudest, int(np.abs(samples).max(initial=0)))
            elif frame.WhichOneof("frame") == "message":
                self.messages.append(json.loads(frame.message.data))

    def got(self, kind: str) -> bool:
        return any(message["type"] == kind for message in self.messages)

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.wait({self._task})
