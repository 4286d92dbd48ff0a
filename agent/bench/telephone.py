"""What a telephone call through an echo is measured by: the sound sent, and what came back of it.

The caller hums: noise at -32 dB without a pause, and in it a chirp of 40 ms every 0.4 s. A
chirp's place in what comes back is found by matched filtering, to a sample. Nothing here does any
input or output.

Mouth to ear is the time from a sample at the caller's microphone to the same sample in a packet
that has come back. It holds the caller's packetization (20 ms: a packet leaves when its last
sample has been spoken), the codec both ways, the network, and all of the product; not the
jitter buffer that a telephone has behind its ear.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import av
import numpy as np

from talkpath.agent.audio import FloatArray
from talkpath.agent.bench.figures import Spread, spread

__all__ = [
    "PACKET_S",
    "TELEPHONE_CODECS",
    "Arrival",
    "CallRecord",
    "Line",
    "TelephoneCodec",
    "delays_ms",
    "line_figures",
    "mouth",
    "packets",
    "payloads",
    "returned",
]

PACKET_S = 0.02
"""Seconds of sound in a packet that the caller sends."""

_CHIRP_S = 0.04
_EVERY_S = 0.4
_HUM = 10 ** (-32 / 20)
_CHIRP = 0.5
_LATEST_S = 0.35  # of a chirp: the next one must not be taken for it
_SURE = 0.3  # of what a chirp that came back whole gives
_SILENT = 10 ** (-58 / 20)  # 26 dB below the hum
_LOOK_S = 0.005


@dataclass(frozen=True, slots=True)
class TelephoneCodec:
    """A codec as a session description and FFmpeg have it.

    Attributes:
        payload_type: of RTP; 96 for Opus, which has none of its own.
        rtpmap: name, clock and channels in the session description.
        clock_hz: of RTP's timestamps.
        rate_hz: of the sound; G.722's clock is half of it (RFC 3551, 4.5.2).
        encoder: FFmpeg's name of what makes it.
        decoder: FFmpeg's name of what reads it.
    """

    payload_type: int
    rtpmap: str
    clock_hz: int
    rate_hz: int
    encoder: str
    decoder: str


TELEPHONE_CODECS = {
    "pcmu": TelephoneCodec(0, "PCMU/8000", 8000, 8000, "pcm_mulaw", "pcm_mulaw"),
    "pcma": TelephoneCodec(8, "PCMA/8000", 8000, 8000, "pcm_alaw", "pcm_alaw"),
    "g722": TelephoneCodec(9, "G722/8000", 8000, 16000, "g722", "g722"),
    "opus": TelephoneCodec(96, "opus/48000/2", 48000, 48000, "libopus", "libopus"),
}
"""By the names that ``sip.codecs`` has."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A packet that came back.

    Attributes:
        at_s: when (Unix time).
        sequence: RTP's number of the packet, unwrapped.
        payload: the sound, encoded.
    """

    at_s: float
    sequence: int
    payload: bytes


@dataclass(slots=True)
class CallRecord:
    """One call, as the caller's end wrote it down.

    Attributes:
        sent_s: when each packet was sent (Unix time).
        arrivals: what came back, in the order of the sequence numbers.
        lost: packets missing in the sequence numbers of what came back.
        failure: why there was no call, or no end; empty where all was well.
    """

    sent_s: list[float] = field(default_factory=list)
    arrivals: list[Arrival] = field(default_factory=list)
    lost: int = 0
    failure: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """Figures of one or several calls. NaN where there was nothing to measure.

    Attributes:
        delay_ms: mouth to ear.
        sent: packets sent.
        received: packets that came back.
        lost: of what was to come back.
        missed: chirps that were not found again.
        own_gap_ms: the longest time between two packets that were sent: how well the caller kept
            its own pace, which the next two cannot be better than.
        gap_ms: the longest time between two packets that came one after another.
        underrun_ms: the longest silence in what came back, where there was hum or chirp.
    """

    delay_ms: Spread
    sent: int
    received: int
    lost: int
    missed: int
    own_gap_ms: float
    gap_ms: float
    underrun_ms: float


def mouth(seconds: float, rate_hz: int) -> FloatArray:
    """What the caller's microphone hears: float32 ``[n]``; the same at every call."""
    sound = np.random.default_rng(6).normal(0.0, _HUM, round(seconds * rate_hz))
    chirp = _chirp(rate_hz)
    for start in _chirps(seconds, rate_hz):
        sound[start : start + len(chirp)] += chirp
    return sound.astype(np.float32)


def _chirp(rate_hz: int) -> FloatArray:
    """From 400 to 3000 Hz, which every telephone lets through."""
    t = np.arange(round(_CHIRP_S * rate_hz)) / rate_hz
    phase = 2 * np.pi * (400 * t + (3000 - 400) / (2 * _CHIRP_S) * t * t)
    return (_CHIRP * np.hanning(len(t)) * np.sin(phase)).astype(np.float32)


def _chirps(seconds: float, rate_hz: int) -> range:
    """First samples; the last one has time to come back."""
    every = round(_EVERY_S * rate_hz)
    return range(every, max(every, round((seconds - _EVERY_S) * rate_hz)), every)


def payloads(codec: TelephoneCodec, seconds: float) -> list[bytes]:
    """``mouth`` in packets of 20 ms."""
    return packets(codec, mouth(seconds, codec.rate_hz))


