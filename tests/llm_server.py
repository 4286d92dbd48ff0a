"""A language model's server for tests: real HTTP, OpenAI's chat completions, scripted answers.

What is answered is a function of the request::

    def answer(request: Request) -> Answer:
        if tool_results(request):
            return Say("You are booked for ten.")
        if "book" in last_user(request):
            return [Say("One moment."), Call("book", {"time": "10:00"})]
        return Say("Hello there.", first_after_s=0.2, every_s=0.05)

    async with llm_server(answer) as server:
        endpoint = ReplyEndpoint(base_url=server.url, model="any")

``script("One.", Call("book", {}), Say("Two."))`` answers one request after the other. An answer
that is late by design waits for an ``asyncio.Event`` (``Wait``), so a test needs no sleeping;
the function may be a coroutine, too. A request that a strict provider would refuse (a tool's
result without its call, a call without its result, an empty message, roles that do not take turns)
gets status 400.
"""

import asyncio
import contextlib
import inspect
import itertools
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = [
    "Answer",
    "BadJson",
    "Call",
    "Cut",
    "Endless",
    "Garbage",
    "HangUp",
    "LlmServer",
    "NeverAnswers",
    "Part",
    "Request",
    "Say",
    "Status",
    "Wait",
    "last_user",
    "llm_server",
    "refusal",
    "script",
    "tool_results",
]

Request = dict[str, Any]
"""The body of a request to ``/v1/chat/completions``."""


@dataclass(frozen=True, slots=True)
class Say:
    """Text, streamed word by word.

    Attributes:
        text: what is said; an empty one makes an empty reply.
        first_after_s: seconds before the first word.
        every_s: seconds before each further word.
    """

    text: str
    first_after_s: float = 0.0
    every_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a tool; several in one answer are called side by side.

    Attributes:
        name: the tool, which need not exist.
        arguments: its arguments, or a string that is sent as it is and need not be JSON.
        has_id: whether it comes with an id; some servers send none.
    """

    name: str
    arguments: Mapping[str, Any] | str = field(default_factory=dict)
    has_id: bool = True


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing is sent until an event is set, or the client goes away."""

    event: asyncio.Event


@dataclass(frozen=True, slots=True)
class Status:
    """An HTTP error instead of an answer; only as the first part."""

    code: int
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class HangUp:
    """The connection ends without any answer; only as the first part."""


@dataclass(frozen=True, slots=True)
class NeverAnswers:
    """Nothing more until the client goes away.

    Attributes:
        headers: whether headers come, and a comment now and then, as proxies send them.
    """

    headers: bool = True


@dataclass(frozen=True, slots=True)
class Garbage:
    """Bytes that are no event stream, then a proper end."""

    data: bytes = b"\x00\xff\xfe<html>502 Bad Gateway</html>\r\n\r\n\x80garbage\n\n"


@dataclass(frozen=True, slots=True)
class BadJson:
    """An event whose data is no JSON."""

    data: str = '{"id": "x", "choices": [{"delta": {"cont'


@dataclass(frozen=True, slots=True)
class Cut:
    """The connection ends in the middle of the answer: ``[Say("We are op"), Cut()]``."""


@dataclass(frozen=True, slots=True)
class Endless:
    """The same words again and again until the client goes away."""

    text: str = "and so on "
    every_s: float = 0.0


Part = Say | Call | Wait | Status | HangUp | NeverAnswers | Garbage | BadJson | Cut | Endless
Answer = Part | Sequence[Part]
AnswerFunction = Callable[[Request], Answer | Awaitable[Answer]]


def last_user(request: Request) -> str:
    """What the user said last."""
    said = [message for message in request["messages"] if message["role"] == "user"]
    return str(said[-1]["content"]) if said else ""


def tool_results(request: Request) -> list[str]:
    """Results of the tools that were called since the user spoke last, in order."""
    messages = list(
        itertools.takewhile(
            lambda message: message["role"] != "user", reversed(request["messages"])
        )
    )
    return [str(message["content"]) for message in reversed(messages) if message["role"] == "tool"]


def script(*answers: Answer | str) -> Callable[[Request], Answer]:
    """Answer one request after the other; the last answer stays. A string is said."""
    left = list(answers)

    def answer(request: Request) -> Answer:
        part = left.pop(0) if len(left) > 1 else left[0]
        return Say(part) if isinstance(part, str) else part

    return answer


