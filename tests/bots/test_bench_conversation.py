"""Conversations with real bots over real sockets: who was answered, never how fast."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from talkpath.bots.cli import main
from tests.local_models import reply_model, voice_model


def test_both_sides_are_called_and_their_parts_add_up(
    tmp_path: Path, model: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    model("tiny.en")
    reply_model()
    voice_model()
    file, plot = tmp_path / "turns.json", tmp_path / "turns.png"
    sides = ["--sides", "talkpath", "pipecat", "--conversations", "1", "--profile", "snappy"]
    outputs = ["--json", str(file), "--plot", str(plot)]
    assert main(["bench", "conversation", "--model", "tiny.en", *sides, *outputs]) == 0
    table = capsys.readouterr().out
    assert "pipecat by talkpath: p50 " in table
    figures = json.loads(file.read_text())
    assert list(figures) == ["talkpath", "pipecat"]
    for side in figures.values():
        assert side["conversations"] == 1
        assert side["turns"] == side["answered"] >= 1
        assert side["processor"] > 0
        for turn in side["every_turn"]:
            names = [name for name, _ in turn["parts"]]
            assert names == ["stop", "final", "turn", "first-token", "first-audio", "first-packet"]
            apart_ms = turn["whole_ms"] - sum(ms for _, ms in turn["parts"])
            assert abs(apart_ms) < 0.5 * turn["whole_ms"]
            assert turn["sound_ms"] >= turn["whole_ms"]
    assert plot.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--conversations", "0"], "--conversations must be 1 or more"),
        (["--bot", "no-such-bot"], "there is no bot 'no-such-bot'"),
        (["--data", "/nowhere"], "cannot read /nowhere/manifest.jsonl"),
    ],
)
def test_a_bad_argument_is_one_line(
    arguments: list[str],
    message: str,
    model: Callable[[str], Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    model("tiny.en")
    assert main(["bench", "conversation", "--model", "tiny.en", *arguments]) in (1, 2)
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert err.count("\n") == 1
