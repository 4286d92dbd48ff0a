"""Words in time, the durations that a model keeps to itself, and the voice itself."""

# ruff: noqa: RUF001  phonemes are not what they look like

import asyncio
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from talkpath.agent.errors import MissingDependency, ModelUnavailable
from talkpath.agent.voice import Voice, with_durations, word_ends
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


def field(number: int, content: bytes) -> bytes:
    assert len(content) < 128
    return bytes([number << 3 | 2, len(content)]) + content


CEIL = field(1, field(2, b"w_ceil") + field(4, b"Ceil"))
OTHER = field(1, field(2, b"sum") + field(4, b"Add"))
AUDIO = field(12, field(1, b"output"))
DURATIONS = field(12, field(1, b"w_ceil"))


def test_the_durations_become_an_output() -> None:
    # Field 1 is a number, 15 and 14 have a fixed size: the reader steps over them.
    start = b"\x08\x07" + b"\x7d" + bytes(4) + b"\x71" + bytes(8)
    model = start + field(7, OTHER + CEIL + AUDIO)
    assert with_durations(model) == model + field(7, DURATIONS)


@pytest.mark.parametrize("graph", [OTHER + AUDIO, CEIL + CEIL, CEIL + AUDIO + DURATIONS])
def test_a_model_with_nothing_to_add_stays_as_it_is(graph: bytes) -> None:
    assert with_durations(field(7, graph)) == field(7, graph)


def test_a_name_that_is_too_long_is_refused() -> None:
    node = b"\x12\x7d" + b"w" * 125 + field(4, b"Ceil")
    graph = b"\x0a" + bytes([len(node) & 0x7F | 0x80, len(node) >> 7]) + node
    with pytest.raises(ValueError, match="too long"):
        with_durations(b"\x3a" + bytes([len(graph) & 0x7F | 0x80, len(graph) >> 7]) + graph)


@given(st.binary(max_size=60))
def test_what_is_no_protocol_buffer_gets_a_clear_error(content: bytes) -> None:
    try:
        assert with_durations(content).startswith(content)
    except ValueError as error:
        assert str(error) in ("the file is cut off", "the file is no protocol buffer")


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
