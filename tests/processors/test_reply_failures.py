"""A language model's server that fails in every way, and what the caller hears of it."""

import asyncio
import re
from dataclasses import replace

import pytest
from pipecat.frames.frames import ErrorFrame, LLMContextFrame, TTSAudioRawFrame, TTSTextFrame
from pipecat.pipeline.pipeline import Pipeline
from pipecat.processors.aggregators.llm_context import LLMContext

from talkpath.agent.config import ReplyConfig
from talkpath.agent.reply import ReplyEndpoint
from talkpath.agent.reply_metrics import ReplyMetrics
from talkpath.agent.voice import Voice
from talkpath.processors.first_phrase import Phrases
from talkpath.processors.piper_voice import PiperVoice
from talkpath.processors.reply import Reply
from tests.llm_server import (
    Answer,
    BadJson,
    Cut,
    Endless,
    Garbage,
    HangUp,
    NeverAnswers,
    Say,
    Status,
    Wait,
    llm_server,
    script,
)
from tests.local_models import voice_model
from tests.processors.replying import PATIENT, replying
from tests.processors.sending import run_test

# What is no failure has so long, too: enough for an answer within this process.
HURRIED = replace(PATIENT, first_word_s=5, silence_s=5)
SORRY, CUT = HURRIED.apology, HURRIED.cut_apology


async def check_apology(fault: Answer, requests: int, config: ReplyConfig = PATIENT) -> None:
    async with llm_server(script(*[fault] * requests, "All is well.")) as server:
        async with replying(server.url, config) as talk:
            assert await talk.ask("Hello?") == [SORRY]
            assert len(server.requests) == requests
            (error,) = talk.errors
            assert re.match(r"The language model at 127\.0\.0\.1:\d+ failed: .", error)
            assert await talk.ask("Are you there?") == ["All is well."]
            # The apology is no answer of the model's, which should not learn to give it.
            assert SORRY not in str(talk.messages)
        assert not server.refusals


@pytest.mark.parametrize(
    ("fault", "requests"),
    [
        (Status(500), 2),
        (Status(429), 2),
        (Status(429, retry_after_s=30), 1),
        (Status(401), 1),
        (HangUp(), 2),
        (Garbage(), 2),
        (BadJson(), 2),
        (Say(""), 2),
        (Say(" \n "), 2),
        (Cut(), 2),
    ],
    ids=str,
)
async def test_without_a_word_the_caller_hears_an_apology_and_the_session_goes_on(
    fault: Answer, requests: int
) -> None:
    await check_apology(fault, requests)


async def test_a_server_that_takes_too_long_is_asked_once_and_the_session_goes_on() -> None:
    """Without a word, in the middle of a reply, with a fallback, and with one that fails, too."""
    faults = (NeverAnswers(headers=False), NeverAnswers(), Say("Too late.", first_after_s=60))
    pauses: Answer = [Say("We are open. It costs"), NeverAnswers()]
    await asyncio.gather(
        *(check_apology(fault, 1, HURRIED) for fault in faults),
        check_cut(pauses, ["We are open.", CUT], HURRIED),
        check_fallback(NeverAnswers(), replace(HURRIED, first_word_s=10)),
        check_both_fail(),
    )


async def check_both_fail() -> None:
    async with llm_server(script(NeverAnswers())) as one, llm_server(script(Status(401))) as two:
        async with replying(one.url, HURRIED, fallback_url=two.url) as talk:
            assert await talk.ask("Hello?") == [SORRY]
        assert (len(one.requests), len(two.requests)) == (1, 1)


@pytest.mark.parametrize("fault", [Status(503), HangUp(), Garbage(), Say("")], ids=str)
async def test_a_second_request_may_go_well(fault: Answer) -> None:
    async with llm_server(script(fault, "All is well.")) as server:
        async with replying(server.url, PATIENT) as talk:
            assert await talk.ask("Hello?") == ["All is well."]
            assert not talk.errors


async def check_cut(fault: Answer, heard: list[str], config: ReplyConfig = PATIENT) -> None:
    async with llm_server(script(fault, "All is well.")) as server:
        async with replying(server.url, config) as talk:
            assert await talk.ask("Hello?") == heard
            assert len(server.requests) == 1, "what was begun is not begun anew"
            assert await talk.ask("Pardon?") == ["All is well."]
        said = [m["content"] for m in server.requests[1]["messages"] if m["role"] == "assistant"]
        assert said == ([" ".join(heard[:-1])] if heard[:-1] else [])
        assert not server.refusals


