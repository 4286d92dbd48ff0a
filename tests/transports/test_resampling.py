"""How late audio comes through Pipecat's serializers, with its resamplers and with ours."""

import base64
import json
from typing import Any, cast

import numpy as np
import pytest
from pipecat.audio.resamplers.soxr_stream_resampler import SOXRStreamAudioResampler
from pipecat.frames.frames import InputAudioRawFrame, OutputAudioRawFrame
from pipecat.serializers.base_serializer import FrameSerializer
from pipecat.serializers.exotel import ExotelFrameSerializer
from pipecat.serializers.genesys import GenesysAudioHookSerializer
from pipecat.serializers.plivo import PlivoFrameSerializer
from pipecat.serializers.protobuf import ProtobufFrameSerializer
from pipecat.serializers.telnyx import TelnyxFrameSerializer
from pipecat.serializers.twilio import TwilioFrameSerializer
from pipecat.serializers.vonage import VonageFrameSerializer
from websockets.asyncio.client import connect

from talkpath.agent.audio import float_to_pcm16, mulaw_to_float, pcm16_to_float
from talkpath.agent.errors import AudioError
from talkpath.transports.resampling import StreamResampler, resample_shortly
from tests.browser import eventually
from tests.transports.socket_caller import Ear
from tests.transports.stage import OUT_HZ as STAGE_HZ
from tests.transports.stage import StageBot, served

IN_HZ, OUT_HZ = 16_000, 24_000
CLICK_AT = 30  # of the chunks of 20 ms


def twilio() -> FrameSerializer:
    return TwilioFrameSerializer(
        "MZ1", params=TwilioFrameSerializer.InputParams(auto_hang_up=False)
    )


def telnyx() -> FrameSerializer:
    params = TelnyxFrameSerializer.InputParams(auto_hang_up=False)
    return TelnyxFrameSerializer("s", "PCMU", "PCMU", params=params)


def plivo() -> FrameSerializer:
    return PlivoFrameSerializer("s", params=PlivoFrameSerializer.InputParams(auto_hang_up=False))


def exotel() -> FrameSerializer:
    return ExotelFrameSerializer("s")


def vonage() -> FrameSerializer:
    return VonageFrameSerializer(VonageFrameSerializer.InputParams(vonage_sample_rate=8_000))


async def genesys() -> FrameSerializer:
    serializer = GenesysAudioHookSerializer()
    await serializer.deserialize(json.dumps({"type": "open", "seq": 1, "id": "g"}))
    return serializer


MAKERS = {
    "twilio": twilio,
    "telnyx": telnyx,
    "plivo": plivo,
    "exotel": exotel,
    "vonage": vonage,
    "genesys": genesys,
}


async def made(name: str) -> FrameSerializer:
    made = cast("Any", MAKERS[name])()
    serializer = cast("FrameSerializer", await made if name == "genesys" else made)
    await serializer.setup(cast("Any", type("Setup", (), {"audio_in_sample_rate": IN_HZ})()))
    return serializer


def sound(payload: str | bytes | None, name: str) -> np.ndarray[Any, Any]:
    """What the carrier plays, at 8 kHz."""
    if payload is None:
        return np.zeros(0, dtype=np.float32)
    if isinstance(payload, str):
        payload = base64.b64decode(json.loads(payload)["media"]["payload"])
    return (pcm16_to_float if name in ("exotel", "vonage") else mulaw_to_float)(payload)


def message(pcm: np.ndarray[Any, Any], name: str) -> str | bytes:
    """What the carrier sends for 20 ms at 8 kHz that are silent, or begin with a click."""
    loud = bool(pcm.any())
    linear = float_to_pcm16(pcm)
    mulaw = (b"\x80" if loud else b"\xff") + b"\xff" * 159
    if name == "vonage":
        return linear
    if name == "genesys":
        return mulaw
    payload = base64.b64encode(linear if name == "exotel" else mulaw).decode()
    return json.dumps({"event": "media", "media": {"payload": payload}})


