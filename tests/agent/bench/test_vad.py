"""The bench of voice activity detection runs all its sides."""

import argparse
import json

import pytest

from talkpath.agent.bench import vad
from talkpath.agent.config import Config


def run(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    vad.add_arguments(parser)
    return vad.run(parser.parse_args(arguments), Config())


def test_it_prints_a_row_a_batch(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--batches", "1", "4", "--windows", "20") == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split()[3:] == ["numpy", "onnxruntime", "torch"]
    assert [row.split()[:2] for row in rows] == [["batch", "1"], ["batch", "4"]]
    assert all(float(cell) > 0 for row in rows for cell in row.split()[2:])


def test_it_prints_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--batches", "2", "--windows", "10", "--json") == 0
    assert set(json.loads(capsys.readouterr().out)["2"]) == {"numpy", "onnxruntime", "torch"}
