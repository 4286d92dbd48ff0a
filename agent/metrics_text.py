"""Metrics of several processes in one: their texts in Prometheus' format, added up."""

from collections.abc import Iterable

__all__ = ["lasting_prometheus", "merge_prometheus"]


def merge_prometheus(texts: Iterable[str]) -> str:
    """Add up what ``render_prometheus`` gave in several processes.

    Counters, histograms and gauges alike are summed, series by series: all gauges of ours are
    amounts. Lines that are no samples are taken from the first text that has them.

    Args:
        texts: each in text format 0.0.4, with ``# HELP`` before a metric's samples.
    """
    heads: dict[str, list[str]] = {}
    values: dict[str, dict[str, float]] = {}
    for text in texts:
        metric = ""
        for line in text.splitlines():
            if line.startswith("# "):
                kind, metric, _ = line[2:].split(" ", 2)
                lines = heads.setdefault(metric, [])
                if not any(known.startswith(f"# {kind} ") for known in lines):
                    lines.append(line)
            elif line:
                name, _, value = line.rpartition(" ")
                series = values.setdefault(metric, {})
                series[name] = series.get(name, 0.0) + float(value)
    merged: list[str] = []
    for metric, lines in heads.items():
        merged += lines
        merged += [f"{name} {value:.15g}" for name, value in values.get(metric, {}).items()]
    return "".join(f"{line}\n" for line in merged)


def lasting_prometheus(text: str) -> str:
    """What still counts of a process that has ended: its counters and histograms, no gauge.

    Without them, the sums of the processes that go on would seem to have been reset.

    Args:
        text: of ``render_prometheus``.
    """
    lines = text.splitlines()
    words = [line.split(" ") for line in lines]
    gauges = {word[2] for word in words if word[:2] == ["#", "TYPE"] and word[3] == "gauge"}
    names = (word[2] if word[0] == "#" else word[0].partition("{")[0] for word in words)
    kept = (line for line, name in zip(lines, names, strict=True) if name not in gauges)
    return "".join(f"{line}\n" for line in kept)
