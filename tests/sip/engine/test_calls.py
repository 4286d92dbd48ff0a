"""Calls between the engine and a telephone that speaks SIP by itself."""

import asyncio
import contextlib

import pytest

from talkpath.agent.sip_sections import SipConfig
from talkpath.transports.sip.baresip_engine import MediaProfile
from talkpath.transports.sip.leg import (
    Answered,
    CallInfo,
    Ended,
    Held,
    KeyPressed,
    LegError,
    MediaStarted,
    Resumed,
)
from tests.sip.engine.support import open_line
from tests.sip.hearing import comes_back, loudest_hz, tone
from tests.sip.peer import PACKET, PeerCall, description
from tests.sip.waiting import SOON_S, soon


async def test_a_call_is_answered_heard_and_ended_by_the_caller() -> None:
    async with open_line() as line:
        call, followed = await line.call()
        followed.echo()
        await call.media.say(tone(440, 1.0))
        await comes_back(call, 440)
        assert (await call.request("BYE")).status == 200
        ended = await followed.until(Ended)

    assert followed.events[:2] in (
        [Answered(), MediaStarted(8000)],
        [MediaStarted(8000), Answered()],
    )
    assert len(followed.events) == 3
    assert (ended.by, ended.status, ended.reason) == ("peer", 0, "the peer hung up")
    assert loudest_hz(followed.heard) == pytest.approx(440, abs=5)
    assert loudest_hz(call.media.heard()) == pytest.approx(440, abs=5)
    assert ended.quality.codec == "PCMU/8000"
    assert ended.quality.received > 40 and ended.quality.sent > 40
    assert ended.quality.lost == 0 and ended.quality.mos > 1
    assert line.ended() == ["the peer hung up"]
    with pytest.raises(LegError, match="the call is over"):
        await followed.leg.answer()
    await followed.leg.hang_up()
    assert followed.leg.write(b"\0\0") == 0 and followed.leg.queued_ms == 0


async def test_a_call_that_we_end_ends_for_the_peer_with_our_headers() -> None:
    async with open_line() as line:
        call, followed = await line.call()
        await followed.until(Answered)
        await followed.leg.hang_up({"X-Why": "enough"})
        await asyncio.wait_for(call.over.wait(), SOON_S)
        ended = await followed.until(Ended)

    assert (ended.by, ended.reason) == ("us", "hung up")
    assert ("add_headers", call.call_id, "BYE", {"X-Why": "enough"}) in line.exchange.asked


async def test_what_is_queued_is_dropped_at_once_and_what_follows_is_not() -> None:
    async with open_line() as line:
        call, followed = await line.call()
        speaking = asyncio.create_task(call.media.say(tone(0, 3.0)))
        await followed.until(MediaStarted)
        leg = followed.leg
        assert leg.write(tone(400, 1.5).tobytes()) == 24_000
        await soon(lambda: _packets_of(call, 400) > 10, "the first tone")
        queued_ms = leg.queued_ms
        leg.flush()
        assert 0 < queued_ms < 1300
        assert leg.queued_ms == 0
        assert leg.write(tone(1000, 0.5).tobytes()) == 8_000
        await soon(lambda: _packets_of(call, 1000) > 22, "the second one")
        taken = leg.write(bytes(1_000_000))
        leg.flush()
        speaking.cancel()

    # What was written behind the flush is not lost with it; of what was before it, nothing comes
    # but what the stack had in hand: where its thread is late, some packets.
    assert _packets_of(call, 400) * 20 < 1500 - queued_ms + 200
    assert 8_000 < taken < 1_000_000