def refusal(messages: Sequence[Mapping[str, Any]], *, alternates: bool = True) -> str | None:
    """Say why a strict provider would refuse a conversation, or None.

    Args:
        messages: the conversation.
        alternates: whether its template wants user and assistant to take turns, user first.
    """
    open_calls: set[str] = set()
    before = ""
    for message in messages:
        role, content = message.get("role"), message.get("content")
        if role not in ("system", "user", "assistant", "tool"):
            return f"there is no role {role!r}"
        if alternates and role == before != "tool":
            return f"two messages of {role} side by side"
        if alternates and role == "assistant" and before in ("", "system"):
            return "the assistant speaks first"
        before = role
        if role == "tool":
            if message.get("tool_call_id") not in open_calls:
                return "a tool's result without its call"
            open_calls.discard(message["tool_call_id"])
            continue
        if open_calls:
            return "a tool's call without its result"
        calls = message.get("tool_calls") or []
        if not calls and not content:
            return f"an empty message of {role}"
        open_calls = {call["id"] for call in calls}
        for call in calls:
            try:
                json.loads(call["function"]["arguments"])
            except ValueError:
                return "arguments that are no JSON"
    return "a tool's call without its result" if open_calls else None


class LlmServer:
    """The running server.

    Attributes:
        url: base URL with ``/v1``.
        models: names of those that it says it has; it answers for any.
        requests: bodies of all requests for replies, as they came.
        keys: the key that came with each, without ``Bearer``, or None.
        refusals: why requests were refused with 400; empty where all was well.
        abandoned: answers whose client went away before their end.
    """

    def __init__(self, answer: AnswerFunction, *, alternates: bool = True) -> None:
        self._alternates = alternates
        self.url = ""
        self.models = ["any"]
        self.requests: list[Request] = []
        self.keys: list[str | None] = []
        self.refusals: list[str] = []
        self.abandoned = 0
        self._answer = answer
        self._errors: list[Exception] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._ids = itertools.count(1)
        self._changed = asyncio.Event()

    async def wait_for_requests(self, count: int) -> None:
        """Wait until so many requests came."""
        while len(self.requests) < count:
            await self._next_change()

    async def wait_for_abandoned(self, count: int) -> None:
        """Wait until so many clients went away before the end of their answer."""
        while self.abandoned < count:
            await self._next_change()

    async def _next_change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._request(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            self.abandoned += 1
            self._changed.set()
        except Exception as error:  # raised where the server was made
            self._errors.append(error)
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        headers = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(":") for line in head.split("\r\n")[1:])
        }
        if head.startswith("GET /v1/models "):
            listed = [{"id": name, "object": "model"} for name in self.models]
            await _send_json(writer, 200, {"object": "list", "data": listed})
            return
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        if not head.startswith("POST /v1/chat/completions "):
            await _send_json(writer, 404, {"error": {"message": "there is nothing here"}})
            return
        request = json.loads(body)
        self.requests.append(request)
        self._changed.set()
        self.keys.append(headers.get("authorization", "").removeprefix("Bearer ") or None)
        reason = refusal(request["messages"], alternates=self._alternates)
        if reason is not None:
            self.refusals.append(reason)
            await _send_json(writer, 400, {"error": {"message": reason}})
            return
        answering = asyncio.ensure_future(self._respond(request, writer))
        # The client sends nothing more on this connection: what comes is its end.
        gone = asyncio.ensure_future(reader.read(1))
        try:
            await asyncio.wait({gone, answering}, return_when=asyncio.FIRST_COMPLETED)
            if not answering.done():
                raise ConnectionResetError
            answering.result()
        finally:
            for task in (gone, answering):
                task.cancel()
            await asyncio.gather(gone, answering, return_exceptions=True)

    async def _respond(self, request: Request, writer: asyncio.StreamWriter) -> None:
        answer = self._answer(request)
        if inspect.isawaitable(answer):
            answer = await answer
        parts = list(answer) if isinstance(answer, Sequence) else [answer]
        first = parts[0] if parts else None
        if isinstance(first, Status):
            extra = {} if first.retry_after_s is None else {"retry-after": f"{first.retry_after_s}"}
            await _send_json(writer, first.code, {"error": {"message": "as you wished"}}, extra)
            return
        if isinstance(first, HangUp):
            return
        if first == NeverAnswers(headers=False):
            await asyncio.Event().wait()
        if request.get("stream"):
            await self._stream(request, parts, writer)
        else:
            await _send_json(writer, 200, self._whole(request, parts))

    async def _stream(
        self, request: Request, parts: Sequence[Part], writer: asyncio.StreamWriter
    ) -> None:
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
            b"transfer-encoding: chunked\r\nconnection: close\r\n\r\n"
        )
        await writer.drain()
        words = calls = 0
        for part in parts:
            if isinstance(part, Cut):
                return
            async for data in self._events(request, part, calls):
                await _send_chunk(writer, data)
                words += 1
            calls += isinstance(part, Call)
        reason = "tool_calls" if calls else "stop"
        await _send_chunk(writer, self._event(request, {}, finish_reason=reason))
        if (request.get("stream_options") or {}).get("include_usage"):
            usage = _usage(request, words)
            await _send_chunk(writer, self._event(request, None, usage=usage))
        await _send_chunk(writer, b"data: [DONE]\n\n")
        writer.write(b"0\r\n\r\n")
        await writer.drain()

    async def _events(self, request: Request, part: Part, index: int) -> AsyncIterator[bytes]:
        if isinstance(part, Say):
            for number, word in enumerate(_words(part.text)):
                await asyncio.sleep(part.every_s if number else part.first_after_s)
                yield self._event(request, {"content": word})
        elif isinstance(part, Call):
            for delta in self._call_deltas(part, index):
                yield self._event(request, {"tool_calls": [delta]})
        elif isinstance(part, Wait):
            await part.event.wait()
        elif isinstance(part, NeverAnswers):
            while True:
                yield b": still there\n\n"
                await asyncio.sleep(0.05)
        elif isinstance(part, Garbage):
            yield part.data
        elif isinstance(part, BadJson):
            yield f"data: {part.data}\n\n".encode()
        elif isinstance(part, Endless):
            for word in itertools.cycle(_words(part.text)):
                await asyncio.sleep(part.every_s)
                yield self._event(request, {"content": word})
        else:
            raise AssertionError(f"{part} can only be the first part")

    def _call_deltas(self, call: Call, index: int) -> Iterator[dict[str, Any]]:
        """A call comes in pieces: its name, then its arguments in two halves."""
        arguments = _arguments(call)
        yield {
            "index": index,
            "id": f"call_{next(self._ids)}" if call.has_id else None,
            "type": "function",
            "function": {"name": call.name, "arguments": ""},
        }
        half = len(arguments) // 2
        for piece in (arguments[:half], arguments[half:]):
            yield {"index": index, "function": {"arguments": piece}}

    def _event(
        self,
        request: Request,
        delta: Mapping[str, Any] | None,
        *,
        finish_reason: str | None = None,
        usage: Mapping[str, int] | None = None,
    ) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        content = {
            "id": f"chatcmpl-{len(self.requests)}",
            "object": "chat.completion.chunk",
            "created": 0,
            "model": request["model"],
            "choices": [] if delta is None else [choice],
            "usage": usage,
        }
        return f"data: {json.dumps(content)}\n\n".encode()

    def _whole(self, request: Request, parts: Sequence[Part]) -> dict[str, Any]:
        """The answer to a request that wants no stream."""
        text = " ".join(part.text for part in parts if isinstance(part, Say))
        calls = [
            {
                "id": f"call_{next(self._ids)}",
                "type": "function",
                "function": {"name": part.name, "arguments": _arguments(part)},
            }
            for part in parts
            if isinstance(part, Call)
        ]
        message = {"role": "assistant", "content": text or None, "tool_calls": calls or None}
        reason = "tool_calls" if calls else "stop"
        return {
            "id": f"chatcmpl-{len(self.requests)}",
            "object": "chat.completion",
            "created": 0,
            "model": request["model"],
            "choices": [{"index": 0, "message": message, "finish_reason": reason}],
            "usage": _usage(request, len(list(_words(text)))),
        }


