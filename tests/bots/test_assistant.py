"""The assistant with all its models, and a caller who interrupts it; in virtual time."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.runner.types import RunnerArguments

from talkpath.agent.config import Config
from talkpath.agent.runtime import Runtime, set_runtime
from talkpath.agent.voice import Voice
from talkpath.bots import assistant
from talkpath.bots.testing.clock import virtual_time
from talkpath.processors.piper_voice import phrases
from tests import loudspeaker, speech
from tests.local_models import reply_model, voice_model
from tests.loudspeaker import Room

LONG = (
    "Hello, I am a very talkative assistant. Before you say anything, I would like to tell you "
    "about the weather, the sea, the mountains, and everything that I have read this year."
)


class SteadyRuntime(Runtime):
    """Whose voice says a sentence the same way each time."""

    async def voice(self) -> Voice:
        return (await super().voice()).steady()


@pytest.fixture(scope="module")
def loaded() -> Runtime:
    """Loads its models for the first test, and keeps them for the others until the process ends."""
    reply_model()
    voice_model()
    return SteadyRuntime(Config())


@pytest.fixture
async def runtime(loaded: Runtime) -> AsyncIterator[Runtime]:
    set_runtime(loaded)
    await assistant.prepare()
    with virtual_time().used(lambda: loaded.computing, lambda: None, loudspeaker.__name__):
        yield loaded
    set_runtime(None)


@pytest.fixture
def context(monkeypatch: pytest.MonkeyPatch) -> LLMContext:
    context = LLMContext()
    monkeypatch.setattr(assistant, "LLMContext", lambda: context)
    return context


@pytest.fixture
async def room(
    runtime: Runtime, context: LLMContext, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Callable[[], Any]]:
    """Start a session in a room; at the end the caller leaves, and the bot must end too."""
    sessions: list[tuple[Room, asyncio.Task[None]]] = []

    async def enter() -> Room:
        room = Room()

        async def create_transport(runner_args: RunnerArguments) -> Room:
            return room

        monkeypatch.setattr(assistant, "create_transport", create_transport)
        session = asyncio.create_task(assistant.bot(RunnerArguments()))
        sessions.append((room, session))
        await room.enter()
        return room

    yield enter
    for room, session in sessions:
        await room.leave()
        await asyncio.wait_for(session, timeout=20)


def said(context: LLMContext, role: str) -> list[str]:
    return [
        str(message.get("content"))
        for message in context.get_messages()
        if isinstance(message, dict) and message["role"] == role
    ]


async def test_it_greets_answers_and_ends_with_the_caller(
    room: Callable[[], Any], context: LLMContext
) -> None:
    caller = await room()
    await caller.message("bot-stopped-speaking")
    assert said(context, "assistant") == [assistant.GREETING]
    clip = speech.clip("librivox-0880")
    caller.microphone.say(clip.samples())
    latency = await caller.message("turn-latency")
    names = [part["name"] for part in latency["parts"]]
    assert names == ["stop", "final", "turn", "first-token", "first-audio", "first-packet"]
    assert sum(part["ms"] for part in latency["parts"]) == latency["total_ms"]
    assert speech.word_error_rate([clip.text], said(context, "user")) < 0.5


async def test_it_greets_once_though_the_connection_is_restored(
    room: Callable[[], Any], context: LLMContext
) -> None:
    caller = await room()
    await caller.message("bot-stopped-speaking")
    await caller.enter()
    await asyncio.sleep(1)  # some words of a second greeting would be heard
    caller.microphone.say(speech.clip("librivox-0880").samples())
    await caller.message("turn-latency")
    messages = [message for message in context.get_messages() if isinstance(message, dict)]
    before = itertools.takewhile(lambda message: message["role"] != "user", messages)
    assert [message.get("content") for message in before] == [assistant.GREETING]


async def test_a_caller_who_speaks_silences_it_and_it_remembers_what_was_heard(
    room: Callable[[], Any],
    runtime: Runtime,
    context: LLMContext,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(assistant, "GREETING", LONG)
    caller = await room()
    await caller.message("bot-started-speaking")
    await asyncio.sleep(1.5)  # the caller listens for a while
    caller.microphone.say(speech.clip("librivox-0880").samples())
    await caller.message("bot-stopped-speaking")
    detected = caller.microphone.speech_started[0]
    # The bot has nothing else to say before the caller has finished.
    assert caller.loudspeaker.last_sound(before=detected + 1) - detected < 0.2
    played_s = caller.loudspeaker.seconds(before=detected + 1)
    kept = said(context, "assistant")[0]
    assert 0 < len(kept) < len(LONG)
    assert LONG.startswith(kept)
    # Say the same again to find out how many words fit into what was played.
    voice = await runtime.voice()
    heard, start_s = 0, 0.0
    for phrase in phrases(LONG):
        spoken = await voice.say(phrase)
        heard += sum(start_s + word.end / 24_000 <= played_s for word in spoken.words)
        start_s += len(spoken.pcm) / 48_000
    assert abs(len(kept.split()) - heard) <= 1
    await caller.message("turn-latency")
    assert said(context, "user")
