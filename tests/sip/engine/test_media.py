"""Codecs and encryption: the engine calls itself."""

import asyncio

import pytest

from talkpath.transports.sip.baresip_engine import MediaProfile
from talkpath.transports.sip.leg import Ended, MediaStarted
from tests.sip.engine.support import Followed, Line, open_line
from tests.sip.hearing import tone

_RATES_HZ = {"opus": 16_000, "g722": 16_000, "pcmu": 8_000, "pcma": 8_000}
_NAMES = {
    "opus": "opus/48000",
    "g722": "G722/8000",
    "pcmu": "PCMU/8000",
    "pcma": "PCMA/8000",
}


async def _talk(line: Line, trunk: str, rate_hz: int) -> tuple[Followed, Followed]:
    """A call of both sides' tones, 440 Hz there and 600 Hz back, or 5 kHz where there is room."""
    there = await line.dial(line.uri(), trunk)
    back = await line.leg()
    high = 5000 if rate_hz == 16_000 else 600
    talking = []
    for followed, hz in ((there, 440), (back, high)):
        started = await followed.until(MediaStarted)
        assert started.rate_hz == rate_hz
        talking.append(asyncio.create_task(_hum(followed, hz, rate_hz)))
    await there.hears(high, rate_hz)
    await back.hears(440, rate_hz)
    for task in talking:
        task.cancel()
    await asyncio.wait(talking)
    return there, back


async def _hum(followed: Followed, hz: float, rate_hz: int) -> None:
    """Say a tone without an end: as much of it as the leg takes."""
    pcm = tone(hz, 1.0, rate_hz).tobytes()  # whole waves of it, so one may follow another
    rest = pcm
    while True:
        rest = rest[followed.leg.write(rest) :] or pcm
        await asyncio.sleep(0.02)


async def test_every_codec_carries_audio_both_ways_at_its_full_width() -> None:
    profiles = {"main": MediaProfile(srtp="off")}
    for codec in _RATES_HZ:
        profiles[codec] = MediaProfile(srtp="off", codecs=(codec,), user=codec)
    async with open_line(profiles, alone=True) as line:
        for codec, rate_hz in _RATES_HZ.items():
            there, back = await _talk(line, codec, rate_hz)
            for followed in (there, back):
                assert followed.leg.quality().codec == _NAMES[codec]
                assert followed.leg.quality().encrypted == ""
            await there.leg.hang_up()
            assert (await there.until(Ended)).by == "us"
            assert (await back.until(Ended)).by == "peer"


@pytest.mark.parametrize(("srtp", "kind"), [("require", "sdes"), ("dtls", "dtls")])
async def test_audio_is_encrypted_where_that_is_required(srtp: str, kind: str) -> None:
    profiles = {
        "main": MediaProfile(srtp=srtp, codecs=("pcmu",)),
        "same": MediaProfile(srtp=srtp, codecs=("pcmu",), user="same"),
        "plain": MediaProfile(srtp="off", codecs=("pcmu",), user="plain"),
    }
    async with open_line(profiles, alone=True) as line:
        there, back = await _talk(line, "same", 8_000)
        assert {there.leg.quality().encrypted, back.leg.quality().encrypted} == {kind}
        refused = await (await line.dial(line.uri(), "plain")).until(Ended)
        assert (refused.by, refused.status) == ("peer", 488)


async def test_encryption_that_is_preferred_goes_without_where_the_peer_has_none() -> None:
    profiles = {
        "main": MediaProfile(srtp="prefer", codecs=("pcmu",)),
        "same": MediaProfile(srtp="prefer", codecs=("pcmu",), user="same"),
        "plain": MediaProfile(srtp="off", codecs=("pcmu",), user="plain"),
    }
    async with open_line(profiles, alone=True) as line:
        there, back = await _talk(line, "same", 8_000)
        assert {there.leg.quality().encrypted, back.leg.quality().encrypted} == {"sdes"}
        await there.leg.hang_up()
        there, back = await _talk(line, "plain", 8_000)
        assert back.leg.quality().encrypted == ""
