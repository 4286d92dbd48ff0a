"""Tools: they run, take their time, fail, are cancelled, and the caller always hears something."""

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest
from pipecat.adapters.llm.schemas.function_schema import FunctionSchema
from pipecat.frames.frames import (
    EagerTranscriptionFrame,
    ProposedUserStartedSpeakingFrame,
    ProposedUserStoppedSpeakingFrame,
    TranscriptionFrame,
)
from pipecat.processors.aggregators.llm_response_universal import LLMUserAggregatorParams
from pipecat.services.llm_service import FunctionCallParams
from pipecat.turns.user_turn_strategies import EagerUserTurnStrategies

from talkpath.agent.reply import ReplyEndpoint
from talkpath.processors.reply import Reply
from talkpath.processors.reply_filler import Filler
from tests.llm_server import Answer, Call, Cut, Request, Say, llm_server, script, tool_results
from tests.processors.replying import PATIENT, replying, talking


class Desk:
    """Tools of a bot: ``book`` does as it is told."""

    def __init__(self, result: Any = "booked") -> None:
        self.booked: list[Any] = []
        self.begun = asyncio.Event()
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.cancelled = False
        self.result = result

    async def book(self, params: FunctionCallParams) -> None:
        self.begun.set()
        try:
            await self.go_on.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        if isinstance(self.result, Exception):
            raise self.result
        self.booked.append(dict(params.arguments))
        await params.result_callback(self.result)

    @property
    def tools(self) -> list[FunctionSchema]:
        return [
            FunctionSchema(
                "book", "Book a table.", {"time": {"type": "string"}}, ["time"], self.book
            )
        ]


BOOK = Call("book", {"time": "ten"})


def told(request: Request) -> Answer:
    """Call the tool, then say what it gave."""
    results = tool_results(request)
    return Say(f"I got {results[-1]} there.") if results else BOOK


async def test_a_tool_runs_and_its_result_is_spoken() -> None:
    desk = Desk()
    async with llm_server(told) as server:
        async with replying(server.url, tools=desk.tools) as talk:
            await talk.say("A table at ten!")
            await talk.until(lambda: len(talk.messages) == 4)
            assert desk.booked == [{"time": "ten"}]
            assert talk.spoken == ['I got "booked" there.']
            roles = [message["role"] for message in talk.messages]
            assert roles == ["user", "assistant", "tool", "assistant"]
        assert server.requests[0]["tools"][0]["function"]["name"] == "book"
        assert not server.refusals


async def test_several_calls_in_one_answer_run_and_are_answered_once() -> None:
    desk = Desk()

    def answer(request: Request) -> Answer:
        if results := tool_results(request):
            return Say(f"{len(results)} tables.")
        return [Call("book", {"time": "ten"}), Call("book", {"time": "noon"})]

    async with llm_server(answer) as server:
        async with replying(server.url, tools=desk.tools) as talk:
            await talk.say("Two tables!")
            await talk.hear("2 tables.")
        assert desk.booked == [{"time": "ten"}, {"time": "noon"}]
        assert len(server.requests) == 2
        assert not server.refusals


async def test_calls_without_an_id_keep_their_results_apart() -> None:
    desk = Desk()
    answers: list[Answer | str] = [
        Call("book", {"time": "ten"}, has_id=False),
        "Ten it is.",
        Call("book", {"time": "noon"}, has_id=False),
        "Noon it is.",
    ]
    async with llm_server(script(*answers)) as server:
        async with replying(server.url, tools=desk.tools) as talk:
            for time in ("Ten", "Noon"):
                desk.result = f"booked for {time}"
                await talk.say(f"{time}, please.")
                await talk.hear(f"{time} it is.")
        results = [m for m in server.requests[-1]["messages"] if m["role"] == "tool"]
        assert [json.loads(each["content"]) for each in results] == [
            "booked for Ten",
            "booked for Noon",
        ]
        assert len({each["tool_call_id"] for each in results}) == 2
        assert not server.refusals


