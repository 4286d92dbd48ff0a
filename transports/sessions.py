"""The sessions of a server: admitted up to a limit, tracked, and always ended.

A session is one caller and one call of the bot. Nothing here knows WebRTC or
WebSockets: a transport asks for a :meth:`Sessions.slot`, makes the connection,
and hands :meth:`Sessions.start` what the session does.
"""

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any

from loguru import logger
from pipecat.runner.types import RunnerArguments

from talkpath.agent.errors import TalkpathError

__all__ = ["Bot", "Limits", "Refused", "Sessions", "apology", "attend", "until_over"]

Bot = Callable[[Any], Awaitable[None]]
"""A bot: Pipecat's ``async def bot(runner_args)``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one server grants.

    Attributes:
        connect_s: seconds until a WebRTC connection must be up, first and after a loss.
        grace_s: seconds a bot has to end by itself once its caller is gone.
        stop_s: seconds a cancelled bot has to clean up.
        body_bytes: largest request body.
        sdp_bytes: largest session description.
        media_sections: most media sections in a session description.
        candidates: most ICE candidates of one connection.
        started: most sessions announced with ``/start`` and remembered.
        started_s: seconds one is remembered until its first offer.
        started_bytes: largest ``body`` in ``/start``, as JSON.
        message_bytes: largest WebSocket message.
        announce_s: seconds until a carrier must have announced its call.
    """

    connect_s: float = 20.0
    grace_s: float = 5.0
    stop_s: float = 5.0
    body_bytes: int = 256 * 1024
    sdp_bytes: int = 64 * 1024
    media_sections: int = 8
    candidates: int = 128
    started: int = 1024
    started_s: float = 60.0
    started_bytes: int = 4 * 1024
    message_bytes: int = 1024 * 1024
    announce_s: float = 10.0


class Refused(TalkpathError):
    """A request that is answered with an HTTP error.

    Attributes:
        status: HTTP status to answer with; the message is one sentence for the caller.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Sessions:
    """The sessions of one server.

    Args:
        limit: sessions at once; one more is refused with status 503.
        collect_after_s: seconds from the end of a session to the garbage collection that
            gives its threads and codecs back; further ends do not move it.
    """

    def __init__(self, limit: int, *, collect_after_s: float = 1.0) -> None:
        self._limit = limit
        self._collect_after_s = collect_after_s
        self._reserved = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._collection: asyncio.TimerHandle | None = None
        self._closing = False

    def __len__(self) -> int:
        return len(self._tasks)

    @property
    def full(self) -> bool:
        """Whether a further session would be refused."""
        return self._closing or len(self._tasks) + self._reserved >= self._limit

    @contextlib.contextmanager
    def slot(self) -> Iterator[None]:
        """Hold a place while a connection is being made; call :meth:`start` inside.

        Raises:
            Refused: all places are taken, or the server is closing.
        """
        if self._closing:
            raise Refused(503, "The server is shutting down.")
        if self.full:
            raise Refused(
                503, f"All {self._limit} places on this server are taken; try again later."
            )
        self._reserved += 1
        try:
            yield
        finally:
            self._reserved -= 1

    def start(self, session_id: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a session in a task of its own that lives no longer than this object."""
        task = asyncio.create_task(work, name=f"session {session_id}")
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        logger.info("session {} started, {} open", session_id, len(self._tasks))
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.opt(exception=error).error("{} failed", task.get_name())
        logger.info("{} ended, {} open", task.get_name(), len(self._tasks))
        if self._collection is None and not self._closing:
            # Codecs and thread pools of a closed peer connection sit in reference cycles:
            # without a collection their threads stay. Done later, and once for many.
            loop = asyncio.get_running_loop()
            self._collection = loop.call_later(self._collect_after_s, self._collect)

    def _collect(self) -> None:
        self._collection = None
        gc.collect()

    async def aclose(self) -> None:
        """Refuse new sessions, cancel the open ones and wait for them."""
        self._closing = True
        if self._collection is not None:
            self._collection.cancel()
            self._collection = None
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.gather(*tasks, return_exceptions=True)
            gc.collect()


async def until_over(session: asyncio.Task[None]) -> None:
    """Wait for the end of a session that lives no longer than who waits for it."""
    try:
        await asyncio.wait({session})
    finally:
        session.cancel()


@contextlib.asynccontextmanager
async def _task(work: Coroutine[Any, Any, Any], name: str) -> AsyncIterator[asyncio.Task[Any]]:
    """A task that is cancelled and awaited at the end of the block."""
    task = asyncio.create_task(work, name=name)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait({task})


async def attend(
    bot: Bot, arguments: RunnerArguments, gone: Coroutine[Any, Any, Any], limits: Limits
) -> Exception | None:
    """Run the bot until it returns or its caller is gone.

    A bot normally notices itself that its caller left; one that does not is cancelled
    after ``limits.grace_s``. Cancelling this coroutine cancels the bot.

    Args:
        bot: the bot.
        arguments: what it is called with.
        gone: returns when the caller is gone.
        limits: the times granted.

    Returns:
        What the bot raised (it is logged here), or None.
    """
    session_id = arguments.session_id

    async def run() -> None:
        await bot(arguments)

    task = asyncio.create_task(run(), name=f"bot of session {session_id}")
    try:
        async with _task(gone, f"watch over session {session_id}") as watch:
            await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait({task}, timeout=limits.grace_s)
        if not task.done():
            logger.warning("session {}: the bot did not end with its caller", session_id)
    finally:
        task.cancel()
        await asyncio.wait({task}, timeout=limits.stop_s)
        if not task.done():
            logger.error("session {}: the bot does not stop; it is left behind", session_id)
    if not task.done() or task.cancelled():
        return None
    error = task.exception()
    if error is None:
        return None
    logger.opt(exception=error).error("session {}: the bot failed", session_id)
    return error if isinstance(error, Exception) else None


def apology(error: Exception) -> dict[str, Any]:
    """The RTVI message that tells a caller that the bot failed.

    Our own errors are sentences for users; anything else stays in the log.
    """
    if isinstance(error, TalkpathError):
        text = str(error)
    else:
        text = "The bot stopped because of an error."
    return {"label": "rtvi-ai", "type": "error", "data": {"error": text, "fatal": True}}
