"""Replies from real servers: the local one, one that is not there, one that says no."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from openai import NOT_GIVEN
from pipecat.adapters.llm.services.open_ai_adapter import OpenAILLMInvocationParams
from pipecat.frames.frames import (
    ErrorFrame,
    Frame,
    LLMContextFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMTextFrame,
    TTSSpeakFrame,
)
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.tests.utils import run_test

from talkpath.agent.config import ReplyConfig
from talkpath.agent.reply import ReplyEndpoint, ReplyServer
from talkpath.processors import reply as reply_stage
from talkpath.processors.reply import APOLOGY, Reply
from tests.local_models import reply_model


@pytest.fixture
async def server() -> AsyncIterator[ReplyServer]:
    server = await ReplyServer.start(reply_model(), slots=2, prompt=ReplyConfig().prompt)
    yield server
    server.close()


def ask(text: str) -> LLMContextFrame:
    return LLMContextFrame(LLMContext([{"role": "user", "content": text}]))


async def answer(
    endpoint: ReplyEndpoint, *questions: str, config: ReplyConfig | None = None
) -> tuple[Sequence[Frame], Sequence[Frame]]:
    reply = Reply(endpoint, config or ReplyConfig())
    return await run_test(reply, frames_to_send=[ask(question) for question in questions])


def text_of(frames: Sequence[Frame]) -> str:
    return "".join(frame.text for frame in frames if isinstance(frame, LLMTextFrame))


async def test_the_local_model_answers(server: ReplyServer) -> None:
    down, up = await answer(server.endpoint, "What is the capital of France?")
    kinds = [type(frame) for frame in down]
    start, end = kinds.index(LLMFullResponseStartFrame), kinds.index(LLMFullResponseEndFrame)
    assert LLMTextFrame in kinds[start:end]
    assert text_of(down).strip()
    assert not [frame for frame in up if isinstance(frame, ErrorFrame)]


async def test_a_reply_is_no_longer_than_the_setting(server: ReplyServer) -> None:
    question = "Tell me a long story about a dog."
    down, _ = await answer(server.endpoint, question, config=ReplyConfig(max_tokens=5))
    assert 0 < len([frame for frame in down if isinstance(frame, LLMTextFrame)]) <= 5


def conversation(turns: int) -> LLMContext:
    words = "I went down to the harbour and looked at the ships for an hour."
    context = LLMContext([{"role": "assistant", "content": "Hello!"}])
    for number in range(turns):
        context.add_message({"role": "user", "content": f"{number}. {words}"})
        context.add_message({"role": "assistant", "content": f"That is nice. {words}"})
    context.add_message({"role": "user", "content": "What is the capital of France?"})
    return context


async def test_a_conversation_longer_than_the_server_takes_gets_an_answer(
    server: ReplyServer,
) -> None:
    context = conversation(100)
    before = list(context.get_messages())
    frame = LLMContextFrame(context)
    down, up = await run_test(Reply(server.endpoint, ReplyConfig()), frames_to_send=[frame])
    assert text_of(down).strip()
    assert not [frame for frame in up if isinstance(frame, ErrorFrame)]
    assert context.get_messages() == before


def sent(reply: Reply, messages: list[Any]) -> list[Any]:
    messages = [{"role": "system", "content": "Be brief."}, *messages]
    params = reply.build_chat_completion_params(
        OpenAILLMInvocationParams(messages=messages, tools=NOT_GIVEN, tool_choice=NOT_GIVEN)
    )
    kept: list[Any] = params["messages"]
    assert kept[0] == messages[0]
    return kept[1:]


def endpoint_with(context_tokens: int | None) -> ReplyEndpoint:
    url = "http://127.0.0.1:9/v1"
    return ReplyEndpoint(base_url=url, model="any", context_tokens=context_tokens)


def test_whole_turns_are_left_out_and_seldom() -> None:
    reply = Reply(endpoint_with(2048), ReplyConfig())
    short = conversation(5).get_messages()
    assert sent(reply, short) == short
    firsts = []
    for turns in range(100):
        messages = conversation(turns).get_messages()
        kept = sent(reply, messages)
        assert kept == messages[-len(kept) :]
        assert kept[0]["role"] == ("assistant" if len(kept) == len(messages) else "user")
        firsts.append(len(messages) - len(kept))
    assert firsts == sorted(firsts)
    assert 2 <= len(set(firsts)) < 15


def test_a_tools_result_goes_with_its_call_and_the_newest_message_stays() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "clock", "arguments": "{}"}}
    turn = [
        {"role": "user", "content": "What time is it? " * 40},
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": "noon"},
    ]
    newest = {"role": "user", "content": "And now? " * 1000}
    reply = Reply(endpoint_with(600), ReplyConfig(max_tokens=100))
    assert sent(reply, [*turn, *turn, *turn]) == turn
    assert sent(reply, [*turn, newest]) == [newest]


def test_another_server_gets_everything() -> None:
    messages = conversation(100).get_messages()
    assert sent(Reply(endpoint_with(None), ReplyConfig()), messages) == messages


@pytest.mark.parametrize("proxy", ["HTTP_PROXY", "ALL_PROXY"])
async def test_no_proxy_stands_between_a_bot_and_its_own_machine(
    server: ReplyServer, proxy: str, monkeypatch: pytest.MonkeyPatch, free_port: int
) -> None:
    monkeypatch.setenv(proxy, f"http://127.0.0.1:{free_port}")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    down, _ = await answer(server.endpoint, "What is the capital of France?")
    assert text_of(down)


def check_apology(down: Sequence[Frame], up: Sequence[Frame]) -> None:
    assert [frame for frame in up if isinstance(frame, ErrorFrame)]
    spoken = [frame for frame in down if isinstance(frame, TTSSpeakFrame)]
    assert [frame.text for frame in spoken] == [APOLOGY]
    # It is no answer of the model's, and the model should not learn to give it.
    assert spoken[0].append_to_context is False


async def test_a_server_that_is_not_there_is_reported_and_the_caller_told(free_port: int) -> None:
    endpoint = ReplyEndpoint(base_url=f"http://127.0.0.1:{free_port}/v1", model="any")
    check_apology(*await answer(endpoint, "Hello?"))


async def test_a_wrong_key_is_reported_and_the_caller_told(server: ReplyServer) -> None:
    good = server.endpoint
    endpoint = ReplyEndpoint(base_url=good.base_url, api_key="wrong", model=good.model)
    check_apology(*await answer(endpoint, "Hello?"))


@pytest.mark.parametrize("headers", [b"", b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"])
async def test_a_server_that_says_nothing_is_asked_once_and_the_caller_told(
    monkeypatch: pytest.MonkeyPatch, headers: bytes
) -> None:
    monkeypatch.setattr(reply_stage, "_SILENCE_TIMEOUT_S", 0.5)
    requests = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal requests
        await reader.readuntil(b"\r\n\r\n")
        requests += 1
        writer.write(headers)
        with contextlib.suppress(ConnectionError):
            while not writer.is_closing() and not reader.at_eof():
                if headers:
                    writer.write(b": still there\n\n")  # a comment, as proxies send them
                await writer.drain()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(reader.read(65536), 0.1)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as web:
        port = web.sockets[0].getsockname()[1]
        endpoint = ReplyEndpoint(base_url=f"http://127.0.0.1:{port}/v1", model="any")
        check_apology(*await answer(endpoint, "Hello?"))
    assert requests == 1


async def test_a_key_from_the_environment_goes_to_no_other_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    heard = asyncio.get_running_loop().create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not heard.done():
            heard.set_result(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    listener = socket.create_server(("127.0.0.1", 0))
    async with await asyncio.start_server(serve, sock=listener) as web:
        port = listener.getsockname()[1]
        endpoint = ReplyEndpoint(base_url=f"http://127.0.0.1:{port}/v1", model="any")
        check_apology(*await answer(endpoint, "Hello?"))
        web.close()
    assert b"secret" not in await heard
    assert b"POST /v1/chat/completions" in await heard


@pytest.mark.parametrize(
    ("base_url", "name", "other"),
    [
        ("https://api.openai.com/v1", "max_completion_tokens", "max_tokens"),
        ("https://example.org/v1", "max_tokens", "max_completion_tokens"),
    ],
)
def test_the_longest_reply_goes_by_the_name_that_the_server_knows(
    base_url: str, name: str, other: str
) -> None:
    endpoint = ReplyEndpoint(base_url=base_url, api_key="k", model="any")
    reply = Reply(endpoint, ReplyConfig(max_tokens=7))
    params = reply.build_chat_completion_params(
        OpenAILLMInvocationParams(messages=[], tools=NOT_GIVEN, tool_choice=NOT_GIVEN)
    )
    assert params[name] == 7
    assert not isinstance(params.get(other), int)
