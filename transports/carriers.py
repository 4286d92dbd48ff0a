"""Calls that carriers bring over a WebSocket: Twilio, Telnyx, Plivo, Exotel, Vonage, Genesys.

==============================  ========================================================
``GET`` or ``POST /twilio``     what the carrier asks when a call comes in; the answer names
                                a WebSocket with a ticket (not for Genesys, which asks nothing)
``/twilio/{ticket}``            WebSocket of a call that was announced so; good once, for 60 s
``/twilio``                     WebSocket for who shows the token, or Twilio's signature
==============================  ========================================================

The others are at ``/telnyx``, ``/plivo``, ``/exotel``, ``/vonage`` and ``/genesys``. Nobody is let
in without ``carriers.token`` or, for Twilio, a signature made with ``TWILIO_AUTH_TOKEN``.
"""

import asyncio
import json
import os
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qsl

from fastapi import WebSocket
from loguru import logger
from pipecat.frames.frames import OutputTransportMessageUrgentFrame
from pipecat.runner.types import CallData, WebSocketRunnerArguments
from pipecat.serializers.base_serializer import FrameSerializer
from pipecat.transports.base_transport import BaseTransport
from pipecat.transports.websocket.fastapi import FastAPIWebsocketParams, FastAPIWebsocketTransport
from starlette.datastructures import Headers
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocketDisconnect

from talkpath.agent.carrier_access import Facts, Tickets, shows_token, twilio_signed
from talkpath.agent.carrier_documents import ASKING, busy_document, read_facts, stream_document
from talkpath.agent.carrier_sections import CarriersConfig
from talkpath.agent.carriers import CARRIERS, CarrierCall, Handshake, HandshakeError
from talkpath.transports.carrier_serializers import CarrierSerializer, carrier_serializer
from talkpath.transports.sessions import Bot, Limits, Refused, Sessions
from talkpath.transports.websocket import CHUNKS, WebSocketCalls, with_hold

__all__ = ["CarrierArguments", "carrier_routes", "carrier_transport"]

_Message = Any  # an ASGI message or scope, as Starlette types them
_HOST = r"[A-Za-z0-9.\-]{1,253}(:\d{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](:\d{1,5})?"
_FORM_FIELDS = 200
_SECURE = {"http": "ws", "https": "wss"}

# In units of 10 ms. Exotel wants 3,200 bytes or more in a message, and Genesys counts messages:
# five a second are always allowed (Exotel, Voicebot applet; Genesys, AudioHook).
_CHUNKS = {"exotel": 20, "genesys": 20}


@dataclass
class CarrierArguments(WebSocketRunnerArguments):
    """What a bot is called with for a carrier's call.

    ``body`` has ``carrier``, ``call_id``, ``stream_id``, ``account_id``, ``from``, ``to`` and
    ``parameters``; ``call_data`` has the same for bots that were written for Pipecat's runner.

    Attributes:
        serializer: reads and writes the carrier's messages.
    """

    serializer: FrameSerializer | None = None


def carrier_transport(arguments: CarrierArguments, *, audio_out: bool) -> BaseTransport:
    """Make the transport of a carrier's call; its output can be held."""
    params = FastAPIWebsocketParams(
        audio_in_enabled=True,
        audio_out_enabled=audio_out,
        audio_out_10ms_chunks=_CHUNKS.get(arguments.transport_type or "", CHUNKS),
        serializer=arguments.serializer,
    )
    transport = FastAPIWebsocketTransport(arguments.websocket, params)
    return with_hold(transport, telephone=True)


def carrier_routes(
    bot: Bot,
    sessions: Sessions,
    limits: Limits,
    config: CarriersConfig,
    *,
    environ: Mapping[str, str] | None = None,
) -> list[BaseRoute]:
    """Routes for the carriers' questions and WebSockets.

    Args:
        bot: called once for every call, with ``CarrierArguments``.
        sessions: where they run.
        limits: sizes and times granted.
        config: the token, and the server's URL.
        environ: where the carriers' own keys stand, ``os.environ`` by default.
    """
    gate = _Gate(config, os.environ if environ is None else environ, Tickets(time.monotonic))
    routes: list[BaseRoute] = []
    for carrier in CARRIERS:
        calls = _CarrierCalls(carrier, gate, bot, sessions, limits)
        routes.append(WebSocketRoute(f"/{carrier}", calls))
        routes.append(WebSocketRoute(f"/{carrier}/{{ticket}}", calls))
        if carrier in ASKING:
            question = _Question(carrier, gate, sessions, limits)
            routes.append(Route(f"/{carrier}", question.answer, methods=["GET", "POST"]))
    return routes


