"""The sounds without speech are what their names say, and the same every time."""

import numpy as np
import pytest

from talkpath.agent.audio import FloatArray
from talkpath.agent.bench.nonspeech import KINDS, LEVELS_DBFS, Sound, sounds

RATE_HZ = 16_000


def one(kind: str, seconds: float = 6.0, level_dbfs: float = -6.0) -> FloatArray:
    every: list[Sound] = list(sounds(seconds, [level_dbfs]))
    return next(sound.audio for sound in every if sound.kind == kind)


def peaks_hz(audio: FloatArray) -> set[int]:
    """Frequencies within 6 dB of the strongest one, to 5 Hz."""
    spectrum = np.abs(np.fft.rfft(audio * np.hanning(len(audio))))
    strong = np.flatnonzero(spectrum > spectrum.max() / 2) * RATE_HZ / len(audio)
    return {5 * round(hz / 5) for hz in strong}


def on_s(audio: FloatArray) -> list[tuple[float, float]]:
    """Where it sounds, as pairs of seconds, to 10 ms."""
    loud = np.abs(audio[: len(audio) // 160 * 160]).reshape(-1, 160).max(axis=1) > 0.01
    edges = np.flatnonzero(np.diff(np.concatenate([[False], loud, [False]])))
    return [(a / 100, b / 100) for a, b in edges.reshape(-1, 2).tolist()]


def test_it_is_ten_minutes_of_every_kind_at_every_level() -> None:
    every = list(sounds())
    assert 600 <= sum(len(sound.audio) for sound in every) / RATE_HZ < 660
    assert {(sound.kind, sound.level_dbfs) for sound in every} == {
        (kind, level) for kind in KINDS for level in LEVELS_DBFS
    }
    for sound in every:
        assert sound.audio.dtype == np.float32
        peak = np.abs(sound.audio).max()
        expected = 0 if sound.kind == "silence" else 10 ** (sound.level_dbfs / 20)
        assert peak == pytest.approx(expected, rel=1e-4), sound.kind


def test_the_same_seed_gives_the_same_sounds_and_another_one_others() -> None:
    first, again, other = (list(sounds(1.0, [-6.0], seed=seed)) for seed in (1, 1, 2))
    for one_sound, same in zip(first, again, strict=True):
        np.testing.assert_array_equal(one_sound.audio, same.audio)
    changed = {
        a.kind for a, b in zip(first, other, strict=True) if not np.array_equal(a.audio, b.audio)
    }
    assert {"white noise", "breath", "applause", "chords", "wind"} <= changed


@pytest.mark.parametrize(
    ("kind", "frequencies_hz"),
    [
        ("dial tone Europe", {425}),
        ("dial tone US", {350, 440}),
        ("ringing US", {440, 480}),
        ("busy US", {480, 620}),
        ("calling fax", {1100}),
        ("special information", {950, 1400, 1800}),
    ],
)
def test_tones_have_their_frequencies(kind: str, frequencies_hz: set[int]) -> None:
    assert peaks_hz(one(kind)) == frequencies_hz


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("ringing Europe", [(0, 1), (5, 6)]),
        ("ringing US", [(0, 2)]),
        ("busy Europe", [(0, 0.5), (1, 1.5), (2, 2.5), (3, 3.5), (4, 4.5), (5, 5.5)]),
        ("calling fax", [(0, 0.5), (3.5, 4)]),
        ("special information", [(0, 0.99), (1.99, 2.98), (3.98, 4.97), (5.97, 6)]),
    ],
)
def test_tones_have_their_cadence(kind: str, expected: list[tuple[float, float]]) -> None:
    found = on_s(one(kind))
    assert np.array(found) == pytest.approx(np.array(expected), abs=0.02)


def test_a_push_button_is_one_low_and_one_high_tone() -> None:
    key = one("push buttons")[: round(0.08 * RATE_HZ)]
    spectrum = np.abs(np.fft.rfft(key * np.hanning(len(key)), 8 * len(key)))
    hz = np.fft.rfftfreq(8 * len(key), 1 / RATE_HZ)
    low = hz[(hz < 1075) * spectrum == spectrum[hz < 1075].max()]
    high = hz[(hz > 1075) * spectrum == spectrum[hz > 1075].max()]
    assert min(abs(low[0] - np.array([697, 770, 852, 941]))) < 8
    assert min(abs(high[0] - np.array([1209, 1336, 1477, 1633]))) < 8


@pytest.mark.parametrize(
    ("kind", "db_per_octave"), [("white noise", 0), ("pink noise", -3), ("brown noise", -6)]
)
def test_noises_fall_as_their_colours_do(kind: str, db_per_octave: float) -> None:
    power = np.abs(np.fft.rfft(one(kind))) ** 2
    hz = np.fft.rfftfreq(6 * RATE_HZ, 1 / RATE_HZ)
    octaves = [power[(hz >= at) & (hz < 2 * at)].mean() for at in (125, 250, 500, 1000, 2000)]
    slope = np.polyfit(range(5), 10 * np.log10(octaves), 1)[0]
    assert slope == pytest.approx(db_per_octave, abs=0.5)
