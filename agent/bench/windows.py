"""Encoder windows: word error rate, loops and cost of each setting, and of 30 s windows.

The shipped setting of the model comes first; then each of its parts is varied alone: the
smallest window, the silence after the audio, what fills the window up, the window sizes. Every
clip is decoded once, greedily and alone, without guard and without a second attempt, so that
what goes wrong shows. Costs are processor seconds of the whole process. Clips of digits are
counted apart; clips longer than one window holds are left out on both sides.

The peer is ``faster_whisper.WhisperModel.transcribe(beam_size=1)`` with 30 s windows and its own
second attempts, in the same process.
"""

import argparse
import dataclasses
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from talkpath.agent.audio import SAMPLE_RATE_HZ, FloatArray
from talkpath.agent.bench.clips import (
    Clip,
    add_clip_arguments,
    clip_errors,
    english_clips,
    load_manifest,
    read_clip,
)
from talkpath.agent.bench.figures import ratio, show, table, to_json
from talkpath.agent.config import Config, WhisperConfig
from talkpath.agent.errors import AudioError, ConfigError
from talkpath.agent.models import ModelStore
from talkpath.agent.whisper.windows import BUCKETS, FULL_WINDOW, MAX_AUDIO_S, WindowPolicy

if TYPE_CHECKING:
    from talkpath.agent.whisper.ctranslate import CTranslate2Backend

__all__ = ["Row", "add_arguments", "run", "settings", "sweep"]

