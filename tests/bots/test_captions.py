"""The captions bot's files: who hangs up finds every word in them, turn by turn."""

import asyncio
import json
from pathlib import Path

import pytest

from talkpath.bots import captions
from talkpath.bots.testing import call
from tests import speech

SAID = ("librivox-0880", "librivox-0930")
PAUSE_S = 6.0  # longer than any profile waits


async def captioned(folder: Path, form: str, *, speak: bool = True) -> None:
    settings = {
        "whisper.model": "tiny.en",
        "captions.folder": str(folder / form),
        "captions.format": form,
    }
    async with call(captions, settings=settings) as caller:
        if not speak:
            return
        await caller.plays(speech.clip(SAID[0]).path)
        await caller.silence(PAUSE_S)
        await caller.plays(speech.clip(SAID[1]).path)
        # and they hang up with the last word


def written(folder: Path) -> str:
    (file,) = folder.iterdir()
    return file.read_text(encoding="utf-8")


async def test_a_file_has_the_turns_with_their_times_up_to_the_last_word(tmp_path: Path) -> None:
    await asyncio.gather(*(captioned(tmp_path, form) for form in ("json", "text", "vtt")))

    told = json.loads(await asyncio.to_thread(written, tmp_path / "json"))
    assert sorted({segment["turn"] for segment in told["segments"]}) == [1, 2]
    assert told["language"] == "en"
    first, second = (speech.clip(name) for name in SAID)
    for number, clip, start_s in (
        (1, first, 0.0),
        (2, second, first.duration_s + PAUSE_S),
    ):
        segments = [segment for segment in told["segments"] if segment["turn"] == number]
        text = " ".join(segment["text"] for segment in segments)
        assert speech.word_error_rate([clip.text], [text]) < 0.3
        words = [word for segment in segments for word in segment["words"]]
        assert " ".join(word["text"] for word in words) == text
        # Times are those of the speech.
        assert start_s - 0.1 <= words[0]["start_s"] < start_s + 1.0
        assert words[-1]["end_s"] == pytest.approx(start_s + clip.duration_s, abs=0.6)

    lines = (await asyncio.to_thread(written, tmp_path / "text")).splitlines()
    assert len(lines) == 2 and "amiable" in lines[1]
    subtitles = await asyncio.to_thread(written, tmp_path / "vtt")
    assert subtitles.startswith("WEBVTT\n\n00:00:0")
    assert "\n00:00:0" in subtitles and "amiable" in subtitles


async def test_a_call_without_words_leaves_no_file(tmp_path: Path) -> None:
    await captioned(tmp_path, "srt", speak=False)
    assert not list(await asyncio.to_thread(lambda: [*(tmp_path / "srt").iterdir()]))
