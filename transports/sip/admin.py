"""The listener's HTTP service: its health, its figures, and the calls under way.

=======================  =====================================================================
``GET /healthz``         200 while the listener runs
``GET /readyz``          200 while there is a worker and a free line, else 503
``GET /metrics``         Prometheus' text format: calls, and the workers' figures added up
``GET /calls``           ``{"calls": [...]}``: who talks to whom since when, and how it sounds
``POST /calls``          ``{"to": "sip:...", "bot", "trunk", "headers"}`` calls somebody, within
                         the dial plan: 201 with ``{"call_id"}``
``DELETE /calls/{id}``   hangs up: 204
=======================  =====================================================================

Errors are JSON, ``{"detail": "one sentence"}``. With ``sip.admin_key``, all but the first two want
it as ``Authorization: Bearer KEY``. Without one, only callers on this machine are served, and no
pages of other sites.
"""

import asyncio
import hmac
import json
from collections.abc import Mapping
from typing import Any

from loguru import logger
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from talkpath.agent.config import Config
from talkpath.agent.metrics import PROMETHEUS, render_prometheus
from talkpath.agent.metrics_text import merge_prometheus
from talkpath.agent.web import is_loopback, origin_rules
from talkpath.transports.sip.leg import LegError
from talkpath.transports.sip.listener import CallState, Listener
from talkpath.transports.sip.supervisor import Supervisor

__all__ = ["BODY_BYTES", "create_admin"]

BODY_BYTES = 64 * 1024
"""The longest body of a request."""

_WORKER_S = 2.0  # for a worker's figures; those of one that is late are left out
_ANSWERING = ("ready", "draining")
_FIELDS = {"to": str, "bot": str, "trunk": str, "headers": dict}


def create_admin(listener: Listener, config: Config) -> Starlette:
    """Build the ASGI application.

    Args:
        listener: may still be starting: then there are no calls, and nothing is ready.
        config: ``server.host`` says who can reach it, ``sip.admin_key`` who may.
    """
    admin = _Admin(listener, config.sip.admin_key)
    return Starlette(
        routes=[
            Route("/healthz", admin.health),
            Route("/readyz", admin.ready),
            Route("/metrics", admin.metrics),
            Route("/calls", admin.calls, methods=["GET"]),
            Route("/calls", admin.dial, methods=["POST"]),
            Route("/calls/{call_id:path}", admin.hang_up, methods=["DELETE"]),
        ],
        middleware=origin_rules(
            local=is_loopback(config.server.host),
            methods=("GET", "POST", "DELETE"),
            refusal=lambda why: _problem(403, f"{why[0].upper()}{why[1:]}."),
        ),
        exception_handlers={HTTPException: _refuse},
    )


class _Admin:
    def __init__(self, listener: Listener, key: str) -> None:
        self._listener = listener
        self._key = key.encode()

    async def health(self, _: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def ready(self, _: Request) -> Response:
        if (supervisor := self._supervisor()) is not None and supervisor.takes_calls:
            return PlainTextResponse("ok\n")
        return PlainTextResponse("no worker takes calls now\n", 503)

    async def metrics(self, request: Request) -> Response:
        self._check(request)
        texts = [render_prometheus(registry) for registry in self._listener.registries]
        if (supervisor := self._supervisor()) is not None:
            texts.append(supervisor.past_figures)
        texts += [str(answer["text"]) for answer in await self._ask_workers("metrics")]
        return Response(merge_prometheus(texts), media_type=PROMETHEUS)

    async def calls(self, request: Request) -> Response:
        self._check(request)
        quality: dict[str, Any] = {}
        for answer in await self._ask_workers("quality"):
            quality |= answer["calls"]
        ready = self._supervisor() is not None
        states = self._listener.calls if ready else ()
        return JSONResponse({"calls": [_call(s, quality.get(s.info.call_id)) for s in states]})

    async def dial(self, request: Request) -> Response:
        self._check(request)
        wanted = await _body(request)
        if self._supervisor() is None:
            raise HTTPException(503, "The telephone is still starting.")
        try:
            call = await self._listener.dial(wanted.pop("to"), **wanted)
        except LegError as error:
            raise HTTPException(409, _sentence(error)) from error
        return JSONResponse({"call_id": call.call_id}, 201)

    async def hang_up(self, request: Request) -> Response:
        self._check(request)
        if self._supervisor() is None:
            raise HTTPException(503, "The telephone is still starting.")
        try:
            await self._listener.hang_up(request.path_params["call_id"])
        except LegError as error:
            raise HTTPException(404, _sentence(error)) from error
        return Response(status_code=204)

    def _supervisor(self) -> Supervisor | None:
        """That of a listener that has begun to start."""
        return getattr(self._listener, "supervisor", None)

    def _check(self, request: Request) -> None:
        """Let in whoever has the key or, where there is none, is on this machine."""
        if not self._key:
            if request.client is None or not is_loopback(request.client.host):
                raise HTTPException(403, "Other machines need a key; set sip.admin_key.")
            return
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        right = hmac.compare_digest(key.encode("utf-8", "surrogateescape"), self._key)
        if scheme.lower() != "bearer" or not right:
            raise HTTPException(401, "The key is wrong.", {"WWW-Authenticate": "Bearer"})

    async def _ask_workers(self, what: str) -> list[dict[str, Any]]:
        supervisor = self._supervisor()
        workers = supervisor.workers if supervisor is not None else ()
        asked = [w.channel.ask(what, _WORKER_S) for w in workers if w.state in _ANSWERING]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        good = []
        for answer in answers:
            if isinstance(answer, LegError):
                logger.warning("a worker's figures are left out: {}", answer)
            elif isinstance(answer, BaseException):
                raise answer
            else:
                good.append(answer)
        return good


async def _body(request: Request) -> dict[str, Any]:
    """What to dial, checked."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_BYTES:
            raise HTTPException(413, f"The request is longer than {BODY_BYTES} bytes.")
    try:
        wanted = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, "The request is not JSON.") from error
    if not isinstance(wanted, dict) or not wanted.get("to"):
        raise HTTPException(422, "The request does not say to whom: to is missing.")
    for name, value in wanted.items():
        if name not in _FIELDS:
            raise HTTPException(422, f"There is no field {name!r}.")
        if not isinstance(value, _FIELDS[name]):
            raise HTTPException(422, f"The field {name} is of the wrong type.")
    if not all(isinstance(value, str) for value in wanted.get("headers", {}).values()):
        raise HTTPException(422, "The values of headers must be strings.")
    return wanted


def _call(state: CallState, quality: Mapping[str, Any] | None) -> dict[str, Any]:
    info = state.info
    fields = ("call_id", "direction", "from_uri", "to_uri", "number", "source", "trunk", "bot")
    return {
        **{name: getattr(info, name) for name in fields},
        "stage": state.stage,
        "since_s": round(state.since_s, 3),
        "worker": state.worker,
        "quality": quality,
    }


def _sentence(error: LegError) -> str:
    text = str(error)
    return f"{text[:1].upper()}{text[1:]}."


def _problem(status: int, detail: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"detail": detail}, status, headers)


async def _refuse(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _problem(error.status_code, error.detail, error.headers)