def packets(codec: TelephoneCodec, sound: FloatArray) -> list[bytes]:
    """A sound at the codec's rate in packets of 20 ms; the rest of a packet is left out."""
    context: Any = av.CodecContext.create(codec.encoder, "w")
    context.sample_rate, context.layout, context.format = codec.rate_hz, "mono", "s16"
    if codec.encoder == "libopus":
        context.options = {"application": "voip", "frame_duration": "20"}
    context.open()
    block = round(PACKET_S * codec.rate_hz)
    pcm = (sound * 32767).round().clip(-32768, 32767).astype(np.int16)
    encoded = []
    for start in range(0, len(pcm) // block * block, block):
        frame = av.AudioFrame.from_ndarray(pcm[None, start : start + block], "s16", "mono")
        frame.sample_rate, frame.pts = codec.rate_hz, start
        encoded += [bytes(packet) for packet in context.encode(frame)]
    return encoded


def returned(codec: TelephoneCodec, arrivals: Sequence[Arrival]) -> tuple[FloatArray, list[float]]:
    """Decode what came back.

    Returns:
        All samples one after another, float32 ``[n]``, and for each arrival the number of its
        first sample, with one more for the end.
    """
    context: Any = av.CodecContext.create(codec.decoder, "r")
    if codec.decoder != "libopus":
        context.sample_rate, context.layout = codec.rate_hz, "mono"
    context.open()
    parts, starts, at = [], [], 0
    for arrival in arrivals:
        starts.append(float(at))
        sound = list(_decoded(context, arrival.payload))
        parts += sound
        at += sum(map(len, sound))
    starts.append(float(at))
    return np.concatenate([np.zeros(0, np.float32), *parts]), starts


def _decoded(context: Any, payload: bytes) -> Iterator[FloatArray]:
    for frame in context.decode(av.Packet(payload)):
        samples = frame.to_ndarray()
        scale = 32768 if samples.dtype == np.int16 else 1
        plane = samples[0]
        if not frame.format.is_planar:
            plane = plane[:: len(frame.layout.channels)]
        yield plane.astype(np.float32) / np.float32(scale)


def line_figures(codec: TelephoneCodec, seconds: float, calls: Sequence[CallRecord]) -> Line:
    """Add up calls of this many seconds each."""
    delays: list[float] = []
    missed = 0
    own_gap_s = gap_s = underrun_s = 0.0
    for call in calls:
        sound, starts = returned(codec, call.arrivals)
        found = list(_delays_s(codec, seconds, call, sound, starts))
        delays += [1000 * delay for delay in found if not math.isnan(delay)]
        missed += sum(math.isnan(delay) for delay in found)
        times = sorted(arrival.at_s for arrival in call.arrivals)
        own_gap_s = max([own_gap_s, *np.diff(call.sent_s).tolist()])
        gap_s = max([gap_s, *np.diff(times).tolist()])
        underrun_s = max(underrun_s, _silence_s(sound, codec.rate_hz))
    came = any(call.arrivals for call in calls)
    return Line(
        delay_ms=spread(delays),
        sent=sum(len(call.sent_s) for call in calls),
        received=sum(len(call.arrivals) for call in calls),
        lost=sum(call.lost for call in calls),
        missed=missed,
        own_gap_ms=1000 * own_gap_s,
        gap_ms=1000 * gap_s if came else math.nan,
        underrun_ms=1000 * underrun_s if came else math.nan,
    )


def delays_ms(codec: TelephoneCodec, seconds: float, call: CallRecord) -> list[float]:
    """Mouth to ear of each chirp of a call, in their order; NaN for one that did not come back."""
    sound, starts = returned(codec, call.arrivals)
    return [1000 * delay for delay in _delays_s(codec, seconds, call, sound, starts)]


def _delays_s(
    codec: TelephoneCodec,
    seconds: float,
    call: CallRecord,
    sound: FloatArray,
    starts: Sequence[float],
) -> Iterator[float]:
    """Mouth to ear of each chirp that was sent; NaN for one that did not come back."""
    rate_hz, block = codec.rate_hz, round(PACKET_S * codec.rate_hz)
    chirp = _chirp(rate_hz)
    match = _matched(sound, chirp)
    sure = _SURE * float(np.dot(chirp, chirp))
    for start in _chirps(seconds, rate_hz):
        packet, offset = divmod(start, block)
        if packet >= len(call.sent_s):
            return
        spoken_s = call.sent_s[packet] - PACKET_S + offset / rate_hz
        # Where it can be: in packets that came from when it was spoken on.
        near = [
            index
            for index, arrival in enumerate(call.arrivals)
            if spoken_s <= arrival.at_s <= spoken_s + _LATEST_S
        ]
        if not near:
            yield math.nan
            continue
        first = int(starts[near[0]])
        window = match[first : int(starts[near[-1] + 1])]
        peak = int(np.argmax(window)) if len(window) else 0
        if not len(window) or window[peak] < sure:
            yield math.nan
            continue
        place = first + peak
        index = int(np.searchsorted(starts, place, side="right")) - 1
        heard_s = call.arrivals[index].at_s + (place - starts[index]) / rate_hz
        yield heard_s - spoken_s


def _matched(sound: FloatArray, chirp: FloatArray) -> FloatArray:
    """Strength of the chirp from each sample on, ``[n - len(chirp) + 1]``, by convolution."""
    if len(sound) < len(chirp):
        return np.zeros(0, np.float32)
    size = 1 << (len(sound) + len(chirp) - 1).bit_length()
    product = np.fft.rfft(sound, size) * np.conj(np.fft.rfft(chirp, size))
    return np.abs(np.fft.irfft(product, size)[: len(sound) - len(chirp) + 1]).astype(np.float32)


def _silence_s(sound: FloatArray, rate_hz: int) -> float:
    """The longest silence between the first sound and the last."""
    step = round(_LOOK_S * rate_hz)
    levels = np.sqrt(np.mean(np.square(sound[: len(sound) // step * step].reshape(-1, step)), 1))
    loud = np.flatnonzero(levels > _SILENT)
    return float(np.max(np.diff(loud), initial=1) - 1) * _LOOK_S
