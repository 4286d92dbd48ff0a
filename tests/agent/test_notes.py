"""Notes of calls, on a disk that may fill up and in processes that may die."""

import json
import sqlite3
import wave
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from talkpath.agent.conversation import CALLER, SpokenTurn
from talkpath.agent.notes import CaptionsFile, NoteDatabase, NoteFolder
from talkpath.agent.whisper.results import Segment, Word

AT = datetime(2026, 3, 1, 12, 30, 5, tzinfo=UTC)
WORDS = (Word(0.1, 0.4, "Grüß", 0.9), Word(0.4, 0.8, "Gott.", 0.7))
TURN = SpokenTurn(CALLER, (Segment(0.0, 1.0, "Grüß Gott.", WORDS),), "de")
SECOND = np.arange(2 * 8_000, dtype="<i2").tobytes()


def frames(path: Path) -> bytes:
    with wave.open(str(path), "rb") as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (2, 2, 8_000)
        return file.readframes(file.getnframes())


def test_a_call_that_never_ended_has_all_that_was_written(tmp_path: Path) -> None:
    notes = NoteFolder(tmp_path)
    notes.begin(AT, 8_000)
    notes.write(SECOND, [TURN])
    notes.write(SECOND, [])
    (folder,) = tmp_path.iterdir()
    assert folder.name.startswith("2026-03-01T12-30-05-")
    assert folder.stat().st_mode & 0o077 == 0  # nobody else's business
    assert frames(folder / "audio.wav") == 2 * SECOND
    (line,) = (folder / "transcript.jsonl").read_text("utf-8").splitlines()
    assert json.loads(line) == {
        "speaker": "caller",
        "start_s": 0.1,
        "end_s": 0.8,
        "language": "de",
        "text": "Grüß Gott.",
        "words": [
            {"start_s": 0.1, "end_s": 0.4, "text": "Grüß", "probability": 0.9},
            {"start_s": 0.4, "end_s": 0.8, "text": "Gott.", "probability": 0.7},
        ],
    }
    notes.end(2.0)
    assert frames(folder / "audio.wav") == 2 * SECOND


def test_calls_of_the_same_second_have_folders_of_their_own(tmp_path: Path) -> None:
    for _ in range(2):
        notes = NoteFolder(tmp_path)
        notes.begin(AT, 8_000)
        notes.end(0.0)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_call_in_a_database_that_never_ended_has_all_that_was_written(tmp_path: Path) -> None:
    file = tmp_path / "new" / "notes.db"
    notes = NoteDatabase(file)
    notes.begin(AT, 8_000)
    notes.write(SECOND, [TURN])
    notes.write(SECOND, [])
    assert file.stat().st_mode & 0o077 == 0
    other = sqlite3.connect(file)
    assert other.execute("SELECT began, duration_s FROM call").fetchall() == [
        (AT.isoformat(), None)
    ]
    assert other.execute("SELECT speaker, start_s, text FROM turn").fetchall() == [
        ("caller", 0.1, "Grüß Gott.")
    ]
    assert other.execute("SELECT text FROM word ORDER BY rowid").fetchall() == [
        ("Grüß",),
        ("Gott.",),
    ]
    NoteDatabase.save_audio(file, 1, tmp_path / "call.wav")
    assert frames(tmp_path / "call.wav") == 2 * SECOND
    notes.end(2.0)
    assert other.execute("SELECT duration_s FROM call").fetchall() == [(2.0,)]
    other.close()
    with pytest.raises(KeyError):
        NoteDatabase.save_audio(file, 2, tmp_path / "none.wav")


def test_captions_grow_turn_by_turn_and_none_are_left_of_silence(tmp_path: Path) -> None:
    silent = CaptionsFile(tmp_path, "json")
    silent.begin(AT, 8_000)
    silent.write(b"", [])
    silent.end(3.0)
    assert not list(tmp_path.iterdir())
    notes = CaptionsFile(tmp_path, "srt")
    notes.begin(AT, 8_000)
    notes.write(b"", [TURN])
    (file,) = tmp_path.iterdir()
    expected = "1\n00:00:00,100 --> 00:00:00,800\nCaller: Grüß Gott.\n"
    try:
        assert file.read_text("utf-8") == expected
    finally:
        notes.end(3.0)
    assert file.suffix == ".srt"
