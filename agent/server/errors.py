"""Errors of HTTP in OpenAI's shape: ``{"error": {"message", "type", "param", "code"}}``."""

from collections.abc import Mapping

from starlette.responses import JSONResponse

from talkpath.agent.server.problems import Problem

__all__ = ["error_response"]


def error_response(
    status: int, message: str, *, code: str, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """A response that says what went wrong.

    Args:
        status: of HTTP.
        message: one sentence for the user.
        code: a word for programs.
        headers: more headers; with 503 and 429 ``Retry-After`` is there already.
    """
    problem = Problem(message, status=status, code=code)
    return JSONResponse(problem.body, status, {**problem.headers, **(headers or {})})
