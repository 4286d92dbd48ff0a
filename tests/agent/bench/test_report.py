"""What was recorded adds up, and the report says when a figure is not to be trusted."""

import json
import math
import sys
from pathlib import Path

import pytest

from talkpath.agent.bench.clips import Clip, clip_errors
from talkpath.agent.bench.figures import to_json
from talkpath.agent.bench.plan import Play, StreamPlan
from talkpath.agent.bench.plot import check_plot, plot_streams, plot_ttfs
from talkpath.agent.bench.records import StreamRecord
from talkpath.agent.bench.report import (
    LoadReport,
    Pacing,
    load_report,
    notes,
    report_figures,
    report_table,
)
from talkpath.agent.bench.wer import _english_normaliser
from talkpath.agent.errors import AudioError, MissingDependency

CLIPS = [
    Clip("greeting", Path("a.wav"), "good morning to you", "en"),
    Clip("digits-1", Path("b.wav"), "one two three", "en"),
]
PLAN = StreamPlan(0.0, (Play(0, 25, 100, 50), Play(1, 175, 50, 50)))


def record(*texts: str, late_s: float = 0.1) -> StreamRecord:
    """A stream that stopped once for each text; an empty one got no answer."""
    made = StreamRecord(PLAN, 1000.0)
    position_s = 0.0
    for index, text in enumerate(texts):
        for _ in range(150):
            made.block()
        position_s += 3.0
        made.started(1.0)
        made.partial(1000.0 + position_s, index + 1, "good", "mourning", 0.5)
        made.partial(1000.5 + position_s, index + 1, "good", text, 1.0)
        made.stopped(1000.0 + position_s, 0.2)
        if text:
            stop_s = 1000.0 + position_s
            made.final(stop_s + late_s, text, utterance=index + 1, speculative=index == 0)
    made.end(1010.0)
    return made


def report(side: str = "talkpath", *records: StreamRecord, **pacing: float) -> LoadReport:
    return load_report(
        side,
        records or [record("good morning to you", "123")],
        CLIPS,
        wall_s=10.0,
        processor_s=15.0,
        pacing=Pacing(blocks=1000, **pacing),  # type: ignore[arg-type]
        engine={"batches": 7.0, "failed": 0.0},
    )


def test_all_streams_add_up() -> None:
    made = report("talkpath", record("good morning to you", "123"), record("good morning"))
    assert (made.streams, made.stops, made.kinds["final"]) == (2, 3, 3)
    assert made.ttfs_s.p50 == pytest.approx(0.3)
    assert made.speculative_share == pytest.approx(2 / 3)
    assert made.cpu == pytest.approx(1.5)
    assert made.words == 14
    # "to you" and the digits that the second stream never said.
    assert made.wer == pytest.approx(5 / 14)
    assert made.retractions == 0
    assert 0 < made.flicker <= 1


def test_stops_without_an_answer_count_and_are_told() -> None:
    made = report("talkpath", record("good morning to you", ""))
    assert made.kinds == {"final": 1, "nothing": 0, "failed": 0, "unanswered": 1}
    assert made.ttfs_s.most == pytest.approx(4.2)
    assert any("1 stops were never answered" in note for note in notes(made))


def test_an_error_without_a_stop_is_told_once() -> None:
    broken = StreamRecord(PLAN, 1000.0)
    broken.failed(1000.1, "the engine is full")
    made = load_report(
        "talkpath", [broken, broken], CLIPS, wall_s=1.0, processor_s=1.0, pacing=Pacing()
    )
    assert notes(made) == ["talkpath: the engine is full"]


def test_a_load_that_did_not_keep_its_time_says_so() -> None:
    assert not any("late" in note for note in notes(report(late=10, most_s=0.3)))
    assert any("11 of 1000 blocks" in note for note in notes(report(late=11, most_s=0.3)))


def test_blocks_are_late_from_a_tenth_of_a_second_on() -> None:
    pacing = Pacing()
    for late_s in (0.0, 0.05, 0.2):
        pacing.add(late_s)
    assert (pacing.blocks, pacing.late, pacing.most_s) == (3, 1, 0.2)
    assert not pacing.kept


def test_both_sides_and_their_ratio_stand_in_one_table() -> None:
    slow = report("pipecat", record("good morning to you", "123", late_s=1.3))
    text = report_table([report(), slow])
    assert text.splitlines()[0].split() == ["talkpath", "pipecat"]
    assert "pipecat by talkpath: TTFS p50 5.00, p95 5.00" in text
    assert "talkpath's engine: batches 7\n" in text
    assert "GPU" not in text


def test_a_row_that_no_side_can_fill_is_left_out() -> None:
    silent = StreamRecord(PLAN, 1000.0)
    text = report_table([report("talkpath", silent)])
    assert "TTFS" not in text
    assert "100.00%" in text  # nothing was understood of all that was played


def test_the_report_survives_json() -> None:
    figures = json.loads(to_json(report_figures(report("talkpath", StreamRecord(PLAN, 1000.0)))))
    assert figures["ttfs_s"]["p95"] is None
    assert figures["engine"] == {"batches": 7.0, "failed": 0.0}
    assert math.isclose(figures["cpu"], 1.5)


def test_plots_are_pictures(tmp_path: Path) -> None:
    one, other = report(), report("pipecat", record("good morning to you", "1", late_s=2.0))
    plot_ttfs([one, other, report("mute", StreamRecord(PLAN, 1000.0))], tmp_path / "ttfs.png")
    plot_streams({"talkpath": [one], "pipecat": [other]}, tmp_path / "streams.png", p95_s=1.0)
    plot_streams({"talkpath": [one]}, tmp_path / "alone.png")
    for name in ("ttfs", "streams", "alone"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("package", ["matplotlib", "jiwer", "whisper_normalizer.english"])
def test_a_missing_package_names_the_extra_that_brings_it(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    _english_normaliser.cache_clear()
    with pytest.raises(MissingDependency, match=r"talkpath\[bench\]"):
        if package == "matplotlib":
            check_plot(tmp_path / "a.png")
        else:
            clip_errors([(CLIPS[0], "good")])


def test_a_plot_that_cannot_be_written_is_told_before_the_work(tmp_path: Path) -> None:
    check_plot(None)
    check_plot(tmp_path / "a.png")
    with pytest.raises(AudioError, match=r"folder .* does not exist"):
        check_plot(tmp_path / "nowhere" / "a.png")
