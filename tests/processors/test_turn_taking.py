"""Turn taking in whole calls: barge-in, backchannels, noise, and replies begun early."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
from pipecat.adapters.llm.schemas.tools_schema import ToolsSchema
from pipecat.frames.frames import TTSSpeakFrame
from pipecat.pipeline.worker import PipelineWorker
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.runner.types import RunnerArguments
from pipecat.services.llm_service import FunctionCallParams

from talkpath.agent.audio import FloatArray
from talkpath.bots import assistant
from talkpath.bots.session import greet, make_worker, run_worker
from talkpath.bots.stages import conversation, hearing, speaking, thinking
from talkpath.bots.testing import Caller, call
from talkpath.transports.factory import create_transport
from tests import speech
from tests.llm_server import Call, LlmServer, Request, Say, llm_server, script
from tests.local_models import voice_model

STORY = (
    "Once upon a time there was a small harbour by the sea, with seven boats in it. Every morning "
    "the boats went out, and every evening they came home again, full of silver fish. One day, "
    "however, only six of them came back, and nobody could say where the last one was."
)


@pytest.fixture(autouse=True)
def voice() -> Path:
    return voice_model()


@pytest.fixture
async def server() -> AsyncIterator[LlmServer]:
    def answer(request: Request) -> Say:
        return Say(STORY)

    async with llm_server(answer) as server:
        yield server


def settings(server: LlmServer, profile: str) -> dict[str, object]:
    return {
        "whisper.model": "tiny.en",
        "reply.url": server.url,
        "reply.model": "any",
        "turn.profile": profile,
    }


def noise() -> FloatArray:
    """A burst as of a door: loud, short, no voice."""
    burst = np.random.default_rng(1).normal(0, 0.2, 4_800)
    return (burst * np.linspace(1, 0, 4_800) ** 2).astype(np.float32)


def bare(clip: FloatArray) -> FloatArray:
    """The words without the silence around them."""
    loud = np.nonzero(np.abs(clip) > 0.03)[0]
    return clip[loud[0] : loud[-1]]


def stories(caller: Caller) -> list[str]:
    return [item.text for item in caller.transcript if item.who == "bot"][1:]


async def test_backchannels_and_noise_do_not_stop_a_story_and_words_do(server: LlmServer) -> None:
    async with call(assistant, settings=settings(server, "balanced")) as caller:
        await caller.hears("what can I do")
        await caller.says("Tell me a story about the sea.")
        await caller.hears("Once upon a time")
        await caller.says("Yeah.", over_bot=True)
        await caller.silence(1.5)
        await caller.plays(noise(), over_bot=True)
        await caller.silence(1.5)
        await caller.says("Okay.", over_bot=True)
        await caller.hears("and every evening")
        assert not caller.interruptions
        said = await caller.says("Please stop the story now.", over_bot=True)
        await caller.hears("Once upon a time", within_s=20)  # the answer to that
    first = stories(caller)[0]
    assert STORY.startswith(first) and "every evening" in first and first != STORY
    assert len(caller.interruptions) == 1
    assert caller.silent_after(said.start_s) - said.start_s < 0.5
    # What the model is told that it said is what was heard; backchannels are no turns.
    messages = [
        (message["role"], message["content"])
        for message in server.requests[-1]["messages"]
        if message["role"] in ("user", "assistant")
    ]
    assert [role for role, _ in messages[-4:]] == ["assistant", "user", "assistant", "user"]
    assert messages[-2][1] == first
    assert "stop" in messages[-1][1].lower()


async def test_yes_over_the_last_words_is_an_answer(server: LlmServer) -> None:
    async with call(assistant, settings=settings(server, "balanced")) as caller:
        await caller.hears("what can I")
        await caller.says("Yes.", over_bot=True)
        await caller.hears("Once upon a time")
    asked = server.requests[-1]["messages"][-1]
    assert asked["role"] == "user" and asked["content"].lower().startswith("yes")


async def test_a_reply_begun_early_is_spoken_once_and_one_to_half_a_turn_never(
    server: LlmServer,
) -> None:
    one, other = (bare(speech.clip(name).samples()) for name in ("cards-001", "cards-003"))
    in_one_breath = np.concatenate([one, speech.silence(0.13), other])
    async with call(assistant, settings=settings(server, "snappy")) as caller:
        await caller.hears("what can I do")
        await caller.plays(in_one_breath)
        await caller.hears("Once upon a time")
        await caller.silence(0.5)
        answered = len(stories(caller))
    assert answered == 1
    asked = [request["messages"][-1]["content"] for request in server.requests]
    assert speech.word_error_rate(["ten of clubs seven of clubs"], [asked[-1]]) < 0.5
    # Behind the greeting there is this one turn.
    assert [message["role"] for message in server.requests[-1]["messages"]][-2:] == [
        "assistant",
        "user",
    ]
    (latency,) = caller.timeline
    assert latency.eager_ms is not None


async def test_okay_to_one_moment_please_does_not_cancel_the_tool_that_runs() -> None:
    async def look_up(params: FunctionCallParams) -> None:
        """Look up the opening hours."""
        await asyncio.sleep(6)
        await params.result_callback({"opens": "nine"})

    async def clerk(runner_args: RunnerArguments) -> None:
        transport = await create_transport(runner_args)
        context = await conversation(LLMContext(tools=ToolsSchema([look_up])))
        stages = [
            *await hearing(),
            context.user(),
            *await thinking(),
            await speaking(),
        ]
        pipeline = [transport.input(), *stages, transport.output(), context.assistant()]
        worker = make_worker(runner_args, transport, pipeline)
        greet(transport, worker, "Hello.")
        await run_worker(runner_args, worker)

    answers = script(Call("look_up", {}), Say("We open at nine."))
    async with (
        llm_server(answers) as server,
        call(clerk, settings=settings(server, "balanced")) as caller,
    ):
        await caller.hears("hello")
        await caller.says("When do you open?")
        await caller.hears_turn()  # one moment, please
        await caller.says("Okay.", over_bot=True)
        await caller.hears("open at nine")
    (tool,) = caller.tools
    assert tool.result == {"opens": "nine"}


@pytest.mark.parametrize("profile", ["snappy", "balanced"])
async def test_one_word_over_the_bot_is_answered(server: LlmServer, profile: str) -> None:
    async with call(assistant, settings=settings(server, profile)) as caller:
        await caller.hears("what can I do")
        await caller.says("Tell me a story about the sea.")
        await caller.hears("Once upon a time")
        await caller.says("Stop it.", over_bot=True)
        await caller.hears("Once upon a time", within_s=20)
    assert len(caller.interruptions) == 1
    assert "stop" in server.requests[-1]["messages"][-1]["content"].lower()


async def test_a_bot_that_speaks_in_the_callers_turn_gives_way(server: LlmServer) -> None:
    """A notice comes while the caller thinks in mid-sentence; the caller goes on."""
    workers: list[PipelineWorker] = []

    async def bot(runner_args: RunnerArguments) -> None:
        transport = await create_transport(runner_args)
        context = await conversation(LLMContext(), profile="patient")
        stages = [*await hearing(), context.user(), *await thinking(), await speaking()]
        pipeline = [transport.input(), *stages, transport.output(), context.assistant()]
        workers.append(make_worker(runner_args, transport, pipeline))
        greet(transport, workers[0], "Hello.")
        await run_worker(runner_args, workers[0])

    async with call(bot, settings=settings(server, "auto")) as caller:
        await caller.hears_turn()
        await caller.says("I would like to go to the")
        await caller.silence(0.6)
        await workers[0].queue_frame(TTSSpeakFrame(STORY))
        await caller.hears("Once upon a time")
        said = await caller.says("Please be quiet, I still speak to you.", over_bot=True)
        heard = caller.silent_after(said.start_s, for_s=0.3) - said.start_s
        await caller.hears("Once upon a time", within_s=20)  # the answer to that
    assert heard < 1.0  # half a second of grace
    (asked,) = server.requests
    assert "go to" in asked["messages"][-1]["content"]
    assert "quiet" in asked["messages"][-1]["content"]
