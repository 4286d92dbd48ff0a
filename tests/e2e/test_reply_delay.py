"""The measurement of answers finds what it is to measure, in calls whose delays are known."""

import numpy as np
import pytest
from numpy.typing import NDArray

from talkpath.agent.bench.clips import Clip
from talkpath.agent.bench.telephone import (
    PACKET_S,
    TELEPHONE_CODECS,
    Arrival,
    CallRecord,
    packets,
)
from tests.e2e.reply_delay import browser_turns, speech_end_s, telephone_turns
from tests.e2e.two_ears import RATE_HZ, BothEars
from tests.speech import clips, resample

_DELAYS_S = (0.25, 0.4, 0.61)
_STARTS_S = (1.0, 7.0, 13.0)
_LENGTH_S = 20.0
_SAID = [(Clip(one.id, one.path, one.text, "en"), one.samples()) for one in clips()[5:8]]


def _line(starts: tuple[float, ...], rate_hz: int) -> NDArray[np.float32]:
    line = np.zeros(round(_LENGTH_S * rate_hz), np.float32)
    for (_, sound), start in zip(_SAID, starts, strict=True):
        sound = resample(sound, 16_000, rate_hz)
        line[round(start * rate_hz) :][: len(sound)] = sound
    return line


def _answers(rate_hz: int) -> NDArray[np.float32]:
    """A tone for each clip, so long after its end."""
    bot = np.zeros(round(_LENGTH_S * rate_hz), np.float32)
    for (_, sound), start, delay in zip(_SAID, _STARTS_S, _DELAYS_S, strict=True):
        first = round((start + speech_end_s(sound) + delay) * rate_hz)
        bot[first : first + rate_hz] = 0.1
    return bot


def test_it_finds_the_delays_of_a_call_from_a_browser_that_began_later_than_planned() -> None:
    late = tuple(start + 0.7 for start in _STARTS_S)
    bot = np.roll(_answers(RATE_HZ), round(0.7 * RATE_HZ))
    line, answers = ((32767 * side).astype(np.int16) for side in (_line(late, RATE_HZ), bot))
    ears = BothEars(line, answers)
    turns = browser_turns(ears, 1000.0, _SAID, _STARTS_S)
    assert [turn.began_s for turn in turns] == pytest.approx([1000 + s for s in late], abs=0.001)
    assert [turn.delay_ms for turn in turns] == pytest.approx([1e3 * s for s in _DELAYS_S], abs=3)


@pytest.mark.parametrize("name", ["pcmu", "g722"])
def test_it_finds_the_delays_of_a_call_by_telephone(name: str) -> None:
    codec = TELEPHONE_CODECS[name]
    back = packets(codec, _answers(codec.rate_hz))
    # What the bot says in a packet is spoken while the packet's time passes at the microphone.
    times = [1000.0 + PACKET_S * number for number in range(len(back))]
    record = CallRecord(
        sent_s=[at_s + PACKET_S for at_s in times],
        arrivals=[
            Arrival(at_s, n, data) for n, (at_s, data) in enumerate(zip(times, back, strict=True))
        ],
    )
    turns = telephone_turns(record, codec, _SAID, _STARTS_S)
    assert [turn.delay_ms for turn in turns] == pytest.approx([1e3 * s for s in _DELAYS_S], abs=4)


def test_a_clip_that_is_not_answered_has_no_delay() -> None:
    silent = np.zeros(round(_LENGTH_S * RATE_HZ), np.int16)
    caller = (32767 * _line(_STARTS_S, RATE_HZ)).astype(np.int16)
    turns = browser_turns(BothEars(caller, silent), 1000.0, _SAID, _STARTS_S)
    assert all(np.isnan(turn.delay_ms) for turn in turns)
