"""Report of ``talkpath bench conversation``: what the turns of each side add up to."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from talkpath.agent.bench.conversation import TurnResult
from talkpath.agent.bench.figures import Spread, ratio, show, spread, table
from talkpath.agent.timeline import Moment
from talkpath.agent.turn_counts import TurnCounts

__all__ = ["ConversationReport", "conversation_figures", "conversation_table"]

_PARTS = tuple(moment.value for moment in Moment)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversationReport:
    """Figures of one side, in milliseconds. NaN where there was nothing to measure.

    Attributes:
        side: whose.
        conversations: how many.
        turns: what became of each.
        counts: eager replies, barge-ins and the like.
        processor_s: processor seconds of the side's process while it was called.
        wall_s: how long it was called, in seconds.
    """

    side: str
    conversations: int
    turns: tuple[TurnResult, ...]
    counts: TurnCounts
    processor_s: float
    wall_s: float

    @property
    def whole(self) -> Spread:
        """From the true end of speech to the first audio, at the caller's."""
        return _spread(turn.whole_ms for turn in self.turns)

    @property
    def sound(self) -> Spread:
        """The same to the first sound that can be heard."""
        return _spread(turn.sound_ms for turn in self.turns)

    @property
    def detector(self) -> Spread:
        """The end of speech by the detector less the true one."""
        return _spread(turn.detector_ms for turn in self.turns)

    @property
    def apart(self) -> Spread:
        """The whole less the sum of its parts, without sign."""
        return _spread(None if turn.apart_ms is None else abs(turn.apart_ms) for turn in self.turns)

    @property
    def cut_offs(self) -> int:
        """Turns that the bot held for over before they were."""
        return sum(turn.cut_offs > 0 for turn in self.turns)

    def part(self, name: str) -> Spread:
        """Of one part of the timeline, over the turns that have it."""
        return _spread(ms for turn in self.turns for part, ms in turn.parts if part == name)

    def mean(self, name: str) -> float:
        """Mean of one part; those of all parts add up to the mean of the whole."""
        values = [ms for turn in self.turns for part, ms in turn.parts if part == name]
        return ratio(sum(values), len(values))

    def kind(self, name: str) -> int:
        """How many turns ended so."""
        return sum(turn.kind == name for turn in self.turns)


def conversation_table(reports: Sequence[ConversationReport]) -> str:
    """For each side its parts and what was counted; below, how much slower the others are."""
    text = "".join(_side(report) for report in reports)
    first = reports[0]
    for other in reports[1:]:
        text += (
            f"{other.side} by {first.side}: "
            f"p50 {show(ratio(other.whole.p50, first.whole.p50), '.2f')}, "
            f"p95 {show(ratio(other.whole.p95, first.whole.p95), '.2f')}\n"
        )
    return text


def _side(report: ConversationReport) -> str:
    rows = [[f"{report.side}, ms", "p50", "p95", "p99", "most", "mean"]]
    for name in _PARTS:
        if (part := report.part(name)).count:
            rows.append([name, *_cells(part), show(report.mean(name), ".0f")])
    rows.append(["end of speech to first audio", *_cells(report.whole), "-"])
    rows.append(["  to the first sound in it", *_cells(report.sound), "-"])
    rows.append(["whole less parts", *_cells(report.apart), "-"])
    rows.append(["detector's end less true end", *_cells(report.detector), "-"])
    turns = len(report.turns)
    return (
        table(rows) + f"{report.side}: {report.conversations} conversations, {turns} turns, "
        f"{report.kind('answered')} answered, {report.kind('unanswered')} unanswered, "
        f"{report.kind('talked-over')} talked over, {report.cut_offs} cut off too early\n"
        f"{report.side}: {report.counts}\n"
        f"{report.side}: processor {show(ratio(report.processor_s, report.wall_s), '.2f')}\n\n"
    )


def conversation_figures(reports: Sequence[ConversationReport]) -> dict[str, object]:
    """The same as plain values, for JSON, with every turn."""
    return {report.side: _figures(report) for report in reports}


def _figures(report: ConversationReport) -> Mapping[str, object]:
    return {
        "conversations": report.conversations,
        "turns": len(report.turns),
        "answered": report.kind("answered"),
        "unanswered": report.kind("unanswered"),
        "talked_over": report.kind("talked-over"),
        "cut_offs": report.cut_offs,
        "whole_ms": dataclasses.asdict(report.whole),
        "sound_ms": dataclasses.asdict(report.sound),
        "parts_ms": {
            name: {**dataclasses.asdict(report.part(name)), "mean": report.mean(name)}
            for name in _PARTS
        },
        "apart_ms": dataclasses.asdict(report.apart),
        "detector_ms": dataclasses.asdict(report.detector),
        "counts": dataclasses.asdict(report.counts),
        "processor": ratio(report.processor_s, report.wall_s),
        "every_turn": [dataclasses.asdict(turn) for turn in report.turns],
    }


def _cells(values: Spread) -> list[str]:
    return [show(value, ".0f") for value in (values.p50, values.p95, values.p99, values.most)]


def _spread(values: Iterable[float | None]) -> Spread:
    return spread([value for value in values if value is not None])
