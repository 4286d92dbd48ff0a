"""The noise filter, and what it does to speech."""

import sys

import numpy as np
import pytest
from numpy.typing import NDArray

from talkpath.agent.bench.nonspeech import KINDS
from talkpath.agent.errors import MissingDependency
from talkpath.agent.speech import SileroVad
from talkpath.agent.speech.noise import NoiseFilter
from tests.speech import clip, silence

Audio = NDArray[np.float32]


def filtered(audio: Audio, block: int = 320) -> Audio:
    noise_filter = NoiseFilter()
    parts = [noise_filter.process(audio[at : at + block]) for at in range(0, len(audio), block)]
    return np.concatenate(parts)


def level_db(audio: Audio) -> float:
    return float(10 * np.log10(np.mean(np.square(audio)) + 1e-12))


@pytest.mark.parametrize("kind", ["white noise", "pink noise", "room"])
def test_it_takes_steady_noise_off(kind: str) -> None:
    wave = KINDS[kind](np.random.default_rng(4), 3 * 16_000)
    noise = (0.05 * wave / wave.std()).astype(np.float32)
    assert level_db(filtered(noise)[16_000:]) < level_db(noise) - 10


def test_it_leaves_speech_where_and_what_it_is() -> None:
    speech = np.concatenate([silence(0.5), clip("librivox-0880").samples(), silence(0.5)])
    out = filtered(speech)
    assert 0 <= len(speech) - len(out) <= 480
    lags = np.correlate(out, speech[: len(out)], "full")
    assert int(np.argmax(lags)) - (len(out) - 1) == 320  # 20 ms
    assert abs(level_db(out) - level_db(speech)) < 2
    vad = SileroVad()
    spoken = [float(np.sum(vad.probabilities(audio) > 0.5)) for audio in (speech, out)]
    assert spoken[1] > 0.85 * spoken[0]


def test_block_sizes_do_not_matter() -> None:
    audio = clip("cards-001").samples()
    whole, small = filtered(audio, len(audio)), filtered(audio, 77)
    assert np.allclose(whole, small, atol=1e-3)


def test_what_is_too_loud_is_clipped() -> None:
    loud = np.full(16_000, 3.0, dtype=np.float32)
    assert np.isfinite(filtered(loud)).all()


def test_where_it_is_not_installed_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyrnnoise", None)
    with pytest.raises(MissingDependency, match=r"pip install 'talkpath\[noise\]'"):
        NoiseFilter()
