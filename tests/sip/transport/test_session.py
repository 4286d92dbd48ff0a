"""Calls from ring to end: answers, failures, limits, recordings and what is logged."""

import asyncio
import io
import resource
import wave
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from loguru import logger
from pipecat.frames.frames import TTSStoppedFrame

from talkpath.agent.sip_sections import SipConfig
from talkpath.transports.sip.leg import CallInfo, Ended, Held, Resumed
from talkpath.transports.sip.recording import CallRecording, recording_name
from tests.sip.transport.calls import attended, until
from tests.sip.transport.loopback_leg import LoopbackLeg
from tests.sip.transport.test_transport import noise
from tests.transports.stage import OUT_HZ, StageBot
from tests.transports.test_holding import words


async def test_a_call_rings_is_answered_and_knows_where_it_comes_from() -> None:
    leg, bot = LoopbackLeg(headers={"X-Ticket": "7"}), StageBot()
    ended: list[tuple[CallInfo, Ended]] = []
    lines: list[Any] = []
    sink = logger.add(lambda line: lines.append(line.record), level="INFO")
    async with attended(
        bot, leg, SipConfig(ring_s=3.0), on_ended=lambda info, end: ended.append((info, end))
    ) as call:
        await asyncio.sleep(2.9)
        assert leg.did("answer") == []
        scene = await bot.scene()
        assert leg.did("answer") == [None]
        arguments = scene.arguments
        assert arguments.body["from"] == "sip:+4930123@peer.example"
        assert arguments.body["number"] == arguments.call_data.to_number == "100"
        assert arguments.body["headers"] == {"X-Ticket": "7"}
        leg.leave()
        end = await call
    logger.remove(sink)
    assert (end.by, end.status) == ("peer", 0)
    assert ended == [(leg.info, end)]
    assert {line["extra"]["call_id"] for line in lines} == {leg.info.call_id}
    assert "MOS 4.20, 2.00 % lost" in lines[-1]["message"]


async def test_a_bot_that_fails_before_the_answer_refuses_the_call() -> None:
    leg = LoopbackLeg()

    async def broken(arguments: Any) -> None:
        raise RuntimeError("no model")

    async with attended(broken, leg) as call:
        end = await call
    assert leg.did("reject") == [500]
    assert end.status == 500


async def test_a_bot_may_refuse_a_call_and_one_that_fails_later_hangs_up() -> None:
    refused, failing = LoopbackLeg(call_id="a"), LoopbackLeg(call_id="b")

    async def choosy(arguments: Any) -> None:
        await arguments.leg.reject(486)

    async def broken(arguments: Any) -> None:
        arguments.ready.set()
        await asyncio.sleep(1.0)
        raise RuntimeError("no model")

    async with attended(choosy, refused) as one, attended(broken, failing) as other:
        await asyncio.wait({one, other})
    assert (refused.did("reject"), refused.did("hang_up")) == ([486], [])
    assert failing.did("hang_up")[0]["Reason"].startswith("SIP;cause=500")


async def test_a_caller_who_gives_up_while_it_rings_leaves_no_bot_behind() -> None:
    leg, bot = LoopbackLeg(), StageBot()
    async with attended(bot, leg, SipConfig(ring_s=20.0)) as call:
        await asyncio.sleep(1.0)
        assert bot.open == 1
        leg.leave()
        await call
    assert bot.open == 0
    assert leg.acts == []


async def test_a_call_that_is_called_off_here_says_so_to_the_caller() -> None:
    ringing, talking, bot = LoopbackLeg(call_id="a"), LoopbackLeg(call_id="b"), StageBot()
    async with (
        attended(bot, talking) as one,
        attended(bot, ringing, SipConfig(ring_s=20.0)) as other,
    ):
        await until(lambda: talking.did("answer") and bot.open == 2, "answer")
        one.cancel()
        other.cancel()
        await asyncio.wait({one, other})
    assert ringing.did("reject") == [503]
    assert talking.did("hang_up")[0]["Reason"].startswith("SIP;cause=503")
    assert bot.open == 0


async def test_the_longest_duration_ends_a_call_behind_the_last_word() -> None:
    leg, bot = LoopbackLeg(OUT_HZ), StageBot()
    async with attended(bot, leg, SipConfig(max_duration_s=5.0)) as call:
        scene = await bot.scene()
        await asyncio.sleep(4.5)
        said = words(6)
        await scene.say(said)
        await until(call.done, "end of the call", within_s=8)
    assert b"".join(said.values()) in bytes(leg.heard)
    assert leg.did("hang_up") == [{}]


