"""Pipecat's serializers of carriers' messages, with our resampler and checks around them."""

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from loguru import logger
from pipecat.frames.frames import CancelFrame, EndFrame, Frame, InputAudioRawFrame
from pipecat.serializers.base_serializer import FrameSerializer
from pipecat.serializers.exotel import ExotelFrameSerializer
from pipecat.serializers.genesys import GenesysAudioHookSerializer
from pipecat.serializers.plivo import PlivoFrameSerializer
from pipecat.serializers.telnyx import TelnyxFrameSerializer
from pipecat.serializers.twilio import TwilioFrameSerializer
from pipecat.serializers.vonage import VonageFrameSerializer

from talkpath.agent.carriers import CarrierCall
from talkpath.agent.errors import AudioError
from talkpath.transports.resampling import resample_shortly
from talkpath.transports.websocket import Pace

__all__ = ["CarrierSerializer", "carrier_serializer"]

_HANG_UP_S = 10.0
_INBOUND = (None, "inbound", "inbound_track")
_LINEAR = ("exotel", "vonage")  # who sends 16-bit samples


class CarrierSerializer(FrameSerializer):
    """A carrier's messages, checked before Pipecat's serializer reads them.

    A message that makes no sense is dropped and the call goes on; the first is logged as a
    warning. Audio of other tracks than the caller's is left out. When a carrier says that the
    stream is over, the connection is closed.

    Args:
        carrier: whose messages these are.
        inner: Pipecat's serializer.
        close: closes the connection.
    """

    def __init__(
        self, carrier: str, inner: FrameSerializer, close: Callable[[], Awaitable[None]]
    ) -> None:
        super().__init__()
        self._carrier = carrier
        self._inner = resample_shortly(inner)
        self._close = close
        self._pace = Pace()
        self._dropped = 0

    async def setup(self, setup: Any) -> None:  # a FrameProcessorSetup
        """Learn the pipeline's input rate."""
        await super().setup(setup)
        await self._inner.setup(setup)

    async def serialize(self, frame: Frame) -> str | bytes | None:
        """Write a frame; the last one hangs up through the carrier's interface, if we may."""
        if not isinstance(frame, (EndFrame, CancelFrame)):
            return await self._inner.serialize(frame)
        try:
            async with asyncio.timeout(_HANG_UP_S):
                return await self._inner.serialize(frame)
        except TimeoutError:
            logger.warning("{} did not take the hang-up within {:.0f} s", self._carrier, _HANG_UP_S)
            return None

    async def deserialize(self, data: str | bytes) -> Frame | None:
        """Read one message; None for one that is nothing to the pipeline.

        While this waits, the transport reads no further message.
        """
        try:
            content = _content(data)
            self._check_audio(data, content)
            if content.get("event") == "stop":
                await self._close()
                return None
            frame = await self._inner.deserialize(data)
            if isinstance(frame, InputAudioRawFrame):
                await self._pace.keep(len(frame.audio) / 2 / frame.sample_rate)
        except Exception as error:  # Pipecat's serializers have no error of their own to name
            level = "DEBUG" if self._dropped else "WARNING"
            logger.log(level, "dropped a message of {}: {}", self._carrier, error)
            self._dropped += 1
            return None
        return frame

    def _check_audio(self, data: str | bytes, content: dict[str, Any]) -> None:
        audio = data if isinstance(data, bytes) else b""
        if content.get("event") == "media":
            media = content.get("media")
            if not isinstance(media, dict) or not isinstance(media.get("payload"), str):
                raise AudioError("a media message without audio")
            if media.get("track") not in _INBOUND:
                raise AudioError("audio of another track than the caller's")
            audio = base64.b64decode(media["payload"], validate=True)
        if self._carrier in _LINEAR and len(audio) % 2:
            raise AudioError(f"{len(audio)} bytes of audio are no 16-bit samples")


def _content(data: str | bytes) -> dict[str, Any]:
    if isinstance(data, bytes):
        return {}
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise AudioError("a message that is not JSON") from error
    if not isinstance(content, dict):
        raise AudioError("a message that is no JSON object")
    return content


# -- Pipecat's -------------------------------------------------------------------------------


def carrier_serializer(call: CarrierCall, environ: Mapping[str, str]) -> FrameSerializer:
    """Make Pipecat's serializer for a call.

    It hangs up through the carrier's interface where the environment has the keys:
    ``TWILIO_AUTH_TOKEN``, or ``TWILIO_API_KEY`` and ``TWILIO_API_SECRET`` (``TWILIO_ACCOUNT_SID``
    is taken from the call if it is not set; ``TWILIO_API_URL`` names another server with Twilio's
    interface); ``TELNYX_API_KEY``; ``PLIVO_AUTH_ID`` and ``PLIVO_AUTH_TOKEN``.
    """
    return _MAKERS[call.carrier](call, environ)


def _twilio(call: CarrierCall, environ: Mapping[str, str]) -> FrameSerializer:
    account = environ.get("TWILIO_ACCOUNT_SID") or call.account_id
    key, secret = environ.get("TWILIO_API_KEY"), environ.get("TWILIO_API_SECRET")
    token = None if key and secret else environ.get("TWILIO_AUTH_TOKEN")
    may = bool(account and (token or (key and secret)))
    return TwilioFrameSerializer(
        call.stream_id,
        call.call_id,
        account or None,
        token or None,
        base_url=environ.get("TWILIO_API_URL") or None,
        region=environ.get("TWILIO_REGION") or None,
        edge=environ.get("TWILIO_EDGE") or None,
        api_key_sid=key if may and not token else None,
        api_key_secret=secret if may and not token else None,
        params=TwilioFrameSerializer.InputParams(auto_hang_up=may),
    )


def _telnyx(call: CarrierCall, environ: Mapping[str, str]) -> FrameSerializer:
    key = environ.get("TELNYX_API_KEY") or None
    return TelnyxFrameSerializer(
        call.stream_id,
        outbound_encoding="PCMA" if call.encoding == "alaw" else "PCMU",
        inbound_encoding="PCMU",  # what goes back is PCMU unless the stream was asked otherwise
        call_control_id=call.call_id,
        api_key=key,
        params=TelnyxFrameSerializer.InputParams(auto_hang_up=key is not None),
    )


def _plivo(call: CarrierCall, environ: Mapping[str, str]) -> FrameSerializer:
    auth_id, token = environ.get("PLIVO_AUTH_ID"), environ.get("PLIVO_AUTH_TOKEN")
    return PlivoFrameSerializer(
        call.stream_id,
        call.call_id,
        auth_id or None,
        token or None,
        PlivoFrameSerializer.InputParams(auto_hang_up=bool(auth_id and token)),
    )


def _exotel(call: CarrierCall, environ: Mapping[str, str]) -> FrameSerializer:
    params = ExotelFrameSerializer.InputParams(exotel_sample_rate=call.rate_hz)
    return ExotelFrameSerializer(call.stream_id, call.call_id, params)


def _vonage(call: CarrierCall, environ: Mapping[str, str]) -> FrameSerializer:
    return VonageFrameSerializer(VonageFrameSerializer.InputParams(vonage_sample_rate=call.rate_hz))


def _genesys(call: CarrierCall, environ: Mapping[str, str]) -> FrameSerializer:
    return GenesysAudioHookSerializer()


_MAKERS: Mapping[str, Callable[[CarrierCall, Mapping[str, str]], FrameSerializer]] = {
    "twilio": _twilio,
    "telnyx": _telnyx,
    "plivo": _plivo,
    "exotel": _exotel,
    "vonage": _vonage,
    "genesys": _genesys,
}
