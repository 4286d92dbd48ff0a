"""Whose speech it is, by its level: the caller's, or background."""

import numpy as np
import pytest
from numpy.typing import NDArray

from talkpath.agent.speech import (
    SileroVad,
    SpeechLevel,
    SpeechStarted,
    SpeechStopped,
    SpeechTracker,
)
from tests.speech import clip, silence

Audio = NDArray[np.float32]
CALLER = [clip(name).samples() for name in ("librivox-0870", "librivox-0890")]
OTHER = np.concatenate([clip(name).samples() for name in ("cards-005", "cards-002", "cards-003")])


@pytest.fixture(scope="module")
def vad() -> SileroVad:
    return SileroVad()


class Line:
    """A line with one tracker, on which stretches of audio are heard one after the other."""

    def __init__(self, vad: SileroVad, background_db: float = 10.0) -> None:
        self.level = SpeechLevel(background_db)
        self.tracker = SpeechTracker(vad, level=self.level)
        self._speaking = False

    def hear(self, audio: Audio, gain_db: float = 0.0) -> float:
        """Seconds of the stretch that count as speech."""
        speech = 0
        for at in range(0, len(audio), 512):
            for event in self.tracker.process(audio[at : at + 512] * np.float32(gain(gain_db))):
                if isinstance(event, (SpeechStarted, SpeechStopped)):
                    self._speaking = isinstance(event, SpeechStarted)
            speech += self._speaking
        return speech * 0.032


def gain(db: float) -> float:
    return float(10 ** (db / 20))


def other(gain_db: float) -> Audio:
    """Somebody else's speech, so many dB louder than the caller's own."""
    loudness = gain(gain_db) * np.std(CALLER[0]) / np.std(OTHER)
    return np.concatenate([silence(0.4), OTHER * np.float32(loudness), silence(0.4)])


def test_quiet_speech_in_the_callers_pauses_does_not_count(vad: SileroVad) -> None:
    for background_db, counts in ((10.0, False), (0.0, True)):
        line = Line(vad, background_db)
        line.hear(CALLER[0])
        line.tracker.bot_speaks(True)
        assert (line.hear(other(-22)) > 0.5) is counts


def test_the_caller_s_speech_ends_though_somebody_else_speaks_on(vad: SileroVad) -> None:
    line = Line(vad)
    line.hear(CALLER[0])
    assert line.hear(other(-22)[6_400:]) < 1.5  # of 7


def test_speech_counts_before_the_caller_s_level_is_known(vad: SileroVad) -> None:
    line = Line(vad)
    assert line.hear(CALLER[0], -25) > 5
    assert line.level.caller_dbfs is not None


@pytest.mark.parametrize("gain_db", [-6.0, 0.0, 12.0])
def test_the_caller_counts_a_little_quieter_and_louder(vad: SileroVad, gain_db: float) -> None:
    line, plain = Line(vad), Line(vad, 0)
    for audio, change_db in zip(CALLER, (0.0, gain_db), strict=True):
        counted_s, wanted_s = line.hear(audio, change_db), plain.hear(audio, change_db)
        assert counted_s > 0.9 * wanted_s


def test_noise_does_not_hide_how_much_quieter_speech_is(vad: SileroVad) -> None:
    noise = np.random.default_rng(6).normal(0, 0.01, 30 * 16_000).astype(np.float32)
    line = Line(vad)
    line.hear(noise[:48_000])
    line.hear(CALLER[0] + noise[: len(CALLER[0])])
    assert line.level.caller_dbfs is not None
    assert abs(line.level.caller_dbfs - _level_in_silence(vad)) < 2


def _level_in_silence(vad: SileroVad) -> float:
    line = Line(vad)
    line.hear(CALLER[0])
    assert line.level.caller_dbfs is not None
    return line.level.caller_dbfs


def test_a_caller_who_moved_away_is_heard_again_within_seconds(vad: SileroVad) -> None:
    line = Line(vad)
    line.hear(CALLER[0])
    line.hear(silence(1))
    assert line.hear(np.concatenate([*CALLER, *CALLER]), -25) > 12  # of 25
    assert line.hear(CALLER[1], -25) > 4


def test_what_is_learned_from_somebody_else_does_not_last(vad: SileroVad) -> None:
    line = Line(vad)
    line.hear(other(0))
    line.hear(CALLER[0], 12)  # the caller is nearer to the microphone
    line.hear(silence(1))
    line.tracker.bot_speaks(True)
    assert line.hear(other(-12)) == 0


def test_while_the_bot_speaks_background_stays_background(vad: SileroVad) -> None:
    line = Line(vad)
    line.hear(CALLER[0])
    line.hear(silence(1))
    line.tracker.bot_speaks(True)
    assert line.hear(np.concatenate([*CALLER, *CALLER]), -25) == 0
