"""Conversations with real bots over real sockets: who was answered, never how fast."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from talkpath.agent.config import Config, ReplyConfig, TurnConfig, WhisperConfig
from talkpath.agent.timeline import Moment
from talkpath.bots.bench_conversation import measure
from talkpath.bots.cli import main
from tests.llm_server import Say, llm_server
from tests.local_models import voice_model
from tests.speech import clip


async def test_both_sides_are_called_answer_and_tell_parts_that_add_up(
    tmp_path: Path, model: Callable[[str], Path]
) -> None:
    model("tiny.en")
    voice_model()
    said = clip("cards-001")
    line = {"id": said.id, "file": str(said.path), "text": said.text}
    (tmp_path / "manifest.jsonl").write_text(json.dumps(line))
    # Stock Pipecat lets the assistant speak first.
    async with llm_server(lambda _: Say("It is Paris, of course."), alternates=False) as server:
        config = Config(
            whisper=WhisperConfig(model="tiny.en", language="en"),
            turn=TurnConfig(profile="snappy"),
            reply=ReplyConfig(url=server.url, model="any"),
        )
        reports = await measure(["talkpath", "pipecat"], "assistant", config, 1, data=tmp_path)
        assert len(server.requests) >= 2
    assert [report.side for report in reports] == ["talkpath", "pipecat"]
    for report in reports:
        assert report.conversations == 1
        assert len(report.turns) == report.kind("answered") == 1
        assert report.processor_s > 0
        turn = report.turns[0]
        assert [name for name, _ in turn.parts] == [moment.value for moment in Moment]
        assert turn.whole_ms and turn.sound_ms and turn.apart_ms
        assert turn.sound_ms >= turn.whole_ms
        assert abs(turn.apart_ms) < turn.whole_ms


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--conversations", "0"], "--conversations must be 1 or more"),
        (["--bot", "no-such-bot"], "there is no bot 'no-such-bot'"),
        (["--json", "/nowhere/turns.json"], "there is no folder /nowhere"),
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
