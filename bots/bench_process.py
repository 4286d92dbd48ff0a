"""Processes that benches measure: their settings by the environment, and their end."""

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any

__all__ = ["end_process", "settings_as_environment"]

_END_S = 20.0


def settings_as_environment(section: str, settings: Mapping[str, Any]) -> dict[str, str]:
    """A section of the settings as environment variables; what is None is left out."""
    variables = {}
    for key, value in settings.items():
        if value is not None:
            text = ",".join(value) if isinstance(value, tuple) else str(value)
            variables[f"TALKPATH_{section}_{key}".upper()] = text
    return variables


async def end_process(process: asyncio.subprocess.Process) -> None:
    """End a process by SIGTERM, or at last by force."""
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(_END_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