@pytest.mark.parametrize("result", [[], {}, False, 0, ""], ids=repr)
async def test_an_empty_result_is_one_and_gets_an_answer(result: Any) -> None:
    desk = Desk(result)
    async with llm_server(told) as server:
        async with replying(server.url, tools=desk.tools) as talk:
            await talk.say("A table at ten!")
            await talk.until(lambda: bool(talk.spoken))
        assert json.loads(tool_results(server.requests[-1])[-1]) == {"result": result}


@pytest.mark.parametrize(
    ("fillers", "heard"),
    [
        ({}, "One moment, please."),
        ({"book": "Let me look."}, "Let me look."),
        ({"book": Filler("Just now.", after_s=0.05)}, "Just now."),
    ],
    ids=str,
)
async def test_a_filler_is_said_while_a_tool_takes_its_time(
    fillers: dict[str, str | Filler], heard: str
) -> None:
    desk = Desk()
    desk.go_on.clear()
    config = replace(PATIENT, filler_after_s=0.1)
    async with llm_server(told) as server:
        async with replying(server.url, config, tools=desk.tools, fillers=fillers) as talk:
            await talk.say("A table at ten!")
            await talk.hear(heard)
            desk.go_on.set()
            await talk.hear('I got "booked" there.')
            assert len(talk.spoken) == 2
            await talk.until(lambda: talk.messages[-1]["role"] == "assistant")
            assert heard not in str(talk.messages)
        assert not server.refusals


async def test_an_interruption_cancels_the_tool_and_leaves_a_valid_conversation() -> None:
    desk = Desk()
    desk.go_on.clear()
    config = replace(PATIENT, filler_after_s=0)
    answers = script([Say("Let me see."), BOOK], "Never mind then.")
    async with llm_server(answers) as server:
        async with replying(server.url, config, tools=desk.tools) as talk:
            await talk.say("A table at ten!")
            await desk.begun.wait()
            await talk.interrupt()
            await talk.until(lambda: desk.cancelled)
            assert await talk.ask("No, wait.") == ["Never mind then."]
            assert desk.booked == []
        assert not server.refusals
        assert "IN_PROGRESS" not in str(server.requests[-1]["messages"])


async def test_a_tool_that_is_cancelled_before_its_words_were_spoken_is_not_in_progress() -> None:
    desk = Desk()
    desk.go_on.clear()
    answers = script([Say("Let me see."), BOOK], "Never mind then.")
    async with llm_server(answers) as server:
        async with replying(server.url, tools=desk.tools) as talk:
            talk.speak_on()
            await talk.say("A table at ten!")
            await desk.begun.wait()
            await talk.interrupt()
            await talk.until(lambda: "CANCELLED" in str(talk.messages[-1]))
            assert await talk.ask("No, wait.") == ["Never mind then."]
        assert not server.refusals


async def test_a_tool_that_fails_is_told_to_the_model_and_the_caller_hears_its_words() -> None:
    desk = Desk(RuntimeError("no ink"))
    async with llm_server(told) as server:
        async with replying(server.url, tools=desk.tools) as talk:
            await talk.say("A table at ten!")
            await talk.until(lambda: " ".join(talk.spoken).endswith("there."))
            heard = " ".join(talk.spoken)
            assert "failed" in heard
            assert "ink" not in heard
            assert PATIENT.apology not in heard, "the model's words are the apology"
        assert not server.refusals


async def test_a_tool_that_takes_too_long_is_cancelled_and_told_to_the_model() -> None:
    desk = Desk()
    desk.go_on.clear()
    config = replace(PATIENT, tool_s=0.2)
    async with llm_server(told) as server:
        async with replying(server.url, config, tools=desk.tools) as talk:
            await talk.say("A table at ten!")
            await talk.hear("I got CANCELLED there.")
            assert desk.cancelled
        assert not server.refusals


@pytest.mark.parametrize(
    ("call", "told_of"),
    [
        (Call("sing", {"song": "any"}), "not currently available"),
        (Call("book", '{"time": "te'), "arguments were no JSON object"),
        (Call("book", "ten"), "arguments were no JSON object"),
        (Call("book", '["ten"]'), "arguments were no JSON object"),
    ],
    ids=str,
)
async def test_a_call_that_cannot_be_made_is_told_to_the_model(call: Call, told_of: str) -> None:
    desk = Desk()

    def answer(request: Request) -> Answer:
        results = tool_results(request)
        return Say("That went wrong.") if results else call

    async with llm_server(answer) as server:
        async with replying(server.url, tools=desk.tools) as talk:
            await talk.say("A table at ten!")
            await talk.hear("That went wrong.")
            assert desk.booked == []
        assert told_of in tool_results(server.requests[-1])[-1]
        assert not server.refusals


