"""Silence in calls: what the bot says to it, and what counts as a sign of life."""

from typing import Any

import pytest
from pipecat.frames.frames import (
    BotStartedSpeakingFrame,
    BotStoppedSpeakingFrame,
    FunctionCallCancelFrame,
    FunctionCallFromLLM,
    FunctionCallResultFrame,
    FunctionCallsStartedFrame,
    TTSSpeakFrame,
)
from pipecat.processors.aggregators.llm_context import LLMContext

from talkpath.agent.bot_sections import IdleConfig
from talkpath.bots import receptionist, router
from talkpath.processors.idle_prompts import IdlePrompts
from tests.bots.typed_calls import typed_call, without_sound
from tests.llm_server import Say, llm_server
from tests.processors.sending import SleepFrame, run_test

SETTINGS: dict[str, Any] = {
    "idle.after_s": 3.0,
    "idle.prompts": ("Are you there?", "Can you hear me?"),
    "idle.farewell": "I will hang up now.",
}


async def test_a_cough_is_no_sign_of_life_and_a_word_is_even_in_the_farewell(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    without_sound(router, monkeypatch)
    async with typed_call(router, SETTINGS) as caller:
        await caller.hears("or just talk?")
        await caller.hears("I did not hear anything.")
        await caller.hears("or just talk?")
        await caller.coughs()
        await caller.hears("I did not hear anything.")
        await caller.hears("I will hang")
        await caller.says("Wait, I am here.", over_bot=True)
        await caller.hears("You can say")
        # All prompts again: the caller is there.
        await caller.hears("I did not hear anything.")
        await caller.hears("I did not hear anything.")
        await caller.hears("I will hang up now.")
        await caller.is_hung_up_on()


async def test_a_model_that_thinks_for_long_is_no_silence_of_the_callers(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    without_sound(receptionist, monkeypatch)
    async with llm_server(lambda request: Say("We open at nine.", first_after_s=4.0)) as server:
        settings = SETTINGS | {
            "reply.url": server.url,
            "reply.model": "any",
            "reply.first_word_s": 10.0,
            "receptionist.database": str(tmp_path / "appointments.db"),
        }
        async with typed_call(receptionist, settings) as caller:
            await caller.hears("an appointment?")
            await caller.says("When do you open, please?")
            turn = await caller.hears_turn(within_s=20)
            assert turn.text == "We open at nine."
            await caller.hears("Are you there?")
            await caller.hangs_up()


async def test_a_cancelled_tool_does_not_count_for_another_that_is_at_work() -> None:
    def described(call: str) -> dict[str, Any]:
        return {"function_name": "book", "tool_call_id": call, "arguments": {}}

    calls = [FunctionCallFromLLM(**described(call), context=LLMContext()) for call in ("a", "b")]
    result = FunctionCallResultFrame(**described("b"), result="booked")
    down, _ = await run_test(
        IdlePrompts(IdleConfig(after_s=0.1, prompts=("Are you there?",))),
        frames_to_send=[
            BotStartedSpeakingFrame(),
            BotStoppedSpeakingFrame(),
            FunctionCallsStartedFrame(calls),
            FunctionCallCancelFrame("book", "a"),
            # The same call's end once more, as ``Reply`` sends it.
            FunctionCallResultFrame(**described("a"), result="CANCELLED"),
            SleepFrame(0.3),
            result,
            SleepFrame(0.3),
        ],
    )
    ends = [frame for frame in down if isinstance(frame, (FunctionCallResultFrame, TTSSpeakFrame))]
    assert ends.index(result) == 1
    assert isinstance(ends[2], TTSSpeakFrame)
