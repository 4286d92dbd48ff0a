"""Accuracy and cost against faster-whisper, on the same clips in the same run.

Both sides read the files themselves and run in a process of their own, one after the other.
Processor seconds are user and system time of the whole process (all threads) from after the
model was loaded and warmed up to the last word; loading is left out on both sides.

The other side is ``faster_whisper.WhisperModel.transcribe(beam_size=1)`` with its other settings
as they come: 30 s windows and its own fallback at higher temperatures. With ``--words`` both
sides also give the times of words, which costs both of them more, and the starts of the words
that both have are compared.
"""

import argparse
import asyncio
import dataclasses
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from talkpath.agent.bench.clips import (
    Clip,
    add_clip_arguments,
    clip_errors,
    english_clips,
    load_manifest,
)
from talkpath.agent.bench.figures import ratio, table, to_json
from talkpath.agent.bench.word_times import WordTimes, compare_word_times
from talkpath.agent.config import Config, WhisperConfig
from talkpath.agent.models import ModelStore
from talkpath.agent.whisper.results import Word

__all__ = ["Comparison", "Side", "add_arguments", "compare", "run"]


@dataclass(frozen=True, slots=True)
class Side:
    """What one side made of all clips.

    Attributes:
        texts: by clip id.
        processor_s: user and system seconds of all threads.
        wall_s: seconds on the clock.
        words: with their times, by clip id; empty where they were not asked for.
    """

    texts: dict[str, str]
    processor_s: float
    wall_s: float
    words: dict[str, tuple[Word, ...]] = field(default_factory=dict)


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
        word_times: our words' starts against theirs, where words were asked for.
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
    word_times: WordTimes | None = None

    @property
    def processor_ratio(self) -> float:
        """Our processor seconds for one of theirs."""
        return ratio(self.processor_s, self.processor_s_faster_whisper)


