"""Many callers at once: real speech in real time through real Pipecat pipelines.

Every stream plays clips in blocks of 20 ms, each with its own order and its own start, and is
silent for 1 to 4 seconds after each, as a caller who listens to an answer. TTFS is Pipecat's:
from the end of speech (the detector's stop less the silence that it waited for, 0.2 s in both)
to the arrival of the final transcript. The caller's wait counts from when the speech ended by
the plan, so that a process too busy to notice the stop in time gains nothing by it. A stop
that is never answered counts with the time until the end.

Each side, and with --find-largest each number of streams, runs in a process of its own. Of the
side `served`, that is the callers' process, and the server has another on the same machine; the
processor's time is that of both.
"""

import argparse
import asyncio
import dataclasses
import multiprocessing
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from tqdm import tqdm

from talkpath.agent.audio import SAMPLE_RATE_HZ, float_to_pcm16
from talkpath.agent.bench.clips import (
    Clip,
    add_clip_arguments,
    clip_errors,
    english_clips,
    load_manifest,
    read_clip,
)
from talkpath.agent.bench.figures import ratio, to_json
from talkpath.agent.bench.gpu import GpuShare
from talkpath.agent.bench.plan import Load, StreamPlan, find_largest
from talkpath.agent.bench.plot import check_plot, plot_streams, plot_ttfs
from talkpath.agent.bench.report import (
    LoadReport,
    Pacing,
    load_report,
    report_figures,
    report_table,
)
from talkpath.agent.config import Config
from talkpath.agent.errors import ConfigError
from talkpath.bots.bench_lines import SIDES, open_lines, play

__all__ = ["add_arguments", "measure", "measure_sides", "run", "run_sides"]

_LAST_WAIT_S = 30.0
_DEFAULTS = Load(streams=1)


def add_arguments(parser: argparse.ArgumentParser, sides: Sequence[str] = ("talkpath",)) -> None:
    """Add the arguments of ``talkpath bench load``, with the sides that are measured unasked."""
    add_clip_arguments(parser)
    parser.add_argument(
        "--sides",
        nargs="+",
        choices=list(SIDES),
        default=list(sides),
        metavar="SIDE",
        help="what to measure, one after the other: talkpath, served (the same behind the socket "
        f"of talkpath serve) or pipecat (its own Whisper service) (default: {' '.join(sides)})",
    )
    parser.add_argument(
        "--streams", type=int, default=1, metavar="N", help="callers at once (default: 1)"
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=_DEFAULTS.seconds,
        metavar="S",
        help="how long new clips are begun, in seconds; each stream ends what it began "
        f"(default: {_DEFAULTS.seconds:g})",
    )
    parser.add_argument(
        "--think",
        type=float,
        nargs=2,
        default=_DEFAULTS.think_s,
        metavar=("LEAST", "MOST"),
        help="silence after a clip, evenly drawn, in seconds "
        f"(default: {_DEFAULTS.think_s[0]:g} {_DEFAULTS.think_s[1]:g})",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=_DEFAULTS.seed,
        metavar="N",
        help=f"of order and pauses (default: {_DEFAULTS.seed})",
    )
    parser.add_argument(
        "--find-largest",
        action="store_true",
        help="find the largest number of streams that holds --p95, by doubling from --streams, "
        "then by halving (default: no)",
    )
    parser.add_argument(
        "--p95",
        type=float,
        default=1.0,
        metavar="S",
        help="limit of the 95th percentile of TTFS for --find-largest, in seconds (default: 1.0)",
    )
    parser.add_argument(
        "--most",
        type=int,
        default=512,
        metavar="N",
        help="streams that --find-largest stops at (default: 512)",
    )
    parser.add_argument(
        "--plot",
        type=Path,
        metavar="FILE.png",
        help="draw the times to the final, or with --find-largest p95 over the number of "
        "streams (default: no)",
    )


def run(args: argparse.Namespace, config: Config) -> int:
    """Carry out ``talkpath bench load``; give the exit code."""
    return run_sides(args, config)


def run_sides(args: argparse.Namespace, config: Config) -> int:
    """Measure the sides and print what came of it; give the exit code.

    Raises:
        TalkpathError: clips, a model or a package is not to be had, or an argument is wrong.
    """
    sides = list(dict.fromkeys(args.sides))
    for name, least in (("streams", 1), ("most", 1), ("clips", 0), ("seconds", 0.1)):
        if getattr(args, name) < least:
            raise ConfigError(f"--{name} must be {least} or more")
    if not 0.5 <= args.think[0] <= args.think[1]:
        raise ConfigError("--think takes two times of 0.5 seconds or more, the shorter one first")
    check_plot(args.plot)
    clips = english_clips(load_manifest(args.data), args.clips)
    clip_errors([])  # asks for the packages before any work is done
    if args.find_largest:
        return _run_search(args, config, sides, clips)
    reports = measure_sides(sides, clips, config, _load(args, args.streams))
    if args.json:
        sys.stdout.write(to_json({report.side: report_figures(report) for report in reports}))
    else:
        sys.stdout.write(report_table(reports))
    if args.plot:
        plot_ttfs(reports, args.plot)
    return 0


