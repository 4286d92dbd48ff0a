"""Carriers as they document themselves: what each sends over its WebSocket, and what it plays."""

import asyncio
import base64
import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from talkpath.agent.audio import FloatArray, float_to_pcm16, mulaw_to_float, pcm16_to_float

_MULAW = mulaw_to_float(bytes(range(256)))

NOBODY = "00000000-0000-0000-0000-000000000000"


@dataclass(frozen=True)
class Carrier:
    """One carrier's protocol.

    Attributes:
        name: its path.
        rate_hz: samples a second.
        opening: its first messages.
        linear: whether it sends 16-bit samples, else mu-law.
        binary: whether audio comes as bytes, else as base64 in JSON.
    """

    name: str
    opening: Sequence[dict[str, Any]]
    rate_hz: int = 8_000
    linear: bool = False
    binary: bool = False

    def media(self, samples: FloatArray) -> str | bytes:
        """What it sends for a piece of the caller's speech."""
        data = float_to_pcm16(samples) if self.linear else mulaw(samples)
        if self.binary:
            return data
        media = {"track": "inbound", "payload": base64.b64encode(data).decode()}
        return json.dumps({"event": "media", "sequence_number": 2, "media": media})

    def key(self, digit: str) -> str:
        """What it sends for a key that the caller presses."""
        if self.name == "vonage":
            return json.dumps({"event": "websocket:dtmf", "digit": digit, "duration": 260})
        if self.name == "genesys":
            return json.dumps(genesys("dtmf", 2, {"digit": digit}))
        return json.dumps({"event": "dtmf", "dtmf": {"digit": digit}})

    def heard(self, message: str | bytes) -> FloatArray | None:
        """The audio in a message of ours; None where there is none."""
        if isinstance(message, str):
            content = json.loads(message)
            if content.get("event") not in ("media", "playAudio"):
                return None
            message = base64.b64decode(content["media"]["payload"])
        return (pcm16_to_float if self.linear else mulaw_to_float)(message)

    def is_clear(self, message: str | bytes) -> bool:
        """Whether a message of ours drops what the carrier has not played yet."""
        if isinstance(message, bytes):
            return False
        content = json.loads(message)
        if self.name == "genesys":
            entities = content.get("parameters", {}).get("entities", [])
            return [entity["type"] for entity in entities] == ["barge_in"]
        return content.get("event", content.get("action")) in ("clear", "clearAudio")


def mulaw(samples: FloatArray) -> bytes:
    """The byte of G.711 that stands for the nearest value, for each sample."""
    nearest = np.abs(_MULAW[None, :] - samples[:, None]).argmin(axis=1)
    return bytes(nearest.astype(np.uint8))


def genesys(kind: str, seq: int, parameters: dict[str, Any]) -> dict[str, Any]:
    """A message of AudioHook 2."""
    return {
        "version": "2",
        "type": kind,
        "seq": seq,
        "serverseq": 0,
        "id": "e160e428-53e2-487c-977d-96989bf5c99d",
        "position": "PT0S",
        "parameters": parameters,
    }


def genesys_open(conversation: str = "c-1") -> dict[str, Any]:
    media = [
        {"type": "audio", "format": "PCMU", "channels": channels, "rate": 8000}
        for channels in (["external"], ["internal"])
    ]
    return genesys(
        "open",
        1,
        {
            "organizationId": "org-1",
            "conversationId": conversation,
            "participant": {"id": "p", "ani": "+4930111", "aniName": "Ada", "dnis": "+4930222"},
            "media": media,
            "language": "en-US",
            "inputVariables": {"campaign": "7"},
        },
    )


CONNECTED = {"event": "connected", "protocol": "Call", "version": "1.0.0"}
TWILIO_START = {
    "event": "start",
    "sequenceNumber": "1",
    "streamSid": "MZ1",
    "start": {
        "accountSid": "AC1",
        "streamSid": "MZ1",
        "callSid": "CA1",
        "tracks": ["inbound"],
        "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
        "customParameters": {"campaign": "7"},
    },
}
TELNYX_START = {
    "event": "start",
    "sequence_number": "1",
    "stream_id": "32DE",
    "start": {
        "user_id": "u-1",
        "call_control_id": "v3:1",
        "from": "+4930111",
        "to": "+4930222",
        "media_format": {"encoding": "PCMU", "sample_rate": 8000, "channels": 1},
        "custom_parameters": {"campaign": "7"},
    },
}
PLIVO_START = {
    "event": "start",
    "sequenceNumber": 0,
    "start": {
        "callId": "ca-1",
        "streamId": "st-1",
        "accountId": "MA1",
        "tracks": ["inbound"],
        "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000},
    },
    "extra_headers": "campaign=7",
}
EXOTEL_START = {
    "event": "start",
    "sequence_number": 1,
    "stream_sid": "ex-1",
    "start": {
        "stream_sid": "ex-1",
        "call_sid": "ec-1",
        "account_sid": "exotel-1",
        "from": "+4930111",
        "to": "+4930222",
        "custom_parameters": {"campaign": "7"},
        "media_format": {"encoding": "base64", "sample_rate": "8000", "bit_rate": "128kbps"},
    },
}
VONAGE_START = {
    "event": "websocket:connected",
    "content-type": "audio/l16;rate=16000",
    "campaign": "7",
}

CARRIERS = {
    carrier.name: carrier
    for carrier in (
        Carrier("twilio", [CONNECTED, TWILIO_START]),
        Carrier("telnyx", [CONNECTED, TELNYX_START]),
        Carrier("plivo", [PLIVO_START]),
        Carrier("exotel", [CONNECTED, EXOTEL_START], linear=True),
        Carrier("vonage", [VONAGE_START], rate_hz=16_000, linear=True, binary=True),
        Carrier("genesys", [genesys_open()], binary=True),
    )
}


class Line:
    """A call that a carrier brought: keeps all that it is sent."""

    def __init__(self, carrier: Carrier, socket: ClientConnection) -> None:
        self.carrier = carrier
        self.socket = socket
        self.messages: list[str | bytes] = []
        self._task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        with contextlib.suppress(ConnectionClosed):  # the call is refused, or cut off
            async for message in self.socket:
                self.messages.append(message)

    async def open(self) -> None:
        """Announce the call."""
        for message in self.carrier.opening:
            await self.socket.send(json.dumps(message))

    async def talk(self, speech: FloatArray) -> None:
        """Send speech as fast as it is spoken, 20 ms at a time."""
        size = self.carrier.rate_hz // 50
        begun = asyncio.get_running_loop().time()
        for number, at in enumerate(range(0, len(speech) - size + 1, size)):
            await asyncio.sleep(begun + number * 0.02 - asyncio.get_running_loop().time())
            await self.socket.send(self.carrier.media(speech[at : at + size]))

    def audio(self, since: int = 0) -> list[FloatArray]:
        """The audio of the messages from one on, one array a message."""
        heard = (self.carrier.heard(message) for message in self.messages[since:])
        return [samples for samples in heard if samples is not None]

    def sound(self, since: int = 0) -> FloatArray:
        """The same in one piece."""
        return np.concatenate([np.zeros(0, dtype=np.float32), *self.audio(since)])

    def clear_at(self) -> int | None:
        """Which message dropped what was not played yet."""
        found = (at for at, item in enumerate(self.messages) if self.carrier.is_clear(item))
        return next(found, None)

    async def close(self) -> None:
        await self.socket.close()
        await asyncio.wait({self._task})
