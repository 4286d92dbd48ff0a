"""The language model's server, with the real model where it is on the machine."""

import asyncio
import os
import sys
import threading
from pathlib import Path

import psutil  # type: ignore[import-untyped,unused-ignore]
import pytest
from openai import AsyncOpenAI, AuthenticationError

from talkpath.agent.errors import MissingDependency, ModelUnavailable
from talkpath.agent.reply import ReplyServer, threads_beside_whisper
from tests.agent.whisper.helpers import until
from tests.local_models import reply_model

PROMPT = "You are a helpful assistant."


def test_one_core_is_left_for_whisper(monkeypatch: pytest.MonkeyPatch) -> None:
    for cores, threads in ((None, 1), (1, 1), (2, 1), (4, 3), (64, 8)):
        monkeypatch.setattr(os, "cpu_count", lambda cores=cores: cores)
        assert threads_beside_whisper() == threads


async def test_a_missing_package_is_named_with_its_command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    with pytest.raises(MissingDependency, match=r'pip install "talkpath\[local\]"'):
        await ReplyServer.start(tmp_path / "model.gguf")


async def test_a_missing_file_is_named(tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp")
    with pytest.raises(ModelUnavailable, match="there is no language model at"):
        await ReplyServer.start(tmp_path / "model.gguf")


async def test_a_file_that_is_no_model_is_named(tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp")
    path = tmp_path / "model.gguf"
    path.write_bytes(b"no model")
    with pytest.raises(ModelUnavailable, match="is no language model in GGUF format"):
        await ReplyServer.start(path)


def threads_of_libraries() -> set[int]:
    """Threads of this process that Python did not start."""
    own = {thread.native_id for thread in threading.enumerate()}
    return {thread.id for thread in psutil.Process().threads()} - own


async def test_it_answers_its_key_alone_and_stops_without_a_trace() -> None:
    before = threads_of_libraries()
    server = await ReplyServer.start(reply_model(), slots=2, prompt=PROMPT)
    running = threads_of_libraries() - before
    assert running
    endpoint = server.endpoint
    assert endpoint.base_url.startswith("http://127.0.0.1:")
    assert endpoint.api_key is not None
    assert endpoint.api_key not in repr(endpoint)
    try:
        async with AsyncOpenAI(base_url=endpoint.base_url, api_key=endpoint.api_key) as client:
            answers = await asyncio.gather(*(_ask(client, endpoint.model) for _ in range(3)))
        assert all(answers)
        async with AsyncOpenAI(base_url=endpoint.base_url, api_key="wrong") as stranger:
            with pytest.raises(AuthenticationError):
                await _ask(stranger, endpoint.model)
    finally:
        server.close()
        server.close()
    await until(lambda: not running & threads_of_libraries())
    port = int(endpoint.base_url.split(":")[2].split("/")[0])
    with pytest.raises(OSError):
        await asyncio.open_connection("127.0.0.1", port)


async def _ask(client: AsyncOpenAI, model: str) -> str:
    answer = await client.chat.completions.create(
        model=model,
        max_tokens=8,
        messages=[{"role": "user", "content": "What is the capital of France?"}],
    )
    return answer.choices[0].message.content or ""
