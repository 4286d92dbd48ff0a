"""Accuracy and cost against faster-whisper, on the same clips in the same run.

Both sides read the files themselves and run in a process of their own, one after the other.
Processor seconds are user and system time of the whole process (all threads) from after the
model was loaded and warmed up to the last word; loading is left out on both sides.

The other side is ``faster_whisper.WhisperModel.transcribe(beam_size=1)`` with its other settings
as they come: 30 s windows and its own fallback at higher temperatures.

Data: a folder with ``manifest.jsonl``, one object a line with ``id``, ``file`` (relative),
``text``, ``language`` and anything else. Only English clips count, since the normaliser is
English; strings of digits (``digits-...``) are counted apart and digit by digit.
"""

import argparse
import asyncio
import dataclasses
import json
import multiprocessing
import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from talkpath.agent.bench.wer import word_errors
from talkpath.agent.config import Config, WhisperConfig
from talkpath.agent.errors import AudioError
from talkpath.agent.models import ModelStore

__all__ = ["Clip", "Comparison", "Side", "add_arguments", "compare", "load_manifest", "run"]

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


@dataclass(frozen=True, slots=True)
class Side:
    """What one side made of all clips.

    Attributes:
        texts: by clip id.
        processor_s: user and system seconds of all threads.
        wall_s: seconds on the clock.
    """

    texts: dict[str, str]
    processor_s: float
    wall_s: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """Both sides' figures; rates as shares, 0.05 is 5 %.

    Attributes:
        clips: English clips without strings of digits.
        words: words in their references.
        wer: ours, on these.
        wer_faster_whisper: theirs.
        wer_digits: ours on the strings of digits, or None without any.
        wer_digits_faster_whisper: theirs.
        processor_s: ours, over all clips of the manifest.
        processor_s_faster_whisper: theirs.
        wall_s: ours, on the clock.
        wall_s_faster_whisper: theirs.
    """

    clips: int
    words: int
    wer: float
    wer_faster_whisper: float
    wer_digits: float | None
    wer_digits_faster_whisper: float | None
    processor_s: float
    processor_s_faster_whisper: float
    wall_s: float
    wall_s_faster_whisper: float

    @property
    def processor_ratio(self) -> float:
        """Our processor seconds for one of theirs."""
        return self.processor_s / self.processor_s_faster_whisper


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


def compare(clips: Sequence[Clip], model: Path, config: WhisperConfig | None = None) -> Comparison:
    """Run both sides over the English clips.

    Args:
        clips: recordings with references.
        model: folder of a CTranslate2 Whisper model.
        config: our settings; the compute type counts for both sides.

    Raises:
        AudioError: there is no English clip, or one cannot be read.
        MissingDependency: the ``test`` extra is not installed.
        ModelError: the model cannot be loaded.
    """
    config = config or WhisperConfig()
    english = [clip for clip in clips if clip.language == "en"]
    if not english:
        raise AudioError("the manifest has no English clip to measure")
    word_errors([], [])  # asks for the packages before any work is done
    ours = _in_a_process(_run_ours, english, model, config)
    theirs = _in_a_process(_run_theirs, english, model, config)

    def rate(side: Side, chosen: Sequence[Clip]) -> float | None:
        pairs = [(clip.text, side.texts[clip.id]) for clip in chosen]
        if chosen is digits:
            pairs = [(_apart(said), _apart(heard)) for said, heard in pairs]
        errors = word_errors([said for said, _ in pairs], [heard for _, heard in pairs])
        return errors.rate if chosen else None

    digits = [clip for clip in english if clip.id.startswith(_DIGITS)]
    speech = [clip for clip in english if clip not in digits] or digits
    return Comparison(
        clips=len(speech),
        words=word_errors([clip.text for clip in speech], ["" for _ in speech]).words,
        wer=rate(ours, speech) or 0.0,
        wer_faster_whisper=rate(theirs, speech) or 0.0,
        wer_digits=rate(ours, digits),
        wer_digits_faster_whisper=rate(theirs, digits),
        processor_s=ours.processor_s,
        processor_s_faster_whisper=theirs.processor_s,
        wall_s=ours.wall_s,
        wall_s_faster_whisper=theirs.wall_s,
    )


