"""Ahead of a reply that is due: what was said is read, and how it begins is given to the voice.

A model on a CPU takes 6 to 7 ms of a core to read a token, a tenth of a second for a sentence, and
the caller would wait for it. A server that remembers what it has read (llama.cpp's in this process)
has only the last words left to read when the turn is over.

A reply that is begun before the turn is over is held back until it is. Its first phrase need not
wait for that to be turned into sound: 50 to 70 ms of a core, which the caller would wait for.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from loguru import logger
from pipecat.frames.frames import Frame
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.utils.text.base_text_aggregator import Aggregation

from talkpath.processors.first_phrase import FirstPhrase
from talkpath.processors.frames import SpeakAheadFrame

__all__ = ["ReadAhead", "SpeakAhead"]

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


class SpeakAhead:
    """Finds the first phrase of a reply that is held back, as ``Phrases`` will.

    Args:
        push: sends a frame on.
    """

    def __init__(self, push: Callable[[Frame], Awaitable[None]]) -> None:
        self._push = push
        self._phrase = FirstPhrase()
        self._has_phrase = False

    async def begin(self) -> None:
        """A reply begins."""
        await self._phrase.reset()
        self._has_phrase = False

    async def take(self, text: str) -> None:
        """Take the reply's next words."""
        if self._has_phrase:
            return
        async for phrase in self._phrase.aggregate(text):
            await self._give(phrase)

    async def end(self) -> None:
        """The reply is over: it may be no longer than a phrase."""
        await self._give(await self._phrase.flush())

    async def _give(self, phrase: Aggregation | None) -> None:
        if phrase is not None and not self._has_phrase:
            self._has_phrase = True
            await self._push(SpeakAheadFrame(phrase.text))
