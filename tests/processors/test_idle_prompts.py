"""Silence in calls: what the bot says to it, and what counts as a sign of life."""

from typing import Any

import pytest

from talkpath.bots import receptionist, router
from tests.bots.typed_calls import typed_call, without_sound
from tests.llm_server import Say, llm_server

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
