"""Audio, keys, holds and transfers between a call leg and a pipeline."""

import asyncio
from typing import Any

import numpy as np
import pytest
from pipecat.frames.frames import (
    EndFrame,
    EndWorkerFrame,
    InputDTMFFrame,
    OutputDTMFFrame,
    OutputDTMFUrgentFrame,
)
from pipecat.observers.base_observer import BaseObserver, FramePushed

from talkpath.bots import loopback
from talkpath.processors.frames import (
    HoldPlaybackFrame,
    ResumePlaybackFrame,
    TransferFrame,
    TransferRefusedFrame,
)
from talkpath.transports.sip.leg import Held, Resumed
from tests.sip.transport.calls import attended, until
from tests.sip.transport.loopback_leg import PACKET_S, LoopbackLeg
from tests.transports.stage import OUT_HZ, Scene, StageBot
from tests.transports.test_holding import words

PACKET_BYTES = round(2 * PACKET_S * OUT_HZ)


def noise(seconds: float, rate_hz: int, seed: int = 0) -> bytes:
    """A sound within a telephone's band, unlike itself at any other time."""
    random = np.random.default_rng(seed)
    samples = random.normal(0, 4000, round(seconds * rate_hz))
    smooth = np.convolve(samples, np.hanning(9) / 4, mode="same")
    return np.clip(smooth, -30000, 30000).astype("<i2").tobytes()


def delay_of(heard: bytes | bytearray, said: bytes) -> tuple[int, float]:
    """By how many samples a sound came later, and how alike it is, 0 to 1."""
    one = np.frombuffer(said, "<i2").astype(float)
    other = np.frombuffer(heard, "<i2").astype(float)
    fits = np.correlate(other, one, mode="valid")
    at = int(np.argmax(fits))
    part = other[at : at + len(one)]
    return at, float(fits[at] / np.linalg.norm(part) / np.linalg.norm(one))


class Overheard(BaseObserver):
    """Writes down frames of some kinds, where they begin."""

    def __init__(self, *kinds: type) -> None:
        super().__init__()
        self._kinds = kinds
        self.frames: list[Any] = []

    async def on_push_frame(self, data: FramePushed) -> None:
        if data.first_push and isinstance(data.frame, self._kinds):
            self.frames.append(data.frame)


async def heard_s(leg: LoopbackLeg, seconds: float) -> None:
    """Wait for so much of the bot's sound: its first sample is not 0."""

    def enough() -> bool:
        return len(bytes(leg.heard).lstrip(b"\0")) >= 2 * seconds * leg.rate_hz

    await until(enough, f"{seconds} s of sound")


def audible(leg: LoopbackLeg) -> bytes:
    """What the far end heard, without the packets of silence: no word has any."""
    packets = [
        bytes(leg.heard[at : at + PACKET_BYTES]) for at in range(0, len(leg.heard), PACKET_BYTES)
    ]
    return b"".join(packet for packet in packets if any(packet))


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 48_000])
async def test_an_echo_comes_with_the_next_packet_and_the_filters_delay(rate_hz: int) -> None:
    leg, bot = LoopbackLeg(rate_hz), StageBot(echo=True)
    async with attended(bot, leg):
        await bot.scene()
        said = noise(1.0, rate_hz)
        before = len(leg.heard)
        leg.say(said)
        await asyncio.sleep(1.5)
        later, likeness = delay_of(leg.heard[before:], said)
    assert later / rate_hz <= PACKET_S + 0.009
    assert likeness > 0.98
    assert leg.underruns == 0


async def test_live_audio_that_fell_behind_catches_up() -> None:
    leg = LoopbackLeg(8_000)
    async with attended(loopback.bot, leg):
        await until(lambda: leg.rate_hz, "audio")
        leg.write(bytes(1_280))  # 80 ms of something else: the echo waits behind it
        leg.say(noise(9.0, 8_000, seed=1))
        await asyncio.sleep(8.0)
        start = (len(leg.heard) + len(leg._mouth)) // 2
        said = noise(1.0, 8_000, seed=2)
        leg.say(said)
        await asyncio.sleep(4.0)
        later, likeness = delay_of(leg.heard, said)
    assert (later - start) / 8_000 <= PACKET_S + 0.015
    assert likeness > 0.98


