"""The phone bot: callers who talk, press keys, are put through and hang up."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pipecat.pipeline.worker import PipelineWorker

from talkpath.agent.config import load_config
from talkpath.agent.errors import ConfigError
from talkpath.agent.phone_sections import PhoneConfig
from talkpath.agent.runtime import Runtime, set_runtime
from talkpath.bots import phone
from talkpath.bots.session import make_worker
from talkpath.processors.call_tools import SORRY
from talkpath.processors.piper_voice import PiperVoice
from tests.bots.typed_calls import Keyboard, QuietVoice, WordsPlayed, typed_call, without_sound
from tests.llm_server import Answer, Call, Request, Say, last_user, llm_server, tool_results
from tests.local_models import voice_model
from tests.sip.transport.calls import attended, until
from tests.sip.transport.loopback_leg import LoopbackLeg

TRANSFERS = {"billing": "sip:billing@pbx.example", "the front desk": "+49301234"}


def model(request: Request) -> Answer:
    """Calls the tools as a model of some size would."""
    said = last_user(request).lower()
    if results := tool_results(request):
        return Say("You can talk to billing." if "unknown" in results[-1] else "Done.")
    if "billing" in said:
        return Call("transfer_call", {"to": "Billing"})
    if "president" in said:
        return Call("transfer_call", {"to": "sip:president@evil.example"})
    if "bye" in said:
        return Call("end_call")
    if "dtmf" in said:
        return Say(f"Your number is {said.partition('dtmf: ')[2]}.")
    return Say("We are open until five.")


@pytest.fixture
async def settings(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[dict[str, Any]]:
    voice_model()
    without_sound(phone, monkeypatch)
    async with llm_server(model) as server:
        yield {
            "idle.after_s": 6.0,
            "phone.operator": "the front desk",
            "phone.transfers": TRANSFERS,
            "reply.url": server.url,
            "whisper.model": "tiny.en",
        }


def targets(caller: Any) -> list[str]:
    """Where the program at the other end was told to go."""
    data = [message.get("data") for message in caller.messages]
    return [each["target"] for each in data if isinstance(each, dict) and "target" in each]


async def test_callers_talk_are_put_through_and_hang_up(settings: dict[str, Any]) -> None:
    async def asks_and_leaves() -> None:
        async with typed_call(phone, settings) as caller:
            await caller.hears("what can I do for you?")
            await caller.says("Are you open today?")
            await caller.hears("We are open until five.")
            await caller.says("Thank you, bye.")
            await caller.hears("Thank you for calling. Goodbye.")
            await caller.is_hung_up_on()

    async def is_put_through() -> None:
        async with typed_call(phone, settings) as caller:
            await caller.hears("what can I do for you?")
            await caller.says("Please connect me with billing.")
            await caller.hears("I will put you through to billing.")
            await caller.is_hung_up_on()
            assert targets(caller) == ["sip:billing@pbx.example"]

    async def cannot_be_sent_to_an_address_of_the_models_own() -> None:
        async with typed_call(phone, settings) as caller:
            await caller.hears("what can I do for you?")
            await caller.says("Please connect me with the president.")
            await caller.hears("You can talk to billing.")
            assert targets(caller) == []

    async def presses_keys() -> None:
        async with typed_call(phone, settings) as caller:
            await caller.hears("Hello")
            await caller.presses("*")
            assert caller.interruptions
            await caller.hears("Hello, what can I do for you?")
            await caller.presses("4070")  # no call of the operator in the middle of a number
            await caller.hears("Your number is 4070.")
            await caller.presses("*")
            await caller.hears("Your number is 4070.")
            await caller.presses("0")
            await caller.hears("I will put you through to the front desk.")
            await caller.is_hung_up_on()
            assert targets(caller) == ["+49301234"]

    async def hangs_up_by_key() -> None:
        async with typed_call(phone, settings) as caller:
            await caller.hears("Hello")
            await caller.presses("#")
            await caller.hears("Goodbye.")
            await caller.is_hung_up_on()

    async def says_nothing() -> None:
        async with typed_call(phone, settings) as caller:
            await caller.hears("what can I do for you?")
            await caller.hears("Are you still there?")
            await caller.hears("I will hang up now. Goodbye.", within_s=40)
            await caller.is_hung_up_on()

    await asyncio.gather(
        asks_and_leaves(),
        is_put_through(),
        cannot_be_sent_to_an_address_of_the_models_own(),
        presses_keys(),
        hangs_up_by_key(),
        says_nothing(),
    )


async def test_a_caller_whose_transfer_is_refused_hears_so_and_may_go_on(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    words, keyboard, leg = WordsPlayed(), Keyboard(), LoopbackLeg()
    leg.refuses = "the dial plan forbids it"

    async def hearing(**options: Any) -> Any:
        return [keyboard]

    async def speaking() -> Any:
        return PiperVoice(QuietVoice())  # type: ignore[arg-type]

    def watched(*args: Any, **options: Any) -> PipelineWorker:
        worker = make_worker(*args, **options)
        worker.add_observer(words)
        return worker

    monkeypatch.setattr(phone, "hearing", hearing)
    monkeypatch.setattr(phone, "speaking", speaking)
    monkeypatch.setattr(phone, "make_worker", watched)
    runtime = Runtime(load_config(settings, environ={}))
    set_runtime(runtime)
    try:
        async with attended(phone.bot, leg) as call:
            await until(lambda: "do for you?" in words.text, "greeting", 60)
            leg.press("0")
            await until(lambda: SORRY in words.text, "apology", 60)
            assert leg.did("transfer") == ["+49301234"]
            await keyboard.type("Are you open today?")
            await until(lambda: "open until five." in words.text, "answer", 60)
            leg.refuses = ""
            await keyboard.type("Then give me billing.")
            await until(call.done, "end of the call", 60)
            assert leg.did("transfer")[1:] == ["sip:billing@pbx.example"]
    finally:
        set_runtime(None)
        await runtime.aclose()


def test_wrong_settings_of_the_phone_are_refused() -> None:
    assert PhoneConfig(transfers=TRANSFERS).operator_name == "billing"
    assert PhoneConfig().operator_name == ""
    for wrong in ({"operator": "nobody"}, {"transfers": {"": "sip:a@b"}}, {"greeting": " "}):
        with pytest.raises(ConfigError):
            PhoneConfig(**wrong)
