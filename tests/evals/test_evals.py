"""Scenarios of Pipecat's evals for every bot, run by Pipecat's own harness."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import uvicorn
from fastapi import FastAPI, WebSocket
from pipecat.evals.scenario import EvalScenarioFile
from pipecat.evals.session import EvalSession, EvalSessionParams
from pipecat.runner.types import WebSocketRunnerArguments

from talkpath.agent.config import load_config
from talkpath.agent.runtime import Runtime, set_runtime
from talkpath.bots.loader import bot_models, bot_names, load_bot
from talkpath.bots.testing.clock import virtual_time
from tests.bots.receptionist_brain import decent_model
from tests.llm_server import Answer, Request, Say, llm_server
from tests.local_models import voice_model

# Pipecat's client of evals is written for older websockets, too.
pytestmark = pytest.mark.filterwarnings("ignore:.*websockets.*:DeprecationWarning")

SCENARIOS = sorted(
    file
    for file in Path(__file__).parent.glob("*.yaml")
    if file.stem not in ("caller", "listener")  # what several have in common
)


def model(request: Request) -> Answer:
    tools = {tool["function"]["name"] for tool in request.get("tools", [])}
    return decent_model(request) if "confirm" in tools else Say("I am here to help.")


@pytest.fixture
async def shared(tmp_path: Path) -> AsyncIterator[Runtime]:
    voice_model()
    async with llm_server(model) as server:
        settings = {
            "notes.folder": str(tmp_path / "notes"),
            "receptionist.database": str(tmp_path / "appointments.db"),
            "reply.url": server.url,
            "survey.results": str(tmp_path / "survey.jsonl"),
            "turn.profile": "snappy",
            "whisper.language": "en",
            "whisper.partial_interval_s": 5.0,
        }
        runtime = Runtime(load_config(settings, environ={}))
        set_runtime(runtime)
        yield runtime
        set_runtime(None)
        await runtime.aclose()


@contextlib.asynccontextmanager
async def serving() -> AsyncIterator[str]:
    """Every bot under its name, called as Pipecat's runner calls it."""
    app = FastAPI()

    @app.websocket("/{name}")
    async def serve(name: str, websocket: WebSocket) -> None:
        await websocket.accept()
        bot, _ = load_bot(name)
        await bot(WebSocketRunnerArguments(websocket=websocket))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(app, log_level="warning", ws="websockets-sansio")
        server = uvicorn.Server(config)
        task = asyncio.create_task(server.serve([listener]))
        yield f"ws://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        await task


def test_every_bot_has_a_scenario() -> None:
    # One without a model has no words to judge.
    talking = [name for name in bot_names() if bot_models(name)]
    assert [file.stem for file in SCENARIOS] == talking


async def test_every_bot_passes_its_scenarios(shared: Runtime, tmp_path: Path) -> None:
    params = EvalSessionParams(default_timeout_ms=60_000, cache_dir=str(tmp_path))
    await asyncio.gather(shared.whisper(), shared.voice(), shared.vad(), shared.smart_turn())

    at_once = asyncio.Semaphore(3)  # both ends of each are in this one process

    async def run(file: Path, base: str) -> list[str]:
        problems = []
        for scenario in EvalScenarioFile.load(file):
            session = EvalSession.from_scenario(scenario, f"{base}/{file.stem}", params=params)
            async with at_once:
                result = await session.run()
            if not result.passed:
                problems.append("\n".join([scenario.name, *result.debug_log]))
        return problems

    # Nobody waits less for an answer because a model has less of the machine.
    with virtual_time().used(lambda: shared.computing, lambda: None, __name__):
        async with serving() as base:
            problems = await asyncio.gather(*[run(file, base) for file in SCENARIOS])
    if any(problems):
        pytest.fail(
            "\n\n".join(problem for of_bot in problems for problem in of_bot), pytrace=False
        )