class _Gate:
    """Decides who is let in, by whatever it shows."""

    def __init__(
        self, config: CarriersConfig, environ: Mapping[str, str], tickets: Tickets
    ) -> None:
        self._config = config
        self.environ = environ
        self.tickets = tickets

    def base_url(self, connection: HTTPConnection) -> str:
        """The server's URL as the carrier called it, ``http`` or ``https``.

        Raises:
            Refused: the request names no host.
        """
        if self._config.url:
            return self._config.url
        headers = connection.headers
        host = headers.get("host", "")
        if not re.fullmatch(_HOST, host):
            raise Refused(400, "The request names no host.")
        # Whoever shows no secret gains nothing by lying here: it changes its own answer alone.
        forwarded = headers.get("x-forwarded-proto", "").partition(",")[0].strip().lower()
        own = "https" if connection.url.scheme in ("https", "wss") else "http"
        return f"{forwarded if forwarded in _SECURE else own}://{host}"

    def trusts(self, carrier: str, connection: HTTPConnection, form: list[tuple[str, str]]) -> bool:
        """Whether a request shows the token, or was signed by Twilio."""
        query = connection.url.query
        if shows_token(self._config.token, _lower(connection.headers), query):
            return True
        signature = connection.headers.get("x-twilio-signature")
        if carrier != "twilio" or not signature:
            return False
        base = self.base_url(connection)
        path = connection.url.path + (f"?{query}" if query else "")
        urls = [base + path, base.replace("http", "ws", 1) + path]
        if twilio_signed(self.environ.get("TWILIO_AUTH_TOKEN", ""), signature, urls, form):
            return True
        logger.warning(
            "Twilio's signature does not fit {}: set TWILIO_AUTH_TOKEN to the account's, and "
            "carriers.url where a proxy changes the host",
            base + connection.url.path,
        )
        return False

    def closed(self, carrier: str) -> str:
        """One sentence for a carrier that is not let in."""
        if self._config.token or (carrier == "twilio" and self.environ.get("TWILIO_AUTH_TOKEN")):
            return "The call shows neither the token of this server nor a valid signature."
        return "This server takes no calls of carriers; set carriers.token to let them in."


class _Question:
    """Answers a carrier that asks what to do with a call."""

    def __init__(self, carrier: str, gate: _Gate, sessions: Sessions, limits: Limits) -> None:
        self._carrier = carrier
        self._gate = gate
        self._sessions = sessions
        self._limits = limits

    async def answer(self, request: Request) -> Response:
        form = await self._form(request)
        if not self._gate.trusts(self._carrier, request, form):
            raise Refused(403, self._gate.closed(self._carrier))
        if self._sessions.full:
            document = busy_document(self._carrier)
            if document is None:
                raise Refused(503, "All places on this server are taken; try again later.")
        else:
            facts = read_facts(self._carrier, request.query_params.multi_items(), form)
            base = self._gate.base_url(request).replace("http", "ws", 1)
            ticket = self._gate.tickets.issue(facts)
            document = stream_document(self._carrier, f"{base}/{self._carrier}/{ticket}")
        return Response(document.text, media_type=document.media_type)

    async def _form(self, request: Request) -> list[tuple[str, str]]:
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > self._limits.body_bytes:
                raise Refused(413, f"The request is longer than {self._limits.body_bytes} bytes.")
        text = bytes(body).decode("utf-8", "replace")
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        try:
            if kind == "application/json":
                content = json.loads(text or "{}")
                fields = content.items() if isinstance(content, dict) else ()
                return [(name, value) for name, value in fields if isinstance(value, str)]
            return parse_qsl(text, keep_blank_values=True, max_num_fields=_FORM_FIELDS)
        except (ValueError, RecursionError) as error:
            raise Refused(400, "The request's body cannot be read.") from error


