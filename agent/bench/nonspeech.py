"""Sounds in which nobody speaks: what a detector and a model must not make words of.

Made by code, the same for the same seed: silence, noises, hum, the tones of the telephone,
chords, breath, clicks and the like, each at several levels. Ten minutes by default. A level is
the peak in dBFS, so that nothing clips.

Sources of frequencies and cadences:

- tones in Europe: ETSI TR 101 041-2 (425 Hz; ringing 1 s on and 4 s off, busy 0.5 s on and
  off), as ITU-T E.180/Q.35 recommends; the special information tone is the latter's
  (950, 1400 and 1800 Hz, 330 ms each, then 1 s of silence);
- tones in North America: Bell's precise tone plan, now ATIS-0600401 (dial 350 + 440 Hz, ringing
  440 + 480 Hz 2 s on and 4 s off, busy 480 + 620 Hz 0.5 s on and off);
- push buttons: ITU-T Q.23 (frequencies) and Q.24 (at least 40 ms; here 80 ms on and off);
- a calling fax: ITU-T T.30 (1100 Hz, 0.5 s on and 3 s off).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from talkpath.agent.audio import SAMPLE_RATE_HZ, FloatArray

__all__ = ["KINDS", "LEVELS_DBFS", "Sound", "sounds"]

LEVELS_DBFS = (-50.0, -30.0, -15.0, -6.0)

_Wave = npt.NDArray[np.float64]
_Make = Callable[[np.random.Generator, int], _Wave]

_KEYS_HZ = {
    key: (low, high)
    for low, row in zip((697, 770, 852, 941), ("123A", "456B", "789C", "*0#D"), strict=True)
    for high, key in zip((1209, 1336, 1477, 1633), row, strict=True)
}
# Semitones above the root: major, minor, dominant seventh.
_CHORDS = ((0, 4, 7), (0, 3, 7), (0, 4, 7, 10))


@dataclass(frozen=True, slots=True, eq=False)
class Sound:
    """One sound.

    Attributes:
        kind: its name.
        level_dbfs: its peak.
        audio: float32, ``[n]``, 16 kHz.
    """

    kind: str
    level_dbfs: float
    audio: FloatArray


def sounds(
    each_s: float = 5.5, levels_dbfs: Sequence[float] = LEVELS_DBFS, *, seed: int = 1
) -> Iterator[Sound]:
    """Make every kind at every level.

    Args:
        each_s: seconds of each; 5.5 s at four levels are ten minutes in all.
        levels_dbfs: peaks, in turn.
        seed: other seeds give other noises, melodies and knocks.
    """
    count = round(each_s * SAMPLE_RATE_HZ)
    for level_dbfs in levels_dbfs:
        for index, (kind, make) in enumerate(KINDS.items()):
            rng = np.random.default_rng([seed, index, round(-level_dbfs * 10)])
            wave = make(rng, count)
            peak = float(np.abs(wave).max()) or 1.0
            audio = wave * (10 ** (level_dbfs / 20) / peak)
            yield Sound(kind, level_dbfs, audio.astype(np.float32))


def _time(count: int) -> _Wave:
    return np.arange(count) / SAMPLE_RATE_HZ


def _samples(seconds: float) -> int:
    return round(seconds * SAMPLE_RATE_HZ)


def _silence(rng: np.random.Generator, count: int) -> _Wave:
    return np.zeros(count)


def _noise(
    rng: np.random.Generator, count: int, gain: Callable[[_Wave], _Wave] = np.ones_like
) -> _Wave:
    """White noise, its spectrum multiplied by a gain over the frequency in Hz."""
    spectrum = np.fft.rfft(rng.standard_normal(count))
    frequencies = np.fft.rfftfreq(count, 1 / SAMPLE_RATE_HZ)
    return np.fft.irfft(spectrum * gain(np.maximum(frequencies, 20.0)), count)


def _band(low_hz: float, high_hz: float) -> Callable[[_Wave], _Wave]:
    """Gain of a band: 12 dB an octave on both sides."""
    return lambda hz: 1 / (1 + (low_hz / hz) ** 2) / (1 + (hz / high_hz) ** 2)


def _pink(rng: np.random.Generator, count: int) -> _Wave:
    return _noise(rng, count, lambda hz: hz**-0.5)


def _brown(rng: np.random.Generator, count: int) -> _Wave:
    return _noise(rng, count, lambda hz: hz**-1.0)


def _hum(mains_hz: float) -> _Make:
    """The mains, its odd harmonics the stronger ones, as transformers make them."""

    def make(rng: np.random.Generator, count: int) -> _Wave:
        wave = np.zeros(count)
        for harmonic in range(1, 16):
            strength = (1.0 if harmonic % 2 else 0.4) / harmonic
            phase = rng.uniform(0, 2 * np.pi)
            wave += strength * np.sin(2 * np.pi * mains_hz * harmonic * _time(count) + phase)
        return wave + 0.01 * rng.standard_normal(count)

    return make


def _tone(*frequencies_hz: float, on_s: float = 1.0, off_s: float = 0.0) -> _Make:
    def make(rng: np.random.Generator, count: int) -> _Wave:
        wave = _mix(frequencies_hz, count)
        return wave * (_time(count) % (on_s + off_s) < on_s)

    return make


def _mix(frequencies_hz: Sequence[float], count: int) -> _Wave:
    phases = 2 * np.pi * np.asarray(frequencies_hz)[:, None] * _time(count)
    return np.asarray(np.sin(phases).sum(axis=0))


def _place(wave: _Wave, at: int, part: _Wave) -> None:
    """Add a part to a wave, as much of it as there is room for."""
    part = part[: max(0, len(wave) - at)]
    wave[at : at + len(part)] += part


def _information(rng: np.random.Generator, count: int) -> _Wave:
    wave = np.zeros(count)
    length = _samples(0.33)
    for start in range(0, count, 3 * length + _samples(1.0)):
        for index, hz in enumerate((950.0, 1400.0, 1800.0)):
            _place(wave, start + index * length, _mix([hz], length))
    return wave


def _push_buttons(rng: np.random.Generator, count: int) -> _Wave:
    wave = np.zeros(count)
    for start in range(0, count, _samples(0.16)):
        key = rng.choice(list(_KEYS_HZ))
        _place(wave, start, _mix(_KEYS_HZ[key], _samples(0.08)))
    return wave


def _note(pitch_hz: float, count: int, vibrato_cents: float = 0.0) -> _Wave:
    """A note of six harmonics: struck, decaying, let go; vibrato at 5.5 Hz."""
    time = _time(count)
    bend = 2 ** (vibrato_cents / 1200 * np.sin(2 * np.pi * 5.5 * time))
    phase = 2 * np.pi * np.cumsum(pitch_hz * bend) / SAMPLE_RATE_HZ
    wave = np.asarray(sum(np.sin(harmonic * phase) / harmonic**1.5 for harmonic in range(1, 7)))
    attack = np.minimum(time / 0.02, 1)
    release = np.minimum((count / SAMPLE_RATE_HZ - time) / 0.05, 1)
    return wave * attack * release * np.exp(-1.5 * time)


def _chords(rng: np.random.Generator, count: int) -> _Wave:
    wave = np.zeros(count)
    for start in range(0, count, _samples(1.0)):
        root_hz = 110 * 2 ** (rng.integers(0, 13) / 12)
        for step in _CHORDS[rng.integers(len(_CHORDS))]:
            _place(wave, start, _note(root_hz * 2 ** (step / 12), _samples(1.0)))
    return wave


def _arpeggio(rng: np.random.Generator, count: int) -> _Wave:
    wave = np.zeros(count)
    for start in range(0, count, _samples(0.3)):
        chord = _CHORDS[rng.integers(len(_CHORDS))]
        pitch_hz = 220 * 2 ** ((rng.choice(chord) + 12 * rng.integers(0, 2)) / 12)
        _place(wave, start, _note(pitch_hz, _samples(0.4), vibrato_cents=30))
    return wave


def _strings(rng: np.random.Generator, count: int) -> _Wave:
    """A bowed triad, every note a sawtooth through the body's resonances, with vibrato."""
    wave = np.zeros(count)
    length = _samples(1.5)
    time = _time(length)
    bow = np.minimum(time / 0.15, 1) * np.minimum((1.5 - time) / 0.2, 1)
    for start in range(0, count, length):
        root_hz = 196 * 2 ** (rng.integers(0, 13) / 12)
        for step in _CHORDS[rng.integers(len(_CHORDS))]:
            bend = 2 ** (25 / 1200 * np.sin(2 * np.pi * 5.8 * time + rng.uniform(0, 6)))
            phase = 2 * np.pi * np.cumsum(root_hz * 2 ** (step / 12) * bend) / SAMPLE_RATE_HZ
            for harmonic in range(1, 16):
                hz = root_hz * 2 ** (step / 12) * harmonic
                body = sum(np.exp(-(((hz - at) / 200) ** 2)) for at in (280, 460, 1000, 2500))
                _place(wave, start, np.sin(harmonic * phase) / harmonic * (0.3 + body) * bow)
    return wave