def chunks(rate_hz: int) -> list[np.ndarray[Any, Any]]:
    parts = [np.zeros(rate_hz // 50, dtype=np.float32) for _ in range(60)]
    parts[CLICK_AT][0] = 0.98
    return parts


def held_back_ms(parts: list[np.ndarray[Any, Any]], rate_hz: int) -> float:
    """How much later than its sample's time the click is heard, if each part is played at once.

    A part that holds it cannot be there before the chunk was complete that it was sent with;
    its own 20 ms do not count.
    """
    for at, part in enumerate(parts):
        if len(part) and (peak := int(np.abs(part).argmax())) >= 0 and np.abs(part).max() > 0.1:
            return 20.0 * (at - CLICK_AT) + 1000 * peak / rate_hz
    raise AssertionError("the click never came")


async def inward_ms(serializer: FrameSerializer, name: str) -> float:
    parts = []
    for chunk in chunks(8_000):
        frame = await serializer.deserialize(message(chunk, name))
        audio = frame.audio if isinstance(frame, InputAudioRawFrame) else b""
        parts.append(pcm16_to_float(audio))
    return held_back_ms(parts, IN_HZ)


async def outward_ms(serializer: FrameSerializer, name: str) -> float:
    parts = []
    for chunk in chunks(OUT_HZ):
        frame = OutputAudioRawFrame(float_to_pcm16(chunk), OUT_HZ, 1)
        parts.append(sound(await serializer.serialize(frame), name))
    return held_back_ms(parts, 8_000)


@pytest.mark.parametrize("name", MAKERS)
async def test_a_click_comes_through_a_serializer_within_5_ms_instead_of_40_and_more(
    name: str,
) -> None:
    stock, ours = await made(name), resample_shortly(await made(name))
    assert await inward_ms(stock, name) > 40
    assert await inward_ms(ours, name) <= 5
    assert await outward_ms(stock, name) > 40
    assert await outward_ms(ours, name) <= 5


@pytest.mark.parametrize("name", MAKERS)
async def test_no_resampler_of_pipecats_is_left_in_a_serializer(name: str) -> None:
    attributes = vars(resample_shortly(await made(name))).values()
    assert not any(isinstance(value, SOXRStreamAudioResampler) for value in attributes)
    assert sum(isinstance(value, StreamResampler) for value in attributes) == 2


def test_a_serializer_without_resamplers_is_left_as_it_is() -> None:
    before = ProtobufFrameSerializer()
    had = dict(vars(before))
    assert resample_shortly(before) is before
    assert vars(before) == had


@pytest.mark.parametrize(
    ("in_hz", "out_hz"),
    [(8_000, 16_000), (16_000, 8_000), (24_000, 8_000), (8_000, 48_000), (48_000, 16_000)],
)
async def test_every_20_ms_give_20_ms(in_hz: int, out_hz: int) -> None:
    resampler = StreamResampler()
    sizes = {len(await resampler.resample(bytes(in_hz // 25), in_hz, out_hz)) for _ in range(100)}
    assert sizes == {out_hz // 25}


async def test_what_the_filter_holds_back_can_be_had_or_dropped() -> None:
    resampler = StreamResampler()
    assert await resampler.flush() == b""
    loud = float_to_pcm16(np.full(160, 0.5, dtype=np.float32))
    first = await resampler.resample(loud, 8_000, 16_000)
    rest = await resampler.flush()
    assert len(rest) == 2 * 48  # 3 ms
    assert len(first + rest) == 2 * (320 + 48)
    again = await resampler.resample(bytes(320), 8_000, 16_000)
    assert again == bytes(640)
    await resampler.resample(loud, 8_000, 16_000)
    await resampler.reset()
    assert await resampler.resample(bytes(960), 24_000, 8_000) == bytes(320)


async def test_a_stream_begins_anew_at_another_rate_and_has_whole_samples() -> None:
    resampler = StreamResampler()
    assert await resampler.resample(b"\1\2", 8_000, 8_000) == b"\1\2"
    await resampler.resample(bytes(320), 8_000, 16_000)
    assert await resampler.resample(bytes(960), 24_000, 16_000) == bytes(640)
    with pytest.raises(AudioError, match="even number"):
        await resampler.resample(bytes(3), 8_000, 16_000)


async def test_what_a_bot_says_at_another_rate_is_all_said_at_once() -> None:
    bot = StageBot()
    async with served(bot) as url, connect(url.replace("http", "ws") + "/ws") as socket:
        ear = Ear(socket)
        scene = await bot.scene()
        spoken = np.full(16_000 // 50 * 3, 0.5, dtype=np.float32)  # 60 ms
        await scene.frames(OutputAudioRawFrame(float_to_pcm16(spoken), 16_000, 1))
        # Pipecat's own resampler would keep most of it until more comes, and drop it then.
        await eventually(lambda: len(ear.sound) >= 2 * STAGE_HZ * 0.06, "all of it")
        await ear.close()
