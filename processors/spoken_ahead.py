"""Spoken ahead: the beginning of a phrase that may be wanted is made before it is."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from loguru import logger

from talkpath.agent.voice import SpokenSentence, Voice

__all__ = ["SpokenAhead"]


class SpokenAhead:
    """A voice that has the first piece of one phrase ready; it makes no more of it unasked.

    Args:
        voice: the loaded voice.
        create_task: starts a task of the session's.
        cancel_task: ends one.
    """

    def __init__(
        self,
        voice: Voice,
        create_task: Callable[..., "asyncio.Task[None]"],
        cancel_task: Callable[..., Awaitable[Any]],
    ) -> None:
        self._voice = voice
        self._create_task = create_task
        self._cancel_task = cancel_task
        self._wanted: tuple[str, int] | None = None
        self._rest: AsyncIterator[SpokenSentence] | None = None
        self._first: list[SpokenSentence] = []
        self._making: asyncio.Task[None] | None = None

    async def begin(self, phrase: str, sample_rate_hz: int) -> None:
        """Make the first piece of a phrase, which takes the place of the one before."""
        await self.drop()
        self._wanted = phrase, sample_rate_hz
        self._rest = self._voice.pieces(phrase, sample_rate_hz)
        self._making = self._create_task(self._make(self._rest), "speak ahead")

    async def drop(self) -> None:
        """Forget what was made."""
        making, self._making = self._making, None
        self._wanted, self._rest, self._first = None, None, []
        if making is not None and not making.done():
            await self._cancel_task(making)

    async def pieces(self, phrase: str, sample_rate_hz: int) -> AsyncIterator[SpokenSentence]:
        """The same as the voice's, sooner if this is the phrase."""
        if self._making is not None and self._wanted == (phrase, sample_rate_hz):
            await asyncio.wait({self._making})
        first, rest = self._first, self._rest
        if self._wanted != (phrase, sample_rate_hz) or rest is None or not first:
            first, rest = [], self._voice.pieces(phrase, sample_rate_hz)
        await self.drop()
        for piece in first:
            yield piece
        async for piece in rest:
            yield piece

    async def _make(self, pieces: AsyncIterator[SpokenSentence]) -> None:
        try:
            self._first = [await anext(pieces)]
        except Exception as error:  # onnxruntime's have no common base; it is told if it is wanted
            logger.debug("speaking ahead failed: {}", error)