def _apart(text: str) -> str:
    """Spell each digit as a word of its own, which no normaliser joins to a number again."""
    parts = re.findall(r"\d|[^\W\d]+", text.lower())
    names = [_DIGIT_NAMES[int(part)] if part.isdecimal() else part for part in parts]
    return " ".join(f"digit{name}" if name in _DIGIT_NAMES else name for name in names)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``talkpath bench accuracy``."""
    parser.add_argument(
        "data", type=Path, metavar="DATA", help="folder with manifest.jsonl and the recordings"
    )
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")


def run(args: argparse.Namespace, config: Config) -> int:
    """Carry out ``talkpath bench accuracy``; give the exit code."""
    model = ModelStore().pull(config.whisper.model)
    result = compare(load_manifest(args.data), model, config.whisper)
    if args.json:
        figures = dataclasses.asdict(result) | {"processor_ratio": result.processor_ratio}
        sys.stdout.write(json.dumps(figures) + "\n")
    else:
        sys.stdout.write(_table(result))
    return 0


def _table(result: Comparison) -> str:
    rows = [
        ("", "talkpath", "faster-whisper"),
        ("word error rate", f"{result.wer:.2%}", f"{result.wer_faster_whisper:.2%}"),
        (
            "processor seconds",
            f"{result.processor_s:.1f}",
            f"{result.processor_s_faster_whisper:.1f}",
        ),
        ("seconds on the clock", f"{result.wall_s:.1f}", f"{result.wall_s_faster_whisper:.1f}"),
    ]
    if result.wer_digits is not None and result.wer_digits_faster_whisper is not None:
        digits = (f"{result.wer_digits:.2%}", f"{result.wer_digits_faster_whisper:.2%}")
        rows.insert(2, ("  strings of digits", *digits))
    lines = [f"{name:<22}{ours:>10}{theirs:>16}" for name, ours, theirs in rows]
    summary = f"{result.clips} clips, {result.words} words; processor time"
    lines.append(f"{summary} {result.processor_ratio:.2f} of faster-whisper's")
    return "\n".join(lines) + "\n"


def _in_a_process(
    side: Callable[[list[Clip], Path, WhisperConfig], Side],
    clips: Sequence[Clip],
    model: Path,
    config: WhisperConfig,
) -> Side:
    # Spawned, not forked: neither side inherits threads or warm caches from the other.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(side, list(clips), model, config).result()


def _processor_s() -> float:
    times = os.times()
    return times.user + times.system


def _run_ours(clips: list[Clip], model: Path, config: WhisperConfig) -> Side:
    return asyncio.run(_transcribe_all(clips, model, config))


async def _transcribe_all(clips: list[Clip], model: Path, config: WhisperConfig) -> Side:
    from talkpath.agent.speech import SileroVad
    from talkpath.agent.transcribe import FileTranscription
    from talkpath.agent.whisper import WhisperEngine

    engine = await WhisperEngine.start(model, config)
    try:
        vad = SileroVad()
        texts = {}
        processor_s, started = _processor_s(), time.perf_counter()
        for clip in clips:
            transcription = FileTranscription(clip.path, engine, vad)
            parts = [segment.text async for segment in transcription.segments()]
            texts[clip.id] = " ".join(parts)
        return Side(texts, _processor_s() - processor_s, time.perf_counter() - started)
    finally:
        engine.close()


def _run_theirs(clips: list[Clip], model: Path, config: WhisperConfig) -> Side:
    import numpy as np
    from faster_whisper import WhisperModel

    compute_type = "int8" if config.compute_type == "auto" else config.compute_type
    whisper = WhisperModel(str(model), device=config.device, compute_type=compute_type)
    list(whisper.transcribe(np.zeros(16_000, np.float32), beam_size=1)[0])
    texts = {}
    processor_s, started = _processor_s(), time.perf_counter()
    for clip in clips:
        segments, _ = whisper.transcribe(str(clip.path), beam_size=1)
        texts[clip.id] = " ".join(segment.text.strip() for segment in segments)
    return Side(texts, _processor_s() - processor_s, time.perf_counter() - started)
