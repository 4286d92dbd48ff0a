"""A server with the REST endpoints alone, on a free port, in the test's own event loop."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import uvicorn
from starlette.applications import Starlette

from talkpath.agent.config import Config
from talkpath.agent.server.admission import Admission
from talkpath.agent.server.rest import rest_routes
from talkpath.agent.server.service import Service
from talkpath.agent.whisper import WhisperEngine
from tests.agent.whisper.helpers import WAIT_S, until, vad

__all__ = ["Running", "no_smart_turn", "serving"]


@dataclass(frozen=True)
class Running:
    """A server that answers."""

    service: Service
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"


async def no_smart_turn() -> None:
    raise NotImplementedError("recordings have no turns")


@asynccontextmanager
async def serving(engine: WhisperEngine, config: Config | None = None) -> AsyncIterator[Running]:
    """Serve until the block is left."""
    config = config or Config()
    places = Admission(streams=8, uploads=config.serve.max_uploads)
    service = Service(config, engine, vad(), no_smart_turn, places)  # type: ignore[arg-type]
    server = uvicorn.Server(
        uvicorn.Config(
            Starlette(routes=rest_routes(service)), log_config=None, lifespan="off", ws="none"
        )
    )
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        running = asyncio.create_task(server.serve([listener]))
        try:
            await until(lambda: server.started or running.done())
            yield Running(service, listener.getsockname()[1])
        finally:
            server.should_exit = True
            async with asyncio.timeout(WAIT_S):
                await running
