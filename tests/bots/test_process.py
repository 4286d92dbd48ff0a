"""The logs of a process of ours."""

import subprocess
import sys

import pytest

_SAYS = """
from loguru import logger
from talkpath.bots.process import configure_loguru
configure_loguru({level!r})
logger.warning("No video transceiver is available")
logger.warning("Media stream error while reading the audio; clearing track.")
import pipecat
logger.warning("something else")
"""


@pytest.mark.parametrize(("level", "lines"), [("INFO", 1), ("DEBUG", 4)])
def test_what_pipecat_says_in_every_call_is_told_only_to_who_wants_all(
    level: str, lines: int
) -> None:
    command = [sys.executable, "-c", _SAYS.format(level=level)]
    err = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    assert len(err.splitlines()) == lines, err
    assert "something else" in err
