"""Words in time, the durations that a model keeps to itself, and the voice itself."""

# ruff: noqa: RUF001  phonemes are not what they look like

import asyncio
import itertools
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from talkpath.agent.errors import MissingDependency, ModelUnavailable
from talkpath.agent.voice import Voice, piece_ends, word_ends
from tests.local_models import voice_model


def timed(phonemes: str, samples: int = 10) -> list[tuple[str, int]]:
    return [(phoneme, samples) for phoneme in phonemes]


def no_count(word: str) -> int:
    raise AssertionError(f"{word} need not be counted")


def test_words_end_before_the_pause_that_follows() -> None:
    assert word_ends(["Hello,", "you!"], timed("^həlˈoʊ, juː!$"), no_count) == [70, 120]


def test_joined_words_share_their_phonemes() -> None:
    # "of the" is spoken as one group of four phonemes, two for each.
    counts = {"of": 2, "the": 2, "sea": 3}
    ends = word_ends(["of", "the", "sea"], timed("^ʌvðə siː.$"), counts.__getitem__)
    assert ends == [30, 50, 90]


def test_a_word_without_a_sound_ends_with_the_one_before() -> None:
    counts = {"-": 0, "go": 3, "no": 3}
    ends = word_ends(["go", "-", "no"], timed("^ɡoʊ noʊ.$"), counts.__getitem__)
    assert ends == [40, 40, 80]


def test_words_without_any_phoneme_end_with_the_audio() -> None:
    assert word_ends(["...", "?"], timed("^.$"), no_count) == [30, 30]
    assert word_ends([], timed("^.$"), no_count) == []
    assert word_ends(["a"], [], no_count) == [0]


@given(
    st.lists(st.text("ab-", min_size=1, max_size=6), max_size=6),
    st.lists(st.tuples(st.sampled_from("^$ ab.,ˈ"), st.integers(0, 50)), max_size=30),
)
def test_ends_never_fall_nor_pass_the_audio(
    words: list[str], phonemes: list[tuple[str, int]]
) -> None:
    ends = word_ends(words, phonemes, lambda word: word.count("a") + word.count("b"))
    assert len(ends) == len(words)
    assert ends == sorted(ends)
    assert all(0 <= end <= sum(duration for _, duration in phonemes) for end in ends)


@given(st.integers(0, 5000))
def test_no_piece_is_shorter_than_the_first_and_each_is_at_most_all_before_it(frames: int) -> None:
    ends = [0, *piece_ends(frames)]
    assert ends[-1] == frames
    lengths = [end - start for start, end in itertools.pairwise(ends)]
    assert all(length >= min(frames, 24) for length in lengths)
    assert all(length <= 2 * before + 24 for before, length in itertools.pairwise(lengths))


async def test_a_missing_package_is_named_with_its_command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "piper", None)
    with pytest.raises(MissingDependency, match=r'pip install "talkpath\[local\]"'):
        await Voice.load(tmp_path / "voice.onnx")


async def test_files_that_are_missing_or_no_voice_are_named(tmp_path: Path) -> None:
    pytest.importorskip("piper")
    path = tmp_path / "voice.onnx"
    with pytest.raises(ModelUnavailable, match="there is no voice at"):
        await Voice.load(path)
    path.write_bytes(b"no model")
    for config in ("{", "{}"):
        path.with_suffix(".onnx.json").write_text(config)
        with pytest.raises(ModelUnavailable, match="is no Piper voice"):
            await Voice.load(path)


async def test_words_lie_where_the_sound_is_at_any_rate() -> None:
    others = set(threading.enumerate())
    voice = await Voice.load(voice_model(), threads=2)
    try:
        assert voice.voice_rate_hz == 22050
        for rate_hz in (8000, 16000, 22050, 24000, 48000):
            spoken = await voice.say("Hello, world.", rate_hz)
            audio = np.frombuffer(spoken.pcm, np.int16).astype(np.float64)
            assert [word.text for word in spoken.words] == ["Hello,", "world."]
            first, last = (word.end for word in spoken.words)
            assert 0 < first < last <= len(audio)
            loudness = np.sqrt(np.mean(audio[:last] ** 2))
            # Behind the last word there is next to nothing.
            assert np.sqrt(np.mean(audio[last:] ** 2)) < loudness / 4
            assert 0.5 < len(audio) / rate_hz < 2
        assert (await voice.say("")).pcm == b""
        whole = await voice.steady().say("Hello, the whole wide world.", 16_000)
        pieces = [p async for p in voice.steady().pieces("Hello, the whole wide world.", 16_000)]
        assert len(pieces[0].pcm) / 32_000 < 0.3 < len(whole.pcm) / 32_000
        assert b"".join(piece.pcm for piece in pieces) == whole.pcm
        assert [w.text for p in pieces for w in p.words] == [w.text for w in whole.words]
        steady = voice.steady()
        alike = await asyncio.gather(*(steady.say("Hello, world.") for _ in range(2)))
        assert alike[0] == alike[1]
        both = await asyncio.gather(voice.say("This is one."), voice.say("This is two."))
        assert [spoken.words[-1].text for spoken in both] == ["one.", "two."]
    finally:
        voice.close()
    for thread in set(threading.enumerate()) - others:
        if thread.name.startswith("voice"):
            thread.join(timeout=60)
            assert not thread.is_alive()
