"""Fixtures for transports."""

from collections.abc import Iterator

import pytest
from loguru import logger


@pytest.fixture
def log() -> Iterator[list[str]]:
    """Collect what is logged, from level INFO on."""
    lines: list[str] = []
    handler = logger.add(lines.append, level="INFO", format="{level} {message}\n{exception}")
    yield lines
    logger.remove(handler)
