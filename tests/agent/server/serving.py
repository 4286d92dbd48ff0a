"""A real speech-to-text server for tests: real sockets, the real model, in the test's loop."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any

from talkpath.agent.config import Config, load_config
from talkpath.agent.runtime import Runtime
from talkpath.agent.server.admission import Admission
from talkpath.agent.server.serve import serve
from talkpath.agent.server.service import Service
from talkpath.agent.whisper.backend import Backend
from tests.agent.whisper.helpers import engine, vad

__all__ = ["serving", "the_service"]

# What tests want otherwise than users; whoever wants something else says so.
_USUAL = {
    "whisper.model": "tiny.en",
    "serve.port": 0,
    "serve.drain_s": 2.0,
}


@contextlib.asynccontextmanager
async def the_service(
    overrides: Mapping[str, Any] | None = None, *, model: Backend | str = "tiny.en"
) -> AsyncIterator[Service]:
    """What endpoints share, on a model that is loaded once for all tests.

    Args:
        overrides: settings by ``section.key``.
        model: an English one's name, or a wrapper around a backend.
    """
    config = load_config({**_USUAL, **(overrides or {})}, environ={})
    async with engine(model, config.whisper) as running:
        yield Service(
            config,
            running,
            vad(),
            Runtime(config).smart_turn,
            Admission(
                streams=config.whisper.max_streams,
                streams_per_key=config.serve.max_streams_per_key,
                uploads=config.serve.max_uploads,
                uploads_per_key=config.serve.max_uploads_per_key,
            ),
        )


@contextlib.asynccontextmanager
async def serving(what: Service | Mapping[str, Any] | None = None) -> AsyncIterator[str]:
    """Serve inside the block, as ``talkpath serve`` does; gives the URL, without a slash.

    Args:
        what: settings by ``section.key``, such as ``{"serve.api_keys": ("secret",)}``, or a
            service of ``the_service`` where a test wants to look at it or to hold its model.
    """
    async with contextlib.AsyncExitStack() as stack:
        service = (
            what
            if isinstance(what, Service)
            else await stack.enter_async_context(the_service(what))
        )
        yield await stack.enter_async_context(_served(service.config, service))


@contextlib.asynccontextmanager
async def _served(config: Config, service: Service) -> AsyncIterator[str]:
    async def load() -> Service:
        return service

    url: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    server = asyncio.create_task(
        serve(config, load, on_listening=url.set_result), name="server under test"
    )
    try:
        either: set[asyncio.Future[Any]] = {server, url}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if server.done():
            await server
        yield url.result()
    finally:
        server.cancel()
        await asyncio.wait({server})
        if not server.cancelled():
            server.result()
