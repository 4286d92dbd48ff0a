"""Fixtures for calls that Asterisk brings."""

import pytest
from pipecat.frames.frames import InputDTMFFrame

from tests.transports.stage import Behind


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the stage's bots write down what keys were pressed."""
    monkeypatch.setattr(Behind, "KINDS", (*Behind.KINDS, InputDTMFFrame))