@contextlib.asynccontextmanager
async def llm_server(
    answer: AnswerFunction, *, port: int = 0, alternates: bool = True
) -> AsyncIterator[LlmServer]:
    """Serve on 127.0.0.1, in this event loop; what ``answer`` raises is raised at the end."""
    server = LlmServer(answer, alternates=alternates)
    listener = await asyncio.start_server(server._connection, "127.0.0.1", port)
    server.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/v1"
    try:
        yield server
    finally:
        listener.close()
        tasks = list(server._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    if server._errors:
        raise server._errors[0]


def _words(text: str) -> list[str]:
    return re.findall(r"\s*\S+(?:\s+$)?", text)


def _arguments(call: Call) -> str:
    return call.arguments if isinstance(call.arguments, str) else json.dumps(call.arguments)


def _usage(request: Request, words: int) -> dict[str, int]:
    """Tokens of this server are words."""
    prompt = sum(len(str(message.get("content")).split()) for message in request["messages"])
    return {"prompt_tokens": prompt, "completion_tokens": words, "total_tokens": prompt + words}


async def _send_chunk(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(b"%x\r\n%s\r\n" % (len(data), data))
    await writer.drain()


async def _send_json(
    writer: asyncio.StreamWriter,
    status: int,
    content: Mapping[str, Any],
    headers: Mapping[str, str] | None = None,
) -> None:
    body = json.dumps(content).encode()
    lines = [
        f"HTTP/1.1 {status} Whatever",
        "content-type: application/json",
        "connection: close",
        f"content-length: {len(body)}",
        *(f"{name}: {value}" for name, value in (headers or {}).items()),
    ]
    writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
    await writer.drain()
