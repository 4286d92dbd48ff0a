"""Where a call is written down, as it goes: a folder, an SQLite database, or a file of captions.

All of them are ``Notes``. They block, so a caller on an event loop uses a thread, one call at a
time. What was written is there although the process dies the next moment; a call of which
nothing came leaves no captions.
"""

import json
import os
import secrets
import sqlite3
import wave
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import IO, Any, Protocol

from talkpath.agent.conversation import SpokenTurn
from talkpath.agent.subtitles import FORMATS, TranscriptWriter

__all__ = ["CaptionsFile", "NoteDatabase", "NoteFolder", "Notes"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS call (
    id INTEGER PRIMARY KEY, began TEXT NOT NULL, rate_hz INTEGER NOT NULL, duration_s REAL);
CREATE TABLE IF NOT EXISTS turn (
    id INTEGER PRIMARY KEY, call INTEGER NOT NULL REFERENCES call, speaker TEXT NOT NULL,
    start_s REAL NOT NULL, end_s REAL NOT NULL, language TEXT, text TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS word (
    turn INTEGER NOT NULL REFERENCES turn, start_s REAL NOT NULL, end_s REAL NOT NULL,
    text TEXT NOT NULL, probability REAL NOT NULL);
CREATE TABLE IF NOT EXISTS audio (
    id INTEGER PRIMARY KEY, call INTEGER NOT NULL REFERENCES call, pcm BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS turn_of_call ON turn (call);
CREATE INDEX IF NOT EXISTS word_of_turn ON word (turn);
CREATE INDEX IF NOT EXISTS audio_of_call ON audio (call);
"""
_BUSY_S = 10.0


class Notes(Protocol):
    """One call's notes. Its methods raise ``OSError`` or ``sqlite3.Error``."""

    def begin(self, at: datetime, rate_hz: int) -> None:
        """Begin a call whose audio has this rate."""

    def write(self, pcm: bytes, turns: Sequence[SpokenTurn]) -> None:
        """Write the next samples, 16-bit stereo with the caller left, and turns that ended."""

    def end(self, duration_s: float) -> None:
        """End the call after so many seconds."""


class NoteFolder:
    """A folder for each call, named by its beginning: ``audio.wav`` and ``transcript.jsonl``.

    Each line of the transcript is a turn with the times of its words. A recording over 4 GB
    (18 hours at 16 kHz) has more than a WAV file can say it has; it ends there with an error.

    Args:
        folder: where the calls' folders are made.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._audio: wave.Wave_write | None = None
        self._file: IO[bytes] | None = None
        self._transcript: IO[str] | None = None

    def begin(self, at: datetime, rate_hz: int) -> None:
        """Make the folder and its files."""
        call = self._folder / _name(at)
        call.mkdir(parents=True, mode=0o700)
        self._file = (call / "audio.wav").open("wb")
        self._audio = wave.open(self._file, "wb")
        self._audio.setnchannels(2)
        self._audio.setsampwidth(2)
        self._audio.setframerate(rate_hz)
        self._transcript = (call / "transcript.jsonl").open("w", encoding="utf-8")

    def write(self, pcm: bytes, turns: Sequence[SpokenTurn]) -> None:
        """Write on, the length in the file's header included."""
        assert self._audio is not None and self._file is not None
        assert self._transcript is not None
        if pcm:
            if self._file.tell() + len(pcm) >= 2**32:
                raise OSError("a WAV file holds no more than 4 GB")
            self._audio.writeframes(pcm)
            self._file.flush()
        for turn in turns:
            self._transcript.write(json.dumps(_fields(turn), ensure_ascii=False) + "\n")
        if turns:
            self._transcript.flush()

    def end(self, duration_s: float) -> None:
        """Close the files."""
        if self._audio is not None:
            self._audio.close()
            self._audio = None
        for file in (self._file, self._transcript):
            if file is not None:
                file.close()


class NoteDatabase:
    """An SQLite database of calls: tables ``call``, ``turn``, ``word`` and ``audio``.

    Several processes may write into it at once. ``save_audio`` makes a file of a call's audio.

    Args:
        file: the database; it is made if it is not there.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._database: sqlite3.Connection | None = None
        self._call = 0

    def begin(self, at: datetime, rate_hz: int) -> None:
        """Add the call."""
        self._file.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(self._file, os.O_CREAT | os.O_RDWR, 0o600))
        database = sqlite3.connect(self._file, timeout=_BUSY_S, check_same_thread=False)
        self._database = database
        database.execute("PRAGMA journal_mode = WAL")
        database.executescript(_SCHEMA)
        with database:
            row = database.execute(
                "INSERT INTO call (began, rate_hz) VALUES (?, ?)", (at.isoformat(), rate_hz)
            )
        self._call = row.lastrowid or 0

    def write(self, pcm: bytes, turns: Sequence[SpokenTurn]) -> None:
        """Add audio and turns, all or nothing."""
        assert self._database is not None
        with self._database as database:
            if pcm:
                database.execute("INSERT INTO audio (call, pcm) VALUES (?, ?)", (self._call, pcm))
            for turn in turns:
                row = database.execute(
                    "INSERT INTO turn (call, speaker, start_s, end_s, language, text) "
                    "VALUES (?, ?, ?, ?, ?, ?)",
                    (
                        self._call,
                        turn.speaker,
                        turn.start_s,
                        turn.end_s,
                        turn.language,
                        turn.text,
                    ),
                )
                database.executemany(
                    "INSERT INTO word (turn, start_s, end_s, text, probability) "
                    "VALUES (?, ?, ?, ?, ?)",
                    [
                        (row.lastrowid, word.start_s, word.end_s, word.text, word.probability)
                        for word in turn.words
                    ],
                )

    def end(self, duration_s: float) -> None:
        """Note how long the call was, and close the database."""
        database, self._database = self._database, None
        if database is None:
            return
        try:
            with database:
                database.execute(
                    "UPDATE call SET duration_s = ? WHERE id = ?", (duration_s, self._call)
                )
        finally:
            database.close()

    @staticmethod
    def save_audio(file: Path, call: int, to: Path) -> None:
        """Write a call's audio as a stereo WAV file.

        Args:
            file: the database.
            call: the call's ``id``.
            to: the WAV file.

        Raises:
            KeyError: there is no such call.
        """
        database = sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True)
        try:
            found = database.execute("SELECT rate_hz FROM call WHERE id = ?", (call,)).fetchone()
            if found is None:
                raise KeyError(call)
            with wave.open(str(to), "wb") as audio:
                audio.setnchannels(2)
                audio.setsampwidth(2)
                audio.setframerate(found[0])
                for (pcm,) in database.execute(
                    "SELECT pcm FROM audio WHERE call = ? ORDER BY id", (call,)
                ):
                    audio.writeframesraw(pcm)
        finally:
            database.close()


class CaptionsFile:
    """One file of captions, without audio, begun when the first turn is over.

    Args:
        folder: where it is made, named by the beginning of the call.
        form: ``text``, ``srt``, ``vtt`` or ``json``.
    """

    def __init__(self, folder: Path, form: str) -> None:
        self._folder = folder
        self._form = form
        self._writer = TranscriptWriter(form)
        self._name = ""
        self._file: IO[str] | None = None
        self._language: str | None = None

    def begin(self, at: datetime, rate_hz: int) -> None:
        """Make the folder, so that it is clear at once whether that can be done."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._name = _name(at)

    def write(self, pcm: bytes, turns: Sequence[SpokenTurn]) -> None:
        """Write the turns; the audio is left out."""
        for turn in turns:
            if self._file is None:
                path = self._folder / f"{self._name}.{FORMATS[self._form]}"
                self._file = path.open("x", encoding="utf-8")
                self._file.write(self._writer.begin(self._name))
            self._language = self._language or turn.language
            self._file.write(self._writer.turn(turn))
            self._file.flush()

    def end(self, duration_s: float) -> None:
        """Finish the file."""
        if self._file is None:
            return
        self._file.write(self._writer.end(language=self._language, duration_s=duration_s))
        self._file.close()
        self._file = None


def _name(at: datetime) -> str:
    """The call's name: its beginning, and something that no other call has."""
    return f"{at:%Y-%m-%dT%H-%M-%S}-{secrets.token_hex(3)}"


def _fields(turn: SpokenTurn) -> dict[str, Any]:
    return {
        "speaker": turn.speaker,
        "start_s": round(turn.start_s, 3),
        "end_s": round(turn.end_s, 3),
        "language": turn.language,
        "text": turn.text,
        "words": [
            {
                "start_s": round(word.start_s, 3),
                "end_s": round(word.end_s, 3),
                "text": word.text,
                "probability": round(word.probability, 3),
            }
            for word in turn.words
        ],
    }
