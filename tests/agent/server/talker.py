"""A client without a socket: it drives a session, and keeps what the session sends."""

import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from talkpath.agent.audio import FloatArray, Resampler, float_to_pcm16
from talkpath.agent.server.protocols.baseten import BasetenCodec
from talkpath.agent.server.protocols.codec import Close, Codec, Send
from talkpath.agent.server.protocols.openai_realtime import RealtimeCodec
from talkpath.agent.server.service import Service
from talkpath.agent.server.session import Session
from tests.agent.whisper.helpers import until

__all__ = ["Talker", "baseten", "realtime"]


class Talker:
    """Speaks to a session as a client would, only faster."""

    def __init__(self, service: Service, codec: Codec) -> None:
        self.sent: list[dict[str, Any]] = []
        self.close: Close | None = None
        self.session = Session(service, codec, self._emit)

    def _emit(self, item: Send | Close) -> None:
        assert self.close is None, "nothing comes after a close"
        if isinstance(item, Close):
            self.close = item
        else:
            self.sent.append(json.loads(item.text))

    async def say(self, message: object) -> None:
        await self.session.text(json.dumps(message))

    def of(self, kind: str) -> list[dict[str, Any]]:
        """Messages whose type ends so."""
        return [message for message in self.sent if message["type"].endswith(kind)]

    async def wait_for(self, kind: str, count: int = 1) -> list[dict[str, Any]]:
        await until(lambda: len(self.of(kind)) >= count or self.close)
        return self.of(kind)

    @property
    def transcripts(self) -> list[str]:
        """Of the finals: Baseten's or OpenAI's."""
        return [
            " ".join(segment["text"] for segment in message["segments"])
            for message in self.of("transcription")
            if message["is_final"]
        ] or [message["transcript"] for message in self.of(".completed")]


@asynccontextmanager
async def baseten(service: Service, **configuration: Any) -> AsyncIterator["BasetenTalker"]:
    """A client of Baseten's protocol, configured."""
    talker = BasetenTalker(service, BasetenCodec(service.engine.languages))
    try:
        await talker.session.opened()
        await talker.say({"whisper_params": {"audio_language": "en"}, **configuration})
        yield talker
    finally:
        talker.session.close()


class BasetenTalker(Talker):
    """Sends 16-bit PCM at 16 kHz in binary frames."""

    async def speak(self, *parts: FloatArray, frame_bytes: int = 1024) -> None:
        for part in parts:
            pcm = float_to_pcm16(part)
            for start in range(0, len(pcm), frame_bytes):
                await self.session.binary(pcm[start : start + frame_bytes])

    async def end(self) -> None:
        """End the audio and wait for the last final."""
        await self.say({"type": "end_audio"})
        await self.wait_for("end_audio", 2)


@asynccontextmanager
async def realtime(
    service: Service, turn_detection: object, **transcription: object
) -> AsyncIterator["RealtimeTalker"]:
    """A client of OpenAI's protocol, configured."""
    talker = RealtimeTalker(service, RealtimeCodec(languages=service.engine.languages))
    try:
        await talker.session.opened()
        wanted = {"model": "whisper-1", "language": "en", **transcription}
        source = {"transcription": wanted, "turn_detection": turn_detection}
        session = {"type": "transcription", "audio": {"input": source}}
        await talker.say({"type": "session.update", "session": session})
        yield talker
    finally:
        talker.session.close()


class RealtimeTalker(Talker):
    """Sends 16-bit PCM at 24 kHz in base64."""

    def __init__(self, service: Service, codec: Codec) -> None:
        super().__init__(service, codec)
        self._resampler = Resampler(16_000, 24_000)

    async def speak(self, *parts: FloatArray, frame_bytes: int = 4800) -> None:
        for part in parts:
            pcm = float_to_pcm16(self._resampler.process(part))
            for start in range(0, len(pcm), frame_bytes):
                audio = base64.b64encode(pcm[start : start + frame_bytes]).decode()
                await self.say({"type": "input_audio_buffer.append", "audio": audio})

    async def commit(self) -> None:
        await self.say({"type": "input_audio_buffer.commit"})

    async def clear(self) -> None:
        await self.say({"type": "input_audio_buffer.clear"})
