"""What a program of ours sets up in its process: logs, the event loop, open files."""

import asyncio
import contextlib
import importlib
import logging
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from loguru import Record

__all__ = ["allow_many_sockets", "configure_logs", "configure_loguru", "quick_loop"]

# Chatty at INFO: a line for each request, candidate pair or step of starting.
_NOISY = (
    "aioice",
    "aiortc",
    "baresip",
    "faster_whisper",
    "httpcore2",
    "httpx",
    "httpx2",
    "uvicorn",
)
_FORMAT = (
    "<green>{time:YYYY-MM-DD HH:mm:ss.SSS}</green> | <level>{level: <8}</level> | "
    "<cyan>{name}</cyan>:<cyan>{function}</cyan>:<cyan>{line}</cyan> - "
)
_END = "<level>{message}</level>\n{exception}"


def configure_logs(level: str, *, debug: bool) -> None:
    """Send the logs of the standard library to standard error, those of libraries if ``debug``."""
    logging.basicConfig(
        level=level, format="%(asctime)s | %(levelname)-8s | %(name)s - %(message)s"
    )
    for name in ("numba", "PIL", *(() if debug else _NOISY)):
        logging.getLogger(name).setLevel(logging.WARNING)


# What Pipecat's WebRTC warns of in every call without a camera, and at every normal end.
_NO_WARNINGS = (
    "No video transceiver is available",
    "Media stream error while reading the audio",
)
_BANNER = "ᓚᘏᗢ"  # Pipecat's, when it is imported: before an error of one line it is in the way


def configure_loguru(level: str) -> None:
    """The same for loguru, with which Pipecat logs and what is above it."""
    from loguru import logger

    logger.remove()
    logger.add(sys.stderr, level=level, diagnose=False, format=_line, filter=_is_told(level))


def _is_told(level: str) -> Callable[["Record"], bool]:
    """Who is told at a level; who wants all gets all."""
    if level == "DEBUG":
        return lambda record: True
    return lambda record: not record["message"].startswith((*_NO_WARNINGS, _BANNER))


def _line(record: "Record") -> str:
    """Loguru's own format, and the Call-ID where there is one."""
    return _FORMAT + ("call {extra[call_id]}: " if "call_id" in record["extra"] else "") + _END


def quick_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """The loop of uvloop where that is installed, which takes half the processor time.

    28 against 53 microseconds a message, with a hundred clients that send 20 ms at a time.
    """
    try:
        factory: Callable[[], asyncio.AbstractEventLoop]
        factory = importlib.import_module("uvloop").new_event_loop
    except ImportError:
        return None
    return factory


def allow_many_sockets() -> None:
    """Take the system's hard limit of open files: the usual soft one is 1024, for all sockets."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # macOS says "no limit" and does not mean it
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
