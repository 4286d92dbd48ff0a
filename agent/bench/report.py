"""Report: what the records of a load add up to, and how it is shown."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from talkpath.agent.bench.clips import Clip, clip_errors
from talkpath.agent.bench.figures import Spread, ratio, show, spread, table
from talkpath.agent.bench.records import StreamRecord

__all__ = ["LoadReport", "Pacing", "load_report", "notes", "report_figures", "report_table"]

_LATE_S = 0.1  # a block later than this is no longer real time for whoever listens
_LATE_SHARE = 0.01


@dataclass(slots=True)
class Pacing:
    """How well the load kept its own time.

    Attributes:
        blocks: blocks fed.
        late: of these, later than 0.1 s.
        most_s: how late the latest was.
    """

    blocks: int = 0
    late: int = 0
    most_s: float = 0.0

    def add(self, late_s: float) -> None:
        """Count a block that was fed so many seconds after it was due."""
        self.blocks += 1
        self.late += late_s > _LATE_S
        self.most_s = max(self.most_s, late_s)

    @property
    def kept(self) -> bool:
        """Whether at most one block in a hundred was late."""
        return self.late <= _LATE_SHARE * self.blocks


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadReport:
    """Figures of one side of a load. NaN and None where there was nothing to measure.

    Attributes:
        side: whose.
        streams: that spoke at once.
        wall_s: from the first block to the last final.
        stops: ends of speech that the detector heard.
        kinds: how many of them ended in a ``final``, in ``nothing``, ``failed`` or were
            ``unanswered``.
        ttfs_s: of all stops but those without words; see ``Answer``.
        wait_s: the same from the end of speech by the plan.
        speculative_share: finals that were decoded before the stop, of all finals.
        partials_per_s: partials by seconds of speech.
        partial_lag_s: see ``StreamRecord``.
        retractions: partials that changed stable words.
        contradicted: finals that do not begin with the stable words shown before.
        flicker: words of a partial that the next one changed or left out, of all words shown.
        words: in the references.
        wer: word error rate, 0.05 is 5 %; digits of digit strings one by one.
        cpu: processor seconds by seconds on the clock; 2.0 is two busy cores.
        gpu: mean use of the GPU, 0 to 1, or None without one.
        pacing: of the load itself.
        engine: what the engine counted, by name.
        errors: messages, each once.
    """

    side: str
    streams: int
    wall_s: float
    stops: int
    kinds: dict[str, int]
    ttfs_s: Spread
    wait_s: Spread
    speculative_share: float
    partials_per_s: float
    partial_lag_s: Spread
    retractions: int
    contradicted: int
    flicker: float
    words: int
    wer: float
    cpu: float
    gpu: float | None
    pacing: Pacing
    engine: dict[str, float] = field(default_factory=dict)
    errors: tuple[str, ...] = ()
    all_ttfs_s: tuple[float, ...] = field(default=(), repr=False)


def load_report(
    side: str,
    records: Sequence[StreamRecord],
    clips: Sequence[Clip],
    *,
    wall_s: float,
    processor_s: float,
    pacing: Pacing,
    gpu: float | None = None,
    engine: Mapping[str, float] | None = None,
) -> LoadReport:
    """Add up the records of all streams; every one must have ended."""
    answers = [answer for record in records for answer in record.answers]
    heard = [answer for answer in answers if answer.kind != "nothing"]
    finals = [answer for answer in answers if answer.kind == "final"]
    partials = sum(record.partials for record in records)
    stable = [record.stability for record in records]
    errors = clip_errors(
        (clips[play.clip], text)
        for record in records
        for play, text in zip(record.plan.plays, record.texts(), strict=True)
    )
    ttfs_s = tuple(answer.ttfs_s for answer in heard)
    return LoadReport(
        side=side,
        streams=len(records),
        wall_s=wall_s,
        stops=len(answers),
        kinds={
            kind: sum(answer.kind == kind for answer in answers)
            for kind in ("final", "nothing", "failed", "unanswered")
        },
        ttfs_s=spread(ttfs_s),
        wait_s=spread([answer.wait_s for answer in heard]),
        speculative_share=ratio(sum(answer.speculative for answer in finals), len(finals)),
        partials_per_s=ratio(partials, sum(record.speech_s for record in records)),
        partial_lag_s=spread([lag for record in records for lag in record.partial_lags_s]),
        retractions=sum(item.retractions for item in stable),
        contradicted=sum(item.contradicted for item in stable),
        flicker=ratio(sum(item.withdrawn for item in stable), sum(item.shown for item in stable)),
        words=errors.words,
        wer=errors.rate,
        cpu=ratio(processor_s, wall_s),
        gpu=gpu,
        pacing=pacing,
        engine=dict(engine or {}),
        errors=tuple(sorted({message for record in records for message in record.errors})),
        all_ttfs_s=ttfs_s,
    )


def report_figures(report: LoadReport) -> dict[str, object]:
    """The report as plain values, for JSON."""
    return dataclasses.asdict(report)


def report_table(reports: Sequence[LoadReport]) -> str:
    """A column for each report; where the sides differ, ratios to the first below."""
    names = ["", *(report.side for report in reports)]
    rows = [names]
    for label, cell_of in _ROWS:
        cells = [cell_of(report) for report in reports]
        if any(cell != "-" for cell in cells):
            rows.append([label, *cells])
    text = table(rows)
    first = reports[0]
    for other in reports[1:]:
        if other.side == first.side:
            continue
        text += (
            f"{other.side} by {first.side}: "
            f"TTFS p50 {ratio(other.ttfs_s.p50, first.ttfs_s.p50):.2f}, "
            f"p95 {ratio(other.ttfs_s.p95, first.ttfs_s.p95):.2f}, "
            f"processor {ratio(other.cpu, first.cpu):.2f}, "
            f"word error rate {ratio(other.wer, first.wer):.2f}\n"
        )
    return text + "".join(f"{note}\n" for report in reports for note in notes(report))


def notes(report: LoadReport) -> list[str]:
    """What a reader of the figures must know: one line each."""
    lines = []
    pacing = report.pacing
    if not pacing.kept:
        lines.append(
            f"{report.side}: {pacing.late} of {pacing.blocks} blocks were fed over 0.1 s late "
            f"(the latest {pacing.most_s:.2f} s): this process was too busy to play in real "
            "time, trust only the caller's wait"
        )
    if report.kinds["unanswered"] or report.kinds["failed"]:
        lines.append(
            f"{report.side}: {report.kinds['unanswered']} stops were never answered and "
            f"{report.kinds['failed']} failed; they count with the time until the end"
        )
    lines += [f"{report.side}: {message}" for message in report.errors]
    if report.engine:
        counted = ", ".join(f"{name} {value:.4g}" for name, value in report.engine.items() if value)
        lines.append(f"{report.side}'s engine: {counted}")
    return lines


_ROWS: tuple[tuple[str, Callable[[LoadReport], str]], ...] = (
    ("streams", lambda report: str(report.streams)),
    ("seconds on the clock", lambda report: f"{report.wall_s:.0f}"),
    ("stops", lambda report: str(report.stops)),
    ("  with words", lambda report: str(report.kinds["final"])),
    ("TTFS p50, s", lambda report: show(report.ttfs_s.p50, ".3f")),
    ("  p95", lambda report: show(report.ttfs_s.p95, ".3f")),
    ("  p99", lambda report: show(report.ttfs_s.p99, ".3f")),
    ("caller's wait p50, s", lambda report: show(report.wait_s.p50, ".3f")),
    ("  p95", lambda report: show(report.wait_s.p95, ".3f")),
    ("speculations used", lambda report: show(report.speculative_share, ".1%")),
    ("partials per s of speech", lambda report: show(report.partials_per_s, ".2f")),
    ("partial lag p50, s", lambda report: show(report.partial_lag_s.p50, ".3f")),
    ("  p95", lambda report: show(report.partial_lag_s.p95, ".3f")),
    ("retractions of stable words", lambda report: str(report.retractions)),
    ("finals against stable words", lambda report: str(report.contradicted)),
    ("flicker of the rest", lambda report: show(report.flicker, ".1%")),
    ("word error rate", lambda report: show(report.wer, ".2%")),
    ("  words", lambda report: str(report.words)),
    ("processor", lambda report: show(report.cpu, ".2f")),
    ("GPU", lambda report: "-" if report.gpu is None else f"{report.gpu:.0%}"),
    ("latest block, s", lambda report: f"{report.pacing.most_s:.3f}"),
)
