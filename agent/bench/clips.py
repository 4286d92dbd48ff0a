"""Clips: the recordings that benches play, with what is said in them.

A folder with ``manifest.jsonl``, one object a line with ``id``, ``file`` (relative), ``text``,
``language`` and anything else. Only English clips count, since the normaliser is English;
strings of digits (``digits-...``) are counted digit by digit.
"""

import argparse
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from talkpath.agent.audio import FloatArray
from talkpath.agent.bench.wer import WordErrors, word_errors
from talkpath.agent.errors import AudioError

__all__ = [
    "Clip",
    "add_clip_arguments",
    "clip_errors",
    "english_clips",
    "load_manifest",
    "read_clip",
]

_DIGITS = "digits-"
_DIGIT_NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@dataclass(frozen=True, slots=True)
class Clip:
    """One line of the manifest.

    Attributes:
        id: its name.
        path: the recording.
        text: what is said in it.
        language: ISO 639-1 code.
    """

    id: str
    path: Path
    text: str
    language: str

    @property
    def is_digits(self) -> bool:
        """Whether it is a string of digits, which is counted digit by digit."""
        return self.id.startswith(_DIGITS)


def load_manifest(folder: Path) -> list[Clip]:
    """Read a folder's ``manifest.jsonl``.

    Raises:
        AudioError: there is none, or a line of it is not right.
    """
    manifest = folder / "manifest.jsonl"
    clips = []
    try:
        with manifest.open(encoding="utf-8") as file:
            for line in filter(str.strip, file):
                item = json.loads(line)
                path = folder / item["file"]
                clips.append(Clip(item["id"], path, item["text"], item.get("language", "en")))
    except OSError as error:
        raise AudioError(f"cannot read {manifest}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        message = f"{manifest}, line {len(clips) + 1}: needs an object with id, file and text"
        raise AudioError(message) from error
    return clips


def english_clips(clips: Sequence[Clip], limit: int = 0) -> list[Clip]:
    """The English ones; with a limit only so many, evenly chosen.

    Raises:
        AudioError: there is no English clip.
    """
    english = [clip for clip in clips if clip.language == "en"]
    if not english:
        raise AudioError("the manifest has no English clip to measure")
    if limit:
        english = english[:: max(1, len(english) // limit)][:limit]
    return english


def read_clip(clip: Clip) -> FloatArray:
    """The recording: float32, ``[n]``, 16 kHz.

    Raises:
        AudioError: it cannot be read.
    """
    from talkpath.agent.media import AudioFile

    with AudioFile(clip.path) as file:
        return np.concatenate(list(file.blocks()))


def clip_errors(heard: Iterable[tuple[Clip, str]]) -> WordErrors:
    """Count the word errors over pairs of a clip and what was understood of it.

    Raises:
        MissingDependency: the ``bench`` extra is not installed.
    """
    pairs = [
        (_apart(clip.text), _apart(text)) if clip.is_digits else (clip.text, text)
        for clip, text in heard
    ]
    return word_errors([said for said, _ in pairs], [text for _, text in pairs])


def add_clip_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what every bench takes: where the clips are, how many of them, and JSON."""
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder with manifest.jsonl and the recordings",
    )
    parser.add_argument(
        "--clips",
        type=int,
        default=0,
        metavar="N",
        help="take only N clips, evenly chosen; 0 takes all (default: 0)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON (default: a table)")


def _apart(text: str) -> str:
    """Spell each digit as a word of its own, which no normaliser joins to a number again."""
    parts = re.findall(r"\d|[^\W\d]+", text.lower())
    names = [_DIGIT_NAMES[int(part)] if part.isdecimal() else part for part in parts]
    return " ".join(f"digit{name}" if name in _DIGIT_NAMES else name for name in names)