def _siren(rng: np.random.Generator, count: int) -> _Wave:
    """Four harmonics that rise and fall between 500 and 1,500 Hz every 3 s."""
    sweep = 0.5 - 0.5 * np.cos(2 * np.pi * _time(count) / 3)
    phase = 2 * np.pi * np.cumsum(500 * 3**sweep) / SAMPLE_RATE_HZ
    return np.asarray(sum(np.sin(harmonic * phase) / harmonic for harmonic in range(1, 5)))


def _breath(rng: np.random.Generator, count: int) -> _Wave:
    """In through the nose, 1.2 s, and out through the mouth, 1.6 s; every 4 s."""
    wave = np.zeros(count)
    for start in range(0, count, _samples(4.0)):
        for at_s, long_s, low_hz, high_hz in ((0.2, 1.2, 800, 4000), (1.7, 1.6, 300, 2000)):
            length = _samples(long_s)
            swell = np.sin(np.pi * np.linspace(0, 1, length)) ** 2
            part = _noise(rng, length, _band(low_hz, high_hz)) * swell
            _place(wave, start + _samples(at_s), part)
    return wave


def _bursts(rate_hz: float, long_s: float, decay_s: float, low_hz: float, high_hz: float) -> _Make:
    """Short noises in a band, at random moments, each dying away."""

    def make(rng: np.random.Generator, count: int) -> _Wave:
        wave = np.zeros(count)
        length = _samples(long_s)
        decay = np.exp(-_time(length) / decay_s)
        for at in rng.uniform(0, count, rng.poisson(rate_hz * count / SAMPLE_RATE_HZ) + 1):
            part = _noise(rng, length, _band(low_hz, high_hz)) * decay
            _place(wave, int(at), part * rng.uniform(0.3, 1.0))
        return wave

    return make


