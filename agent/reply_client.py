"""Clients of servers with OpenAI's chat completions, and which models those servers have."""

import asyncio
import logging
from urllib.parse import urlsplit

from openai import (
    APIConnectionError,
    APIStatusError,
    AsyncOpenAI,
    DefaultAsyncHttpxClient,
    Timeout,
)

from talkpath.agent.errors import ConfigError
from talkpath.agent.reply import ReplyEndpoint
from talkpath.agent.sections import ReplyConfig

__all__ = ["host_of", "is_openai", "open_client", "reply_endpoints"]

_logger = logging.getLogger(__name__)

_CONNECT_TIMEOUT_S = 3.0
_ASK_S = 5.0
_OPENAI_HOST = "api.openai.com"
_MOST_NAMES = 20
"""Of models that an error lists; OpenAI has a hundred."""


def host_of(url: str) -> str:
    """Host and port of a server, for the log."""
    return urlsplit(url).netloc.rpartition("@")[2]


def is_openai(endpoint: ReplyEndpoint) -> bool:
    """Whether it is OpenAI itself, which differs from those that are compatible with it."""
    return urlsplit(endpoint.base_url).hostname == _OPENAI_HOST


def open_client(endpoint: ReplyEndpoint, patience_s: float) -> AsyncOpenAI:
    """Make a client: no second attempt of its own, and no proxy on the way to this machine."""
    timeout = Timeout(patience_s, connect=_CONNECT_TIMEOUT_S)
    is_local = urlsplit(endpoint.base_url).hostname in ("127.0.0.1", "::1", "localhost")
    return AsyncOpenAI(
        # Without a key the client would take OPENAI_API_KEY and give it to this server.
        api_key=endpoint.api_key or "none",
        base_url=endpoint.base_url,
        max_retries=0,  # it would repeat what timed out, too
        timeout=timeout,
        http_client=DefaultAsyncHttpxClient(timeout=timeout, trust_env=not is_local),
    )


async def reply_endpoints(
    config: ReplyConfig,
) -> tuple[ReplyEndpoint | None, ReplyEndpoint | None]:
    """The first server of the settings and the one for when it fails; None for none.

    Each is asked for its models. One that cannot be reached is no reason to stop where its model
    is named: it may come later.

    Raises:
        ConfigError: no model is named, and the server does not have one alone.
    """
    first = second = None
    if config.url is not None:
        first = await _endpoint(config.url, config.api_key, config.model, "--llm-model")
    if config.fallback_url is not None:
        # The name of a model in this process says nothing to a server.
        name = config.fallback_model or (config.model if config.url is not None else None)
        second = await _endpoint(
            config.fallback_url, config.fallback_api_key, name, "--llm-fallback-model"
        )
    return first, second


async def _endpoint(url: str, key: str | None, model: str | None, flag: str) -> ReplyEndpoint:
    """One server, and the model that is meant there."""
    model = model or None  # a setting that was left empty names none
    names, problem = await _models(ReplyEndpoint(base_url=url, api_key=key, model=model or ""))
    where = f"the server at {host_of(url)}"
    if model is not None:
        if problem:
            _logger.warning("the language model: %s %s", where, problem)
    elif problem:
        raise ConfigError(f"the language model is not named ({flag}), and {where} {problem}")
    elif len(names) != 1:
        more = ", ..." if len(names) > _MOST_NAMES else ""
        listed = ", ".join(names[:_MOST_NAMES]) + more or "none"
        raise ConfigError(f"the language model is not named ({flag}); {where} has {listed}")
    return ReplyEndpoint(base_url=url, api_key=key, model=model or names[0])


async def _models(endpoint: ReplyEndpoint) -> tuple[list[str], str]:
    """The models that a server has, or what is wrong with it."""
    try:
        async with open_client(endpoint, _ASK_S) as client, asyncio.timeout(_ASK_S):
            page = await client.models.list()
            return [str(model.id) for model in page.data], ""
    except (APIConnectionError, TimeoutError):
        return [], "cannot be reached"
    except APIStatusError as error:
        return [], f"does not say which models it has (status {error.status_code})"
    except Exception as error:  # a broken server makes its client raise anything
        return [], f"does not say which models it has ({type(error).__name__})"
