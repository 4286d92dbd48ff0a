"""Turn taking: false cut-offs and delay of each profile, against plain timeouts.

Recordings are cut in mid-sentence and fall silent there, and whole sentences end (see
``turn_set``). A bot that takes the turn within a pause has cut its caller off; pauses of 0.3 to
1.5 s are alike. The delay is from the end of the sound of a whole sentence to the decision.
The detector, Smart Turn and Whisper are the real ones; their computing takes no time here, since
the decision runs beside them (see ``talkpath bench conversation`` for what a caller waits).

A timeout of n seconds takes the turn so long after silence began, as a detector with that stop
does.
"""

import argparse
import asyncio
import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from talkpath.agent.bench.clips import Clip, add_clip_arguments, load_manifest
from talkpath.agent.bench.figures import table, to_json
from talkpath.agent.bench.plot import check_plot, plot_turn_taking
from talkpath.agent.bench.turn_set import Place, TurnSet
from talkpath.agent.config import Config
from talkpath.agent.models import ModelStore
from talkpath.agent.turns import (
    PROFILES,
    End,
    EndOfTurn,
    Judge,
    TurnProfile,
)

__all__ = ["PAUSES_S", "TurnFigures", "add_arguments", "curve", "figures", "run"]

PAUSES_S = tuple(round(0.3 + 0.1 * step, 1) for step in range(13))
"""Pauses in mid-sentence, each as likely as the others."""

_TIMEOUTS_S = (0.5, 0.8)
_CURVE_TIMEOUTS_S = (0.2, 0.35, 0.5, 0.65, 0.8, 1.0, 1.2, 1.5)
_CURVE_THRESHOLDS = (0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.97, 0.98)
_STOP_S = 0.2


@dataclass(frozen=True, slots=True)
class TurnFigures:
    """What one way of taking turns does.

    Attributes:
        name: of the profile or timeout.
        false_cut_offs: share of pauses in mid-sentence in which the bot began, 0 to 1.
        median_s: delay after whole sentences, seconds.
        mean_s: the same, on average.
        p90_s: the same, 90th percentile.
    """

    name: str
    false_cut_offs: float
    median_s: float
    mean_s: float
    p90_s: float


def figures(name: str, places: Sequence[Place], profile: TurnProfile | float) -> TurnFigures:
    """Let a profile, or a timeout in seconds, decide at every place.

    Raises:
        ValueError: there is no whole sentence or no cut among the places.
    """
    decided = [(place, _decided_s(place, profile)) for place in places]
    delays = [decided_s for place, decided_s in decided if place.finished]
    waits = [decided_s for place, decided_s in decided if not place.finished]
    if not delays or not waits:
        raise ValueError("turn taking needs whole sentences and cuts")
    cut_off = np.mean([[wait < pause for pause in PAUSES_S] for wait in waits])
    return TurnFigures(
        name,
        float(cut_off),
        float(np.median(delays)),
        float(np.mean(delays)),
        float(np.quantile(delays, 0.9)),
    )


def curve(places: Sequence[Place], wait_s: float) -> list[TurnFigures]:
    """Figures over rising thresholds, with one longest wait."""
    return [
        figures(
            f"{threshold:g}",
            places,
            replace(PROFILES["balanced"], threshold=threshold, wait_s=wait_s),
        )
        for threshold in _CURVE_THRESHOLDS
    ]


