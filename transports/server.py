"""The server callers come in by: the page, WebRTC signalling, WebSockets.

============================  ==========================================================
``GET /``                     the page and its files
``POST /start``               ``{sessionId, iceConfig}``, or ``{sessionId, wsUrl}`` for
                              ``{"transport": "websocket"}``
``POST /api/offer``           an offer is answered, see ``webrtc/signalling.py``;
``PATCH /api/offer``          ICE candidates. Both also below ``/sessions/{id}``
``/ws-client``, ``/ws``       WebSocket with Pipecat's protobuf frames, see ``websocket.py``
``GET /status``               transports, and whether there is room
``GET /healthz``              200 while the server runs
============================  ==========================================================

Errors are JSON, ``{"detail": "one sentence"}``. Browsers may call from the server's own
origin and from pages on the same machine; programs send no ``Origin`` and are let in.
A server bound to a loopback address answers only to loopback names in ``Host``: a foreign
name that was made to resolve to this machine (DNS rebinding) is no origin of its own.
"""

import asyncio
import contextlib
import gc
import hashlib
import ipaddress
import json
import re
import signal
import socket
import sys
import threading
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from importlib import resources
from typing import Any, TypeVar
from urllib.parse import urlsplit

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from loguru import logger
from pydantic import BaseModel, ValidationError
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from talkpath.agent.config import Config
from talkpath.agent.errors import ConfigError
from talkpath.transports.sessions import Bot, Limits, Refused, Sessions
from talkpath.transports.webrtc.signalling import Candidates, Offer, Signalling, ice_server
from talkpath.transports.websocket import WebSocketCalls

__all__ = ["create_app", "serve"]

_LOOPBACK = r"https?://(localhost|127\.0\.0\.1|\[::1\])(:\d+)?"
_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
_FILE_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_PAGE_HEADERS = {
    # Kept by the browser, but asked about each time: an upgrade shows at the next reload.
    "Cache-Control": "no-cache",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Permissions-Policy": "microphone=(self)",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

_Model = TypeVar("_Model", bound=BaseModel)


class _Start(BaseModel):
    transport: str = "webrtc"
    body: Any = None


class _OriginGuard:
    """Refuses browsers that act for a foreign page, with status 403.

    Args:
        app: what is guarded.
        local: whether only callers that name this machine in ``Host`` are let in.
    """

    def __init__(self, app: ASGIApp, *, local: bool) -> None:
        self._app = app
        self._local = local

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        why = self._refusal(scope) if scope["type"] in ("http", "websocket") else None
        if why is None:
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            # Closing before accepting makes the server answer 403.
            await receive()
            await send({"type": "websocket.close", "code": 1008, "reason": why})
        else:
            await JSONResponse({"detail": why}, 403)(scope, receive, send)

    def _refusal(self, scope: Scope) -> str | None:
        headers = {name: value.decode("latin-1").lower() for name, value in scope["headers"]}
        if self._local and not _is_loopback(_host_name(headers.get(b"host", ""))):
            return "This server is for its own machine; bind it to another address to serve more."
        if (scope["type"] == "http" and scope["method"] in _SAFE_METHODS) or _trusted(headers):
            return None
        return "Pages of another site may not call here."


def _host_name(host: str) -> str:
    """The name in a ``Host`` header, without its port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _is_loopback(name: str) -> bool:
    try:
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _trusted(headers: dict[bytes, str]) -> bool:
    origin = headers.get(b"origin")
    if origin is None or re.fullmatch(_LOOPBACK, origin):
        return True
    return bool(urlsplit(origin).netloc) and urlsplit(origin).netloc == headers.get(b"host")


def _page_routes() -> Iterator[Route]:
    """One route a file of the page, which is read once."""
    folder = resources.files("talkpath.transports.webrtc") / "page"
    for file in folder.iterdir():
        suffix = "." + file.name.rpartition(".")[2]
        if suffix in _FILE_TYPES:
            path = "/" if file.name == "index.html" else f"/{file.name}"
            yield Route(path, _file(file.read_bytes(), _FILE_TYPES[suffix]))


def _file(content: bytes, media_type: str) -> Callable[[Request], Awaitable[Response]]:
    tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers = {**_PAGE_HEADERS, "ETag": tag}

    async def endpoint(request: Request) -> Response:
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(content, headers=headers, media_type=media_type)

    return endpoint


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
        title="talkpath", docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan
    )
    app.state.sessions = sessions
    app.add_middleware(
        CORSMiddleware,
        allow_origin_regex=_LOOPBACK,
        allow_methods=["GET", "POST", "PATCH"],
        allow_headers=["*"],
    )
    app.add_middleware(_OriginGuard, local=_is_loopback(config.server.host))

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
        [WebSocketRoute("/ws-client", calls), WebSocketRoute("/ws", calls), *_page_routes()]
    )
    return app


class _Server(uvicorn.Server):
    """Uvicorn inside our event loop: signals are ours, and sessions end first."""

    def __init__(self, config: uvicorn.Config, sessions: Sessions) -> None:
        super().__init__(config)
        self._sessions = sessions

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """SIGINT and SIGTERM end :meth:`serve`, a second one without waiting.

        Uvicorn's own way raises the signal again afterwards, which would keep whoever
        called us from cleaning up.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        loop = asyncio.get_running_loop()
        signals = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.getsignal(number) for number in signals}
        try:
            for number in signals:
                try:
                    loop.add_signal_handler(number, self._stop)
                except NotImplementedError:  # Windows
                    signal.signal(number, lambda *_: loop.call_soon_threadsafe(self._stop))
            yield
        finally:
            for number, handler in before.items():
                with contextlib.suppress(NotImplementedError):
                    loop.remove_signal_handler(number)
                signal.signal(number, handler)

    def _stop(self) -> None:
        self.force_exit = self.should_exit
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the sessions, then the connections they ran on."""
        await self._sessions.aclose()
        await super().shutdown(sockets)


def _bind(host: str, port: int) -> socket.socket:
    """A bound socket that does not listen yet: callers are turned away until all is ready."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ConfigError(f"cannot listen at {host!r}: {error.strerror}") from error
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        bound.setblocking(False)
    except OSError as error:
        bound.close()
        raise _no_port(host, port, error) from error
    return bound


def _no_port(host: str, port: int, error: OSError) -> ConfigError:
    return ConfigError(
        f"cannot listen at {host} port {port} ({error.strerror}); choose another with --port"
    )


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
    host, port = config.server.host, config.server.port
    app = create_app(bot, config, limits=limits)
    name = name or getattr(bot, "__module__", "bot").rpartition(".")[2]
    with contextlib.closing(_bind(host, port)) as listener:
        port = listener.getsockname()[1]
        if prepare is not None:
            await prepare()
        # What was loaded stays: no later collection needs to look at it.
        gc.collect()
        gc.freeze()
        try:
            listener.listen()
        except OSError as error:  # somebody else took it while we prepared
            raise _no_port(host, port, error) from error
        server = _Server(
            uvicorn.Config(
                app,
                access_log=False,
                log_config=None,
                server_header=False,
                timeout_graceful_shutdown=3,
                ws="websockets-sansio",
                ws_max_size=(limits or Limits()).message_bytes,
            ),
            app.state.sessions,
        )
        url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        logger.info("{} is listening at {}", name, url)
        if on_listening is not None:
            on_listening(url)
        else:
            sys.stdout.write(f"talkpath: {name} is listening at {url}\n")
            sys.stdout.flush()
        running = asyncio.create_task(server.serve([listener]), name="server")
        try:
            await asyncio.shield(running)
        finally:
            server.should_exit = True
            await running
            gc.unfreeze()
