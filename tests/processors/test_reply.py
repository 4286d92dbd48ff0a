"""Replies from the local model, and what the stage asks of any server."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
from pipecat.frames.frames import (
    ErrorFrame,
    Frame,
    LLMContextFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMTextFrame,
)
from pipecat.processors.aggregators.llm_context import LLMContext

from talkpath.agent.config import ReplyConfig
from talkpath.agent.reply import ReplyEndpoint, ReplyServer
from talkpath.agent.reply_metrics import ReplyMetrics
from talkpath.processors.reply import Reply
from talkpath.processors.reply_stream import ReplySource
from tests.llm_server import Say, Wait, llm_server, script
from tests.local_models import reply_model
from tests.processors.replying import PATIENT, replying
from tests.processors.sending import run_test


@pytest.fixture
async def server() -> AsyncIterator[ReplyServer]:
    server = await ReplyServer.start(reply_model(), slots=2, prompt=ReplyConfig().prompt)
    yield server
    server.close()


def text_of(frames: Sequence[Frame]) -> str:
    return "".join(frame.text for frame in frames if isinstance(frame, LLMTextFrame))


async def test_the_local_model_answers_a_conversation_that_is_too_long_for_it(
    server: ReplyServer,
) -> None:
    context = LLMContext([{"role": "user", "content": "What is the capital of France?"}])
    words = "I went down to the harbour and looked at the ships for an hour."
    long = LLMContext([{"role": "assistant", "content": "Hello!"}])
    for number in range(100):
        long.add_message({"role": "user", "content": f"{number}. {words}"})
        long.add_message({"role": "assistant", "content": f"That is nice. {words}"})
    long.add_message({"role": "user", "content": "What is the capital of France?"})
    before = list(long.get_messages())
    for asked in (context, long):
        frame = LLMContextFrame(asked)
        reply = Reply(server.endpoint, ReplyConfig(first_word_s=60))
        down, up = await run_test(reply, frames_to_send=[frame])
        kinds = [type(frame) for frame in down]
        start, end = kinds.index(LLMFullResponseStartFrame), kinds.index(LLMFullResponseEndFrame)
        assert LLMTextFrame in kinds[start:end]
        assert text_of(down).strip()
        assert not [frame for frame in up if isinstance(frame, ErrorFrame)]
    assert list(long.get_messages()) == before


async def test_a_local_reply_is_no_longer_than_the_setting(server: ReplyServer) -> None:
    question = LLMContext([{"role": "user", "content": "Tell me a long story about a dog."}])
    reply = Reply(server.endpoint, ReplyConfig(max_tokens=5, first_word_s=60))
    down, _ = await run_test(reply, frames_to_send=[LLMContextFrame(question)])
    assert 0 < len([frame for frame in down if isinstance(frame, LLMTextFrame)]) <= 5


async def test_a_request_is_streamed_and_has_prompt_model_and_longest_reply() -> None:
    config = replace(PATIENT, prompt="Be brief.", max_tokens=7)
    async with llm_server(script("All is well.")) as server:
        async with replying(server.url, config) as talk:
            await talk.ask("Hello?")
        request = server.requests[0]
    assert request["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello?"},
    ]
    assert (request["model"], request["max_tokens"], request["stream"]) == ("one", 7, True)
    assert "max_completion_tokens" not in request


async def test_a_strict_server_answers_though_roles_did_not_take_turns() -> None:
    said = [
        ("assistant", "Hello."),
        ("assistant", "Are you still there?"),
        ("user", "Yes."),
        ("user", "Hello?"),
    ]
    context = LLMContext([{"role": role, "content": text} for role, text in said])  # type: ignore[misc]
    async with llm_server(script("All is well.")) as server:
        reply = Reply(ReplyEndpoint(base_url=server.url, model="any"), PATIENT)
        down, _ = await run_test(reply, frames_to_send=[LLMContextFrame(context)])
        assert text_of(down) == "All is well."
        assert not server.refusals
    assert len(context.get_messages()) == len(said), "the conversation itself stays as it was"


async def test_what_a_model_thinks_is_not_spoken() -> None:
    thoughtful = Say("<think> The caller says hello. </think> All is well.")
    async with llm_server(script(thoughtful)) as server:
        async with replying(server.url) as talk:
            assert await talk.ask("Hello?") == ["All is well."]


def test_openai_itself_is_told_the_longest_reply_by_its_newer_name() -> None:
    params: dict[str, Any] = {"messages": [], "max_tokens": 1}
    for host, name, other in (
        ("api.openai.com", "max_completion_tokens", "max_tokens"),
        ("example.org", "max_tokens", "max_completion_tokens"),
    ):
        endpoint = ReplyEndpoint(base_url=f"https://{host}/v1", api_key="k", model="any")
        source = ReplySource(endpoint, ReplyConfig(max_tokens=7), ReplyMetrics())
        fitted = source.servers[0].fitted(params)
        assert fitted[name] == 7
        assert other not in fitted


async def test_the_first_sentence_is_spoken_before_the_reply_is_whole() -> None:
    go_on = asyncio.Event()
    first, more, rest = Say("Well, as you know, we"), Say(" are open. Come"), Say(" at nine.")
    async with llm_server(script([first, Wait(go_on), more, rest])) as server:
        async with replying(server.url) as talk:
            await talk.say("Hello?")
            await talk.hear("Well, as you know,")
            go_on.set()
            await talk.hear("Come at nine.")
            assert talk.spoken == ["Well, as you know,", "we are open.", "Come at nine."]
