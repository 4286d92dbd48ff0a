"""One way from a runner's arguments to a transport, for every runner.

The same bot then runs under ``talkpath run`` and under Pipecat's own runner.
"""

from typing import Any

from pipecat.runner.types import SmallWebRTCRunnerArguments, WebSocketRunnerArguments
from pipecat.runner.utils import create_transport as create_other_transport
from pipecat.transports.base_transport import BaseTransport, TransportParams
from pipecat.transports.websocket.fastapi import FastAPIWebsocketParams, FastAPIWebsocketTransport

from talkpath.transports.asterisk.channel import AsteriskArguments
from talkpath.transports.asterisk.transport import AsteriskTransport
from talkpath.transports.carriers import CarrierArguments, carrier_transport
from talkpath.transports.inprocess import InProcessArguments, InProcessTransport
from talkpath.transports.sip.session import SipRunnerArguments
from talkpath.transports.webrtc.media import WebRTCTransport
from talkpath.transports.websocket import CHUNKS, CallerSerializer, with_hold

__all__ = ["create_transport"]

_TELEPHONY = ("twilio", "telnyx", "plivo", "exotel")


async def create_transport(runner_args: Any, *, audio_out: bool = True) -> BaseTransport:
    """Make the transport of a session.

    Args:
        runner_args: what the runner called the bot with.
        audio_out: whether the bot ever speaks.

    Returns:
        A transport with audio in, and audio out if ``audio_out``. Carriers have paths of their
        own under ``talkpath run``; under Pipecat's runner it recognises them itself. Its output
        can be held (``talkpath.transports.holding``) over WebRTC, SIP and every WebSocket.

    Raises:
        ValueError: Pipecat knows no transport for these arguments.
    """
    if isinstance(runner_args, InProcessArguments):
        return InProcessTransport(runner_args.line, audio_out=audio_out)
    if isinstance(runner_args, AsteriskArguments):
        return AsteriskTransport(runner_args.channel, audio_out=audio_out)
    if isinstance(runner_args, SipRunnerArguments):
        return runner_args.make_transport(audio_out=audio_out)
    if isinstance(runner_args, SmallWebRTCRunnerArguments):
        return WebRTCTransport(
            runner_args.webrtc_connection, audio_in_enabled=True, audio_out_enabled=audio_out
        )
    if isinstance(runner_args, CarrierArguments):
        return carrier_transport(runner_args, audio_out=audio_out)
    if isinstance(runner_args, WebSocketRunnerArguments) and (
        runner_args.transport_type == "websocket"
    ):
        params = FastAPIWebsocketParams(
            audio_in_enabled=True,
            audio_out_enabled=audio_out,
            audio_out_10ms_chunks=CHUNKS,
            serializer=CallerSerializer(),
        )
        return with_hold(FastAPIWebsocketTransport(runner_args.websocket, params))

    def telephony() -> FastAPIWebsocketParams:
        return FastAPIWebsocketParams(audio_in_enabled=True, audio_out_enabled=audio_out)

    def evaluation() -> TransportParams:
        from pipecat.evals.transport import EvalTransportParams

        return EvalTransportParams(audio_in_enabled=True, audio_out_enabled=audio_out)

    def other() -> TransportParams:
        return TransportParams(audio_in_enabled=True, audio_out_enabled=audio_out)

    makers: dict[str, Any] = dict.fromkeys(_TELEPHONY, telephony)
    makers["eval"] = evaluation
    makers["websocket"] = telephony
    makers["daily"] = makers["livekit"] = other
    transport = await create_other_transport(runner_args, makers)
    telephone = getattr(runner_args, "transport_type", "") in _TELEPHONY
    return with_hold(transport, telephone=telephone)