@pytest.mark.parametrize(
    ("fault", "heard"),
    [
        ([Say("We are open. Come at nine or t"), Cut()], ["We are open.", CUT]),
        ([Say("We are op"), Cut()], [CUT]),
        ([Say("We are open."), Cut()], ["We are open.", CUT]),
        ([Say("It costs 3."), Cut()], [CUT]),
        ([Say("We are open. It costs"), Garbage()], ["We are open.", CUT]),
        ([Say("We are open. It costs"), BadJson()], ["We are open.", CUT]),
        ([Say("As you well know, we are op"), Cut()], ["As you well know,", CUT]),
    ],
    ids=["later", "first", "end", "number", "garbage", "json", "phrase"],
)
async def test_a_reply_that_breaks_off_ends_with_a_whole_and_an_apology(
    fault: Answer, heard: list[str]
) -> None:
    await check_cut(fault, heard)


async def test_the_apology_is_heard_behind_what_was_whole() -> None:
    voice = await Voice.load(voice_model())
    async with llm_server(script([Say("We are open. Come at ni"), Cut()])) as server:
        endpoint = ReplyEndpoint(base_url=server.url, model="any")
        stages = [Reply(endpoint, PATIENT), Phrases(), PiperVoice(voice)]
        question = LLMContextFrame(LLMContext([{"role": "user", "content": "Hello?"}]))
        down, up = await run_test(Pipeline(stages), frames_to_send=[question])
    voice.close()
    heard = [frame for frame in down if isinstance(frame, (TTSAudioRawFrame, TTSTextFrame))]
    words = [frame.text for frame in heard if isinstance(frame, TTSTextFrame)]
    assert " ".join(words) == f"We are open. {CUT}"
    sound_s = sum(len(f.audio) / 48_000 for f in heard if isinstance(f, TTSAudioRawFrame))
    assert 2 < sound_s < 8
    kept = [f.text for f in heard if isinstance(f, TTSTextFrame) and f.append_to_context]
    assert " ".join(kept) == "We are open."
    assert [frame for frame in up if isinstance(frame, ErrorFrame)]


async def test_a_server_that_is_not_there_costs_no_time(free_port: int) -> None:
    async with replying(f"http://127.0.0.1:{free_port}/v1") as talk:
        assert await talk.ask("Hello?") == [ReplyConfig().apology]


@pytest.mark.parametrize("text", ["and so on ", "and so on. ", "x"])
async def test_an_endless_reply_has_an_end(text: str) -> None:
    config = replace(PATIENT, max_tokens=10)
    async with llm_server(script(Endless(text))) as server:
        async with replying(server.url, config) as talk:
            heard = await talk.ask("Hello?")
            assert len(" ".join(heard)) < 400
            assert not talk.errors
        await server.wait_for_abandoned(1)


async def test_a_reply_that_reached_its_longest_ends_with_a_whole_sentence() -> None:
    async with llm_server(script(Endless("One is one. Two and then"))) as server:
        async with replying(server.url, replace(PATIENT, max_tokens=10)) as talk:
            heard = await talk.ask("Hello?")
            assert heard[0] == "One is one."
            assert all(text.endswith(".") for text in heard)


async def check_fallback(fault: Answer, config: ReplyConfig) -> None:
    metrics = ReplyMetrics()
    async with llm_server(script(fault)) as bad, llm_server(script("All is well.")) as good:
        async with replying(bad.url, config, fallback_url=good.url, metrics=metrics) as talk:
            assert await talk.ask("Hello?") == ["All is well."]
            asked = len(bad.requests)
            assert await talk.ask("Are you there?") == ["All is well."]
            assert len(bad.requests) == asked
            assert not talk.errors
        assert [request["model"] for request in good.requests] == ["two", "two"]
        assert metrics.requests.values == {"first": asked, "fallback": 2}


async def test_the_fallback_answers_and_is_asked_first_for_a_while() -> None:
    faults = (Status(401), Status(500), Garbage(), HangUp())
    await asyncio.gather(*(check_fallback(fault, PATIENT) for fault in faults))


async def test_a_key_stays_with_its_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    async with llm_server(script("All is well.")) as server:
        async with replying(server.url, PATIENT) as talk:
            await talk.ask("Hello?")
        assert server.keys == ["none"]


@pytest.mark.parametrize("proxy", ["HTTP_PROXY", "ALL_PROXY"])
async def test_no_proxy_stands_between_a_bot_and_its_own_machine(
    proxy: str, monkeypatch: pytest.MonkeyPatch, free_port: int
) -> None:
    monkeypatch.setenv(proxy, f"http://127.0.0.1:{free_port}")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    async with llm_server(script("All is well.")) as server:
        async with replying(server.url, PATIENT) as talk:
            assert await talk.ask("Hello?") == ["All is well."]


async def test_a_filler_may_be_said_while_the_model_thinks() -> None:
    config = replace(PATIENT, filler_s=0.1, filler="Let me think.")
    go_on = asyncio.Event()
    async with llm_server(script([Wait(go_on), Say("All is well.")])) as server:
        async with replying(server.url, config) as talk:
            await talk.say("Hello?")
            await talk.hear("Let me think.")
            go_on.set()
            await talk.hear("All is well.")
            assert talk.spoken == ["Let me think.", "All is well."]
