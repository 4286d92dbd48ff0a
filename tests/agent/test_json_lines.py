"""Lines in a real file."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from talkpath.agent.errors import TalkpathError
from talkpath.agent.json_lines import append_line


def test_many_who_write_at_once_lose_no_line(tmp_path: Path) -> None:
    file = tmp_path / "lines.jsonl"
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda i: append_line(file, {"i": i, "text": "ä" * 500}), range(50)))
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    assert sorted(line["i"] for line in lines) == list(range(50))


def test_a_line_that_was_broken_off_spoils_no_other(tmp_path: Path) -> None:
    file = tmp_path / "lines.jsonl"
    file.write_text('{"i": 1}\n{"i": ')
    append_line(file, {"i": 3})
    assert file.read_text().splitlines() == ['{"i": 1}', '{"i": ', '{"i": 3}']


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(TalkpathError, match=r"nowhere.lines\.jsonl"):
        append_line(tmp_path / "nowhere" / "lines.jsonl", {})
