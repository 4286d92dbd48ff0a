"""Problems: what a request over HTTP is answered with when it is not carried out."""

from talkpath.agent.errors import (
    AudioError,
    ConfigError,
    EngineClosed,
    EngineOverloaded,
    TalkpathError,
)
from talkpath.agent.server.admission import Denied
from talkpath.agent.server.protocols.fields import Refused

__all__ = ["Problem", "problem_of"]

_RETRY_AFTER_S = 5  # a place is free again when somebody's recording is done
_AGAIN_LATER = (429, 503)
_TOO_BUSY = 503


class Problem(TalkpathError):
    """A request that is not carried out; the message is one sentence for the client.

    Attributes:
        status: of HTTP.
        code: OpenAI's word for it, or one like theirs.
        param: the field that is wrong, or None.
    """

    def __init__(self, message: str, *, status: int, code: str, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.param = param

    @property
    def body(self) -> dict[str, dict[str, str | None]]:
        """The answer in OpenAI's shape."""
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        return {
            "error": {
                "message": str(self),
                "type": kind,
                "param": self.param,
                "code": self.code,
            }
        }

    @property
    def headers(self) -> dict[str, str]:
        """Headers that go with it."""
        return {"Retry-After": str(_RETRY_AFTER_S)} if self.status in _AGAIN_LATER else {}


def problem_of(error: TalkpathError | Refused) -> Problem:
    """What a client is told of an error."""
    match error:
        case Problem():
            return error
        case Refused():
            return Problem(error.message, status=400, code=error.code, param=error.param)
        case Denied():
            code = "rate_limit_exceeded" if error.status == 429 else "server_overloaded"
            return Problem(str(error), status=error.status, code=code)
        case AudioError():
            return Problem(str(error), status=400, code="invalid_audio", param="file")
        case ConfigError():
            return Problem(str(error), status=400, code="invalid_value")
        case EngineOverloaded() | EngineClosed():
            return Problem(str(error), status=_TOO_BUSY, code="server_overloaded")
        case _:
            return Problem(str(error), status=500, code="transcription_failed")