_FLOORS = (300, 400, 512, 640, 768, 1024)
_SILENCES_S = (0.5, 1.0, 1.5, 2.0, 3.0)
_SIZES = {
    "every 64": tuple(range(512, FULL_WINDOW, 64)),
    "every 256": tuple(range(512, FULL_WINDOW, 256)),
    "512, 1024, 1536, 2048": (512, 1024, 1536, 2048),
}
_LOOP_EXCESS = 1.5  # so many times the words that were said: the decoder went on without audio


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What one setting came to.

    Attributes:
        setting: in words.
        wer: word error rate of clips without strings of digits, 0.05 is 5 %.
        wer_digits: of strings of digits, digit by digit; NaN without any.
        loops: clips whose text repeats itself, or has half as many words again as were said.
        empty: clips without a word.
        encode_s: processor seconds of features and encoder; NaN for the peer.
        decode_s: of the decoder; NaN for the peer.
        total_s: of both.
    """

    setting: str
    wer: float
    wer_digits: float
    loops: int
    empty: int
    encode_s: float
    decode_s: float
    total_s: float


def settings(
    shipped: WindowPolicy,
    *,
    floors: Sequence[int] = _FLOORS,
    silences_s: Sequence[float] = _SILENCES_S,
) -> list[tuple[str, WindowPolicy]]:
    """What is to be tried, the shipped setting first, the full window last.

    Raises:
        ConfigError: a floor is no size that the model can take.
    """
    chosen = [("shipped", shipped)]
    try:
        for floor in floors:
            sizes = tuple(sorted({floor, *(size for size in BUCKETS if size > floor)}))
            policy = dataclasses.replace(shipped, floor_frames=floor, sizes=sizes)
            chosen.append((f"floor {floor / 100:.2f} s", policy))
        for silence_s in silences_s:
            policy = dataclasses.replace(shipped, trailing_silence_s=silence_s)
            chosen.append((f"silence {silence_s:.1f} s", policy))
        chosen.append(("zeros in the mel", dataclasses.replace(shipped, padding="zeros")))
        for label, some in _SIZES.items():
            policy = dataclasses.replace(shipped, sizes=(*some, FULL_WINDOW))
            chosen.append((f"sizes {label}", policy))
        full = dataclasses.replace(shipped, floor_frames=FULL_WINDOW, sizes=(FULL_WINDOW,))
    except ValueError as error:
        raise ConfigError(str(error)) from error
    chosen.append(("full window", full))
    return chosen


def sweep(
    clips: Sequence[Clip],
    model: Path,
    config: WhisperConfig,
    *,
    floors: Sequence[int] = _FLOORS,
    silences_s: Sequence[float] = _SILENCES_S,
    repeats: int = 1,
) -> list[Row]:
    """Decode the clips with every setting, and with the peer.

    Args:
        clips: English recordings with references.
        model: folder of a CTranslate2 Whisper model.
        config: device and compute type, for both sides.
        floors: smallest windows to try, in mel frames.
        silences_s: silences after the audio to try, in seconds.
        repeats: how often each is run; the cheapest run counts.

    Raises:
        AudioError: no clip is short enough, or one cannot be read.
        ModelError: the model cannot be loaded.
    """
    from talkpath.agent.whisper.ctranslate import CTranslate2Backend

    clip_errors([])  # asks for the packages before any work is done
    audio = {clip.id: read_clip(clip) for clip in clips}
    clips = [clip for clip in clips if len(audio[clip.id]) <= MAX_AUDIO_S * SAMPLE_RATE_HZ]
    if not clips:
        raise AudioError(f"no clip is as short as one window holds: {MAX_AUDIO_S} s")
    backend = CTranslate2Backend(
        model, device=config.device, compute_type=config.compute_type, workers=1
    )
    tries = settings(backend.windows, floors=floors, silences_s=silences_s)
    bar = tqdm(total=(len(tries) + 1) * repeats, unit="setting", file=sys.stderr, disable=None)
    rows = []
    with bar:
        for label, policy in tries:
            runs = []
            for _ in range(repeats):
                bar.set_description(label)
                runs.append(_decode_all(label, policy, backend, clips, audio))
                bar.update()
            rows.append(min(runs, key=lambda row: row.total_s))
        bar.set_description("faster-whisper")
        runs = []
        for _ in range(repeats):
            runs.append(_peer(clips, audio, model, config))
            bar.update()
        rows.append(min(runs, key=lambda row: row.total_s))
    return rows


def _decode_all(
    label: str,
    policy: WindowPolicy,
    backend: "CTranslate2Backend",
    clips: Sequence[Clip],
    audio: dict[str, FloatArray],
) -> Row:
    from talkpath.agent.whisper.agreement import join_texts
    from talkpath.agent.whisper.backend import Item
    from talkpath.agent.whisper.windows import token_cap

    encode_s = decode_s = 0.0
    heard = []
    for clip in clips:
        samples = audio[clip.id]
        before = time.process_time()
        bucket = policy.bucket_for(len(samples) / SAMPLE_RATE_HZ)
        encoded = backend.encode([samples], bucket, policy.padding)
        between = time.process_time()
        decoded = backend.generate(
            encoded, [Item("en", len(samples))], max_tokens=token_cap(len(samples))
        )
        after = time.process_time()
        encode_s += between - before
        decode_s += after - between
        heard.append((clip, join_texts(segment.text for segment in decoded[0].segments)))
    return _row(label, heard, encode_s, decode_s, encode_s + decode_s)


def _peer(
    clips: Sequence[Clip],
    audio: dict[str, FloatArray],
    model: Path,
    config: WhisperConfig,
) -> Row:
    from faster_whisper import WhisperModel

    compute_type = config.compute_type
    if compute_type == "auto":
        compute_type = "float16" if config.device == "cuda" else "int8"
    whisper = WhisperModel(
        str(model), device=config.device, compute_type=compute_type, cpu_threads=1
    )
    list(whisper.transcribe(audio[clips[0].id], beam_size=1, language="en")[0])
    heard = []
    before = time.process_time()
    for clip in clips:
        segments, _ = whisper.transcribe(audio[clip.id], beam_size=1, language="en")
        heard.append((clip, " ".join(segment.text.strip() for segment in segments)))
    nan = float("nan")
    return _row("faster-whisper, 30 s", heard, nan, nan, time.process_time() - before)


def _row(
    label: str,
    heard: Sequence[tuple[Clip, str]],
    encode_s: float,
    decode_s: float,
    total_s: float,
) -> Row:
    from talkpath.agent.whisper.guard import is_loop

    def rate(chosen: Iterable[tuple[Clip, str]]) -> float:
        errors = clip_errors(chosen)
        return errors.rate if errors.words else float("nan")

    return Row(
        setting=label,
        wer=rate(pair for pair in heard if not pair[0].is_digits),
        wer_digits=rate(pair for pair in heard if pair[0].is_digits),
        loops=sum(
            is_loop(text) or len(text.split()) > _LOOP_EXCESS * len(clip.text.split())
            for clip, text in heard
            # A caller may say one digit again and again; a decoder that does has too many.
            if not clip.is_digits
        )
        + sum(
            sum(map(str.isdigit, text)) > _LOOP_EXCESS * len(clip.text.split())
            for clip, text in heard
            if clip.is_digits
        ),
        empty=sum(not text for _, text in heard),
        encode_s=encode_s,
        decode_s=decode_s,
        total_s=total_s,
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``talkpath bench windows``."""
    add_clip_arguments(parser)
    parser.add_argument(
        "--floors",
        type=int,
        nargs="*",
        default=list(_FLOORS),
        metavar="FRAMES",
        help="smallest windows to try, in mel frames of 10 ms "
        f"(default: {' '.join(map(str, _FLOORS))})",
    )
    parser.add_argument(
        "--silences",
        type=float,
        nargs="*",
        default=list(_SILENCES_S),
        metavar="S",
        help="silences after the audio to try, in seconds "
        f"(default: {' '.join(map(str, _SILENCES_S))})",
    )
    parser.add_argument(
        "--repeats",
        type=int,
        default=1,
        metavar="N",
        help="run each setting N times and count the cheapest run (default: 1)",
    )


def run(args: argparse.Namespace, config: Config) -> int:
    """Carry out ``talkpath bench windows``; give the exit code."""
    if args.repeats < 1:
        raise ConfigError("--repeats must be 1 or more")
    clips = english_clips(load_manifest(args.data), args.clips)
    model = ModelStore().pull(config.whisper.model)
    rows = sweep(
        clips,
        model,
        config.whisper,
        floors=args.floors,
        silences_s=args.silences,
        repeats=args.repeats,
    )
    if args.json:
        figures = {"model": config.whisper.model, "rows": [dataclasses.asdict(row) for row in rows]}
        sys.stdout.write(to_json(figures))
    else:
        sys.stdout.write(_table(rows))
    return 0


def _table(rows: Sequence[Row]) -> str:
    heads = ["setting", "WER", "digits", "loops", "empty", "encode s", "decode s", "of the peer"]
    peer = rows[-1]
    lines = [heads]
    for row in rows:
        lines.append(
            [
                row.setting,
                show(row.wer, ".2%"),
                show(row.wer_digits, ".2%"),
                str(row.loops),
                str(row.empty),
                show(row.encode_s, ".2f"),
                show(row.decode_s, ".2f"),
                show(ratio(row.total_s, peer.total_s), ".2f"),
            ]
        )
    return table(lines)
