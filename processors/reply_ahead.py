"""Reading ahead: the language model reads what is being said while it is being said.

A model on a CPU takes 6 to 7 ms of a core to read a token, a tenth of a second for a sentence, and
the caller would wait for it. A server that remembers what it has read (llama.cpp's in this process)
has only the last words left to read when the turn is over.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from loguru import logger
from pipecat.processors.aggregators.llm_context import LLMContext

__all__ = ["ReadAhead"]

_FINISH_S = 0.3
"""What is being read when the reply is due is waited for so long: it holds what the reply needs."""


class ReadAhead:
    """Reads one text at a time; of those that come meanwhile, the newest is next.

    Args:
        ask: has the server read a conversation.
        create_task: starts a task of the session's.
    """

    def __init__(
        self,
        ask: Callable[[LLMContext], Awaitable[None]],
        create_task: Callable[..., "asyncio.Task[None]"],
    ) -> None:
        self._ask = ask
        self._create_task = create_task
        self._next: LLMContext | None = None
        self._task: asyncio.Task[None] | None = None

    def read(self, context: LLMContext) -> None:
        """Read this conversation when the server is free."""
        self._next = context
        if self._task is None:
            self._task = self._create_task(self._read(), "read ahead")

    async def finish(self) -> None:
        """Read nothing new; return when nothing is being read, or it takes too long."""
        self._next = None
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=_FINISH_S)

    async def stop(self, cancel_task: Callable[..., Awaitable[Any]]) -> None:
        """End with the session."""
        task, self._task, self._next = self._task, None, None
        if task is not None:
            await cancel_task(task)

    async def _read(self) -> None:
        try:
            while self._next is not None:
                context, self._next = self._next, None
                await self._ask(context)
        except Exception as error:  # whatever the client raises: the reply itself will tell
            logger.debug("reading ahead failed: {}", error)
        finally:
            self._task = None
