"""The server callers come in by: the page, WebRTC signalling, WebSockets.

============================  ==========================================================
``GET /``                     the page and its files
``POST /start``               ``{sessionId, iceConfig}``, or ``{sessionId, wsUrl}`` for
                              ``{"transport": "websocket"}``
``POST /api/offer``           an offer is answered, see ``webrtc/signalling.py``;
``PATCH /api/offer``          ICE candidates. Both also below ``/sessions/{id}``
``/ws-client``, ``/ws``       WebSocket with Pipecat's protobuf frames, see ``websocket.py``
``/twilio``, ``/telnyx``, ..  calls that carriers bring, see ``carriers.py``
``/asterisk``                 Asterisk's ``chan_websocket``, see ``asterisk/websocket.py``
``GET /status``               transports, and whether there is room
``GET /healthz``              200 while the server runs
``GET /metrics``              Prometheus' text format: turns, and Whisper where it runs here
============================  ==========================================================

Errors are JSON, ``{"detail": "one sentence"}``. Browsers may call from the server's own
origin and from pages on the same machine; programs send no ``Origin`` and are let in.
A server bound to a loopback address answers only to loopback names in ``Host``: a foreign
name that was made to resolve to this machine (DNS rebinding) is no origin of its own.
"""

import asyncio
import contextlib
import json
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib import resources
from typing import Any, TypeVar

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse
from pydantic import BaseModel, ValidationError
from starlette.routing import WebSocketRoute

from talkpath.agent.config import Config
from talkpath.agent.metrics import PROMETHEUS, render_prometheus
from talkpath.agent.runtime import runtime
from talkpath.agent.web import (
    is_loopback,
    origin_rules,
    page_routes,
)
from talkpath.agent.web_server import running
from talkpath.transports.asterisk.calls import ChannelCalls
from talkpath.transports.asterisk.websocket import AsteriskCalls
from talkpath.transports.carriers import carrier_routes
from talkpath.transports.opening import opened
from talkpath.transports.sessions import Bot, Limits, Refused, Sessions
from talkpath.transports.webrtc.signalling import Candidates, Offer, Signalling, ice_server
from talkpath.transports.websocket import WebSocketCalls

__all__ = ["create_app", "serve"]

_Model = TypeVar("_Model", bound=BaseModel)


class _Start(BaseModel):
    transport: str = "webrtc"
    body: Any = None


