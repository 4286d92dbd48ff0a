"""The figures of a call through an echo are those of the line it went over."""

import dataclasses

import pytest

from talkpath.agent.bench.telephone import (
    PACKET_S,
    TELEPHONE_CODECS,
    Arrival,
    CallRecord,
    line_figures,
    payloads,
)

_SECONDS = 4.0
_CODEC_MS = {"pcmu": 0.0, "pcma": 0.0, "g722": 1.4, "opus": 6.5}


def _call(codec: str, delay_s: float) -> CallRecord:
    """A line that does nothing but wait."""
    record = CallRecord()
    for number, payload in enumerate(payloads(TELEPHONE_CODECS[codec], _SECONDS)):
        at_s = 1000 + number * PACKET_S
        record.sent_s.append(at_s)
        record.arrivals.append(Arrival(at_s + delay_s, number, payload))
    return record


@pytest.mark.parametrize("codec", TELEPHONE_CODECS)
def test_a_delay_holds_the_callers_packet_the_codec_and_the_line(codec: str) -> None:
    line = line_figures(TELEPHONE_CODECS[codec], _SECONDS, [_call(codec, 0.033)])
    assert line.delay_ms.count == 8
    assert line.delay_ms.p50 == pytest.approx(20 + 33 + _CODEC_MS[codec], abs=0.2)
    assert (line.missed, line.underrun_ms) == (0, 0)
    assert line.gap_ms == pytest.approx(20)


def test_silence_and_gaps_in_what_comes_back_are_seen() -> None:
    record = _call("pcmu", 0.03)
    silent = [
        dataclasses.replace(arrival, payload=b"\xff" * 160) if 52 <= number < 56 else arrival
        for number, arrival in enumerate(record.arrivals)
    ]
    late = [
        dataclasses.replace(arrival, at_s=arrival.at_s + 0.07 * (number >= 120))
        for number, arrival in enumerate(silent)
    ]
    record.arrivals = late
    line = line_figures(TELEPHONE_CODECS["pcmu"], _SECONDS, [record, _call("pcmu", 0.02)])
    assert line.underrun_ms == pytest.approx(80, abs=5)
    assert line.gap_ms == pytest.approx(90)
    assert line.own_gap_ms == pytest.approx(20)
    assert line.delay_ms.most == pytest.approx(120, abs=0.2)
    assert (line.sent, line.received) == (400, 400)


def test_a_chirp_that_does_not_come_back_is_counted_and_not_guessed() -> None:
    record = _call("pcmu", 0.03)
    record.arrivals = [
        dataclasses.replace(arrival, payload=b"\xff" * 160) if number >= 100 else arrival
        for number, arrival in enumerate(record.arrivals)
    ]
    line = line_figures(TELEPHONE_CODECS["pcmu"], _SECONDS, [record])
    assert line.missed == line.delay_ms.count == 4


def test_no_call_at_all_gives_no_figures() -> None:
    line = line_figures(TELEPHONE_CODECS["pcmu"], _SECONDS, [CallRecord(failure="no answer")])
    assert line.delay_ms.count == line.sent == 0
    assert line.gap_ms != line.gap_ms
