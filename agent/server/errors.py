"""Errors of HTTP in OpenAI's shape: ``{"error": {"message", "type", "param", "code"}}``."""

from collections.abc import Mapping

from starlette.responses import JSONResponse

from talkpath.agent.server.admission import Denied

__all__ = ["denied_response", "error_response"]

_RETRY_AFTER_S = 5


def error_response(
    status: int,
    message: str,
    *,
    param: str | None = None,
    code: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """A response that says what went wrong.

    Args:
        status: of HTTP; ``type`` follows from it.
        message: one sentence for the user.
        param: the field of the request that is wrong.
        code: a word for programs.
        headers: more headers; with 503 and 429 ``Retry-After`` is there already.
    """
    kind = "server_error" if status >= 500 else "invalid_request_error"
    if status == 429:
        kind, code = "rate_limit_error", code or "rate_limit_exceeded"
    later = {"Retry-After": str(_RETRY_AFTER_S)} if status in (429, 503) else {}
    error = {"message": message, "type": kind, "param": param, "code": code}
    return JSONResponse({"error": error}, status, {**later, **(headers or {})})


def denied_response(denied: Denied) -> JSONResponse:
    """The response to a request that is not carried out."""
    return error_response(denied.status, f"{denied}.")
