"""What tests of models share."""

import pytest

from tests.agent.whisper.helpers import forget_threads


@pytest.fixture(autouse=True)
def others() -> None:
    """Threads that are there already are other tests' own: bots' models stay till the end."""
    forget_threads()
