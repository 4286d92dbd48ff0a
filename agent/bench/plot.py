"""Plots of a load, written as PNG."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from talkpath.agent.bench.report import LoadReport
from talkpath.agent.errors import AudioError, MissingDependency

__all__ = ["check_plot", "plot_streams", "plot_ttfs"]

_COLOURS = ("#0b6e4f", "#c1440e", "#3d5a98")


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