class _CarrierCalls(WebSocketCalls):
    """ASGI endpoint: every WebSocket is a call of one carrier's."""

    def __init__(
        self, carrier: str, gate: _Gate, bot: Bot, sessions: Sessions, limits: Limits
    ) -> None:
        super().__init__(bot, sessions, limits)
        self._carrier = carrier
        self._gate = gate
        self._announce_s = limits.announce_s

    async def __call__(
        self,
        scope: _Message,
        receive: Callable[[], Awaitable[_Message]],
        send: Callable[[_Message], Awaitable[None]],
    ) -> None:
        """Serve one call, if who brings it may; a refusal is HTTP's 403."""
        scope["talkpath.facts"] = facts = self._facts(HTTPConnection(scope))
        if facts is None:
            logger.warning("{}: {}", self._carrier, self._gate.closed(self._carrier))
            await receive()
            await send({"type": "websocket.close", "code": 1008})
            return
        await super().__call__(scope, receive, send)

    def _facts(self, connection: HTTPConnection) -> Facts | None:
        """What is known of the call so far; None if it is not let in."""
        if ticket := connection.path_params.get("ticket"):
            return self._gate.tickets.redeem(self._carrier, ticket)
        try:
            trusted = self._gate.trusts(self._carrier, connection, [])
        except Refused:
            return None
        if not trusted:
            return None
        query = connection.query_params.multi_items()
        parameters = {name: value for name, value in query if name != "token"}
        return Facts(self._carrier, "", "", "", parameters)

    async def arguments(
        self, websocket: WebSocket, session_id: str
    ) -> WebSocketRunnerArguments | None:
        """Read who calls; a connection that a carrier only tries is served here."""
        try:
            async with asyncio.timeout(self._announce_s):
                announced, message = await self._announced(websocket)
                inner = carrier_serializer(announced, self._gate.environ)
                if self._carrier == "genesys":
                    await _answer(websocket, inner, message)
                if announced.probe:
                    await self._serve_probe(websocket, inner)
                    return None
        except TimeoutError as error:
            raise HandshakeError(f"no call within {self._announce_s:.0f} s") from error
        except WebSocketDisconnect:
            logger.info("session {}: {} hung up before its call began", session_id, self._carrier)
            return None
        call = _completed(announced, websocket.scope["talkpath.facts"])
        logger.info("session {}: {} call {}", session_id, call.carrier, call.call_id)
        return CarrierArguments(
            websocket=websocket,
            transport_type=call.carrier,
            session_id=session_id,
            body=call.body(),
            call_data=_call_data(call),
            serializer=CarrierSerializer(call.carrier, inner, websocket.close),
        )

    async def _announced(self, websocket: WebSocket) -> tuple[CarrierCall, str | bytes]:
        handshake = Handshake(self._carrier)
        while True:
            message = await _next(websocket)
            call = handshake.receive(message)
            if call is not None:
                return call, message

    async def _serve_probe(self, websocket: WebSocket, serializer: FrameSerializer) -> None:
        """Genesys tries whether somebody is there: it closes after our answer."""
        while True:
            message = await _next(websocket)
            await _answer(websocket, serializer, message)
            if isinstance(message, str) and json.loads(message).get("type") == "close":
                await websocket.close()
                return


async def _next(websocket: WebSocket) -> str | bytes:
    message = await websocket.receive()
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message.get("code", 1005))
    text, data = message.get("text"), message.get("bytes")
    return text if text is not None else data or b""


async def _answer(websocket: WebSocket, serializer: FrameSerializer, message: str | bytes) -> None:
    """Send what a serializer answers by itself, where the bot's pipeline is not there yet."""
    frame = await serializer.deserialize(message)
    if isinstance(frame, OutputTransportMessageUrgentFrame):
        await websocket.send_text(json.dumps(frame.message))


def _completed(call: CarrierCall, facts: Facts) -> CarrierCall:
    """The call with what was said over HTTP; what its own message says counts more."""
    return replace(
        call,
        call_id=call.call_id or facts.call_id,
        from_number=call.from_number or facts.from_number,
        to_number=call.to_number or facts.to_number,
        parameters={**facts.parameters, **call.parameters},
    )


def _call_data(call: CarrierCall) -> CallData:
    data = {
        "stream_id": call.stream_id,
        "call_id": call.call_id,
        "from": call.from_number or None,
        "to": call.to_number or None,
        "body": dict(call.parameters),
    }
    return CallData.model_validate(data)


def _lower(headers: Headers) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}