def _run_search(
    args: argparse.Namespace, config: Config, sides: Sequence[str], clips: Sequence[Clip]
) -> int:
    steps: dict[str, list[LoadReport]] = {side: [] for side in sides}
    found: dict[str, int] = {}
    for side in sides:

        def holds(streams: int, side: str = side) -> bool:
            report = measure_sides([side], clips, config, _load(args, streams))[0]
            steps[side].append(report)
            held: bool = report.ttfs_s.p95 <= args.p95
            sys.stderr.write(
                f"{side}: {streams} streams, p95 {report.ttfs_s.p95:.3f} s over "
                f"{report.stops} stops: {'holds' if held else 'too slow'}\n"
            )
            return held

        found[side] = find_largest(holds, first=args.streams, most=args.most)
    if args.json:
        plain = {side: [report_figures(report) for report in steps[side]] for side in sides}
        sys.stdout.write(to_json({"p95_s": args.p95, "largest": found, "steps": plain}))
    else:
        for side in sides:
            sys.stdout.write(report_table(sorted(steps[side], key=lambda step: step.streams)))
            sys.stdout.write(f"{side}: {found[side]} streams hold p95 <= {args.p95:g} s\n\n")
        for other in sides[1:]:
            if not found[other]:
                continue  # no ratio: the line above says that it holds none
            times = ratio(found[sides[0]], found[other])
            sys.stdout.write(f"{sides[0]} by {other}: {times:.1f} times the streams\n")
    if args.plot:
        plot_streams(steps, args.plot, p95_s=args.p95)
    return 0


def _load(args: argparse.Namespace, streams: int) -> Load:
    return Load(streams=streams, seconds=args.seconds, think_s=tuple(args.think), seed=args.seed)


def measure_sides(
    sides: Sequence[str], clips: Sequence[Clip], config: Config, load: Load
) -> list[LoadReport]:
    """Give each side the same load, one after the other, each in a process of its own.

    Raises:
        TalkpathError: clips or a model are not to be had.
    """
    # Pipecat greets at its import, before anybody can ask it not to.
    os.environ.setdefault("LOGURU_LEVEL", "WARNING")
    reports = []
    for side in sides:
        # Spawned, not forked: neither side inherits threads or warm caches from the other.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            reports.append(pool.submit(_measure, side, list(clips), config, load).result())
    return reports


def _measure(side: str, clips: list[Clip], config: Config, load: Load) -> LoadReport:
    return asyncio.run(measure(side, clips, config, load))


async def measure(side: str, clips: Sequence[Clip], config: Config, load: Load) -> LoadReport:
    """Give one side a load, in this process.

    Args:
        side: ``talkpath``, ``served`` or ``pipecat``.
        clips: what is said.
        config: the settings of both sides: model, device, type of weights.
        load: how much is said at once.

    Raises:
        TalkpathError: clips or a model are not to be had.
    """
    pcm = [float_to_pcm16(read_clip(clip)) for clip in clips]
    durations_s = [len(audio) / 2 / SAMPLE_RATE_HZ for audio in pcm]
    plans = load.plan(durations_s)
    whisper = dataclasses.replace(
        config.whisper, max_streams=max(config.whisper.max_streams, load.streams)
    )
    config = dataclasses.replace(config, whisper=whisper)
    async with (
        SIDES[side](config) as measured,
        open_lines(plans, measured.processors) as lines,
    ):
        pacing = Pacing()
        with GpuShare() as gpu, _bar(side, plans) as bar:
            processor_s = _processor_s() + measured.processor_s()
            began = time.monotonic()
            # A while, so that the first block of nobody is late.
            async with asyncio.TaskGroup() as playing:
                for line in lines:
                    playing.create_task(
                        play(
                            line,
                            pcm,
                            began + 0.1,
                            pacing,
                            on_play=bar.update,
                            wait_s=_LAST_WAIT_S,
                        )
                    )
            wall_s = time.monotonic() - began
            processor_s = _processor_s() + measured.processor_s() - processor_s
        for line in lines:
            line.record.end(time.time())
        return load_report(
            side,
            [line.record for line in lines],
            clips,
            wall_s=wall_s,
            processor_s=processor_s,
            pacing=pacing,
            gpu=gpu.share,
            engine=measured.counters(),
        )


def _bar(side: str, plans: Sequence[StreamPlan]) -> "tqdm[Any]":
    total = sum(len(plan.plays) for plan in plans)
    label = f"{side}, {len(plans)} streams"
    return tqdm(total=total, desc=label, unit="clip", file=sys.stderr, disable=None)


def _processor_s() -> float:
    times = os.times()
    return times.user + times.system
