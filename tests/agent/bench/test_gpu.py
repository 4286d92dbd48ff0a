"""The GPU's use is the mean of what nvidia-smi tells, and None where there is no GPU."""

import time
from pathlib import Path

import pytest

from talkpath.agent.bench.gpu import GpuShare

# Tells what a query of the use prints, then goes on as `-lms` does until it is ended.
NVIDIA_SMI = """#!/bin/sh
case "$*" in *utilization.gpu*-lms*) ;; *) exit 2 ;; esac
echo 40
echo "[N/A]"
echo 60
: > "$0.told"
exec sleep 60
"""


def test_the_share_is_the_mean_of_the_samples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(NVIDIA_SMI)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with GpuShare() as gpu:
        deadline = time.monotonic() + 30
        while not (tmp_path / "nvidia-smi.told").exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert gpu.share == pytest.approx(0.5)


def test_without_the_program_nothing_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with GpuShare() as gpu:
        pass
    assert gpu.share is None
