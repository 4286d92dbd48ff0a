"""The notes bot, called with a real voice: what it has written down is what was said."""

import io
import json
import re
import sqlite3
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from talkpath.agent.notes import NoteDatabase
from talkpath.bots import notes
from talkpath.bots.testing import call
from tests import speech
from tests.local_models import voice_model

RATE_HZ = 16_000
LIGHT = {"whisper.model": "tiny.en"}


@pytest.fixture(autouse=True)
def voice() -> None:
    voice_model()


def stereo(wav: bytes) -> NDArray[np.float64]:
    with wave.open(io.BytesIO(wav), "rb") as file:
        assert (file.getnchannels(), file.getframerate()) == (2, RATE_HZ)
        pcm = np.frombuffer(file.readframes(file.getnframes()), "<i2")
    return pcm.reshape(-1, 2).astype(np.float64)


def lag_s(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """By how much the second comes later than the first, from their cross-correlation."""
    size = 1 << (len(one) + len(other)).bit_length()
    product = np.fft.irfft(np.conj(np.fft.rfft(one, size)) * np.fft.rfft(other, size))
    at = int(np.argmax(product))
    return (at if at < size // 2 else at - size) / RATE_HZ


def only(folder: Path) -> Path:
    """The one call in there."""
    (call,) = folder.iterdir()
    return call


def turns_of(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "transcript.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def text_of(turns: list[dict[str, Any]], speaker: str) -> str:
    return " ".join(turn["text"] for turn in turns if turn["speaker"] == speaker)


async def test_a_dictation_is_a_folder_with_both_sides_in_step_and_every_word_in_its_place(
    tmp_path: Path,
) -> None:
    said = [speech.clip("librivox-0870"), speech.clip("librivox-0930")]
    async with call(notes, settings={**LIGHT, "notes.folder": str(tmp_path)}) as caller:
        await caller.hears("when you are done")
        for clip in said:
            await caller.plays(clip.path)
            await caller.silence(2.0)
        await caller.says("That is all.")
        thanks = await caller.hears_turn()
        await caller.is_hung_up_on()
        truth = stereo(caller.recording)
    assert re.search(r"noted \d\d words", thanks.text)

    folder = only(tmp_path)
    recorded = stereo((folder / "audio.wav").read_bytes())
    caller_lag_s, bot_lag_s = (lag_s(truth[:, side], recorded[:, side]) for side in (0, 1))
    assert abs(caller_lag_s - bot_lag_s) < 0.005
    assert len(recorded) == pytest.approx(len(truth), abs=RATE_HZ)

    turns = turns_of(folder)
    assert turns[0]["speaker"] == "bot"
    assert text_of(turns, "bot") == f"{notes.GREETING} {thanks.text}"
    heard = text_of(turns, "caller")
    told = " ".join([*(clip.text for clip in said), "that is all"])
    assert speech.word_error_rate([told], [heard]) < 0.25
    words = [(turn["speaker"], word) for turn in turns for word in turn["words"]]
    assert len([word for who, word in words if who == "caller"]) == len(heard.split())
    for who, word in words:
        # Where a word is said, there is sound on that side.
        span = slice(int(word["start_s"] * RATE_HZ), int(word["end_s"] * RATE_HZ) + 1)
        assert np.abs(recorded[span, 0 if who == "caller" else 1]).max() > 500, (who, word)


async def test_who_speaks_over_the_bot_is_on_the_record_and_what_it_left_out_is_not(
    tmp_path: Path,
) -> None:
    async with call(notes, settings={**LIGHT, "notes.folder": str(tmp_path)}) as caller:
        await caller.hears("I am")
        clip = speech.clip("librivox-0880")
        await caller.plays(clip.path, over_bot=True)
        await caller.silence(1.5)
        truth = stereo(caller.recording)
        played = "".join(item.text for item in caller.transcript if item.who == "bot")
    folder = only(tmp_path)  # and the caller has hung up
    turns = turns_of(folder)
    recorded = stereo((folder / "audio.wav").read_bytes())
    lags = [lag_s(truth[:, side], recorded[:, side]) for side in (0, 1)]
    assert abs(lags[0] - lags[1]) < 0.005
    assert text_of(turns, "bot") == played != notes.GREETING
    assert speech.word_error_rate([clip.text], [text_of(turns, "caller")]) < 0.3


async def test_calls_side_by_side_share_a_database_and_each_has_its_sound_in_it(
    tmp_path: Path,
) -> None:
    file = tmp_path / "notes.db"
    settings = {**LIGHT, "notes.database": str(file)}
    async with call(notes, settings=settings) as one, call(notes, settings=settings) as other:
        await one.hears("when you are done")
        await one.plays(speech.clip("librivox-0880").path)
        await other.hears("when you are done")
        await other.plays(speech.clip("librivox-0930").path)
        await other.silence(1.0)
    database = sqlite3.connect(file)
    calls = database.execute("SELECT id, duration_s FROM call ORDER BY id").fetchall()
    texts = [
        database.execute(
            "SELECT group_concat(text, ' ') FROM turn WHERE call = ? AND speaker = 'caller'", (id,)
        ).fetchone()[0]
        for id, _ in calls
    ]
    words = database.execute("SELECT count(*) FROM word").fetchone()[0]
    database.close()
    assert len(calls) == 2 and words > 20
    assert sum("young man" in text for text in texts) == 1
    assert sum("amiable" in text for text in texts) == 1
    for id, duration_s in calls:
        NoteDatabase.save_audio(file, id, tmp_path / f"{id}.wav")
        assert len(stereo((tmp_path / f"{id}.wav").read_bytes())) == round(duration_s * RATE_HZ)


@pytest.mark.parametrize(
    ("text", "done"),
    [
        ("That is all.", True),
        ("Buy milk and bread. Okay, that's all, thank you.", True),
        ("Goodbye", True),
        ("Thanks. Bye bye.", True),
        ("End of the message.", True),
        ("It was late, and then we said goodbye.", False),
        ("She told me that is all.", False),
        ("I think that was it for the garden, and now the house.", False),
        ("At the end of the message.", False),
    ],
)
def test_a_dictation_ends_with_a_sentence_that_says_so_and_nothing_else(
    text: str, done: bool
) -> None:
    assert bool(notes._DONE.search(text)) is done


async def test_who_cannot_be_written_down_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("not a database, but long enough to be taken for one " * 10)
    settings = {**LIGHT, "notes.database": str(tmp_path / "taken")}
    async with call(notes, settings=settings, errors="keep") as caller:
        await caller.hears("could not write that down")
        await caller.is_hung_up_on()
    (error,) = caller.errors
    assert error.startswith("the recording of this call ends here: ")


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("Buy milk and bread. Okay, that's all, thank you.", 4),
        ("That is all.", 0),
        ("She told me that is all.", 6),
    ],
)
def test_the_words_that_end_a_dictation_are_not_counted(text: str, count: int) -> None:
    assert notes._count(text) == count
