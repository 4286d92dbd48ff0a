"""What tests of processors share."""

import pytest

from talkpath.processors import whisper_service


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine has its time: these tests hang up with the last word, and want all of them."""
    monkeypatch.setattr(whisper_service, "_DRAIN_S", 60.0)
