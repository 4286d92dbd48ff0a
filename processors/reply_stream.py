"""The words of one reply, from a server that may fail: asked again, or another one asked.

``ReplySource`` gives OpenAI's chunks as they come, and none that a caller should not hear. Until
the first word, whatever goes wrong costs the caller only time, of which there is a limit:

1. A server that cannot be reached, is busy or answers with nothing is asked once more.
2. Then, or at half of the time, the fallback is asked, likewise.
3. Then the last error is raised.

Once a word was given, nothing is asked again: what goes wrong raises ``ReplyCut``.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import uuid4

from loguru import logger
from openai import (
    APIConnectionError,
    APIError,
    APIStatusError,
    APITimeoutError,
)
from openai.types.chat import ChatCompletionChunk
from openai.types.chat.chat_completion_chunk import (
    Choice,
    ChoiceDelta,
    ChoiceDeltaToolCall,
    ChoiceDeltaToolCallFunction,
)

from talkpath.agent.config import ReplyConfig
from talkpath.agent.plain_dialogue import plain_dialogue
from talkpath.agent.recent_turns import RecentTurns, token_estimate
from talkpath.agent.reply import ReplyEndpoint
from talkpath.agent.reply_client import host_of, is_openai, open_client
from talkpath.agent.reply_metrics import ReplyMetrics
from talkpath.agent.thoughts import WithoutThoughts

__all__ = [
    "FAILED",
    "EmptyReply",
    "ReplyCut",
    "ReplyHost",
    "ReplySource",
    "reason_of",
]

FAILED = "The language model at "
"""How a note begins that says which server failed."""

_PAUSE_S = 0.2
"""Before a server is asked again: one that restarts, or drops a connection, needs a moment."""
_LONGEST_PAUSE_S = 1.0
"""A server that wants a longer pause is left for the fallback."""
_AVOID_S = 30.0
"""A server that failed is asked after the fallback for so long: no caller pays for it twice."""
_CHARACTERS_PER_TOKEN = 16
"""More than any language has; who sends more does not keep to the longest reply."""


class EmptyReply(Exception):
    """The server answered with neither a word nor a call: nothing, or no event stream."""


class ReplyCut(Exception):
    """The reply broke off after its first word."""


def reason_of(error: BaseException) -> str:
    """A failure in one word, for metrics: timeout, unreachable, status, garbage, empty or error."""
    if isinstance(error, ReplyCut) and error.__cause__ is not None:
        error = error.__cause__
    for kinds, reason in _REASONS:
        if isinstance(error, kinds):
            return reason
    return "error"


_REASONS: tuple[tuple[tuple[type[BaseException], ...], str], ...] = (
    ((TimeoutError, APITimeoutError), "timeout"),
    ((APIStatusError,), "status"),
    ((APIConnectionError,), "unreachable"),
    ((EmptyReply,), "empty"),
    ((ValueError, APIError), "garbage"),  # no UTF-8, no JSON, or an error in the stream
)


class ReplySource:
    """Asks servers in turn until one of them speaks.

    Args:
        endpoint: the first server and its fallbacks.
        config: limits.
        metrics: what counts requests and failures.

    Attributes:
        servers: the first and its fallbacks.
    """

    def __init__(self, endpoint: ReplyEndpoint, config: ReplyConfig, metrics: ReplyMetrics) -> None:
        self._config = config
        self._metrics = metrics
        self.servers: list[ReplyHost] = []
        following: ReplyEndpoint | None = endpoint
        while following is not None:
            self.servers.append(ReplyHost(following, config))
            following = following.fallback

    async def aclose(self) -> None:
        """Close the connections."""
        for server in self.servers:
            await server.client.close()

    async def chunks(self, params: Mapping[str, Any]) -> AsyncGenerator[ChatCompletionChunk]:
        """Stream one reply.

        Args:
            params: a request for the first server; others get it with what differs for them.

        Yields:
            Chunks with text, then one chunk for each whole call of a tool.

        Raises:
            ReplyCut: it broke off after the first word.
            Exception: there is no first word; what the last server's client raised. Either has
                a note that says which server failed.
        """
        now = asyncio.get_running_loop().time
        began = now()
        error: Exception = EmptyReply("no server was asked")
        # Whoever failed of late comes last.
        servers = sorted(self.servers, key=lambda server: server.avoid_until > began)
        for number, server in enumerate(servers, 1):
            until = began + self._config.first_word_s * number / len(servers)
            for again in (True, False):
                self._metrics.requests.add(of="first" if server is self.servers[0] else "fallback")
                try:
                    async with aclosing(server.reply(params, until)) as reply:
                        async for chunk in reply:
                            yield chunk
                    return
                except Exception as failure:  # a broken server makes its client raise anything
                    self._metrics.failures.add(of=reason_of(failure))
                    failure.add_note(f"{FAILED}{server.name} failed: {failure}")
                    if isinstance(failure, ReplyCut):
                        raise
                    error = failure
                pause = _pause_before_retry(error) if again else None
                if pause is None or now() + pause >= until:
                    break
                _log(error)
                await asyncio.sleep(pause)
            server.avoid_until = now() + _AVOID_S
            if number < len(servers):  # the last one's error is raised, and logged then
                _log(error)
        raise error


def _log(error: Exception) -> None:
    """Warn of what the caller does not notice yet: by the note, which names the server."""
    logger.warning("{}", error.__notes__[-1])


class ReplyHost:
    """One server: what it is asked, and what it answers."""

    def __init__(self, endpoint: ReplyEndpoint, config: ReplyConfig) -> None:
        self.client = open_client(endpoint, config.first_word_s)
        self.name = host_of(endpoint.base_url)
        self.avoid_until = 0.0
        self._endpoint = endpoint
        self._config = config
        tokens = endpoint.context_tokens
        self._recent = RecentTurns(None if tokens is None else tokens - config.max_tokens)

    def fitted(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Make a request this server's own."""
        # OpenAI itself refuses the older name for its newer models; most others know no other.
        names = ["max_tokens", "max_completion_tokens"]
        wanted = names.pop(is_openai(self._endpoint))
        tools = token_estimate(params["tools"]) if params.get("tools") else 0
        return {
            **{name: value for name, value in params.items() if name not in names},
            wanted: self._config.max_tokens,
            "model": self._endpoint.model,
            "messages": plain_dialogue(self._recent.of(params["messages"], beside=tools)),
        }

    @property
    def remembers(self) -> bool:
        """Whether it pays to let it read a conversation before the reply is due."""
        return self._endpoint.remembers

    async def read(self, params: Mapping[str, Any]) -> None:
        """Let it read a conversation, without a reply worth the name."""
        request = self.fitted(params)
        request.pop("stream_options", None)
        limit = "max_completion_tokens" if is_openai(self._endpoint) else "max_tokens"
        await self.client.chat.completions.create(**request | {"stream": False, limit: 1})

    async def reply(
        self, params: Mapping[str, Any], until: float
    ) -> AsyncGenerator[ChatCompletionChunk]:
        """Ask once. ``until`` is the loop's time at which the first word has to be there."""
        answer = _Answer(self._config.max_tokens * _CHARACTERS_PER_TOKEN)
        loop = asyncio.get_running_loop()
        try:
            request = self.client.chat.completions.create(**self.fitted(params))
            async with await _in_time(request, until) as stream:
                while (chunk := await _in_time(anext(stream, None), until)) is not None:
                    before = answer.progress
                    if answer.take(chunk):
                        yield chunk
                    if answer.is_endless:
                        yield answer.end()
                        return
                    # The patience is for words, whatever the server sends meanwhile.
                    if answer.progress > before:
                        until = loop.time() + self._config.silence_s
            for chunk in answer.finished():
                yield chunk
        except Exception as error:
            if answer.words:
                raise ReplyCut(f"the reply broke off: {error}") from error
            raise


