"""What the sessions of a process share is loaded once, survives them, and ends with them."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from talkpath.agent import runtime as module
from talkpath.agent.config import Config, ReplyConfig, VoiceConfig, WhisperConfig
from talkpath.agent.errors import ConfigError, EngineClosed, ModelError
from talkpath.agent.models import ModelStore
from talkpath.agent.reply import ReplyEndpoint
from talkpath.agent.runtime import Runtime, runtime, set_runtime
from tests.agent.whisper.helpers import threads, until
from tests.local_models import reply_model, voice_model
from tests.speech import clip

TINY = WhisperConfig(model="tiny.en", device="cpu", workers=1)


@pytest.fixture
async def shared() -> AsyncIterator[Runtime]:
    shared = Runtime(Config(whisper=TINY))
    yield shared
    await shared.aclose()


async def test_sessions_that_come_at_once_share_one_engine_and_closing_ends_it(
    shared: Runtime,
) -> None:
    engines = await asyncio.gather(*(shared.whisper() for _ in range(5)))
    assert all(engine is engines[0] for engine in engines)
    assert await shared.whisper() is engines[0]
    assert len(threads("whisper")) == 1
    await shared.aclose()
    assert not threads("whisper")
    with pytest.raises(EngineClosed):
        await engines[0].decode(clip("cards-001").samples())
    await shared.aclose()


async def test_a_session_that_goes_away_does_not_take_the_load_with_it(shared: Runtime) -> None:
    impatient = asyncio.create_task(shared.whisper())
    patient = asyncio.create_task(shared.whisper())
    await asyncio.sleep(0)
    impatient.cancel()
    engine = await patient
    assert impatient.cancelled()
    assert await shared.whisper() is engine


async def test_closing_while_a_model_loads_leaves_nothing(shared: Runtime) -> None:
    waiting = asyncio.create_task(shared.whisper())
    await asyncio.sleep(0)
    await shared.aclose()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert not threads("whisper")


async def test_a_load_that_failed_is_tried_again(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shared = Runtime(Config(whisper=replace(TINY, model=str(folder))))
    for _ in range(2):
        with pytest.raises(ModelError):
            await shared.whisper()
    folder.symlink_to(ModelStore().pull("tiny.en"))
    assert (await shared.whisper()).languages
    await shared.aclose()
    assert not threads("whisper")


async def test_a_setting_that_cannot_be_is_the_users_error() -> None:
    shared = Runtime(Config(whisper=replace(TINY, language="de")))
    with pytest.raises(ConfigError, match="English only"):
        await shared.whisper()
    await shared.aclose()


async def test_all_sessions_share_one_voice_activity_model(shared: Runtime) -> None:
    vad = await shared.vad()
    assert vad is await shared.vad()
    assert vad.probabilities(clip("cards-005").samples()).max() > 0.9


async def test_a_reply_server_of_ones_own_needs_no_model() -> None:
    shared = Runtime(Config(reply=ReplyConfig(url="http://127.0.0.1:9/v1", api_key="k", model="m")))
    assert await shared.reply_endpoint() == ReplyEndpoint(
        base_url="http://127.0.0.1:9/v1", api_key="k", model="m"
    )
    await shared.aclose()


async def test_a_fallback_goes_with_the_server_that_it_stands_in_for() -> None:
    config = ReplyConfig(
        url="http://127.0.0.1:8/v1",
        model="m1",
        fallback_url="http://127.0.0.1:9/v1",
        fallback_model="m2",
    )
    shared = Runtime(Config(reply=config))
    endpoint = await shared.reply_endpoint()
    assert (endpoint.base_url, endpoint.api_key) == ("http://127.0.0.1:8/v1", None)
    assert endpoint.fallback == ReplyEndpoint(base_url="http://127.0.0.1:9/v1", model="m2")
    await shared.aclose()


async def test_a_model_of_the_store_can_stand_in_for_a_server() -> None:
    path = str(reply_model())
    config = ReplyConfig(url="http://127.0.0.1:9/v1", model="m", fallback_model=path)
    shared = Runtime(Config(reply=config))
    endpoint = await shared.reply_endpoint()
    assert endpoint.base_url == "http://127.0.0.1:9/v1"
    assert endpoint.fallback is not None
    assert endpoint.fallback.base_url.startswith("http://127.0.0.1:")
    await shared.aclose()


async def test_a_longest_reply_without_room_for_a_conversation_is_refused_at_the_start() -> None:
    path = str(reply_model())
    shared = Runtime(Config(reply=ReplyConfig(model=path, max_tokens=2000)))
    with pytest.raises(ConfigError, match=r"reply\.max_tokens is 2000"):
        await shared.reply_endpoint()
    await shared.aclose()


async def test_the_piper_voice_is_not_loaded_for_another_service() -> None:
    shared = Runtime(Config(voice=VoiceConfig(service="openai", url="http://one/v1")))
    with pytest.raises(ConfigError, match=r"voice\.service is openai"):
        await shared.voice()
    await shared.aclose()


async def test_the_voice_is_shared_and_its_threads_end(shared: Runtime) -> None:
    voice_model()
    one, two = await asyncio.gather(shared.voice(), shared.voice())
    assert one is two
    assert (await one.say("Good morning.")).pcm
    assert threads("voice")
    await shared.aclose()
    await until(lambda: not threads("voice"))


def test_the_process_has_one_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_runtime", None)
    monkeypatch.setenv("TALKPATH_WHISPER_LANGUAGE", "de")
    assert runtime() is runtime()
    assert runtime().config.whisper.language == "de"
    mine = Runtime(Config())
    set_runtime(mine)
    assert runtime() is mine
    set_runtime(None)
    assert runtime() is not mine
