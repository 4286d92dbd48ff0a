"""Where nobody speaks there is no word: the real detector, the real model, every kind of sound."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from talkpath.agent.audio import FloatArray, Resampler
from talkpath.agent.bench.nonspeech import KINDS, Sound, sounds
from talkpath.agent.bench.wer import word_error_rate
from talkpath.agent.transcribe import FileTranscription
from tests.agent.whisper.helpers import Results, Speaker, engine, vad
from tests.speech import clip, join, silence, write_wav

MODEL = "base"
GAP_S = 0.6  # so that each sound is heard apart
# Some that the detector takes for speech: kind, peak, seed of the ten minutes.
MISTAKEN = [("arpeggio", -15.0, 3), ("knocks", -6.0, 5), ("arpeggio", -15.0, 8)]


async def heard(audio: FloatArray) -> Results:
    """What a stream makes of a stretch of audio, in whatever language."""
    results = Results()
    async with engine(MODEL) as running:
        stream = running.open_stream(results, language="auto")
        await Speaker(stream, running).say(audio)
        await stream.drain()
        stream.close()
    assert not results.failures
    return results


def joined(parts: list[Sound]) -> FloatArray:
    return np.concatenate([np.concatenate([part.audio, silence(GAP_S)]) for part in parts])


async def test_a_stream_hears_no_word_in_any_kind_of_sound() -> None:
    parts = list(sounds(2.4, [-20.0]))
    assert {part.kind for part in parts} == set(KINDS)
    results = await heard(joined(parts))
    assert [partial.text for partial in results.partials] == []
    assert results.text.strip() == ""


async def test_sounds_that_the_detector_takes_for_speech_have_no_words() -> None:
    """Here the transcript's own figures have to tell."""
    parts = [
        next(part for part in sounds(5.5, [level], seed=seed) if part.kind == kind)
        for kind, level, seed in MISTAKEN
    ]
    results = await heard(joined(parts))
    assert results.finals  # else this test shows nothing
    assert results.text.strip() == ""
    assert [partial.text for partial in results.partials] == []


async def test_a_file_of_sounds_has_no_words(tmp_path: Path) -> None:
    path = write_wav(tmp_path / "sounds.wav", joined(list(sounds(2.4, [-30.0], seed=3))))
    async with engine(MODEL) as running:
        transcription = FileTranscription(path, running, vad())
        assert [segment.text async for segment in transcription.segments()] == []


def quiet(audio: FloatArray) -> FloatArray:
    """At -40 dBFS while somebody speaks (about ITU-T P.56's active level)."""
    active = audio[np.abs(audio) > 0.01]
    return audio * np.float32(0.01 / np.sqrt(np.mean(active**2)))


def over_the_telephone(audio: FloatArray) -> FloatArray:
    """At 8 kHz, 300 to 3,400 Hz (ITU-T G.712), in mu-law's 8 bits (G.711)."""
    narrow = Resampler(16_000, 8_000).process(audio)
    spectrum = np.fft.rfft(narrow)
    hz = np.fft.rfftfreq(len(narrow), 1 / 8_000)
    filtered = np.fft.irfft(spectrum * ((hz >= 300) & (hz <= 3_400)), len(narrow))
    pressed = np.sign(filtered) * np.log1p(255 * np.abs(filtered)) / np.log1p(255)
    steps = np.round(pressed * 127) / 127
    back = np.sign(steps) * np.expm1(np.abs(steps) * np.log1p(255)) / 255
    return Resampler(8_000, 16_000).process(back.astype(np.float32))


@pytest.mark.parametrize("change", [quiet, over_the_telephone])
async def test_quiet_and_narrow_speech_keeps_its_words(
    change: Callable[[FloatArray], FloatArray],
) -> None:
    names = ["librivox-0880", "cards-001", "librivox-0930", "cards-003"]
    results = await heard(change(join(names)))
    said = " ".join(clip(name).text for name in names)
    assert word_error_rate([said], [results.text]) <= 0.3
