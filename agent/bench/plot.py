"""Plots of loads and conversations, written as PNG."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from talkpath.agent.bench.conversation_report import ConversationReport
from talkpath.agent.bench.report import LoadReport
from talkpath.agent.errors import AudioError, MissingDependency
from talkpath.agent.timeline import Moment

__all__ = ["check_plot", "plot_streams", "plot_ttfs", "plot_turn_taking", "plot_turns"]


if TYPE_CHECKING:
    from talkpath.agent.bench.turns import TurnFigures

_COLOURS = ("#0b6e4f", "#c1440e", "#3d5a98")
_PART_COLOURS = ("#264653", "#2a9d8f", "#8ab17d", "#e9c46a", "#f4a261", "#e76f51")


def check_plot(file: Path | None) -> None:
    """Complain before the work is done, not after it.

    Raises:
        MissingDependency: matplotlib is not installed.
        AudioError: the file's folder does not exist.
    """
    if file is None:
        return
    _pyplot()
    if not file.parent.is_dir():
        raise AudioError(f"cannot write {file}: the folder {file.parent} does not exist")


def plot_ttfs(reports: Sequence[LoadReport], file: Path) -> None:
    """Share of finals that came within a time, a line for each side.

    Raises:
        MissingDependency: matplotlib is not installed.
    """
    plot = _pyplot()
    figure, axes = plot.subplots(figsize=(8, 4.5), layout="constrained")
    for report, colour in zip(reports, _COLOURS, strict=False):
        values = sorted(report.all_ttfs_s)
        if not values:
            continue
        shares = [index / len(values) * 100 for index in range(len(values) + 1)]
        label = f"{report.side}, {report.streams} streams, p95 {report.ttfs_s.p95:.2f} s"
        axes.step([values[0], *values], shares, where="post", color=colour, label=label)
    axes.axvline(0.2, color="#888888", linewidth=1, linestyle=":", label="stop wait of 0.2 s")
    axes.axhline(95, color="#888888", linewidth=0.5)
    axes.set_xlabel("time to the final, seconds after the end of speech")
    axes.set_ylabel("finals, %")
    axes.set_ylim(0, 101)
    _finish(figure, axes, file)


def plot_streams(
    steps: Mapping[str, Sequence[LoadReport]], file: Path, *, p95_s: float | None = None
) -> None:
    """95th percentile (whole lines) and median (dotted) over the number of streams.

    Raises:
        MissingDependency: matplotlib is not installed.
    """
    plot = _pyplot()
    figure, axes = plot.subplots(figsize=(8, 4.5), layout="constrained")
    for (side, reports), colour in zip(steps.items(), _COLOURS, strict=False):
        ordered = sorted(reports, key=lambda report: report.streams)
        streams = [report.streams for report in ordered]
        p95 = [report.ttfs_s.p95 for report in ordered]
        p50 = [report.ttfs_s.p50 for report in ordered]
        axes.plot(streams, p95, marker="o", color=colour, label=f"{side}, p95")
        axes.plot(streams, p50, marker=".", linestyle=":", color=colour, label=f"{side}, p50")
    if p95_s is not None:
        axes.axhline(p95_s, color="#888888", linewidth=1, label=f"limit {p95_s:g} s")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:g}")
    axes.set_xlabel("streams at once")
    axes.set_ylabel("time to the final, seconds")
    _finish(figure, axes, file)


def plot_turns(reports: Sequence[ConversationReport], file: Path) -> None:
    """The mean parts of each side as a bar, and the share of answers that came within a time.

    Raises:
        MissingDependency: matplotlib is not installed.
    """
    plot = _pyplot()
    figure, (bars, axes) = plot.subplots(
        2, figsize=(8, 6.5), layout="constrained", sharex=True, height_ratios=(1, 2)
    )
    labels: set[str] = set()
    for report in reversed(reports):
        left = 0.0
        for moment, colour in zip(Moment, _PART_COLOURS, strict=True):
            if report.part(moment.value).count:
                mean = report.mean(moment.value)
                label = None if moment.value in labels else moment.value
                labels.add(moment.value)
                bars.barh(report.side, mean, left=left, color=colour, height=0.6, label=label)
                left += mean
    if labels:
        bars.legend(frameon=False, ncols=6, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    for report, colour in zip(reports, _COLOURS, strict=False):
        values = sorted(turn.whole_ms for turn in report.turns if turn.whole_ms is not None)
        if values:
            shares = [index / len(values) * 100 for index in range(len(values) + 1)]
            whole = report.whole
            label = f"{report.side}, p50 {whole.p50:.0f} ms, p95 {whole.p95:.0f} ms"
            axes.step([values[0], *values], shares, where="post", color=colour, label=label)
    for share in (50, 95):
        axes.axhline(share, color="#888888", linewidth=0.5)
    axes.set_xlim(left=0)
    axes.set_xlabel("end of speech to the bot's first audio, milliseconds")
    axes.set_ylabel("answers, %")
    axes.set_ylim(0, 101)
    _finish(figure, axes, file)


def plot_turn_taking(
    chosen: Sequence["TurnFigures"], curves: Mapping[str, Sequence["TurnFigures"]], file: Path
) -> None:
    """False cut-offs over the mean delay: curves, and the chosen points with their names.

    Raises:
        MissingDependency: matplotlib is not installed.
    """
    plot = _pyplot()
    figure, axes = plot.subplots(figsize=(8, 5), layout="constrained")
    colours = (*_COLOURS, "#888888")
    for (name, items), colour in zip(curves.items(), colours, strict=False):
        delays = [item.mean_s for item in items]
        shares = [item.false_cut_offs * 100 for item in items]
        axes.plot(delays, shares, marker=".", color=colour, label=name)
    for item in chosen:
        point = (item.mean_s, item.false_cut_offs * 100)
        axes.plot(*point, marker="o", color="#000000")
        axes.annotate(item.name, point, xytext=(7, 5), textcoords="offset points")
    axes.set_xlim(left=0)
    axes.set_ylim(0, 100)
    axes.set_xlabel("mean delay after whole sentences, seconds")
    axes.set_ylabel("pauses in mid-sentence that were cut off, %")
    _finish(figure, axes, file)


def _finish(figure: Any, axes: Any, file: Path) -> None:
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    figure.savefig(file, dpi=120)
    _pyplot().close(figure)


def _pyplot() -> Any:
    try:
        import matplotlib
    except ImportError as error:
        raise MissingDependency(
            'a plot needs matplotlib: pip install "talkpath[bench]" installs it'
        ) from error
    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot
