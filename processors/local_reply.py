"""Replies from any OpenAI-compatible server, and words for the caller when it fails.

Frames in: ``LLMContextFrame``. Frames out: ``LLMTextFrame`` between the start and the end of
a response; on a failure an ``ErrorFrame`` upstream and a spoken apology downstream.
"""

from typing import Any
from urllib.parse import urlsplit

from openai import AsyncOpenAI, DefaultAsyncHttpxClient, Timeout
from pipecat.frames.frames import ErrorFrame, TTSSpeakFrame
from pipecat.services.openai.llm import OpenAILLMService

from talkpath.agent.config import ReplyConfig
from talkpath.agent.reply import ReplyEndpoint

__all__ = ["APOLOGY", "LocalReply"]

APOLOGY = "Sorry, I cannot think of an answer right now. Please try again."

_CONNECT_TIMEOUT_S = 3.0
_SILENCE_TIMEOUT_S = 20.0
"""Nobody on a telephone waits longer; the client's own limit is ten minutes."""
_OPENAI_HOST = "api.openai.com"


class LocalReply(OpenAILLMService):
    """Pipecat's OpenAI service with a caller's patience instead of a program's.

    Args:
        endpoint: the server; a local one needs no key.
        config: system message and longest reply.
    """

    def __init__(self, endpoint: ReplyEndpoint, config: ReplyConfig) -> None:
        host = urlsplit(endpoint.base_url).hostname or ""
        self._is_local = host in ("127.0.0.1", "::1", "localhost")
        settings = OpenAILLMService.Settings(model=endpoint.model, system_instruction=config.prompt)
        # OpenAI itself refuses the older name for its newer models; most others know no other.
        if host == _OPENAI_HOST:
            settings.max_completion_tokens = config.max_tokens
        else:
            settings.max_tokens = config.max_tokens
        super().__init__(
            base_url=endpoint.base_url,
            # Without a key the client would take OPENAI_API_KEY and give it to this server.
            api_key=endpoint.api_key or "none",
            settings=settings,
        )

    def create_client(
        self,
        api_key: str | None = None,
        base_url: str | None = None,
        organization: str | None = None,
        project: str | None = None,
        default_headers: Any = None,
        **kwargs: Any,
    ) -> AsyncOpenAI:
        """Make the client: one quick retry, and no proxy on the way to this machine."""
        timeout = Timeout(_SILENCE_TIMEOUT_S, connect=_CONNECT_TIMEOUT_S)
        return AsyncOpenAI(
            api_key=api_key,
            base_url=base_url,
            organization=organization,
            project=project,
            default_headers=default_headers,
            max_retries=1,
            timeout=timeout,
            http_client=DefaultAsyncHttpxClient(timeout=timeout, trust_env=not self._is_local),
        )

    async def push_error_frame(
        self, error: ErrorFrame, force_treat_as_permanent: bool = False
    ) -> None:
        """Report an error, and tell the caller, who would hear nothing otherwise."""
        await super().push_error_frame(error, force_treat_as_permanent)
        await self.push_frame(TTSSpeakFrame(APOLOGY, append_to_context=False))
