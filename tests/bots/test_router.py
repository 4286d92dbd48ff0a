"""The router: callers who say or press where they want to go, one of them aloud."""

import asyncio
from typing import Any

import pytest

from talkpath.agent.config import load_config
from talkpath.agent.departments import Routing
from talkpath.agent.runtime import Runtime, set_runtime
from talkpath.bots import router
from talkpath.bots.session import make_worker
from talkpath.bots.testing import call
from talkpath.processors.piper_voice import PiperVoice
from tests.bots.typed_calls import QuietVoice, WordsPlayed, typed_call, without_sound
from tests.local_models import voice_model
from tests.sip.transport.calls import attended, until
from tests.sip.transport.loopback_leg import LoopbackLeg


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    voice_model()
    without_sound(router, monkeypatch)
    return {"whisper.model": "tiny.en", "idle.after_s": 4.0}


def target(caller: Any) -> list[str]:
    """Where the program at the other end was told to go."""
    data = [message.get("data") for message in caller.messages]
    return [each["target"] for each in data if isinstance(each, dict) and "target" in each]


async def test_callers_are_sent_where_they_want_to_go_or_to_the_fallback(
    settings: dict[str, Any],
) -> None:
    async def aloud() -> None:
        async with call("router", settings=settings) as caller:
            await caller.hears("or just talk?")
            await caller.says("I would like to cancel my appointment.")
            await caller.hears("I will put you through to appointments.")
            await caller.is_hung_up_on()
            assert target(caller) == ["receptionist"]

    async def by_key_over_the_bot() -> None:
        async with typed_call(router, settings) as caller:
            await caller.hears("Hello")
            await caller.presses("2")
            await caller.hears("I will put you through to the survey.")
            await caller.is_hung_up_on()
            assert target(caller) == ["survey"]
            assert caller.interruptions

    async def undecided() -> None:
        async with typed_call(router, settings) as caller:
            await caller.hears("or just talk?")
            await caller.says("I want to talk about my appointment.")
            await caller.hears("Do you mean appointments or the assistant?")
            await caller.says("The second one.")
            await caller.hears("I will put you through to the assistant.")
            await caller.is_hung_up_on()
            assert target(caller) == ["assistant"]

    async def not_understood() -> None:
        async with typed_call(router, settings) as caller:
            await caller.hears("or just talk?")
            await caller.says("The weather is lovely.")
            await caller.hears("You can say appointments, the survey or the assistant.")
            await caller.says("I like blue.")
            await caller.hears("press 1 for appointments")
            await caller.says("I like green.")
            await caller.hears("I will put you through to the assistant.")
            await caller.is_hung_up_on()
            assert target(caller) == ["assistant"]

    async def silent() -> None:
        async with typed_call(router, settings) as caller:
            await caller.hears("or just talk?")
            await caller.hears("I did not hear anything. Hello.")
            await caller.hears("I will hang up now. Goodbye.", within_s=40)
            await caller.is_hung_up_on()
            assert target(caller) == []

    await asyncio.gather(aloud(), by_key_over_the_bot(), undecided(), not_understood(), silent())


async def test_a_caller_who_cannot_be_sent_on_is_told_so(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    leg, heard = LoopbackLeg(), WordsPlayed()
    leg.refuses = "the dial plan forbids it"

    async def hearing(**options: Any) -> Any:
        return []

    async def speaking() -> Any:
        return PiperVoice(QuietVoice())  # type: ignore[arg-type]

    def watched(*args: Any, **options: Any) -> Any:
        worker = make_worker(*args, **options)
        worker.add_observer(heard)
        return worker

    monkeypatch.setattr(router, "hearing", hearing)
    monkeypatch.setattr(router, "speaking", speaking)
    monkeypatch.setattr(router, "make_worker", watched)
    runtime = Runtime(load_config(settings, environ={}))
    set_runtime(runtime)
    try:
        async with attended(router.bot, leg) as called:
            await until(lambda: "just talk?" in heard.text, "greeting", 60)
            leg.press("2")
            await until(called.done, "end of the call", 60)
    finally:
        set_runtime(None)
        await runtime.aclose()
    assert leg.did("transfer") == ["survey"]
    assert heard.text.endswith("nobody can be reached there now. Goodbye. ")


def test_a_question_about_something_else_is_no_wish_for_the_survey() -> None:
    routing = Routing(router.EXAMPLE)
    routing.start()
    assert routing.heard("I have a question about my invoice.").target == ""
    assert routing.heard("I would like to give feedback.").target == "survey"
