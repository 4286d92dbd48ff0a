"""Calls to a bot from a test: what the caller of `talkpath.bots.testing` says, hears and knows."""

import asyncio
import io
import re
import wave
from pathlib import Path

import numpy as np
import pytest

from talkpath.agent.errors import ConfigError
from talkpath.bots.testing import Caller, CallFailed, call
from tests import speech
from tests.bots import clerk
from tests.local_models import voice_model

SETTINGS = {"whisper.model": "tiny.en", "turn.profile": "snappy"}


@pytest.fixture(autouse=True)
def voice() -> Path:
    return voice_model()


async def test_a_conversation_is_written_down_as_it_was_heard() -> None:
    async with call(clerk, settings=SETTINGS) as caller:
        greeting = await caller.hears("hello, THIS is the clerk")
        said = await caller.says("How many words are there in this sentence?")
        answer = await caller.hears_turn()
        await caller.presses("5")
        await caller.hears(re.compile(r"pressed \d"))
        await caller.says("Goodbye.")
        farewell = await caller.hears_turn()
        await caller.is_hung_up_on()
    assert greeting.text.startswith("Hello")
    assert answer.text == "That was 8 words."
    assert 0 < answer.start_s - said.end_s < 3
    assert farewell.text == "Goodbye, and thank you."
    order = [(item.who, item.text) for item in caller.transcript]
    assert order[0] == ("bot", clerk.GREETING)
    assert speech.word_error_rate([said.text], [order[1][1]]) < 0.3
    assert [who for who, _ in order] == ["bot", "caller", "bot", "bot", "caller", "bot"]
    assert [latency.turn for latency in caller.timeline] == [1, 2]
    assert not caller.interruptions
    _is_on_the_recording(caller, said.start_s, said.end_s)


def _is_on_the_recording(caller: Caller, start_s: float, end_s: float) -> None:
    """The caller is heard on the left alone while it speaks, and the bot on the right."""
    with wave.open(io.BytesIO(caller.recording)) as file:
        assert (file.getnchannels(), file.getframerate()) == (2, 16_000)
        both = np.frombuffer(file.readframes(file.getnframes()), np.int16).reshape(-1, 2)
    spoken = both[round(start_s * 16_000) : round(end_s * 16_000)]
    assert np.abs(spoken[:, 0]).max() > 3_000
    assert not spoken[:, 1].any()
    assert not both[: round(start_s * 16_000) - 320, 0].any()
    assert np.abs(both[: round(start_s * 16_000), 1]).max() > 3_000


async def test_a_caller_who_speaks_over_the_bot_knows_when_it_fell_silent() -> None:
    clip = speech.clip("librivox-0880")
    async with call(clerk, settings=SETTINGS) as caller:
        await caller.hears(clerk.GREETING)
        await caller.says("Please tell me a story.")
        await caller.hears("Once upon a time")
        over = await caller.plays(clip.path, over_bot=True)
        answer = await caller.hears_turn()
    story = next(item for item in caller.transcript if item.interrupted)
    assert clerk.STORY.startswith(story.text) and len(story.text) < len(clerk.STORY)
    assert caller.silent_after(over.start_s) - over.start_s < 0.6
    assert len(caller.interruptions) == 1
    assert re.fullmatch(r"That was [5-9] words\.", answer.text)
    heard = next(item for item in caller.transcript if item.start_s > over.start_s - 0.2)
    assert speech.word_error_rate([clip.text], [heard.text]) < 0.5


async def test_what_a_bot_does_not_say_ends_in_an_error_that_shows_the_call() -> None:
    async with call(clerk, settings=SETTINGS) as caller:
        await caller.hears("clerk")
        with pytest.raises(CallFailed, match=r"did not say 'a poem' within 3 s") as failure:
            await caller.hears("a poem", within_s=3)
        assert "bot     Hello, this is the clerk." in str(failure.value)
        await caller.hears_nothing(1.0)
        with pytest.raises(CallFailed, match="did not finish a turn within 1 s"):
            await caller.hears_turn(within_s=1)
        with pytest.raises(CallFailed, match="did not end the call within 1 s"):
            await caller.is_hung_up_on(within_s=1)
        await caller.presses("1")
        with pytest.raises(CallFailed, match="the bot spoke after"):
            await caller.hears_nothing(2.0)


async def test_any_other_failure_of_a_test_shows_the_call_as_well() -> None:
    with pytest.raises(ValueError, match="of the test") as failure:
        async with call(clerk, settings=SETTINGS) as caller:
            await caller.hears("clerk")
            raise ValueError("of the test")
    (note,) = failure.value.__notes__
    assert "Hello, this is the clerk." in note


async def test_a_bot_that_fails_fails_the_test() -> None:
    with pytest.raises(RuntimeError, match="the clerk is ill"):
        async with call(clerk, settings=SETTINGS, body={"fails": True}):
            pytest.fail("there is nobody to talk to")
    with pytest.raises(CallFailed, match="the clerk breaks") as failure:
        async with call(clerk.bot, settings=SETTINGS) as caller:
            await caller.hears("clerk")
            await caller.presses("#")
            await caller.hears("anything")
    assert isinstance(failure.value.__cause__, ZeroDivisionError)


async def test_errors_of_a_pipeline_can_be_what_is_tested() -> None:
    async with call(clerk, settings=SETTINGS, errors="keep") as caller:
        await caller.presses("*")
    assert caller.errors == ["the clerk reports an error"]


async def test_calls_side_by_side_have_their_own_settings_and_lines() -> None:
    async def ask(profile: str) -> str:
        settings = SETTINGS | {"turn.profile": profile}
        body = {"greeting": f"{profile} greets you."}
        async with call(clerk, settings=settings, body=body) as caller:
            await caller.hears(f"{profile} greets you")
            await caller.says("What is your profile?")
            return (await caller.hears_turn()).text

    answers = await asyncio.gather(ask("snappy"), ask("patient"))
    assert list(answers) == ["My profile is snappy.", "My profile is patient."]


async def test_a_call_can_be_made_in_real_time() -> None:
    loop = asyncio.get_running_loop()
    async with call(clerk, settings=SETTINGS, time="real") as caller:
        began_s = loop.time()
        greeting = await caller.hears_turn()
        # All of it was heard before the turn was known to be over.
        assert loop.time() - began_s >= greeting.end_s - greeting.start_s
    assert greeting.text == clerk.GREETING


async def test_a_wrong_bot_or_setting_is_named() -> None:
    with pytest.raises(ConfigError, match="no bot 'nobody'"):
        async with call("nobody"):
            pass
    with pytest.raises(ConfigError, match=r"turn\.profil"):
        async with call(clerk, settings={"turn.profil": "snappy"}):
            pass
