"""App: the speech-to-text server's endpoints behind its rules about who may come in.

============================  ==========================================================
WebSockets                    see ``sockets.py``
``/v1/...``                   REST, see ``recordings/rest.py``
``GET /``                     the page to try it, and its files
``GET /healthz``              200 while the process runs
``GET /readyz``               200 while the server serves, be it full; 503 with a reason while
                              models load and while the server waits for its last streams
``GET /metrics``              Prometheus' text format; needs a key where there are keys
============================  ==========================================================

Errors have OpenAI's shape. What every call passes, from outside to inside: whose page it comes
from, CORS, and the key.
"""

from collections.abc import Sequence
from importlib import resources

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from talkpath.agent.metrics import PROMETHEUS, Registry, render_prometheus
from talkpath.agent.server.admission import Admission
from talkpath.agent.server.errors import error_response
from talkpath.agent.server.keys import Guard, KeyRing, key_ring
from talkpath.agent.server.recordings.rest import rest_routes
from talkpath.agent.server.service import Service
from talkpath.agent.server.sockets import LiveStreams, socket_routes
from talkpath.agent.web import check_origins, is_loopback, origin_rules, page_routes

__all__ = ["Warming", "create_app"]

_METHODS = ("GET", "POST")


def create_app(service: Service, streams: LiveStreams, keys: KeyRing | None = None) -> Starlette:
    """Build the ASGI application.

    Args:
        service: what its endpoints share.
        streams: keeps the open streams, for whoever stops the server.
        keys: who may use it; those of the settings where not given.

    Raises:
        ConfigError: keys or origins in the settings are wrong.
    """
    config = service.config.serve
    keys = key_ring(config) if keys is None else keys
    gauges = _gauges(service.admission)

    async def readyz(_: Request) -> Response:
        if service.admission.draining:
            return _not_ready("draining", "the server is about to stop")
        return JSONResponse({"status": "ready"})

    async def metrics(_: Request) -> Response:
        registries = (service.engine.metrics.registry, service.metrics.registry, gauges)
        text = "".join(render_prometheus(registry) for registry in registries)
        return PlainTextResponse(text, media_type=PROMETHEUS)

    open_routes = [
        *page_routes(resources.files("talkpath.agent.server") / "page"),
        Route("/healthz", _healthz),
        Route("/readyz", readyz),
    ]
    guard = Middleware(
        Guard,
        keys=keys,
        open_paths=[route.path for route in open_routes],
        denied=service.metrics.denied,
    )
    rules = origin_rules(
        local=is_loopback(config.host) and not keys and not config.insecure_no_auth,
        methods=_METHODS,
        refusal=lambda why: error_response(403, why, code="foreign_page"),
        origins=check_origins(config.allow_origins),
    )
    sockets = socket_routes(service, streams)
    return Starlette(
        routes=[
            *sockets,
            *(Route(path, _no_upgrade) for path in _paths(sockets)),
            *rest_routes(service),
            Route("/metrics", metrics),
            *open_routes,
            WebSocketRoute("/{path:path}", _no_socket),
        ],
        middleware=[*rules, guard],
        exception_handlers={HTTPException: _http_error, Exception: _failed},
    )


class Warming:
    """Answers until the application is there, then hands everything on to it.

    Until then ``/healthz`` is 200, ``/readyz`` is 503 with the reason, and all else is 503 with
    ``Retry-After``.
    """

    def __init__(self) -> None:
        self.app: ASGIApp | None = None
        self._before = Starlette(
            routes=[Route("/healthz", _healthz), Route("/readyz", _loading)],
            exception_handlers={HTTPException: _unavailable},
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or hand it on."""
        app: ASGIApp = self._before if self.app is None else self.app
        if self.app is None and scope["type"] == "websocket":
            app = _still_loading()
        await app(scope, receive, send)


def _paths(sockets: Sequence[BaseRoute]) -> list[str]:
    return [route.path for route in sockets if isinstance(route, WebSocketRoute)]


def _gauges(admission: Admission) -> Registry:
    registry = Registry()
    registry.gauge("talkpath_server_live_streams", "Live streams now.", lambda: admission.streams)
    registry.gauge(
        "talkpath_server_live_uploads", "Recordings being worked on now.", lambda: admission.uploads
    )
    return registry


async def _healthz(_: Request) -> Response:
    return JSONResponse({"status": "ok"})


async def _loading(_: Request) -> Response:
    return _not_ready("loading", "the models are being loaded")


def _not_ready(status: str, reason: str) -> Response:
    return JSONResponse({"status": status, "reason": reason}, 503)


def _still_loading() -> Response:
    return error_response(
        503, "the models are still being loaded; try again in a few seconds", code="loading"
    )


# -- errors ----------------------------------------------------------------------------------


async def _unavailable(_: Request, __: Exception) -> Response:
    return _still_loading()


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path = request.url.path
    message, code = {
        404: (f"there is nothing at {path}", "not_found"),
        405: (f"{path} does not take {request.method}", "method_not_allowed"),
    }.get(error.status_code, (error.detail, "refused"))
    return error_response(error.status_code, message, code=code, headers=error.headers)


async def _no_socket(socket: WebSocket) -> None:
    await socket.send_denial_response(
        error_response(404, f"there is no WebSocket at {socket.url.path}", code="not_found")
    )


async def _no_upgrade(request: Request) -> Response:
    path = request.url.path
    why = f"{path} is a WebSocket: connect to it with ws:// or wss://"
    headers = {"Upgrade": "websocket", "Connection": "Upgrade"}
    return error_response(426, why, code="upgrade_required", headers=headers)


async def _failed(_: Request, __: Exception) -> Response:
    return error_response(
        500, "the server failed at this request; its log says more", code="internal_error"
    )
