"""Clips are read, chosen and counted the same way by every bench."""

from pathlib import Path

import pytest

from talkpath.agent.bench.clips import Clip, clip_errors, english_clips, load_manifest, read_clip
from talkpath.agent.errors import AudioError
from tests.speech import clip


def made(name: str, text: str = "a", language: str = "en") -> Clip:
    return Clip(name, Path(f"{name}.wav"), text, language)


def test_digits_are_counted_one_by_one() -> None:
    digits = made("digits-1", "one two three")
    assert digits.is_digits
    assert clip_errors([(digits, "123")]).errors == 0
    assert clip_errors([(digits, "1 2 4")]).errors == 1
    # As ordinary text, the normaliser makes one number of them.
    assert clip_errors([(made("a", "one two three"), "1 2 4")]).words == 1


def test_a_limit_takes_clips_from_the_whole_list() -> None:
    clips = [made(str(number)) for number in range(10)] + [made("x", language="de")]
    assert [item.id for item in english_clips(clips, 3)] == ["0", "3", "6"]
    assert len(english_clips(clips)) == 10
    assert len(english_clips(clips, 99)) == 10
    with pytest.raises(AudioError, match="no English clip"):
        english_clips(clips[-1:])


def test_a_wrong_manifest_is_told_by_its_line(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="manifest"):
        load_manifest(tmp_path)
    good = '{"id": "a", "file": "a.wav", "text": "a"}\n'
    (tmp_path / "manifest.jsonl").write_text(good + '{"id": "b"}\n')
    with pytest.raises(AudioError, match="line 2"):
        load_manifest(tmp_path)


def test_recordings_come_at_16_khz() -> None:
    item = clip("librivox-0880")
    audio = read_clip(Clip(item.id, item.path, item.text, "en"))
    assert audio.ndim == 1
    assert len(audio) / 16_000 == pytest.approx(2.99, abs=0.01)
