"""OpenAI's audio endpoints over HTTP, for recordings.

======================================  =====================================================
``POST /v1/audio/transcriptions``       a form (``form.py``) becomes a transcript
``POST /v1/audio/translations``         likewise, in English, whatever is spoken
``GET /v1/models``                      the one model that there is
``GET /v1/models/{id}``                 the same, by its name, which may have slashes
======================================  =====================================================

Recordings are decoded after all live streams, a few at a time; one more is refused with 503.
Errors have OpenAI's shape. With ``stream`` those that come before the first text are answered
with their status; a later one is the last event, of type ``error``. A client that leaves, or does
not read, stops the work; so does the server when it has no more time.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from talkpath.agent.errors import TalkpathError
from talkpath.agent.server.admission import Denied, client_of
from talkpath.agent.server.problems import Problem, problem_of
from talkpath.agent.server.protocols.fields import Refused
from talkpath.agent.server.recordings.answers import Events, Heard, answer_for
from talkpath.agent.server.recordings.form import TranscriptionWish, read_form
from talkpath.agent.server.recordings.uploads import Upload, UploadLimits, receive_upload
from talkpath.agent.server.service import Service
from talkpath.agent.transcribe import FileTranscription, Piece
from talkpath.agent.whisper import DecodeOptions

__all__ = ["rest_routes"]

_log = logging.getLogger(__name__)

_T = TypeVar("_T")


def rest_routes(service: Service) -> list[BaseRoute]:
    """The routes of the endpoints; they answer errors themselves.

    Args:
        service: engine, places, settings.
    """
    models = _Models(service.model)
    tasks = {"transcriptions": "transcribe", "translations": "translate"}
    return [
        *(
            Route(f"/v1/audio/{name}", _Recordings(service, task), methods=["POST"])
            for name, task in tasks.items()
        ),
        Route("/v1/models", models.all, methods=["GET"]),
        Route("/v1/models/{name:path}", models.one, methods=["GET"]),
    ]


class _Models:
    """The list of models, with one model in it."""

    def __init__(self, name: str) -> None:
        self._model = {
            "id": name,
            "object": "model",
            "created": int(time.time()),
            "owned_by": "talkpath",
        }

    async def all(self, request: Request) -> Response:
        """Give the list."""
        return JSONResponse({"object": "list", "data": [self._model]})

    async def one(self, request: Request) -> Response:
        """Give a model by its name."""
        name = request.path_params["name"]
        if name == self._model["id"]:
            return JSONResponse(self._model)
        why = f"there is no model {name[:100]!r} here; there is {self._model['id']!r}"
        return _response(Problem(why, status=404, code="model_not_found", param="model"))


class _Gone(Exception):
    """The client left, or does not read."""


class _Recordings:
    """One endpoint: an ASGI application."""

    def __init__(self, service: Service, task: str) -> None:
        self._service = service
        self._task = task
        serve = service.config.serve
        self._limits = UploadLimits(file_bytes=serve.upload_bytes, idle_s=serve.idle_s)
        config = service.config.whisper
        language = service.engine.check_language(config.language)
        self._usual = replace(DecodeOptions.of(config, language), task=task)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = Request(scope, receive)
        answering = _Answering(send, self._service.config.serve.stalled_s)
        try:
            response = await self._answer(request, answering)
            outcome = "transcribed"
        except (_Gone, ClientDisconnect):
            _log_end(request, answering, "the client left, or does not read")
            return
        except (TalkpathError, Refused) as error:
            if isinstance(error, Denied):
                self._service.metrics.denied.add(of="upload")
            problem = problem_of(error)
            if problem.status >= 500 and not isinstance(error, Denied):
                _log.warning("a recording was not transcribed: %s", problem)
            outcome = f"{problem.status} {problem.code}"
            response = _LastEvent(problem) if answering.begun else _response(problem)
        _log_end(request, answering, outcome)
        await response(scope, receive, send)

    async def _answer(self, request: Request, answering: "_Answering") -> Response:
        """Carry out a request; what is streamed is sent here, but for the last empty piece."""
        self._check_task()
        admission = self._service.admission
        with admission.upload(client_of(request.scope)):
            self._service.metrics.uploads.add()
            body = request.stream()
            async with (
                admission.until_given_up(),
                aclosing(body),
                receive_upload(request.headers, body, self._limits) as form,
            ):
                wish = read_form(form.fields, self._service.engine, self._usual)
                transcription = self._transcription(form, wish)
                answering.transcription = transcription
                if wish.stream:
                    work = self._stream(transcription, wish, answering)
                else:
                    work = self._whole(transcription, wish)
                return await _while_there(request, work)

    def _check_task(self) -> None:
        if self._task == "translate" and self._service.engine.languages <= {"en"}:
            why = (
                f"the model {self._service.model} knows English only and cannot translate; "
                "the server needs a multilingual one, such as base"
            )
            raise Problem(why, status=400, code="unsupported_model", param="model")

    def _transcription(self, form: Upload, wish: TranscriptionWish) -> FileTranscription:
        threshold = wish.threshold or self._service.config.speech.threshold
        return FileTranscription(
            Path(form.name),
            self._service.engine,
            self._service.vad,
            content=form.content,
            language=wish.language,
            options=wish.options,
            threshold=threshold,
            longest_s=self._service.config.serve.recording_s,
        )

    async def _whole(self, transcription: FileTranscription, wish: TranscriptionWish) -> Response:
        answer = answer_for(wish)
        async with aclosing(transcription.pieces()) as pieces:
            async for piece in pieces:
                answer.add(piece)
        return Response(answer.finish(_heard(transcription)), media_type=answer.media_type)

    async def _stream(
        self, transcription: FileTranscription, wish: TranscriptionWish, answering: "_Answering"
    ) -> Response:
        events = Events(logprobs=wish.logprobs)
        async with aclosing(transcription.pieces()) as pieces:
            # Before the first text there is still time for an error with a status.
            piece: Piece | None = await anext(pieces, None)
            await answering.begin()
            while piece is not None:
                await answering.add(events.add(piece))
                piece = await anext(pieces, None)
            await answering.add(events.finish(_heard(transcription)))
        return _Ended()


class _Answering:
    """An answer, and how it is sent piece by piece.

    Attributes:
        begun: whether the client has been told that it comes in pieces.
        transcription: what it tells, once that is known.
    """

    def __init__(self, send: Send, stalled_s: float) -> None:
        self._send = send
        self._stalled_s = stalled_s
        self.begun = False
        self.transcription: FileTranscription | None = None

    async def begin(self) -> None:
        """Send the status and the headers."""
        self.begun = True
        await self._within_limit(_start())

    async def add(self, event: bytes) -> None:
        """Send an event.

        Raises:
            _Gone: the client takes nothing.
        """
        await self._within_limit(_part(event))

    async def _within_limit(self, message: dict[str, object]) -> None:
        try:
            async with asyncio.timeout(self._stalled_s):
                await self._send(message)
        except TimeoutError:
            raise _Gone from None


class _Ended(Response):
    """The end of an answer that was sent piece by piece."""

    last = b""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.body", "body": self.last, "more_body": False})


class _LastEvent(_Ended):
    """The end of one that could not be finished."""

    def __init__(self, problem: Problem) -> None:
        super().__init__()
        self.last = Events(logprobs=False).fail(problem)


async def _while_there(request: Request, work: Awaitable[_T]) -> _T:
    """Carry something out for as long as the client is there.

    Raises:
        _Gone: it left; the work has ended.
    """
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_departure(request.receive))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise _Gone
        return working.result()
    finally:
        working.cancel()
        leaving.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _departure(receive: Receive) -> None:
    """Wait until the client leaves: nothing else comes once the body is there."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _log_end(request: Request, answering: _Answering, outcome: str) -> None:
    what = answering.transcription
    length_s = (what.duration_s if what else None) or 0.0
    _log.info("recording ended: %s, %.1f s, %s", client_of(request.scope), length_s, outcome)


def _heard(transcription: FileTranscription) -> Heard:
    return Heard(
        duration_s=transcription.duration_s or 0.0,
        language=transcription.language,
        warning=transcription.problem,
    )


def _response(problem: Problem) -> Response:
    return JSONResponse(problem.body, problem.status, problem.headers)


def _start() -> dict[str, object]:
    headers = [
        (b"content-type", b"text/event-stream; charset=utf-8"),
        (b"cache-control", b"no-store"),
    ]
    return {"type": "http.response.start", "status": 200, "headers": headers}


def _part(body: bytes) -> dict[str, object]:
    return {"type": "http.response.body", "body": body, "more_body": True}
