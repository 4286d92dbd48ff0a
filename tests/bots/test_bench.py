"""Benches on real speech and the real model: what was said and counted, never how fast."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from talkpath.agent.bench.clips import Clip
from talkpath.agent.bench.plan import Load
from talkpath.agent.bench.windows import settings, sweep
from talkpath.agent.config import Config, WhisperConfig
from talkpath.agent.errors import AudioError, ConfigError
from talkpath.agent.whisper.windows import FATAL_FRAMES, FULL_WINDOW, WindowPolicy
from talkpath.bots.bench_load import measure
from talkpath.bots.cli import main
from tests.speech import clip


def clips(*names: str) -> list[Clip]:
    return [Clip(name, clip(name).path, clip(name).text, "en") for name in names]


def folder(path: Path, *names: str) -> Path:
    lines = [
        json.dumps({"id": item.id, "file": str(item.path), "text": item.text})
        for item in clips(*names)
    ]
    (path / "manifest.jsonl").write_text("\n".join(lines))
    return path


@pytest.mark.parametrize("side", ["talkpath", "served", "pipecat"])
async def test_each_side_hears_what_two_callers_say(
    side: str, model: Callable[[str], Path]
) -> None:
    model("tiny.en")
    config = Config(whisper=WhisperConfig(model="tiny.en"))
    load = Load(streams=2, seconds=0.1, least_clips=2, think_s=(1.0, 1.0))
    report = await measure(side, clips("librivox-0890"), config, load)
    assert report.side == side
    assert report.streams == 2
    assert report.kinds == {"final": report.stops, "nothing": 0, "failed": 0, "unanswered": 0}
    assert report.stops >= 2
    assert report.words == 28
    assert report.wer <= 0.3
    assert report.retractions == 0
    assert report.errors == ()
    assert report.pacing.blocks >= 2 * (0.5 + 3.0 + 1.0) / 0.02  # silence, speech, listening
    assert report.cpu > 0
    if side == "pipecat":
        assert report.partials_per_s == 0
    else:
        assert report.engine["opened" if side == "talkpath" else "opened_streams"] == 2
        used = report.engine["used_speculations"]
        assert report.speculative_share == pytest.approx(used / report.kinds["final"])


def test_windows_are_swept_against_the_full_one_and_the_peer(model: Callable[[str], Path]) -> None:
    rows = sweep(
        clips("librivox-0880", "librivox-0890"),
        model("tiny.en"),
        WhisperConfig(device="cpu"),
        floors=[512],
        silences_s=[1.5],
    )
    by_name = {row.setting: row for row in rows}
    assert next(iter(by_name)) == "shipped"
    assert list(by_name)[-2:] == ["full window", "faster-whisper, 30 s"]
    assert all(row.empty == 0 for row in rows)
    # Short windows may go wrong here, and show it: neither guard nor second attempt hides it.
    assert by_name["full window"].wer < 0.3 and rows[-1].wer < 0.3
    assert all(row.loops > 0 for row in rows if row.wer > 1)
    assert by_name["shipped"].encode_s < by_name["full window"].encode_s
    assert by_name["shipped"].wer_digits != by_name["shipped"].wer_digits  # there are none


def test_no_setting_has_a_size_that_the_model_takes_wrongly() -> None:
    for _, policy in settings(WindowPolicy()):
        assert not set(policy.buckets) & set(FATAL_FRAMES)
        assert policy.buckets[-1] == FULL_WINDOW
    for wrong in (*FATAL_FRAMES, 301):
        with pytest.raises(ConfigError, match="never"):
            settings(WindowPolicy(), floors=[wrong])


def test_clips_that_no_window_holds_are_left_out(model: Callable[[str], Path]) -> None:
    with pytest.raises(AudioError, match=r"28\.5 s"):
        sweep([], model("tiny.en"), WhisperConfig())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["load", "--streams", "0"], "--streams must be 1 or more"),
        (["load", "--seconds", "0"], "--seconds must be 0.1 or more"),
        (["load", "--think", "2", "1"], "the shorter one first"),
        (["compare", "--most", "0"], "--most must be 1 or more"),
        (["windows", "--repeats", "0"], "--repeats must be 1 or more"),
        (["windows", "--floors", "160"], "windows are even and never"),
    ],
)
def test_a_bad_argument_of_a_bench_is_one_line_and_exit_code_2(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    model: Callable[[str], Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    model("tiny.en")
    data = folder(tmp_path, "librivox-0880")
    assert main(["bench", *arguments, "--model", "tiny.en", "--data", str(data)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err


def test_a_load_is_run_from_any_folder(
    tmp_path: Path,
    model: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model("tiny.en")
    data = folder(tmp_path, "librivox-0890")
    monkeypatch.chdir("/")
    plot = tmp_path / "streams.png"
    search = ["--find-largest", "--p95", "1000", "--streams", "20", "--most", "20"]
    paths = ["--model", "tiny.en", "--data", str(data), "--plot", str(plot)]
    quick = ["--think", "0.5", "0.5", "--seconds", "1"]
    assert main(["bench", "load", *paths, *search, *quick, "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["largest"] == {"talkpath": 20}
    assert figures["steps"]["talkpath"][0]["stops"] >= 20
    assert plot.read_bytes().startswith(b"\x89PNG")
