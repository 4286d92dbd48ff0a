"""A small language model in this process, behind an OpenAI-compatible server.

llama.cpp (through xllamacpp) brings its own HTTP server. Here it listens on the
loopback interface, on a port of the system's choice, and takes only a random key,
so that nobody else on the machine talks to it. One server serves all sessions: each
of its slots holds one conversation's attention cache.
"""

import asyncio
import json
import logging
import os
import secrets
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from talkpath.agent.errors import MissingDependency, ModelUnavailable

__all__ = ["ReplyEndpoint", "ReplyServer", "threads_beside_whisper"]

_logger = logging.getLogger(__name__)

_START_TIMEOUT_S = 30.0
_WARM_TIMEOUT_S = 60.0
_MOST_THREADS = 8
"""Token generation is bound by memory bandwidth; more threads only disturb each other."""
_PROMPT_CACHE_MIB = 256
_ERRORS_ONLY = 1
"""llama.cpp's verbosity that logs errors alone (3, the default, logs every request)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyEndpoint:
    """Where replies come from.

    Attributes:
        base_url: an OpenAI-compatible server's URL, including ``/v1``.
        api_key: the key it wants, or None.
        model: the model's name there.
        context_tokens: longest conversation that it takes, reply included; None if not known.
        remembers: whether it keeps what it has read of a conversation, so that reading ahead of
            a reply saves time.
        fallback: the server to ask when this one fails, or None.
    """

    base_url: str
    api_key: str | None = field(default=None, repr=False)
    model: str
    context_tokens: int | None = None
    remembers: bool = False
    fallback: "ReplyEndpoint | None" = None


def threads_beside_whisper() -> int:
    """Threads for the reply, such that one core is left for speech recognition.

    llama.cpp's threads wait for each other after every layer, so one that has to share its
    core holds up all. Measured with SmolLM2 on two cores under load: a first token after
    0.1 s with one thread, after 1.5 to 3 s with two.
    """
    return max(1, min(_MOST_THREADS, (os.cpu_count() or 1) - 1))


class ReplyServer:
    """llama.cpp's server in this process.

    Note:
        xllamacpp holds Python's interpreter lock while it loads a model (0.5 s for one of
        100 MB) and while it stops (70 ms), whatever thread calls it. So start the server
        before the first caller is let in, and stop it after the last one has gone.
    """

    def __init__(self, server: Any, endpoint: ReplyEndpoint) -> None:
        self._server = server
        self.endpoint = endpoint

    @classmethod
    async def start(
        cls,
        model_path: Path,
        *,
        slots: int = 4,
        context_tokens: int = 2048,
        threads: int = 0,
        prompt: str | None = None,
    ) -> "ReplyServer":
        """Load a model and wait until the server answers.

        Args:
            model_path: a GGUF file.
            slots: conversations that are answered at the same time; one more waits.
            context_tokens: longest conversation in tokens, for each slot.
            threads: computing threads; 0 leaves one core to speech recognition.
            prompt: a system message that every slot reads now, so that a caller's first
                turn does not wait for it.

        Raises:
            MissingDependency: xllamacpp is not installed.
            ModelUnavailable: the file is not there or is no model.
        """
        key = secrets.token_urlsafe(24)
        server = await asyncio.to_thread(
            _start, model_path, key, slots, context_tokens, threads or threads_beside_whisper()
        )
        running = cls(
            server,
            ReplyEndpoint(
                base_url=f"{server.listening_address}/v1",
                api_key=key,
                model=model_path.stem,
                context_tokens=context_tokens,
                remembers=True,
            ),
        )
        try:
            await asyncio.to_thread(_await_health, server.listening_address)
            if prompt is not None:
                reading = (asyncio.to_thread(_read, running.endpoint, prompt) for _ in range(slots))
                await asyncio.gather(*reading)
        except BaseException:
            running.close()
            raise
        _logger.info("the language model %s is ready", running.endpoint.model)
        return running

    def close(self) -> None:
        """Stop the server, end its threads and free the model. A second call does nothing."""
        # The last reference's end is the only way that xllamacpp offers.
        self._server = None


def _start(model_path: Path, key: str, slots: int, context_tokens: int, threads: int) -> Any:
    try:
        import xllamacpp
    except ModuleNotFoundError as error:
        raise MissingDependency(
            'a reply on this machine needs xllamacpp: pip install "talkpath[local]"'
        ) from error
    if not model_path.is_file():
        raise ModelUnavailable(f"there is no language model at {model_path}")
    params = xllamacpp.CommonParams()
    params.model.path = str(model_path)
    params.model_alias = {model_path.stem}
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.api_keys = [key]
    params.ui = False
    params.endpoint_slots = False
    params.verbosity = _ERRORS_ONLY
    params.n_parallel = slots
    params.n_ctx = slots * context_tokens
    params.cache_ram_mib = _PROMPT_CACHE_MIB
    for threadpool in (params.cpuparams, params.cpuparams_batch):
        threadpool.n_threads = threads
        # By default idle threads spin for a while, on cores that Whisper wants.
        threadpool.poll = 0
    # The server's defaults, so that requests stay plain OpenAI. Temperature and top_p are
    # those of SmolLM2's model card; the penalty keeps a tiny model from repeating itself.
    params.sampling.temp = 0.2
    params.sampling.top_p = 0.9
    params.sampling.penalty_repeat = 1.1
    try:
        return xllamacpp.Server(params)
    except RuntimeError as error:
        raise ModelUnavailable(f"{model_path} is no language model in GGUF format") from error


# A proxy from the environment has no business between two ends in one process.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def _await_health(address: str) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while True:
        try:
            with _opener.open(f"{address}/health", timeout=_START_TIMEOUT_S):
                return
        except OSError as error:
            if time.monotonic() > deadline:
                raise ModelUnavailable(f"the language model did not start: {error}") from error
            time.sleep(0.05)


def _read(endpoint: ReplyEndpoint, prompt: str) -> None:
    """Let one slot read the system message and say one token."""
    content = {
        "model": endpoint.model,
        "max_tokens": 1,
        "messages": [
            {"role": "system", "content": prompt},
            {"role": "user", "content": "Hello"},
        ],
    }
    request = urllib.request.Request(
        f"{endpoint.base_url}/chat/completions",
        data=json.dumps(content).encode(),
        headers={
            "Authorization": f"Bearer {endpoint.api_key}",
            "Content-Type": "application/json",
        },
    )
    try:
        with _opener.open(request, timeout=_WARM_TIMEOUT_S) as response:
            response.read()
    except OSError as error:
        raise ModelUnavailable(f"the language model does not answer: {error}") from error