async def test_after_a_hold_or_the_peers_no_sample_is_missing() -> None:
    leg, bot = LoopbackLeg(OUT_HZ), StageBot()
    async with attended(bot, leg):
        scene = await bot.scene()
        said = words(10)
        everything = b"".join(said.values())
        await scene.say(said)
        for seconds in (0.3, 0.6):
            await heard_s(leg, seconds)
            await scene.frames(HoldPlaybackFrame())
            await asyncio.sleep(PACKET_S + 0.001)
            played = len(audible(leg))
            await asyncio.sleep(1.0)
            assert len(audible(leg)) == played < len(everything)
            await scene.frames(ResumePlaybackFrame())
        await heard_s(leg, 1.0)
        leg.happens(Held())
        await asyncio.sleep(PACKET_S + 0.001)
        played = len(audible(leg))
        await asyncio.sleep(30.0)  # as long as it likes
        assert len(audible(leg)) == played
        leg.happens(Resumed())
        await until(lambda: scene.behind.stops == 1, "end of the speech")
        await asyncio.sleep(0.2)
        assert audible(leg)[: len(everything)] == everything
        assert not any(audible(leg)[len(everything) :])
        assert leg.most_queued_ms <= 41
        assert leg.underruns == 0
        assert scene.behind.words == list(said)


async def test_a_bot_on_hold_hears_silence_and_not_the_music() -> None:
    leg, bot = LoopbackLeg(), StageBot()
    async with attended(bot, leg):
        scene = await bot.scene()
        leg.happens(Held())
        await asyncio.sleep(0.1)
        leg.say(noise(2.0, 8_000))
        before_s = scene.ears.heard_s
        await asyncio.sleep(1.0)
        assert scene.ears.loudest == 0
        assert scene.ears.heard_s - before_s == pytest.approx(1.0, abs=0.05)
        leg.happens(Resumed())
        await until(lambda: scene.ears.loudest > 0.1, "the peer's voice")


async def test_an_interruption_silences_within_a_packet_and_drops_the_rest() -> None:
    leg, bot = LoopbackLeg(OUT_HZ), StageBot()
    async with attended(bot, leg):
        scene = await bot.scene()
        await scene.say(words(10))
        await heard_s(leg, 0.3)
        await scene.interrupt()
        await asyncio.sleep(PACKET_S + 0.001)
        played = len(audible(leg))
        await until(lambda: scene.behind.stops == 1, "end of the speech")
        await asyncio.sleep(0.5)
        assert len(audible(leg)) == played
        again = words(2)
        await scene.say(again)
        await until(lambda: scene.behind.stops == 2, "end of what came next")
        await asyncio.sleep(0.2)
        assert audible(leg)[played:].startswith(b"".join(again.values()))


async def test_a_rate_that_changes_in_mid_call_changes_nothing_else() -> None:
    leg, bot = LoopbackLeg(8_000), StageBot(echo=True)
    async with attended(bot, leg):
        scene = await bot.scene()
        heard_before = scene.ears.heard_s
        leg.say(noise(0.5, 8_000))
        await asyncio.sleep(0.6)
        leg.start_media(16_000)
        leg.heard.clear()
        said = noise(1.0, 16_000, seed=1)
        leg.say(said)
        await asyncio.sleep(1.5)
        later, likeness = delay_of(leg.heard, said)
        assert later / 16_000 <= 2 * PACKET_S + 0.009
        assert likeness > 0.98
        assert scene.ears.heard_s - heard_before == pytest.approx(2.1, abs=0.05)


async def test_keys_go_both_ways() -> None:
    leg, bot = LoopbackLeg(OUT_HZ), StageBot()
    async with attended(bot, leg):
        scene = await bot.scene()
        overheard = Overheard(InputDTMFFrame)
        scene.worker.add_observer(overheard)
        for key in "1#AD*0":
            leg.press(key)
        await until(lambda: len(overheard.frames) >= 4, "keys")
        assert [frame.button.value for frame in overheard.frames] == list("1#*0")
        said = words(3)
        await scene.say(said)
        await scene.frames(
            OutputDTMFFrame.from_string("12"), OutputDTMFUrgentFrame.from_string("9")
        )
        await until(lambda: leg.did("send_keys") == ["9", "12"], "keys, the urgent one first")
        # The others came behind the words.
        assert audible(leg).startswith(b"".join(said.values()))


