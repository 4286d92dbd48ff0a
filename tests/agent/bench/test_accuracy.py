"""The comparison with faster-whisper counts right and says clearly what it lacks."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from talkpath.agent.bench.accuracy import compare
from talkpath.agent.bench.clips import load_manifest
from talkpath.agent.errors import AudioError
from tests.speech import clip


def manifest(folder: Path, *names: str, language: str = "en") -> Path:
    lines = []
    for name in names:
        item = clip(name)
        (folder / f"{name}.wav").write_bytes(item.path.read_bytes())
        lines.append({"id": name, "file": f"{name}.wav", "text": item.text, "language": language})
    text = "\n".join(json.dumps(line) for line in lines)
    (folder / "manifest.jsonl").write_text(text + "\n\n")
    return folder


def test_both_sides_are_measured_on_the_same_clips(
    tmp_path: Path, model: Callable[[str], Path]
) -> None:
    names = ["librivox-0880", "librivox-0890", "librivox-0930"]
    result = compare(load_manifest(manifest(tmp_path, *names)), model("base"))
    assert result.clips == 3
    assert result.words == 30
    assert 0 <= result.wer < 0.2 and 0 <= result.wer_faster_whisper < 0.2
    assert result.wer_digits is None
    # How much less than the peer's is for the bench to say, on a machine that is quiet.
    assert 0 < result.processor_ratio < 0.8


def test_words_of_both_sides_begin_at_about_the_same_time(
    tmp_path: Path, model: Callable[[str], Path]
) -> None:
    clips = load_manifest(manifest(tmp_path, "librivox-0870"))
    times = compare(clips, model("tiny.en"), words=True).word_times
    assert times is not None
    assert times.matched >= 15
    assert times.mean_s < 0.1


def test_clips_in_other_languages_are_not_counted(tmp_path: Path) -> None:
    clips = load_manifest(manifest(tmp_path, "cards-001", language="de"))
    with pytest.raises(AudioError, match="English"):
        compare(clips, tmp_path)
