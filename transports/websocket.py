"""Calls over a WebSocket: Pipecat's protobuf frames, checked before they enter a pipeline.

A caller may send audio two seconds ahead of real time. One who is faster is held back: its
messages are not read until time has caught up. A message holds one second of audio at most.
"""

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from fastapi import WebSocket
from loguru import logger
from pipecat.frames.frames import Frame, InputAudioRawFrame
from pipecat.runner.types import WebSocketRunnerArguments
from pipecat.serializers.protobuf import ProtobufFrameSerializer
from pipecat.transports.base_transport import BaseTransport
from pipecat.transports.websocket.fastapi import (
    FastAPIWebsocketOutputTransport,
    FastAPIWebsocketTransport,
)
from starlette.websockets import WebSocketState

from talkpath.agent.carriers import HandshakeError
from talkpath.agent.errors import AudioError
from talkpath.transports.holding import HoldingOutput
from talkpath.transports.resampling import StreamResampler, resample_shortly
from talkpath.transports.sessions import Bot, Limits, Refused, Sessions, apology, attend, until_over
from talkpath.transports.transferring import WithoutTransfers

__all__ = ["CHUNKS", "CallerSerializer", "Pace", "WebSocketCalls", "with_hold"]

CHUNKS = 2
"""Chunk of audio sent at once, in units of 10 ms.

A caller has between one chunk and two in hand, and plays them whatever happens here: the bot
is silent so much later than it was told to be. With Pipecat's 40 ms that was 40 to 80 ms.
"""

_Message = MutableMapping[str, Any]
_POLICY_VIOLATION, _TRY_AGAIN_LATER = 1008, 1013  # RFC 6455's registry of close codes
_RATES_HZ = range(8_000, 96_001)
_AHEAD_S = 2.0
_LONGEST_S = 1.0


class Pace:
    """Holds a caller back who sends audio faster than it is spoken."""

    def __init__(self) -> None:
        self._heard_until = 0.0  # monotonic time at which all audio so far has been spoken

    async def keep(self, seconds: float) -> None:
        """Take so much audio; returns once it is at most two seconds ahead of time.

        Raises:
            AudioError: more than one second at once.
        """
        if seconds > _LONGEST_S:
            raise AudioError(f"{seconds:.1f} s of audio in one message")
        now = time.monotonic()
        self._heard_until = max(self._heard_until, now) + seconds
        await asyncio.sleep(max(0.0, self._heard_until - now - _AHEAD_S))


class CallerSerializer(ProtobufFrameSerializer):
    """Protobuf frames from a caller that is not trusted.

    A message that is no usable frame is dropped and the session goes on; the first is logged
    as a warning. Audio must be 16-bit mono PCM; another sample rate than the pipeline's is
    converted. One serializer serves one connection.
    """

    def __init__(self) -> None:
        super().__init__()
        self._rate_hz = 0
        self._pace = Pace()
        self._dropped = 0
        self._resampler = StreamResampler()

    async def setup(self, setup: Any) -> None:  # a FrameProcessorSetup
        """Learn the pipeline's input rate."""
        await super().setup(setup)
        self._rate_hz = setup.audio_in_sample_rate

    async def deserialize(self, data: str | bytes) -> Frame | None:
        """Read one message; None for one that is no usable frame.

        While this waits, the transport reads no further message.
        """
        try:
            if isinstance(data, str):
                raise AudioError("a text message where protobuf is spoken")
            frame = await super().deserialize(data)
            if isinstance(frame, InputAudioRawFrame):
                frame = await self._checked(frame)
        except Exception as error:  # protobuf's parser has no error of its own to name
            level = "DEBUG" if self._dropped else "WARNING"
            logger.log(level, "dropped a WebSocket message: {}", error)
            self._dropped += 1
            return None
        return frame

    async def _checked(self, frame: InputAudioRawFrame) -> InputAudioRawFrame:
        if frame.num_channels != 1:
            raise AudioError(f"audio of {frame.num_channels} channels; it must be mono")
        if frame.sample_rate not in _RATES_HZ:
            raise AudioError(f"audio at {frame.sample_rate} Hz")
        if len(frame.audio) % 2:
            raise AudioError(f"{len(frame.audio)} bytes of audio are no 16-bit samples")
        await self._pace.keep(len(frame.audio) / 2 / frame.sample_rate)
        if not self._rate_hz or frame.sample_rate == self._rate_hz:
            return frame
        audio = await self._resampler.resample(frame.audio, frame.sample_rate, self._rate_hz)
        return InputAudioRawFrame(audio=audio, sample_rate=self._rate_hz, num_channels=1)


class _HoldingOutput(HoldingOutput, FastAPIWebsocketOutputTransport):
    """Sends nothing while it is held; what was sent until then, the caller has."""


class _TelephoneOutput(WithoutTransfers, _HoldingOutput):
    """The same, to a carrier."""


def with_hold(transport: BaseTransport, *, telephone: bool = False) -> BaseTransport:
    """Give a WebSocket transport an output that can be held, and a serializer with little delay.

    Others are left as they are.

    Args:
        transport: just made.
        telephone: whether a carrier is there, which cannot transfer calls; a page or a program
            is told where to connect, and does so by itself.
    """
    if isinstance(transport, FastAPIWebsocketTransport):
        if transport._params.serializer is not None:
            resample_shortly(transport._params.serializer)
        output = _TelephoneOutput if telephone else _HoldingOutput
        transport._output = output(
            transport, transport._client, transport._params, name=transport._output_name
        )
    return transport


class WebSocketCalls:
    """ASGI endpoint: every WebSocket is a session of the bot.

    Args:
        bot: called once for every connection.
        sessions: where they run.
        limits: times granted.
    """

    def __init__(self, bot: Bot, sessions: Sessions, limits: Limits) -> None:
        self._bot = bot
        self._sessions = sessions
        self._limits = limits

    async def __call__(
        self,
        scope: _Message,
        receive: Callable[[], Awaitable[_Message]],
        send: Callable[[_Message], Awaitable[None]],
    ) -> None:
        """Serve one connection until its session ends."""
        gone = asyncio.Event()

        async def watched() -> _Message:
            message = await receive()
            if message["type"] == "websocket.disconnect":
                gone.set()
            return message

        websocket = WebSocket(scope, watched, send)
        await websocket.accept()
        try:
            with self._sessions.slot():
                session = self._sessions.start(
                    session_id := uuid.uuid4().hex, self._converse(websocket, session_id, gone)
                )
        except Refused as refusal:
            await websocket.close(_TRY_AGAIN_LATER, str(refusal))
            return
        await until_over(session)

    async def arguments(
        self, websocket: WebSocket, session_id: str
    ) -> WebSocketRunnerArguments | None:
        """What the bot is called with; None where there is nothing for it to do.

        Raises:
            HandshakeError: what the caller said first makes no sense.
        """
        return WebSocketRunnerArguments(
            websocket=websocket, transport_type="websocket", session_id=session_id
        )

    async def _converse(self, websocket: WebSocket, session_id: str, gone: asyncio.Event) -> None:
        try:
            arguments = await self.arguments(websocket, session_id)
        except HandshakeError as reason:
            logger.warning("session {}: {}", session_id, reason)
            if not gone.is_set():
                await websocket.close(_POLICY_VIOLATION, str(reason)[:120])
            return
        if arguments is None:
            return
        error = await attend(self._bot, arguments, gone.wait(), self._limits)
        if gone.is_set() or websocket.application_state is not WebSocketState.CONNECTED:
            return
        if error is None:
            await websocket.close()
        else:
            await websocket.close(1011, apology(error)["data"]["error"][:120])
