"""Replies from any OpenAI-compatible server, and words for the caller when it fails.

Frames in: ``LLMContextFrame``. Frames out: ``LLMTextFrame`` between the start and the end of
a response; on a failure an ``ErrorFrame`` upstream and a spoken apology downstream.
"""

import asyncio
import itertools
import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from openai import AsyncOpenAI, DefaultAsyncHttpxClient, Timeout
from pipecat.adapters.llm.services.open_ai_adapter import OpenAILLMInvocationParams
from pipecat.frames.frames import ErrorFrame, TTSSpeakFrame
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.services.openai.llm import OpenAILLMService

from talkpath.agent.config import ReplyConfig
from talkpath.agent.reply import ReplyEndpoint

__all__ = ["APOLOGY", "Reply"]

APOLOGY = "Sorry, I cannot think of an answer right now. Please try again."

_CONNECT_TIMEOUT_S = 3.0
_SILENCE_TIMEOUT_S = 20.0
"""Nobody on a telephone waits longer; the client's own limit is ten minutes."""
_OPENAI_HOST = "api.openai.com"
_CHARACTERS_PER_TOKEN = 3
"""English has four or more."""
_TOKENS_PER_MESSAGE = 8


class Reply(OpenAILLMService):
    """Pipecat's OpenAI service with a caller's patience instead of a program's.

    Args:
        endpoint: the server; a local one needs no key.
        config: system message and longest reply.
    """

    def __init__(self, endpoint: ReplyEndpoint, config: ReplyConfig) -> None:
        host = urlsplit(endpoint.base_url).hostname or ""
        self._is_local = host in ("127.0.0.1", "::1", "localhost")
        self._budget = None
        if endpoint.context_tokens is not None:
            self._budget = endpoint.context_tokens - config.max_tokens
        self._forgotten = 0
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
        """Make the client: no second attempt, and no proxy on the way to this machine."""
        timeout = Timeout(_SILENCE_TIMEOUT_S, connect=_CONNECT_TIMEOUT_S)
        return AsyncOpenAI(
            api_key=api_key,
            base_url=base_url,
            organization=organization,
            project=project,
            default_headers=default_headers,
            max_retries=0,  # it would repeat what timed out, too
            timeout=timeout,
            http_client=DefaultAsyncHttpxClient(timeout=timeout, trust_env=not self._is_local),
        )

    def build_chat_completion_params(
        self, params_from_context: OpenAILLMInvocationParams
    ) -> dict[str, Any]:
        """Put a request together; what the server has no room for is left out."""
        params: dict[str, Any] = super().build_chat_completion_params(params_from_context)
        if self._budget is not None:
            params["messages"] = self._recent(params["messages"], self._budget)
        return params

    def _recent(self, messages: Sequence[Any], budget: int) -> list[Any]:
        """Leave out the oldest turns, never the system message or the newest turn.

        A turn begins with the user's message, so a tool's call and its result stay together.
        The server reads again all that follows a cut, which takes a while: so a cut goes down
        to half of the budget, and stays where it is until the conversation is full again.
        """
        heads = list(itertools.takewhile(lambda message: message["role"] == "system", messages))
        rest = messages[len(heads) :]
        starts = [number for number, message in enumerate(rest) if message["role"] == "user"]
        if self._forgotten not in starts:  # also when another context is given
            self._forgotten = 0
        fixed = sum(map(_tokens, heads))
        sizes = [_tokens(message) for message in rest]
        if fixed + sum(sizes[self._forgotten :]) > budget:
            for start in starts:
                self._forgotten = max(self._forgotten, start)
                if fixed + sum(sizes[self._forgotten :]) <= budget // 2:
                    break
        return [*heads, *rest[self._forgotten :]]

    async def _process_context(self, context: LLMContext) -> None:
        """Stream one reply; the patience is for each word, whatever the server does meanwhile."""
        try:
            async with asyncio.timeout(_SILENCE_TIMEOUT_S) as self._patience:
                await super()._process_context(context)
        except TimeoutError as error:
            raise TimeoutError(f"no word for {_SILENCE_TIMEOUT_S:g} s") from error

    async def _push_llm_text(self, text: str) -> None:
        self._patience.reschedule(asyncio.get_running_loop().time() + _SILENCE_TIMEOUT_S)
        await super()._push_llm_text(text)

    async def push_error_frame(
        self, error: ErrorFrame, force_treat_as_permanent: bool = False
    ) -> None:
        """Report an error, and tell the caller, who would hear nothing otherwise."""
        await super().push_error_frame(error, force_treat_as_permanent)
        await self.push_frame(TTSSpeakFrame(APOLOGY, append_to_context=False))


def _tokens(message: Any) -> int:
    """Estimate a message's length, rather too high than too low."""
    text = json.dumps(message, ensure_ascii=False, default=str)
    # Tokens are bytes at worst, and for other scripts than Latin they may be.
    ascii_characters = sum(map(str.isascii, text))
    others = len(text.encode(errors="replace")) - ascii_characters
    return _TOKENS_PER_MESSAGE + ascii_characters // _CHARACTERS_PER_TOKEN + others