async def test_a_call_that_is_cut_off_is_asked_for_again_and_never_made_by_half() -> None:
    desk = Desk()
    async with llm_server(script([BOOK, Cut()], BOOK, "It is done.")) as server:
        async with replying(server.url, tools=desk.tools) as talk:
            await talk.say("A table at ten!")
            await talk.hear("It is done.")
        assert desk.booked == [{"time": "ten"}]


async def test_a_model_that_calls_tools_for_ever_is_stopped_with_an_apology() -> None:
    desk = Desk()
    async with llm_server(script(BOOK)) as server:
        async with replying(server.url, tools=desk.tools) as talk:
            await talk.say("A table at ten!")
            await talk.hear(PATIENT.apology)
        assert 10 < len(server.requests) < 20


async def test_an_eager_reply_runs_no_tool_and_the_turn_is_answered_once_it_is_over() -> None:
    desk = Desk()
    params = LLMUserAggregatorParams(user_turn_strategies=EagerUserTurnStrategies())
    async with llm_server(told) as server:
        endpoint = ReplyEndpoint(base_url=server.url, model="any")
        reply = Reply(endpoint, PATIENT)
        async with talking(reply, tools=desk.tools, params=params) as talk:
            await talk.worker.queue_frame(ProposedUserStartedSpeakingFrame())
            words = ("A table at ten!", "caller", "now")
            await talk.worker.queue_frame(EagerTranscriptionFrame(*words))
            await talk.until(lambda: reply.eager.discarded == 1)
            assert desk.booked == []
            await talk.worker.queue_frame(TranscriptionFrame(*words))
            await talk.worker.queue_frame(ProposedUserStoppedSpeakingFrame())
            await talk.hear('I got "booked" there.')
            assert desk.booked == [{"time": "ten"}]
            assert (reply.eager.started, reply.eager.used) == (1, 0)
            assert reply.eager.tokens_discarded > 0
        assert not server.refusals


async def test_an_eager_reply_is_used_when_the_turn_is_over_and_counted() -> None:
    params = LLMUserAggregatorParams(user_turn_strategies=EagerUserTurnStrategies())
    async with llm_server(script("All is well.")) as server:
        reply = Reply(ReplyEndpoint(base_url=server.url, model="any"), PATIENT)
        async with talking(reply, params=params) as talk:
            await talk.worker.queue_frame(ProposedUserStartedSpeakingFrame())
            words = ("How are you?", "caller", "now")
            await talk.worker.queue_frame(EagerTranscriptionFrame(*words))
            await server.wait_for_requests(1)
            await talk.worker.queue_frame(TranscriptionFrame(*words))
            await talk.worker.queue_frame(ProposedUserStoppedSpeakingFrame())
            await talk.hear("All is well.")
            await talk.until(lambda: len(talk.messages) == 2)
            assert (reply.eager.started, reply.eager.used, reply.eager.discarded) == (1, 1, 0)
            assert reply.eager.tokens_used > 0
        assert len(server.requests) == 1


async def test_a_failing_eager_reply_apologises_only_once_the_turn_is_over() -> None:
    params = LLMUserAggregatorParams(user_turn_strategies=EagerUserTurnStrategies())
    async with llm_server(script([Say("We are op"), Cut()], "All is well.")) as server:
        reply = Reply(ReplyEndpoint(base_url=server.url, model="any"), PATIENT)
        async with talking(reply, params=params) as talk:
            await talk.worker.queue_frame(ProposedUserStartedSpeakingFrame())
            words = ("How are you?", "caller", "now")
            await talk.worker.queue_frame(EagerTranscriptionFrame(*words))
            await talk.until(lambda: bool(talk.errors))
            assert talk.spoken == []
            await talk.worker.queue_frame(TranscriptionFrame(*words))
            await talk.worker.queue_frame(ProposedUserStoppedSpeakingFrame())
            await talk.hear(PATIENT.cut_apology)