_T = TypeVar("_T")


async def _in_time(awaited: Awaitable[_T], until: float) -> _T:
    try:
        async with asyncio.timeout_at(until):
            return await awaited
    except TimeoutError:
        raise TimeoutError("no word came in time") from None


@dataclass(slots=True)
class _Call:
    id: str = ""
    name: str = ""
    arguments: str = ""


class _Answer:
    """What has come of an answer so far.

    Attributes:
        words: the text.
        progress: characters of text and calls.
    """

    def __init__(self, most_characters: int) -> None:
        self.words = ""
        self.progress = 0
        self._most = most_characters
        self._calls: dict[tuple[int, str], _Call] = {}
        self._thoughts = WithoutThoughts()
        self._finish: str | None = None
        self._last: ChatCompletionChunk | None = None

    @property
    def is_endless(self) -> bool:
        """Whether it is longer than any reply that keeps to its limit."""
        return self.progress > self._most

    def take(self, chunk: ChatCompletionChunk) -> bool:
        """Take a chunk; say whether it goes on at once. Calls wait until they are whole."""
        if not chunk.choices:
            return chunk.usage is not None
        self._last = chunk
        choice = chunk.choices[0]
        self._finish = choice.finish_reason or self._finish
        delta = choice.delta
        if not delta:
            return False
        for piece in delta.tool_calls or ():
            self._take_call(piece)
        delta.tool_calls = None
        text = self._thoughts.take(delta.content or "")
        if choice.finish_reason is not None:
            text += self._thoughts.end()
        delta.content = text or None
        if not self.words and not text.strip():
            return False  # an empty line before the first word is no word
        self.words += text
        self.progress += len(text)
        return bool(text) or choice.finish_reason is not None

    def _take_call(self, piece: ChoiceDeltaToolCall) -> None:
        # Some servers number all calls 0 and tell them apart by their id alone.
        known = [key for key in self._calls if key[0] == piece.index]
        key = (piece.index, piece.id or "")
        if known and key[1] in ("", known[-1][1]):
            key = known[-1]
        call = self._calls.setdefault(key, _Call(id=piece.id or f"call_{uuid4().hex}"))
        if piece.function is not None:
            call.name += piece.function.name or ""
            call.arguments += piece.function.arguments or ""
            self.progress += len(piece.function.name or "") + len(piece.function.arguments or "")

    def end(self) -> ChatCompletionChunk:
        """The end of an endless one: like any that is cut at its longest."""
        if not self.words:
            raise ValueError("the call of a tool has no end")
        return self._chunk(ChoiceDelta(), "length")

    def finished(self) -> Sequence[ChatCompletionChunk]:
        """Check what is there at the end of the stream; give the calls.

        Raises:
            EmptyReply: nothing is there.
            ValueError: a call without a name, or the end came too early.
        """
        if self._finish is None and (self._calls or self.words.rstrip()[-1:] not in (*".!?", "")):
            raise ValueError("the stream ended without an end")
        calls = list(self._calls.values())
        if not all(call.name for call in calls):
            raise ValueError("the call of a tool without its name")
        if not calls and not self.words:
            raise EmptyReply("the answer is empty")
        return [self._call_chunk(number, call) for number, call in enumerate(calls)]

    def _call_chunk(self, number: int, call: _Call) -> ChatCompletionChunk:
        function = ChoiceDeltaToolCallFunction(name=call.name, arguments=call.arguments)
        piece = ChoiceDeltaToolCall(index=number, id=call.id, function=function, type="function")
        return self._chunk(ChoiceDelta(tool_calls=[piece]), None)

    def _chunk(self, delta: ChoiceDelta, finish: Any) -> ChatCompletionChunk:
        assert self._last is not None
        choice = Choice(index=0, delta=delta, finish_reason=finish)
        return self._last.model_copy(update={"choices": [choice], "usage": None})


def _pause_before_retry(error: Exception) -> float | None:
    """Seconds after which the same server is worth a second request; None if it is not."""
    if isinstance(error, (TimeoutError, APITimeoutError)):
        return None  # a slow server would be slow again
    if isinstance(error, APIStatusError):
        if error.status_code not in (408, 409, 429) and error.status_code < 500:
            return None
        pause = _seconds(error.response.headers.get("retry-after"))
        return pause if pause <= _LONGEST_PAUSE_S else None
    return _PAUSE_S


def _seconds(retry_after: str | None) -> float:
    try:
        return max(0.0, float(retry_after)) if retry_after is not None else _PAUSE_S
    except ValueError:  # a date
        return 2 * _LONGEST_PAUSE_S