def _clicks(rng: np.random.Generator, count: int) -> _Wave:
    wave = np.zeros(count)
    for at in rng.integers(0, count, max(1, 4 * count // SAMPLE_RATE_HZ)):
        _place(wave, int(at), rng.choice([-1.0, 1.0]) * np.ones(rng.integers(1, 8)))
    return wave


def _motor(rng: np.random.Generator, count: int) -> _Wave:
    """Twenty harmonics of a shaft whose speed wanders around 1,500 turns a minute, and hiss."""
    speed_hz = 25 * (1 + 0.05 * np.sin(2 * np.pi * 0.3 * _time(count) + rng.uniform(0, 6)))
    phase = 2 * np.pi * np.cumsum(speed_hz) / SAMPLE_RATE_HZ
    wave = np.zeros(count)
    for harmonic in range(1, 21):
        wave += rng.uniform(0.2, 1) / harmonic**0.5 * np.sin(harmonic * phase)
    return wave + 0.3 * _noise(rng, count, _band(500, 3000))


def _wind(rng: np.random.Generator, count: int) -> _Wave:
    gusts = np.abs(_noise(rng, count, lambda hz: np.exp(-hz / 20.5)))
    rush = _noise(rng, count, lambda hz: (1 + (hz / 150) ** 2) ** -1.0)
    return np.asarray(rush * (0.4 + gusts / gusts.max()))


def _room(rng: np.random.Generator, count: int) -> _Wave:
    """A fan and a transformer far away."""
    fan = _noise(rng, count, _band(60, 400))
    return np.asarray(fan / fan.std() + 0.3 * _hum(50)(rng, count))


def _coughs(rng: np.random.Generator, count: int) -> _Wave:
    """A burst, a hoarse part with a falling pitch of its own, a breath; every 2 s."""
    wave = np.zeros(count)
    for start in range(_samples(0.3), count, _samples(2.0)):
        burst = _noise(rng, _samples(0.06), _band(400, 3500))
        _place(wave, start, burst / burst.std() * np.exp(-_time(len(burst)) / 0.03))
        length = _samples(0.25)
        pitch_hz = np.linspace(rng.uniform(200, 350), 120, length)
        rattle = 1 + np.sign(np.sin(2 * np.pi * np.cumsum(pitch_hz) / SAMPLE_RATE_HZ))
        hoarse = _noise(rng, length, _band(300, 1800))
        swell = np.sin(np.pi * np.linspace(0, 1, length))
        _place(wave, start + _samples(0.05), hoarse / hoarse.std() * rattle * swell * 0.5)
        breath = _noise(rng, _samples(0.3), _band(800, 3000))
        fade = np.linspace(1, 0, len(breath))
        _place(wave, start + _samples(0.3), breath / breath.std() * fade * 0.1)
    return wave


def _knocks(rng: np.random.Generator, count: int) -> _Wave:
    """Three knocks on wood every 1.5 s."""
    wave = np.zeros(count)
    length = _samples(0.12)
    decay = np.exp(-_time(length) / 0.02)
    for start in range(_samples(0.2), count, _samples(1.5)):
        for knock in range(3):
            body = _mix([rng.uniform(150, 220), rng.uniform(380, 500)], length) * decay
            click = _noise(rng, length, _band(500, 3000)) * decay**4
            at = start + _samples(0.2 * knock + rng.uniform(0, 0.03))
            _place(wave, at, body + click / (np.abs(click).max() or 1.0))
    return wave


KINDS: dict[str, _Make] = {
    "silence": _silence,
    "white noise": _noise,
    "pink noise": _pink,
    "brown noise": _brown,
    "hum 50 Hz": _hum(50),
    "hum 60 Hz": _hum(60),
    "dial tone Europe": _tone(425),
    "dial tone US": _tone(350, 440),
    "ringing Europe": _tone(425, on_s=1, off_s=4),
    "ringing US": _tone(440, 480, on_s=2, off_s=4),
    "busy Europe": _tone(425, on_s=0.5, off_s=0.5),
    "busy US": _tone(480, 620, on_s=0.5, off_s=0.5),
    "special information": _information,
    "calling fax": _tone(1100, on_s=0.5, off_s=3),
    "push buttons": _push_buttons,
    "chords": _chords,
    "arpeggio": _arpeggio,
    "strings": _strings,
    "siren": _siren,
    "breath": _breath,
    "clicks": _clicks,
    "keyboard": _bursts(7, 0.03, 0.006, 1500, 6000),
    "applause": _bursts(60, 0.05, 0.01, 700, 2500),
    "motor": _motor,
    "wind": _wind,
    "room": _room,
    "coughs": _coughs,
    "knocks": _knocks,
}
"""By name: a function of a generator of random numbers and the samples wanted."""