async def test_a_transfer_waits_for_the_last_word_and_ends_the_call() -> None:
    leg, bot = LoopbackLeg(OUT_HZ), StageBot()
    async with attended(bot, leg) as call:
        scene = await bot.scene()
        said = words(4)
        await scene.say(said)
        await scene.frames(TransferFrame(target="sip:ann@pbx.example"))
        await heard_s(leg, 0.3)
        assert leg.did("transfer") == []
        await until(lambda: leg.did("transfer") == ["sip:ann@pbx.example"], "transfer")
        assert audible(leg).startswith(b"".join(said.values()))
        await until(call.done, "end of the call")
    assert leg.did("hang_up") == [{}]


async def test_a_refused_transfer_lets_the_call_go_on_whatever_end_was_to_follow() -> None:
    leg, bot = LoopbackLeg(OUT_HZ), StageBot()
    leg.refuses = "the dial plan forbids it"
    async with attended(bot, leg) as call:
        scene = await bot.scene()
        overheard = Overheard(TransferRefusedFrame)
        scene.worker.add_observer(overheard)
        await scene.say(words(1))
        await scene.frames(TransferFrame(target="sip:ann@pbx.example"), EndWorkerFrame())
        await until(lambda: overheard.frames, "refusal")
        assert {frame.reason for frame in overheard.frames} == {"the dial plan forbids it"}
        await asyncio.sleep(2.0)
        assert not call.done()
        sorry = words(2)
        leg.heard.clear()
        await scene.say(sorry)
        await until(lambda: scene.behind.stops == 2, "end of the apology")
        await asyncio.sleep(0.1)
        assert audible(leg).startswith(b"".join(sorry.values()))
        await scene.frames(TransferFrame(target="sip:ann@pbx.example"))
        await until(lambda: len(overheard.frames) == 4, "another refusal")
        await scene.frames(EndWorkerFrame())  # without a word
        await until(call.done, "end of the call")


async def test_a_bot_that_ends_hears_nothing_that_could_interrupt_its_farewell() -> None:
    leg, bot = LoopbackLeg(OUT_HZ), StageBot()
    async with attended(bot, leg) as call:
        scene = await bot.scene()
        said = words(5)
        await scene.say(said)
        await scene.frames(EndFrame())
        await heard_s(leg, 0.1)
        leg.say(noise(3.0, OUT_HZ))
        await until(call.done, "end of the call")
        assert scene.ears.loudest == 0
        assert audible(leg).startswith(b"".join(said.values()))


async def test_the_end_waits_until_all_has_been_heard() -> None:
    leg, bot = LoopbackLeg(OUT_HZ), StageBot()
    async with attended(bot, leg) as call:
        scene = await bot.scene()
        said = words(4)
        await scene.say(said)
        scene.arguments.transport.add_farewell_headers({"X-Reason": "done"})
        await scene.frames(EndFrame())
        await until(call.done, "end of the call")
        assert audible(leg).startswith(b"".join(said.values()))
    assert leg.did("hang_up") == [{"X-Reason": "done"}]


async def test_a_bot_that_ends_does_not_wait_for_a_peer_who_holds() -> None:
    leg, bot = LoopbackLeg(OUT_HZ), StageBot()
    async with attended(bot, leg) as call:
        scene: Scene = await bot.scene()
        await scene.say(words(10))
        await heard_s(leg, 0.1)
        leg.happens(Held())
        await asyncio.sleep(0.1)
        await scene.frames(EndFrame())
        await until(call.done, "end of the call", within_s=5)


async def test_twenty_calls_side_by_side_never_run_dry() -> None:
    legs = [LoopbackLeg(8_000, call_id=f"call-{number}") for number in range(20)]

    async def one(leg: LoopbackLeg) -> None:
        bot = StageBot()
        async with attended(bot, leg):
            scene = await bot.scene()
            await scene.say(words(5))
            await until(lambda: scene.behind.stops == 1, "end of the speech")
            await asyncio.sleep(0.2)

    await asyncio.gather(*map(one, legs))
    for leg in legs:
        sound = bytes(leg.heard).strip(b"\0")
        assert len(sound) == pytest.approx(2 * 0.95 * 8_000, abs=320)
        assert leg.most_queued_ms <= 41
    assert sum(leg.underruns for leg in legs) == 0
