"""Tones, what is heard of them, and calls that are measured by what comes back of them."""

import asyncio

import numpy as np
from numpy.typing import NDArray

from talkpath.agent.bench.telephone import TELEPHONE_CODECS, CallRecord, delays_ms, payloads
from talkpath.agent.bench.telephone_call import call as bench_call
from tests.sip.peer import PeerCall
from tests.sip.waiting import SOON_S, soon

__all__ = ["comes_back", "delays", "ends_in", "loudest_hz", "talk", "tone", "whole"]

_PCMU = TELEPHONE_CODECS["pcmu"]


def tone(hz: float, duration_s: float, rate_hz: int = 8000) -> NDArray[np.int16]:
    """A tone."""
    times = np.arange(int(duration_s * rate_hz)) / rate_hz
    return (8000 * np.sin(2 * np.pi * hz * times)).astype(np.int16)


def loudest_hz(pcm: NDArray[np.int16], rate_hz: int = 8000) -> float:
    """The strongest frequency; 0 for silence."""
    if not len(pcm) or np.abs(pcm).max() < 500:
        return 0.0
    spectrum = np.abs(np.fft.rfft(pcm * np.hanning(len(pcm))))
    return float(np.argmax(spectrum)) * rate_hz / len(pcm)


def ends_in(pcm: NDArray[np.int16], hz: float, rate_hz: int = 8000) -> bool:
    """Whether the last quarter of a second is this tone, whole."""
    end = pcm[-rate_hz // 4 :]
    loud = np.count_nonzero(np.abs(end) > 1000) > rate_hz // 6
    return bool(loud and abs(loudest_hz(end, rate_hz) - hz) < 10)


async def comes_back(call: PeerCall, hz: float = 440) -> None:
    """Hum to the other side until the echo of it has come, a quarter of a second of it."""
    humming = asyncio.create_task(call.media.say(tone(hz, SOON_S)))
    try:
        await soon(lambda: ends_in(call.media.heard(), hz), f"the echo of {hz:g} Hz")
    finally:
        humming.cancel()
        await asyncio.wait({humming})


async def talk(port: int, seconds: float, *, user: str = "bench") -> CallRecord:
    """Call an echo on 127.0.0.1, and hum and chirp to it for so long."""
    return await bench_call("127.0.0.1", port, _PCMU, payloads(_PCMU, seconds), user=user)


def delays(record: CallRecord, seconds: float) -> NDArray[np.float64]:
    """Milliseconds that each chirp took to come back; NaN for one that was not found."""
    return np.asarray(delays_ms(_PCMU, seconds, record))


def whole(record: CallRecord, seconds: float) -> None:
    """Such a call went to its end without a gap in its packets, and was heard.

    How many chirps come back unharmed is a matter of the machine, where it is busy:
    ``talkpath bench telephone`` measures that.
    """
    assert not record.failure
    sent, received = len(record.sent_s), len(record.arrivals)
    assert sent == len(payloads(_PCMU, seconds))
    assert record.lost == 0
    assert received >= sent, (received, sent)
    assert np.isfinite(delays(record, seconds)).mean() > 0.5