def _packets_of(call: PeerCall, hz: float) -> int:
    """How many of a tone the telephone has heard."""
    heard = call.media.heard()
    packets = heard[: len(heard) // PACKET * PACKET].reshape(-1, PACKET)
    return sum(loudest_hz(packet) == hz for packet in packets)


async def test_keys_come_and_go_as_events_and_as_messages() -> None:
    async with open_line() as line:
        call, followed = await line.call()
        await followed.until(Answered)
        for key in "5#":
            await call.media.press(key)
        assert (await call.key("7")).status == 200
        await followed.until(KeyPressed, 3)
        await asyncio.gather(followed.leg.send_keys("1*"), followed.leg.send_keys("9d"))
        with pytest.raises(ValueError, match="keys are"):
            await followed.leg.send_keys("12x")
        with pytest.raises(LegError, match="more than 128 keys"):
            await followed.leg.send_keys("1" * 129)
        await call.media.press("8", ends=0)
        await followed.until(KeyPressed, 4)  # its end was lost
        await call.media.press("9", ends=0)
        await call.media.say(tone(440, 0.1))
        await call.request("BYE")
        await followed.until(Ended)

    pressed = [event for event in followed.events if isinstance(event, KeyPressed)]
    assert [event.key for event in pressed] == ["5", "#", "7", "8", "9"]
    assert pressed[3].duration_ms >= 1000
    assert all(event.duration_ms >= 40 for event in pressed)
    assert call.media.keys() == "1*9D"
    assert followed.leg.quality().lost <= 2  # of the 35 packets of its keys none is a lost one


async def test_a_telephone_without_events_gets_keys_as_messages() -> None:
    async with open_line() as line:
        body = description(9, formats={0: "PCMU/8000"})
        call = await line.phone.call(line.uri(), body=body)
        followed = await line.leg()
        await followed.until(Answered)
        await followed.leg.send_keys("4")
        await soon(lambda: call.asked("INFO"), "the key")

    assert b"4" in call.asked("INFO")[0].body


async def test_a_call_is_held_and_resumed_from_either_side_and_audio_goes_on() -> None:
    async with open_line() as line:
        call, followed = await line.call()
        followed.echo()
        await comes_back(call, 440)
        assert (await call.hold()).status == 200
        await followed.until(Held)
        assert (await call.resume()).status == 200
        await followed.until(Resumed)
        await comes_back(call, 600)

        await asyncio.gather(followed.leg.hold(), followed.leg.resume())
        await followed.leg.hold()
        await followed.leg.resume()
        assert any(b"a=sendonly" in offer.body for offer in call.asked("INVITE"))
        await comes_back(call, 800)


async def test_a_change_of_the_codec_tells_the_new_rate() -> None:
    async with open_line() as line:
        call, followed = await line.call()
        await call.media.say(tone(440, 0.2))
        await followed.until(MediaStarted)
        port = call.media.port
        wide = description(port, formats={9: "G722/8000", 101: "telephone-event/8000"})
        assert (await call.invite(wide)).status == 200
        started = await followed.until(MediaStarted, 2)
        assert (started.rate_hz, followed.leg.rate_hz) == (16_000, 16_000)
        assert followed.leg.quality().codec == "G722/8000"
        assert followed.leg.write(bytes(32_000)) == 32_000
        assert 500 < followed.leg.queued_ms <= 1000


async def test_a_peer_that_sends_another_codec_than_we_do_is_heard_as_it_sounds() -> None:
    async with open_line() as line:
        call, followed = await line.call()
        both = {9: "G722/8000", 0: "PCMU/8000", 101: "telephone-event/8000"}
        await call.invite(description(call.media.port, formats=both))
        talking = asyncio.create_task(call.media.say(tone(440, SOON_S)))  # PCMU
        await followed.hears(440, 16_000)
        assert followed.leg.rate_hz == 16_000
        talking.cancel()


async def test_calls_can_be_refused_and_are_refused_where_nobody_knows_them() -> None:
    async with open_line() as line:
        line.engine.on_incoming(line.wait)
        ringing = asyncio.create_task(line.phone.call(line.uri()))
        followed = await line.leg()
        with pytest.raises(LegError, match="status 200"):
            await followed.leg.reject(200)
        await followed.leg.reject(603, "not now", {"X-A": "b"})
        call = await ringing
        ended = await followed.until(Ended)
        stranger = await line.phone.call(f"sip:nobody@127.0.0.1:{line.engine.port}")
        words = description(9, formats={3: "GSM/8000"})
        silent = await line.phone.call(line.uri(), body=words)

    assert call.status == 486  # Which the listener makes what was asked for.
    assert [response.status for response in call.provisional] == [180]
    assert ("reject", call.call_id, 603, "not now", {"X-A": "b"}) in line.exchange.asked
    assert (ended.by, ended.reason) == ("us", "refused with 603")
    assert (stranger.status, silent.status) == (404, 488)


async def test_calls_end_even_where_the_listener_does_not_take_what_is_to_be_said() -> None:
    async with open_line() as line:
        call, followed = await line.call()
        line.exchange.deaf = True
        await followed.leg.hang_up({"X-Why": "enough"})
        await asyncio.wait_for(call.over.wait(), SOON_S)
        line.engine.on_incoming(line.wait)
        ringing = asyncio.create_task(line.phone.call(line.uri()))
        refused = await line.leg()
        await refused.leg.reject(603)
        assert (await ringing).status == 486
        assert [(await leg.until(Ended)).by for leg in (followed, refused)] == ["us", "us"]


async def test_a_caller_that_gives_up_ends_the_ringing() -> None:
    async with open_line() as line:
        line.engine.on_incoming(line.wait)
        ringing = asyncio.create_task(line.phone.call(line.uri()))
        followed = await line.leg()
        call = next(iter(line.phone.calls.values()))
        call.cancel()
        ended = await followed.until(Ended)
        assert (await ringing).status == 487

    assert ended.by == "peer"
    with pytest.raises(LegError, match="the call is over"):
        await followed.leg.answer()


async def test_early_media_is_heard_before_the_answer() -> None:
    async with open_line() as line:
        line.engine.on_incoming(line.wait)
        ringing = asyncio.create_task(line.phone.call(line.uri()))
        followed = await line.leg()
        await followed.leg.early_media()
        call = await ringing  # The listener would have made a 183 of it.
        await call.media.say(tone(440, 0.2))
        await followed.until(MediaStarted)
        assert Answered() not in followed.events
        await followed.leg.answer({"X-A": "b"})
        await followed.until(Answered)
        with pytest.raises(LegError, match="only an inbound call"):
            await followed.leg.reject()

    asked = [what[0] for what in line.exchange.asked]
    assert asked == ["early_media", "answer", "ended"]


async def test_silence_on_the_line_ends_a_call() -> None:
    async with open_line(config=SipConfig(media_timeout_s=1)) as line:
        _, followed = await line.call()
        ended = await followed.until(Ended)
    assert (ended.by, ended.reason) == ("failure", "rtp stream error")


async def test_a_call_is_made_and_its_failure_has_a_status() -> None:
    profiles = {
        "main": MediaProfile(srtp="off"),
        "pbx": MediaProfile(srtp="off", user="100", domain="pbx.example", codecs=("pcmu",)),
        "twin": MediaProfile(srtp="off", user="100"),
    }
    async with open_line(profiles) as line:
        followed = await line.dial(trunk="pbx")
        call = await asyncio.wait_for(line.phone.incoming.get(), SOON_S)
        await followed.until(Answered)
        talking = asyncio.create_task(call.media.say(tone(440, SOON_S)))
        await followed.hears(440)
        talking.cancel()
        assert followed.leg.info.call_id == call.call_id
        invite = call.requests[0]
        assert invite.from_.uri.user == "100" and invite.from_.uri.host == "pbx.example"
        assert invite.headers.get("X-Test") == "1"
        assert b"PCMA" not in invite.body and b"m=video" not in invite.body
        await call.request("BYE")
        assert (await followed.until(Ended)).by == "peer"

        line.phone.statuses["INVITE"] = 486
        ended = await (await line.dial()).until(Ended)
        assert (ended.by, ended.status) == ("peer", 486)
        assert len(set(line.engine.users.values())) == 3
        for profile in line.engine.users:
            line.phone.statuses.pop("INVITE", None)
            assert (await line.phone.call(line.uri(profile))).status == 200
        with pytest.raises(LegError, match="no trunk 'other'"):
            await line.dial(trunk="other")
        with pytest.raises(LegError, match="could not be made"):
            await line.engine.dial(CallInfo(call_id="", direction="outbound", to_uri="a\r\nb"))


async def test_a_draining_engine_takes_no_more_calls_and_waits_for_the_last() -> None:
    async with open_line() as line:
        call, followed = await line.call()
        draining = asyncio.create_task(line.engine.drain())
        async with asyncio.timeout(SOON_S):  # the stack hears of it a moment later
            while (refused := await line.phone.call(line.uri())).status == 200:
                await refused.request("BYE")
        assert refused.status == 486
        assert not draining.done()
        await call.request("BYE")
        await followed.until(Ended)
        await asyncio.wait_for(draining, SOON_S)


async def test_an_engine_that_stops_hangs_up_and_another_can_start() -> None:
    for _ in range(3):
        async with open_line() as line:
            call, followed = await line.call()
        assert (await followed.until(Ended)).by == "us"
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(call.over.wait(), 1)
        assert line.ended() == ["hung up"]
