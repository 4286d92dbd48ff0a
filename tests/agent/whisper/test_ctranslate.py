"""CTranslate2's side of the backend: its own limits, kept to what the protocol says."""

import numpy as np
import pytest

from talkpath.agent.models import ModelStore
from talkpath.agent.whisper.backend import Decoded, Item
from talkpath.agent.whisper.ctranslate import CTranslate2Backend
from talkpath.agent.whisper.windows import FULL_WINDOW, WindowPolicy
from tests.agent.whisper.helpers import backend
from tests.speech import clip, join


def drawn(seed: int) -> list[str]:
    """Decode on a new backend, whose threads draw from this seed."""
    model = CTranslate2Backend(ModelStore().pull("tiny.en"), device="cpu", workers=1, seed=seed)
    audio = clip("cards-005").samples()
    encoded = model.encode([audio], 512)
    texts = []
    for _ in range(4):
        (answer,) = model.generate(
            encoded, [Item("en", len(audio))], max_tokens=40, temperature=1.0
        )
        texts.append(" ".join(segment.text for segment in answer.segments))
    return texts


def test_what_is_drawn_can_be_drawn_again() -> None:
    first = drawn(1)
    assert first == drawn(1)
    assert first != drawn(2)
    assert len(set(first)) > 1


@pytest.mark.parametrize(("name", "frames"), [("tiny.en", 768), ("base", 512)])
def test_measured_models_have_the_short_windows(name: str, frames: int) -> None:
    assert backend(name).windows == WindowPolicy(floor_frames=frames)


def test_a_models_languages_are_those_it_has_a_token_for() -> None:
    assert backend("tiny.en").languages == {"en"}
    assert {"en", "de", "haw"} <= backend("base").languages
    assert "yue" not in backend("base").languages


def decode(
    max_tokens: int, context: int = 0, *, beam_size: int = 1, temperature: float = 0.0
) -> Decoded:
    model = backend("tiny.en")
    audio = join(gap_s=0.1)[: 28 * 16_000]
    before = (model.tokenize("again and so on") * 80)[:context]
    encoded = model.encode([audio], FULL_WINDOW)
    item = Item("en", len(audio), context=before)
    return model.generate(
        encoded, [item], max_tokens=max_tokens, beam_size=beam_size, temperature=temperature
    )[0]


@pytest.mark.parametrize(("beam_size", "temperature"), [(1, 0.0), (2, 0.0), (1, 0.2)])
def test_an_answer_has_as_many_tokens_as_it_may(beam_size: int, temperature: float) -> None:
    whole = decode(400, beam_size=beam_size, temperature=temperature)
    assert len(whole.tokens) > 60
    cut = decode(30, beam_size=beam_size, temperature=temperature)
    # CTranslate2 may take a time stamp at the end of an answer back.
    assert 28 <= len(cut.tokens) <= 30


@pytest.mark.parametrize("beam_size", [1, 2])
def test_the_longest_context_and_answer_share_whispers_positions(beam_size: int) -> None:
    answer = decode(448, 223, beam_size=beam_size)
    assert 0 < len(answer.tokens) <= 448 - 225


@pytest.mark.parametrize("padding", ["silence", "zeros"])
@pytest.mark.parametrize("samples", [0, 1, 16_000, 512 * 160])
def test_any_audio_fills_its_window(padding: str, samples: int) -> None:
    model = backend("tiny.en")
    encoded = model.encode([np.zeros(samples, dtype=np.float32)] * 2, 512, padding)
    (one, other) = model.generate(encoded, [Item("en", samples)] * 2, max_tokens=4)
    assert one == other


def test_only_the_drafting_decoder_takes_several_windows_together() -> None:
    model = CTranslate2Backend(
        ModelStore().pull("tiny.en"), device="cpu", workers=1, drafting=False
    )
    parts = [model.encode([np.zeros(16_000, dtype=np.float32)], bucket) for bucket in (768, 1024)]
    assert not model.mixes
    with pytest.raises(ValueError, match="items of one window"):
        model.join(parts)


def test_items_without_words_are_aligned_to_nothing() -> None:
    model = backend("base")
    audio = clip("librivox-0880").samples()
    encoded = model.encode([audio, audio], 512)
    items = [Item("en", len(audio)), Item("de", len(audio))]
    decoded = model.generate(encoded, items, max_tokens=60)
    empty = Decoded((), -0.5, 0.9)
    words, nothing = model.align(encoded, items, [decoded[0], empty])
    assert len(words) == len(decoded[0].segments)
    assert nothing == ()
    assert model.align(encoded, items, [empty, empty]) == [(), ()]