async def _read(request: Request, model: type[_Model], limits: Limits) -> _Model:
    """The request's JSON body, or a refusal that says in one sentence what is wrong."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limits.body_bytes:
            raise Refused(413, f"The request is longer than {limits.body_bytes} bytes.")
    try:
        content = json.loads(body or b"{}")
    except (ValueError, RecursionError) as error:
        raise Refused(400, "The request is not JSON.") from error
    try:
        return model.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the request"
        raise Refused(422, f"{where}: {first['msg']}.") from error


def create_app(bot: Bot, config: Config, *, limits: Limits | None = None) -> FastAPI:
    """Build the ASGI application.

    Args:
        bot: called once for every session, with Pipecat's runner arguments.
        config: ``config.server`` gives the ICE servers and the number of sessions.
        limits: sizes and times granted; the defaults are good.

    Returns:
        The application. ``app.state.sessions`` holds its sessions, which end with its
        lifespan.

    Raises:
        ConfigError: an ICE server's URL is wrong.
    """
    limits = limits or Limits()
    ice_servers = [ice_server(url) for url in config.server.ice_servers]
    ice_config = {
        "iceServers": [
            {
                name: value
                for name in ("urls", "username", "credential")
                if (value := getattr(server, name)) is not None
            }
            for server in ice_servers
        ]
    }
    sessions = Sessions(config.server.max_sessions)
    signalling = Signalling(bot, sessions, ice_servers, limits)
    started: dict[str, tuple[float, Any]] = {}  # oldest first: when, and the body

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await sessions.aclose()

    app = FastAPI(
        title="talkpath",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        lifespan=lifespan,
        middleware=origin_rules(
            local=is_loopback(config.server.host),
            methods=("GET", "POST", "PATCH"),
            refusal=lambda why: JSONResponse({"detail": f"{why[0].upper()}{why[1:]}."}, 403),
        ),
    )
    app.state.sessions = sessions

    @app.exception_handler(Refused)
    async def refused(_: Request, refusal: Refused) -> JSONResponse:
        return JSONResponse({"detail": str(refusal)}, refusal.status)

    def forget_started(most: int) -> None:
        oldest = time.monotonic() - limits.started_s
        for session_id, (at, _) in list(started.items()):
            if at >= oldest and len(started) <= most:
                break
            del started[session_id]

    def started_body(session_id: str) -> Any:
        forget_started(limits.started)
        if session_id not in started and not signalling.has_session(session_id):
            raise Refused(404, "There is no such session; call /start for a new one.")
        return started[session_id][1] if session_id in started else None

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/status")
    async def status() -> dict[str, Any]:
        return {
            "status": "full" if sessions.full else "ready",
            "transports": ["webrtc", "websocket"],
        }

    @app.get("/metrics")
    async def metrics() -> PlainTextResponse:
        text = "".join(render_prometheus(registry) for registry in runtime().registries())
        return PlainTextResponse(text, media_type=PROMETHEUS)

    @app.post("/start")
    async def start(request: Request) -> dict[str, Any]:
        message = await _read(request, _Start, limits)
        with sessions.slot():  # tells a caller who would find no place now, not later
            session_id = str(uuid.uuid4())
        if message.transport == "websocket":
            scheme = "wss" if request.url.scheme == "https" else "ws"
            url = f"{scheme}://{request.url.netloc}/ws-client"
            return {"sessionId": session_id, "wsUrl": url}
        if message.transport != "webrtc":
            raise Refused(400, f"There is no transport {message.transport!r} here.")
        if len(json.dumps(message.body)) > limits.started_bytes:
            raise Refused(413, f"The body is longer than {limits.started_bytes} bytes.")
        forget_started(limits.started - 1)
        started[session_id] = (time.monotonic(), message.body)
        return {"sessionId": session_id, "iceConfig": ice_config}

    @app.post("/api/offer")
    async def offer(request: Request) -> dict[str, str]:
        return await signalling.answer(await _read(request, Offer, limits))

    @app.patch("/api/offer")
    async def candidates(request: Request) -> dict[str, str]:
        await signalling.add_candidates(await _read(request, Candidates, limits))
        return {"status": "success"}

    @app.post("/sessions/{session_id}/api/offer")
    async def session_offer(session_id: str, request: Request) -> dict[str, str]:
        message = await _read(request, Offer, limits)
        body = started_body(session_id)
        answer = await signalling.answer(message, session_id=session_id, body=body)
        started.pop(session_id, None)  # an offer that was refused may be made again
        return answer

    @app.patch("/sessions/{session_id}/api/offer")
    async def session_candidates(session_id: str, request: Request) -> dict[str, str]:
        message = await _read(request, Candidates, limits)
        await signalling.add_candidates(message, session_id=session_id)
        return {"status": "success"}

    calls = WebSocketCalls(bot, sessions, limits)
    app.router.routes.extend(
        [
            WebSocketRoute("/ws-client", calls),
            WebSocketRoute("/ws", calls),
            *carrier_routes(bot, sessions, limits, config.carriers),
            WebSocketRoute(
                "/asterisk",
                AsteriskCalls(ChannelCalls(bot, sessions, limits), config.asterisk),
            ),
            *page_routes(resources.files("talkpath.transports.webrtc") / "page"),
        ]
    )
    return app


async def serve(
    bot: Bot,
    config: Config,
    *,
    prepare: Callable[[], Awaitable[None]] | None = None,
    name: str | None = None,
    limits: Limits | None = None,
    on_listening: Callable[[str], None] | None = None,
) -> None:
    """Serve callers until SIGINT, SIGTERM or cancellation; sessions are ended first.

    Args:
        bot: called once for every session.
        config: ``config.server`` says where to listen.
        prepare: awaited before the first caller is let in; callers before are refused.
        name: the bot's name, by default its module's.
        limits: sizes and times granted; the defaults are good.
        on_listening: called with the server's URL instead of writing it to standard output.

    Raises:
        ConfigError: the port is taken, or a setting is wrong.
    """
    limits = limits or Limits()
    app = create_app(bot, config, limits=limits)
    finish = app.state.sessions.aclose
    port = opened(
        bot, config.server, scheme="http", prepare=prepare, name=name, on_listening=on_listening
    )
    async with (
        port as listener,
        running(app, listener, message_bytes=limits.message_bytes, finish=finish) as server,
    ):
        await asyncio.shield(server)