async def test_silence_ends_a_call_unless_it_is_on_hold() -> None:
    leg, bot = LoopbackLeg(), StageBot()
    hiss = (np.frombuffer(noise(1.0, 8_000), "<i2") // 64).astype("<i2").tobytes()
    async with attended(bot, leg, SipConfig(silence_s=10.0)) as call:
        scene = await bot.scene()
        await asyncio.sleep(8)
        leg.say(noise(0.5, 8_000))
        await asyncio.sleep(8)
        await scene.speak(0.5)
        await scene.frames(TTSStoppedFrame())
        await asyncio.sleep(8)
        leg.happens(Held())
        await asyncio.sleep(30)
        leg.happens(Resumed())
        leg.say(hiss * 30)
        await asyncio.sleep(8)
        assert not call.done()
        await until(call.done, "end of the call", within_s=4)


async def test_a_recording_has_both_sides_in_step_without_what_nobody_heard(
    tmp_path: Path,
) -> None:
    leg, bot = LoopbackLeg(OUT_HZ, call_id="../../x y@1.2.3.4"), StageBot()
    said = words(10)
    async with attended(bot, leg, SipConfig(record_folder=str(tmp_path / "calls"))):
        scene = await bot.scene()
        await asyncio.sleep(1.0)
        leg.heard.clear()
        leg.say(noise(3.0, OUT_HZ))
        await asyncio.sleep(1.0)
        await scene.say(said)
        await until(lambda: any(leg.heard), "sound")
        await asyncio.sleep(0.5)
        await scene.interrupt()
        await asyncio.sleep(2.5)
        heard = bytes(leg.heard)
    (file,) = (tmp_path / "calls").iterdir()
    assert file.name.endswith("_x_y_1.2.3.4.wav")
    with wave.open(io.BytesIO(file.read_bytes())) as wav:
        assert (wav.getnchannels(), wav.getframerate()) == (2, OUT_HZ)
        both = np.frombuffer(wav.readframes(wav.getnframes()), "<i2").reshape(-1, 2)
    caller, robot = both[:, 0], both[:, 1]
    played = np.frombuffer(heard, "<i2")
    assert np.count_nonzero(robot) == np.count_nonzero(played)
    apart = np.flatnonzero(robot)[0] - np.flatnonzero(caller)[0]
    assert apart / OUT_HZ == pytest.approx(np.flatnonzero(played)[0] / OUT_HZ, abs=0.06)


async def test_a_bot_that_does_not_read_its_events_is_kept_the_first_and_the_end() -> None:
    leg, read = LoopbackLeg(), list[Any]()

    async def slow(arguments: Any) -> None:
        arguments.ready.set()
        await asyncio.sleep(1.0)
        read.extend([event async for event in arguments.leg.events()])

    async with attended(slow, leg) as call:
        await until(lambda: leg.did("answer"), "answer")
        for _ in range(1_000):
            leg.happens(Held())
            leg.happens(Resumed())
        leg.leave()
        await call
    assert isinstance(read[-1], Ended)
    assert len(read) == 257


async def test_a_full_disk_ends_a_recording_with_one_line_and_leaves_what_there_is(
    tmp_path: Path,
) -> None:
    recording = CallRecording(tmp_path, "a", 8_000)
    lines: list[str] = []
    sink = logger.add(lambda line: lines.append(line.record["message"]), level="ERROR")
    most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, most[1]))
    try:
        recording.heard(noise(5.0, 8_000), 8_000)
        recording.end()
        await recording.run()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, most)
        logger.remove(sink)
    assert lines == ["the recording of this call ends here: there is no space left"]
    assert recording.file.stat().st_size == 20_000
    with wave.open(str(recording.file)) as wav:
        assert len(wav.readframes(wav.getnframes())) == 20_000 - 44
    assert recording._raw is not None and recording._raw.closed


def test_a_recordings_name_is_a_file_name_whatever_the_call_id_is() -> None:
    at = datetime(2026, 3, 4, 5, 6, 7)
    assert recording_name(at, "a1@pbx") == "2026-03-04T05-06-07_a1_pbx.wav"
    assert recording_name(at, "../..") == "2026-03-04T05-06-07_call.wav"
    assert len(recording_name(at, "ü/" * 500)) < 100
