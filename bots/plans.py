"""Files that a bot follows: read for each call, so that a change needs no restart."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from loguru import logger

from talkpath.agent.errors import ConfigError

__all__ = ["read_plan"]

_Plan = TypeVar("_Plan")

_good: dict[tuple[Any, Path], Any] = {}
"""What was read last; as many as there are settings that name a file."""


async def read_plan(load: Callable[[Path], _Plan], name: str) -> _Plan:
    """Read a file, or take what it was before if somebody is just editing it.

    Args:
        load: reads it; raises ``ConfigError`` for what is wrong with it.
        name: the file; ``~`` is the home folder.

    Raises:
        ConfigError: it cannot be read, and never could in this process.
    """
    return await asyncio.to_thread(_read, load, Path(name))


def _read(load: Callable[[Path], _Plan], file: Path) -> _Plan:
    file = file.expanduser()
    try:
        plan = load(file)
    except ConfigError as error:
        if (load, file) not in _good:
            raise
        logger.error("{}; the call follows the version before", error)
        before: _Plan = _good[load, file]
        return before
    _good[load, file] = plan
    return plan
