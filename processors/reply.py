"""Replies from any OpenAI-compatible server, and words for the caller when it fails.

Frames in: ``LLMContextFrame``. Frames out: ``LLMTextFrame`` and the calls of tools between the
start and the end of a response. On a failure an ``ErrorFrame`` upstream, and downstream a
``ReplyCutFrame`` if there were words, and a spoken apology. A filler while a tool runs.
``SpeakAheadFrame`` for a reply that is begun before the turn is over.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any, cast

from openai import AsyncOpenAI, AsyncStream
from openai.types.chat import ChatCompletionChunk
from openai.types.chat.chat_completion_chunk import ChoiceDeltaToolCall
from pipecat.frames.frames import (
    EagerEndOfTurnCancelFrame,
    Frame,
    FunctionCallCancelFrame,
    FunctionCallFromLLM,
    FunctionCallInProgressFrame,
    FunctionCallResultFrame,
    FunctionCallResultProperties,
    FunctionCallsStartedFrame,
    InterruptionFrame,
    LLMContextFrame,
    TTSSpeakFrame,
    UserStartedSpeakingFrame,
    UserStoppedSpeakingFrame,
)
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.frame_processor import FrameDirection
from pipecat.services.openai.llm import OpenAILLMService
from pipecat.utils.types import assert_given

from talkpath.agent.config import ReplyConfig
from talkpath.agent.eager_replies import EagerReplies
from talkpath.agent.recent_turns import token_estimate
from talkpath.agent.reply import ReplyEndpoint
from talkpath.agent.reply_client import is_openai, open_client
from talkpath.agent.reply_metrics import EagerTokens, ReplyMetrics
from talkpath.processors.frames import ReadAheadFrame, ReplyCutFrame
from talkpath.processors.reply_ahead import ReadAhead, SpeakAhead
from talkpath.processors.reply_filler import Filler, ReplyFiller
from talkpath.processors.reply_stream import FAILED, ReplyCut, ReplySource

__all__ = ["Reply"]

_MOST_CALLS = 16
"""Calls of tools for one turn; a model that makes more goes round in circles."""


class Reply(OpenAILLMService):
    """Pipecat's OpenAI service with a caller's patience instead of a program's.

    Tools are registered as with any service of Pipecat's. A tool that raises, takes longer than
    ``reply.tool_s``, does not exist or is called with arguments that are no JSON gives the model
    an error, and the model answers. An interruption cancels a tool that was not registered with
    ``cancel_on_interruption=False``.

    Args:
        endpoint: the server, with its fallback; a local one needs no key.
        config: system message, limits, and what is said when they are exceeded.
        fillers: by a tool's name, what is said while it runs, in place of the settings' filler.
        metrics: what counts along; by default nobody sees it.
    """

    def __init__(
        self,
        endpoint: ReplyEndpoint,
        config: ReplyConfig,
        *,
        fillers: Mapping[str, Filler | str] | None = None,
        metrics: ReplyMetrics | None = None,
    ) -> None:
        self._endpoint = endpoint
        self._config = config
        self._figures = metrics or ReplyMetrics()
        self._source = ReplySource(endpoint, config, self._figures)
        self._eager = EagerReplies(self._figures)
        self._ahead = ReadAhead(self._read_ahead, self.create_task)
        self._voice_ahead = SpeakAhead(self.push_frame)
        default = Filler(config.filler, config.filler_after_s)
        self._filler = ReplyFiller(self._say_filler, default, fillers)
        self._has_words = False
        self._too_long = False
        self._impossible: set[str] = set()
        super().__init__(
            base_url=endpoint.base_url,
            api_key=endpoint.api_key or "none",
            settings=OpenAILLMService.Settings(
                model=endpoint.model, system_instruction=config.prompt
            ),
            function_call_timeout_secs=config.tool_s,
        )
        # Most servers know no other roles than user, assistant, system and tool.
        self.supports_developer_role = is_openai(endpoint)

    @property
    def eager(self) -> EagerTokens:
        """Replies of this session that were begun early, and their tokens."""
        return self._eager.counts

    def create_client(self, *args: Any, **kwargs: Any) -> AsyncOpenAI:
        """Make the client for what is asked out of band (summaries)."""
        return open_client(self._endpoint, self._config.first_word_s)

    async def cleanup(self) -> None:
        """Close the connections."""
        self._filler.stop()
        await self._ahead.stop(self.cancel_task)
        await super().cleanup()  # type: ignore[no-untyped-call]
        await self._source.aclose()
        await self._client.close()

    async def get_chat_completions(self, context: LLMContext) -> AsyncStream[ChatCompletionChunk]:
        """Ask for one reply."""
        await self._ahead.finish()
        chunks = self._chunks(await self._params(context))
        return cast("AsyncStream[ChatCompletionChunk]", chunks)  # the base only iterates

    async def _params(self, context: LLMContext) -> dict[str, Any]:
        given = await self.get_llm_adapter().get_llm_invocation_params(
            context,
            system_instruction=assert_given(self._settings.system_instruction),  # type: ignore[attr-defined]
            convert_developer_to_user=not self.supports_developer_role,
        )
        params: dict[str, Any] = self.build_chat_completion_params(given)
        return params

    async def _read_ahead(self, context: LLMContext) -> None:
        await self._source.servers[0].read(await self._params(context))

    async def _chunks(self, params: Mapping[str, Any]) -> AsyncGenerator[ChatCompletionChunk]:
        """Watch a reply on its way to the base class."""
        tokens = sum(map(token_estimate, params["messages"]))
        self._eager.spent(tokens)
        async with aclosing(self._source.chunks(params)) as chunks:
            async for chunk in chunks:
                before = tokens
                for choice in chunk.choices:
                    self._filler.stop()
                    self._too_long |= choice.finish_reason == "length"
                    if choice.delta.content:
                        self._has_words = True
                        tokens += 1
                        if self._eager.undecided:
                            await self._voice_ahead.take(choice.delta.content)
                    for piece in choice.delta.tool_calls or ():
                        self._check(piece)
                if chunk.usage is not None:  # the server knows better
                    tokens = chunk.usage.total_tokens
                self._eager.spent(tokens - before)
                yield chunk
        if self._eager.undecided:
            await self._voice_ahead.end()

    def _check(self, call: ChoiceDeltaToolCall) -> None:
        """Note a call that cannot be made; the base would drop it, and nobody would answer."""
        assert call.function is not None and call.id is not None
        if not _is_object(call.function.arguments or "{}"):
            self._impossible.add(call.id)
            call.function.arguments = "{}"

    async def _process_context(self, context: LLMContext) -> None:
        """Stream one reply, or apologise."""
        self._has_words = self._too_long = False
        self._impossible.clear()
        await self._voice_ahead.begin()
        if self._config.filler_s and not self._eager.undecided:
            self._filler.wait(self._config.filler, self._config.filler_s)
        try:
            _check_rounds(context)
            await super()._process_context(context)
        except ReplyCut:
            await self.push_frame(ReplyCutFrame())
            await self._apologise("cut", self._config.cut_apology)
            raise
        except Exception:
            await self._apologise("apology", self._config.apology)
            raise
        except asyncio.CancelledError:
            self._filler.stop()
            raise
        if self._too_long:
            await self.push_frame(ReplyCutFrame(broken=False))

    async def _apologise(self, kind: str, text: str) -> None:
        self._filler.stop()
        self._figures.apologies.add(of=kind)
        await self._say(text)

    async def _say_filler(self, text: str) -> None:
        self._figures.fillers.add()
        await self._say(text)

    async def _say(self, text: str) -> None:
        """Speak words that are not the model's: it should not learn to say them."""
        if text:
            await self.push_frame(TTSSpeakFrame(text, append_to_context=False))

    async def push_error(
        self, error_msg: str, exception: Exception | None = None, *args: Any, **kwargs: Any
    ) -> None:
        """Report an error: one of the source's in its own words, which say who failed."""
        notes: Sequence[str] = getattr(exception, "__notes__", ())
        told = (note for note in notes if note.startswith(FAILED))  # a tool's may have others
        await super().push_error(next(told, error_msg), exception, *args, **kwargs)

    async def run_function_calls(self, function_calls: Sequence[FunctionCallFromLLM]) -> None:
        """Run the calls that can be made; the model is told of those that cannot."""
        possible = [c for c in function_calls if c.tool_call_id not in self._impossible]
        impossible = [c for c in function_calls if c.tool_call_id in self._impossible]
        if self._eager.undecided:  # the base withdraws the reply, whatever is called
            possible, impossible = list(function_calls), []
        for number, call in enumerate(impossible, 1):
            await self._refuse(call, run_llm=not possible and number == len(impossible))
        await super().run_function_calls(possible)

    async def _refuse(self, call: FunctionCallFromLLM, *, run_llm: bool) -> None:
        """Answer a call without running it, with the frames of one that ran."""
        described: dict[str, Any] = {
            "function_name": call.function_name,
            "tool_call_id": call.tool_call_id,
            "arguments": {},
        }
        await self.broadcast_frame(FunctionCallsStartedFrame, function_calls=[call])
        await self.broadcast_frame(
            FunctionCallInProgressFrame, **described, cancel_on_interruption=True
        )
        error = f"{call.function_name} was not called: its arguments were no JSON object."
        await self.broadcast_frame(
            FunctionCallResultFrame,
            **described,
            result={"error": error},
            properties=FunctionCallResultProperties(run_llm=run_llm),
        )

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Take note of replies that are begun early, and read ahead."""
        if isinstance(frame, ReadAheadFrame):
            if self._source.servers[0].remembers:
                self._ahead.read(frame.context)
            return
        if isinstance(frame, LLMContextFrame):
            self._eager.begun(early=frame.speculation)
        await super().process_frame(frame, direction)

    async def push_frame(
        self, frame: Frame, direction: FrameDirection = FrameDirection.DOWNSTREAM
    ) -> None:
        """Push a frame; whatever decides about a reply or a tool comes through here."""
        if isinstance(frame, FunctionCallResultFrame) and not frame.result:
            # Pipecat lets the model answer only to what is true: not to an empty list.
            frame.result = frame.result if frame.result is None else {"result": frame.result}
        if direction is FrameDirection.DOWNSTREAM:
            self._watch(frame)
        await super().push_frame(frame, direction)
        if isinstance(frame, FunctionCallCancelFrame) and direction is FrameDirection.DOWNSTREAM:
            await super().push_frame(_cancelled(frame))

    def _watch(self, frame: Frame) -> None:
        if isinstance(frame, UserStartedSpeakingFrame):
            self._eager.turn_started()
        elif isinstance(frame, UserStoppedSpeakingFrame):
            self._eager.turn_ended()
        elif isinstance(frame, (EagerEndOfTurnCancelFrame, InterruptionFrame)):
            self._eager.withdrawn()
            self._filler.stop()
        elif isinstance(frame, FunctionCallInProgressFrame) and frame.cancel_on_interruption:
            self._filler.tool_started(
                frame.tool_call_id, frame.function_name, has_spoken=self._has_words
            )
        elif isinstance(frame, (FunctionCallResultFrame, FunctionCallCancelFrame)):
            self._filler.tool_ended(frame.tool_call_id)


def _cancelled(frame: FunctionCallCancelFrame) -> FunctionCallResultFrame:
    """The same, for one whose start still waits behind speech and would come after its end.

    Pipecat's context then has the call in progress for ever. Where the end was in time, this
    result is of a call that is not running, and changes nothing.
    """
    return FunctionCallResultFrame(
        function_name=frame.function_name,
        tool_call_id=frame.tool_call_id,
        arguments={},
        result="CANCELLED",
        properties=FunctionCallResultProperties(run_llm=frame.run_llm),
    )


def _is_object(arguments: str) -> bool:
    try:
        return isinstance(json.loads(arguments), dict)
    except ValueError:
        return False


def _check_rounds(context: LLMContext) -> None:
    """Stop a model that calls tools for ever.

    Raises:
        RuntimeError: it did so since the caller's last words.
    """
    rounds = 0
    for message in reversed(context.get_messages()):
        if not isinstance(message, dict) or message.get("role") == "user":
            break
        rounds += bool(message.get("tool_calls"))
    if rounds > _MOST_CALLS:
        raise RuntimeError(f"the model called tools {rounds} times without an answer")