def compare(
    clips: Sequence[Clip],
    model: Path,
    config: WhisperConfig | None = None,
    *,
    words: bool = False,
) -> Comparison:
    """Run both sides over the English clips.

    Args:
        clips: recordings with references.
        model: folder of a CTranslate2 Whisper model.
        config: our settings; the compute type counts for both sides.
        words: whether both sides give the times of words.

    Raises:
        AudioError: there is no English clip, or one cannot be read.
        MissingDependency: the ``bench`` extra is not installed.
        ModelError: the model cannot be loaded.
    """
    config = config or WhisperConfig()
    english = english_clips(clips)
    clip_errors([])  # asks for the packages before any work is done
    ours = _in_a_process(_run_ours, english, model, config, words)
    theirs = _in_a_process(_run_theirs, english, model, config, words)
    digits = [clip for clip in english if clip.is_digits]
    speech = [clip for clip in english if not clip.is_digits] or digits

    def rate(side: Side, chosen: Sequence[Clip]) -> float:
        return clip_errors((clip, side.texts[clip.id]) for clip in chosen).rate

    return Comparison(
        clips=len(speech),
        words=clip_errors((clip, "") for clip in speech).words,
        wer=rate(ours, speech),
        wer_faster_whisper=rate(theirs, speech),
        wer_digits=rate(ours, digits) if digits else None,
        wer_digits_faster_whisper=rate(theirs, digits) if digits else None,
        processor_s=ours.processor_s,
        processor_s_faster_whisper=theirs.processor_s,
        wall_s=ours.wall_s,
        wall_s_faster_whisper=theirs.wall_s,
        word_times=compare_word_times(ours.words, theirs.words) if words else None,
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``talkpath bench accuracy``."""
    add_clip_arguments(parser)
    parser.add_argument(
        "--words",
        action="store_true",
        help="have both sides give the times of words, and compare these too (default: no)",
    )


def run(args: argparse.Namespace, config: Config) -> int:
    """Carry out ``talkpath bench accuracy``; give the exit code."""
    clips = english_clips(load_manifest(args.data), args.clips)
    model = ModelStore().pull(config.whisper.model)
    result = compare(clips, model, config.whisper, words=args.words)
    if args.json:
        figures = dataclasses.asdict(result) | {"processor_ratio": result.processor_ratio}
        sys.stdout.write(to_json(figures))
    else:
        sys.stdout.write(_table(result))
    return 0


def _table(result: Comparison) -> str:
    rows = [["", "talkpath", "faster-whisper", "ratio"]]

    def add(name: str, ours: float, theirs: float, form: str) -> None:
        rows.append([name, format(ours, form), format(theirs, form), f"{ratio(ours, theirs):.2f}"])

    add("word error rate", result.wer, result.wer_faster_whisper, ".2%")
    if result.wer_digits is not None and result.wer_digits_faster_whisper is not None:
        add("  strings of digits", result.wer_digits, result.wer_digits_faster_whisper, ".2%")
    add("processor seconds", result.processor_s, result.processor_s_faster_whisper, ".1f")
    add("seconds on the clock", result.wall_s, result.wall_s_faster_whisper, ".1f")
    if (times := result.word_times) is not None:
        times_line = (
            f"starts of {times.matched} words that both have: {times.mean_s * 1000:.0f} ms apart "
            f"on average, 95 % within {times.p95_s * 1000:.0f} ms\n"
        )
    else:
        times_line = ""
    points = (result.wer - result.wer_faster_whisper) * 100
    return (
        f"{table(rows)}{result.clips} clips, {result.words} words; "
        f"{points:+.2f} points of word error rate, "
        f"processor time {result.processor_ratio:.2f} of faster-whisper's\n"
        f"{times_line}"
    )


def _in_a_process(
    side: Callable[[list[Clip], Path, WhisperConfig, bool], Side],
    clips: Sequence[Clip],
    model: Path,
    config: WhisperConfig,
    words: bool,
) -> Side:
    # Spawned, not forked: neither side inherits threads or warm caches from the other.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(side, list(clips), model, config, words).result()


def _shown(clips: list[Clip], side: str) -> "tqdm[Clip]":
    return tqdm(clips, desc=side, unit="clip", file=sys.stderr, disable=None)


def _processor_s() -> float:
    times = os.times()
    return times.user + times.system


def _run_ours(clips: list[Clip], model: Path, config: WhisperConfig, words: bool) -> Side:
    return asyncio.run(_transcribe_all(clips, model, config, words))


async def _transcribe_all(
    clips: list[Clip], model: Path, config: WhisperConfig, words: bool
) -> Side:
    from talkpath.agent.speech import SileroVad
    from talkpath.agent.transcribe import FileTranscription
    from talkpath.agent.whisper import WhisperEngine
    from talkpath.agent.whisper.requests import DecodeOptions

    engine = await WhisperEngine.start(model, config)
    try:
        vad = SileroVad()
        texts, heard = {}, {}
        options = dataclasses.replace(DecodeOptions.of(config), word_timestamps=words)
        processor_s, started = _processor_s(), time.perf_counter()
        for clip in _shown(clips, "talkpath"):
            transcription = FileTranscription(clip.path, engine, vad, options=options)
            segments = [segment async for segment in transcription.segments()]
            texts[clip.id] = " ".join(segment.text for segment in segments)
            heard[clip.id] = tuple(word for segment in segments for word in segment.words)
        processor_s, wall_s = _processor_s() - processor_s, time.perf_counter() - started
        return Side(texts, processor_s, wall_s, heard)
    finally:
        engine.close()


def _run_theirs(clips: list[Clip], model: Path, config: WhisperConfig, words: bool) -> Side:
    import numpy as np
    from faster_whisper import WhisperModel

    compute_type = "int8" if config.compute_type == "auto" else config.compute_type
    whisper = WhisperModel(str(model), device=config.device, compute_type=compute_type)
    list(whisper.transcribe(np.zeros(16_000, np.float32), beam_size=1)[0])
    texts, heard = {}, {}
    processor_s, started = _processor_s(), time.perf_counter()
    for clip in _shown(clips, "faster-whisper"):
        found, _ = whisper.transcribe(str(clip.path), beam_size=1, word_timestamps=words)
        segments = list(found)
        texts[clip.id] = " ".join(segment.text.strip() for segment in segments)
        heard[clip.id] = tuple(
            Word(word.start, word.end, word.word.strip(), word.probability)
            for segment in segments
            for word in segment.words or ()
        )
    processor_s, wall_s = _processor_s() - processor_s, time.perf_counter() - started
    return Side(texts, processor_s, wall_s, heard)
