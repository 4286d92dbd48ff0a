"""The speech that other tests rely on is what it says it is."""

import os
import subprocess
import sys
import wave
from pathlib import Path

import numpy as np
import pytest

from talkpath.agent.bench.wer import word_errors
from tests import speech


def test_ten_clips_with_words_and_sound() -> None:
    found = speech.clips()
    assert len(found) == 10
    for item in found:
        samples = item.samples()
        assert abs(len(samples) / 16_000 - item.duration_s) < 1e-6
        assert 0.05 < np.abs(samples).max() <= 1
        assert item.text == item.text.lower().strip()


def test_a_damaged_clip_is_fetched_again_even_by_two_processes_at_once(tmp_path: Path) -> None:
    whole = speech.clip("cards-001").path.read_bytes()
    folder = tmp_path / "talkpath" / "tests"
    folder.mkdir(parents=True)
    (folder / "cards-001.wav").write_bytes(whole[:-2])
    processes = [
        subprocess.Popen(
            [
                sys.executable,
                "-c",
                "from tests.speech import clip; print(clip('cards-001').path)",
            ],
            cwd=Path(__file__).parents[2],
            env=os.environ | {"XDG_CACHE_HOME": str(tmp_path)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for process in processes:
        answer, _ = process.communicate()
        assert process.returncode == 0
        assert Path(answer.strip()).read_bytes() == whole
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        f"{item.id}.wav" for item in speech.clips()
    )


def test_joined_speech_at_another_rate_keeps_its_length(tmp_path: Path) -> None:
    path = speech.speech_wav(
        tmp_path / "turns.wav", ["cards-001", "cards-003"], rate_hz=48_000, gap_s=0.7
    )
    expected_s = 0.5 + 0.7 + 1 + sum(speech.clip(f"cards-00{n}").duration_s for n in (1, 3))
    with wave.open(str(path), "rb") as file:
        assert file.getframerate() == 48_000
        assert abs(file.getnframes() / 48_000 - expected_s) < 0.001


def test_word_errors_follow_whispers_normaliser() -> None:
    assert word_errors(["Mr. Smith paid 20 dollars."], ["mister smith paid $20"]).errors == 0
    result = word_errors(["one colour", ""], ["one two color", "ghost words"])
    assert (result.errors, result.words) == (3, 2)
    with pytest.raises(ValueError):
        word_errors(["a"], [])
