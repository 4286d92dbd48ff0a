"""The audio pump: who is polled when."""

import asyncio
import itertools
import random
from types import SimpleNamespace
from typing import Any, cast

import pytest
from baresip import AudioInfo, CallAudio

from talkpath.transports.sip import leg_audio
from talkpath.transports.sip.audio_pump import POLL_S, AudioPump


class _Call:
    """Counts how often it is polled."""

    def __init__(self, quiet_s: float, fails_at: int = 0) -> None:
        self.polls = 0
        self.failures: list[Exception] = []
        self._quiet_s = quiet_s
        self._fails_at = fails_at
        self.polled = asyncio.Event()

    def poll(self) -> float:
        self.polls += 1
        self.polled.set()
        if self.polls == self._fails_at:
            raise ValueError("a defect")
        return self._quiet_s


async def _polled(call: _Call, times: int) -> None:
    async with asyncio.timeout(30):
        while call.polls < times:
            call.polled.clear()
            await call.polled.wait()


async def test_calls_are_polled_when_something_is_due_and_a_defect_ends_one_of_them() -> None:
    pump = AudioPump()
    clock = asyncio.get_running_loop().time
    often, seldom, broken = _Call(0.0), _Call(3 * POLL_S), _Call(0.0, fails_at=2)
    began_s = clock()
    for call in (often, seldom, broken):
        pump.add(call.poll, call.failures.append)
    assert pump.running
    await _polled(seldom, 10)
    passed_s = clock() - began_s
    assert often.polls > seldom.polls
    assert seldom.polls <= 2 + passed_s / (3 * POLL_S)
    assert broken.polls == 2
    assert [str(error) for error in broken.failures] == ["a defect"]
    pump.remove(often.poll)
    polls = often.polls
    await _polled(seldom, seldom.polls + 3)
    assert often.polls == polls
    anew = _Call(0.0)
    pump.add(anew.poll, anew.failures.append)
    await _polled(anew, 3)
    pump.close()
    assert not pump.running
    polls = anew.polls
    await asyncio.sleep(3 * POLL_S)
    assert anew.polls == polls


class _Line:
    """A stack's audio whose packets of 20 ms come at times that are known."""

    def __init__(self, times_s: list[float]) -> None:
        self.now_s = 0.0
        self.reads = 0
        self.waits_s: list[float] = []
        self._times_s = times_s

    def info(self) -> AudioInfo:
        ready: dict[str, Any] = {"tx_ready": True, "rx_ready": True, "tx_ptime_ms": 20}
        rates = {"tx_sample_rate": 8000, "rx_sample_rate": 8000, "tx_channels": 1, "rx_channels": 1}
        empty = dict.fromkeys(("tx_buffered", "rx_buffered", "tx_capacity", "rx_capacity"), 0)
        return AudioInfo(**ready, **rates, **empty)

    def read(self, most: int) -> bytes:
        self.reads += 1
        come = list(itertools.takewhile(lambda at_s: at_s <= self.now_s, self._times_s))
        del self._times_s[: len(come)]
        self.waits_s += [self.now_s - at_s for at_s in come]
        return bytes(320 * len(come))


def _heard(monkeypatch: pytest.MonkeyPatch, jitter_s: float, *, always: bool) -> _Line:
    """Ten seconds of a call, polled in every round or only when it wants to be."""
    draw = random.Random(7)
    times_s = sorted(100.003 + 0.02 * n + jitter_s * draw.random() for n in range(500))
    line = _Line(times_s)
    monkeypatch.setattr(leg_audio, "time", SimpleNamespace(monotonic=lambda: line.now_s))
    leg = leg_audio.LegAudio(cast(CallAudio, line), lambda rate_hz: None)
    due_s = 0.0
    for number in range(round(11 / POLL_S)):
        line.now_s = 100 + number * POLL_S
        if always or line.now_s >= due_s:
            due_s = line.now_s + leg.poll()
    return line


@pytest.mark.parametrize("jitter_s", [0.0, 0.01, 0.04])
def test_packets_that_are_not_due_are_not_looked_for_and_none_is_heard_later(
    monkeypatch: pytest.MonkeyPatch, jitter_s: float
) -> None:
    always = _heard(monkeypatch, jitter_s, always=True)
    wanted = _heard(monkeypatch, jitter_s, always=False)
    assert len(wanted.waits_s) == len(always.waits_s) == 500
    assert sum(wanted.waits_s) < sum(always.waits_s) + 500 * 0.0001
    assert wanted.reads < always.reads
    if not jitter_s:
        assert wanted.reads < 0.6 * always.reads
