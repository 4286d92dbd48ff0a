"""A conversation in text: the reply stage between its context and a voice that is instant."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

from pipecat.frames.frames import (
    AggregatedTextFrame,
    ErrorFrame,
    Frame,
    InterruptionFrame,
    LLMFullResponseEndFrame,
    LLMMessagesAppendFrame,
    SystemFrame,
    TTSSpeakFrame,
    TTSTextFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineWorker
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import (
    LLMContextAggregatorPair,
    LLMUserAggregatorParams,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.turns.user_turn_strategies import ExternalUserTurnStrategies
from pipecat.workers.runner import WorkerRunner

from talkpath.agent.config import ReplyConfig
from talkpath.agent.reply import ReplyEndpoint
from talkpath.processors.first_phrase import Phrases
from talkpath.processors.reply import Reply

__all__ = ["PATIENT", "Talk", "replying", "talking"]

PATIENT = ReplyConfig(first_word_s=60, silence_s=60, tool_s=60, filler_after_s=0)
"""Where nothing is to be waited for, a busy machine has its time, and no filler is said."""


class _Ears(FrameProcessor):
    """Stands where the voice does: what would be spoken is heard at once, and is in the context."""

    def __init__(self) -> None:
        super().__init__()
        self.spoken: list[str] = []
        self.ends = 0
        self.changed = asyncio.Event()
        self.is_speaking = False
        self._behind_speech: list[Frame] = []

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        down = direction is FrameDirection.DOWNSTREAM
        if self.is_speaking and down and not isinstance(frame, SystemFrame):
            self._behind_speech.append(frame)
            return
        await self._hear(frame, direction)
        if isinstance(frame, InterruptionFrame):
            self.is_speaking = False
            kept = [frame for frame in self._behind_speech if not frame.interruptible]
            self._behind_speech = []
            for frame in kept:
                await self._hear(frame, FrameDirection.DOWNSTREAM)

    async def _hear(self, frame: Frame, direction: FrameDirection) -> None:
        if isinstance(frame, (TTSSpeakFrame, AggregatedTextFrame)):
            self.spoken.append(frame.text)
            heard = TTSTextFrame(frame.text, "sentence")
            heard.append_to_context = frame.append_to_context is not False
            await self.push_frame(heard)
        else:
            self.ends += isinstance(frame, LLMFullResponseEndFrame)
            await self.push_frame(frame, direction)
        self.changed.set()


class Talk:
    """A running conversation.

    Attributes:
        reply: the stage.
        worker: takes further frames.
        errors: what was reported.
    """

    def __init__(self, worker: PipelineWorker, reply: Reply, ears: _Ears, context: Any) -> None:
        self.worker = worker
        self.reply = reply
        self.errors: list[str] = []
        self._ears = ears
        self._context = context

    @property
    def spoken(self) -> list[str]:
        """What the caller heard so far, sentence by sentence."""
        return self._ears.spoken

    @property
    def messages(self) -> list[Any]:
        """The conversation as the model knows it."""
        return list(self._context.get_messages())

    async def say(self, text: str) -> None:
        """The caller says something; the model is asked."""
        message: Any = {"role": "user", "content": text}
        await self.worker.queue_frame(LLMMessagesAppendFrame([message], run_llm=True))

    async def ask(self, text: str) -> list[str]:
        """Say something and give what is heard until the end of the reply."""
        before, ends = len(self.spoken), self._ears.ends
        await self.say(text)
        await self.until(lambda: self._ears.ends > ends)
        return self.spoken[before:]

    async def hear(self, text: str) -> None:
        """Wait until a text was heard."""
        await self.until(lambda: text in self.spoken)

    def speak_on(self) -> None:
        """From now to the next interruption all waits behind speech, as in a transport."""
        self._ears.is_speaking = True

    async def interrupt(self) -> None:
        """The caller speaks over the bot."""
        await self.worker.queue_frame(InterruptionFrame())

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until something holds: at once if it changes with what is heard, else soon."""
        async with asyncio.timeout(60):
            while not holds():
                self._ears.changed.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._ears.changed.wait(), 0.02)


@contextlib.asynccontextmanager
async def talking(
    reply: Reply, *, tools: Any = None, params: LLMUserAggregatorParams | None = None
) -> AsyncIterator[Talk]:
    """Run a conversation with a reply stage."""
    context = LLMContext() if tools is None else LLMContext(tools=tools)
    quick = LLMUserAggregatorParams(user_turn_strategies=ExternalUserTurnStrategies())
    pair = LLMContextAggregatorPair(context, user_params=params or quick)
    ears = _Ears()
    worker = PipelineWorker(
        Pipeline([pair.user(), reply, Phrases(), ears, pair.assistant()]),
        cancel_on_idle_timeout=False,
    )
    talk = Talk(worker, reply, ears, context)

    @worker.event_handler("on_pipeline_error")  # type: ignore[untyped-decorator]
    async def on_pipeline_error(worker: PipelineWorker, frame: ErrorFrame) -> None:
        talk.errors.append(frame.error)

    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(worker)
    running = asyncio.create_task(runner.run())
    try:
        yield talk
    finally:
        await worker.cancel()
        await running


@contextlib.asynccontextmanager
async def replying(
    url: str, config: ReplyConfig | None = None, *, fallback_url: str | None = None, **options: Any
) -> AsyncIterator[Talk]:
    """Run a conversation with a server's model; by default a busy machine has its time."""
    fallback = None if fallback_url is None else ReplyEndpoint(base_url=fallback_url, model="two")
    endpoint = ReplyEndpoint(base_url=url, model="one", fallback=fallback)
    tools = options.pop("tools", None)
    async with talking(
        Reply(endpoint, config or PATIENT, **options),
        tools=tools,
    ) as talk:
        yield talk