def _decided_s(place: Place, profile: TurnProfile | float) -> float:
    """Seconds from the end of the sound to the decision."""
    if not isinstance(profile, TurnProfile):
        return place.detected_s + profile
    machine = EndOfTurn(profile, _STOP_S)
    machine.started()
    (judge,) = machine.early_pause(place.detected_s, 0.0)
    assert isinstance(judge, Judge)
    machine.judged(judge.ticket, place.completeness, place.stop_s)
    machine.stopped(place.stop_s, place.stop_s - place.detected_s)
    events = machine.final(place.text or "(nothing)", place.stop_s)
    if events and isinstance(events[-1], End):
        return place.stop_s
    assert machine.due_s is not None
    return machine.due_s


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``talkpath bench turns``."""
    add_clip_arguments(parser)
    parser.add_argument(
        "--cuts",
        type=int,
        default=6,
        metavar="N",
        help="cuts in mid-sentence for each clip, at most (default: 6)",
    )
    parser.add_argument(
        "--seed", type=int, default=1, metavar="N", help="of the choice of cuts (default: 1)"
    )
    parser.add_argument(
        "--plot", type=Path, metavar="FILE", help="draw the curves as PNG (default: no)"
    )


def run(args: argparse.Namespace, config: Config) -> int:
    """Carry out ``talkpath bench turns``; give the exit code."""
    check_plot(args.plot)
    clips = load_manifest(args.data)
    if args.clips:
        clips = clips[:: max(1, len(clips) // args.clips)][: args.clips]
    places = asyncio.run(_all_places(clips, config, args.cuts, args.seed))
    taken = [figures(name, places, profile) for name, profile in PROFILES.items()]
    taken += [figures(f"timeout {wait:g} s", places, wait) for wait in _TIMEOUTS_S]
    curves = {f"longest wait {wait:g} s": curve(places, wait) for wait in (1.2, 2.0, 3.0)}
    curves["timeouts"] = [figures(f"{wait:g}", places, wait) for wait in _CURVE_TIMEOUTS_S]
    if args.plot is not None:
        plot_turn_taking(taken, curves, args.plot)
    whole = sum(place.finished for place in places)
    if args.json:
        content = {
            "whole_sentences": whole,
            "cuts": len(places) - whole,
            "figures": [dataclasses.asdict(item) for item in taken],
            "curves": {
                name: [dataclasses.asdict(item) for item in items] for name, items in curves.items()
            },
        }
        sys.stdout.write(to_json(content))
        return 0
    sys.stdout.write(_rows(taken))
    sys.stdout.write(
        f"{whole} whole sentences, {len(places) - whole} cuts in mid-sentence with pauses of "
        f"{PAUSES_S[0]} to {PAUSES_S[-1]} s\n"
    )
    for name, items in curves.items():
        sys.stdout.write(f"\n{name}\n{_rows(items)}")
    return 0


def _rows(items: Sequence[TurnFigures]) -> str:
    rows = [["", "false cut-offs", "delay p50", "mean", "p90"]]
    for item in items:
        times = [f"{value:.2f} s" for value in (item.median_s, item.mean_s, item.p90_s)]
        rows.append([item.name, f"{item.false_cut_offs:.1%}", *times])
    return table(rows)


async def _all_places(clips: Sequence[Clip], config: Config, cuts: int, seed: int) -> list[Place]:
    from talkpath.agent.smart_turn import SmartTurn, load_smart_turn
    from talkpath.agent.speech import SileroVad
    from talkpath.agent.transcribe import FileTranscription
    from talkpath.agent.whisper import DecodeOptions, WhisperEngine

    model = ModelStore().pull(config.whisper.model)
    engine = await WhisperEngine.start(model, config.whisper)
    try:
        vad = SileroVad()
        turn_set = TurnSet(
            engine, vad, SmartTurn(await asyncio.to_thread(load_smart_turn)), cuts=cuts, seed=seed
        )
        options = replace(DecodeOptions.of(config.whisper), word_timestamps=True)
        places = []
        for clip in tqdm(clips, desc="clips", unit="clip", file=sys.stderr, disable=None):
            decode = replace(options, language=clip.language)
            transcription = FileTranscription(clip.path, engine, vad, options=decode)
            words = [word async for segment in transcription.segments() for word in segment.words]
            places += [place async for place in turn_set.places(clip, words)]
        return places
    finally:
        engine.close()
