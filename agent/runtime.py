"""Runtime: what all sessions of a process share, each part made when it is first needed."""

import asyncio
import contextvars
import dataclasses
import functools
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from talkpath.agent.config import Config, load_config
from talkpath.agent.errors import ConfigError
from talkpath.agent.metrics import Registry
from talkpath.agent.models import ModelStore
from talkpath.agent.reply_metrics import ReplyMetrics
from talkpath.agent.turn_counts import TurnMetrics

if TYPE_CHECKING:
    from talkpath.agent.reply import ReplyEndpoint, ReplyServer
    from talkpath.agent.smart_turn import SmartTurn
    from talkpath.agent.speech import SileroVad
    from talkpath.agent.voice import Voice
    from talkpath.agent.whisper import WhisperEngine

__all__ = ["Runtime", "context_of", "runtime", "set_runtime"]

# What a part depends on, besides the machine.
_SECTIONS = {"whisper": "whisper", "reply": "reply", "voice": "voice"}


class Runtime:
    """Settings, models and engines of one process, for one event loop.

    Sessions that ask for the same part at once wait for the same load. A load that failed is
    tried again at the next call.

    Args:
        config: the settings.
        store: where models come from.

    Attributes:
        turns: what is counted of all sessions' turns.
        replies: what is counted of all sessions' replies.
    """

    def __init__(self, config: Config, store: ModelStore | None = None) -> None:
        self.config = config
        self.store = store or ModelStore()
        self.turns = TurnMetrics()
        self.replies = ReplyMetrics()
        self._tasks: dict[str, asyncio.Task[Any]] = {}
        self._reply_server: ReplyServer | None = None

    async def whisper(self) -> "WhisperEngine":
        """The speech-to-text engine.

        Raises:
            ModelError: the model is not to be had.
            ConfigError: device, type of weights or language is not to be had.
            MissingDependency: a CUDA library is not installed.
        """

        async def load() -> "WhisperEngine":
            from talkpath.agent.whisper import WhisperEngine

            path = await self._model(self.config.whisper.model)
            return await WhisperEngine.start(path, self.config.whisper)

        engine: WhisperEngine = await self._once("whisper", load)
        return engine

    async def vad(self) -> "SileroVad":
        """The voice activity model."""

        def load() -> "SileroVad":
            from talkpath.agent.speech import SileroVad

            return SileroVad()

        vad: SileroVad = await self._once(
            "voice activity", functools.partial(asyncio.to_thread, load)
        )
        return vad

    async def reply_endpoint(self, prompt: str | None = None) -> "ReplyEndpoint":
        """Where replies come from, and what is asked if it fails: see ``ReplyConfig``.

        Args:
            prompt: the system message that a model in this process reads before the first caller
                comes; None means that of the settings.

        Raises:
            ConfigError: the longest reply leaves no room for a conversation, or no model is named
                and the server does not have one alone.
            ModelError: the local model is not to be had.
            MissingDependency: the local runtime is not installed.
        """

        async def load() -> "ReplyEndpoint":
            from talkpath.agent.reply import ReplyServer
            from talkpath.agent.reply_client import reply_endpoints

            reply = self.config.reply
            first, second = await reply_endpoints(reply)
            local: ReplyEndpoint | None = None
            if reply.local_model is not None:
                path = await self._model(reply.local_model)
                server = await ReplyServer.start(path, prompt=prompt or reply.prompt)
                self._reply_server, local = server, server.endpoint
                most = (local.context_tokens or 0) // 2
                if reply.max_tokens > most:
                    raise ConfigError(
                        f"reply.max_tokens is {reply.max_tokens}; with the model in this process "
                        f"it can be {most}, or there is no room for a conversation"
                    )
            if first is None:
                first = local
            elif second is None:
                second = local
            assert first is not None  # without a URL there is a local model
            return dataclasses.replace(first, fallback=second)

        endpoint: ReplyEndpoint = await self._once("reply", load)
        return endpoint

    async def voice(self) -> "Voice":
        """The Piper voice that speaks or stands in: see ``VoiceConfig``.

        Raises:
            ConfigError: the settings have none.
            ModelError: the voice is not to be had.
            MissingDependency: the voice's runtime is not installed.
        """

        async def load() -> "Voice":
            from talkpath.agent.voice import Voice

            model = self.config.voice.piper_model
            if model is None:
                raise ConfigError(f"voice.service is {self.config.voice.service}, not piper")
            path = await self._model(model)
            return await Voice.load(path)

        voice: Voice = await self._once("voice", load)
        return voice

    async def smart_turn(self) -> "SmartTurn":
        """A turn analyser for one session, on a model that all sessions share."""

        def load() -> Any:
            from talkpath.agent.smart_turn import load_smart_turn

            return load_smart_turn()

        model = await self._once("smart turn", functools.partial(asyncio.to_thread, load))
        from talkpath.agent.smart_turn import SmartTurn

        return SmartTurn(model)

    def registries(self) -> list[Registry]:
        """What is counted in this process, for ``render_prometheus``."""
        registries = [self.turns.registry, self.replies]
        whisper = self._tasks.get("whisper")
        if whisper and whisper.done() and not whisper.cancelled() and not whisper.exception():
            registries.append(whisper.result().metrics.registry)
        return registries

    @property
    def computing(self) -> bool:
        """Whether speech is being transcribed by a model of this process."""
        loaded = self._tasks.get("whisper")
        return _is_loaded(loaded) and bool(loaded.result().unfinished)

    def share(self, other: "Runtime") -> None:
        """Take over what another runtime has loaded, where its settings are the same.

        The parts stay the other's: whoever closes it closes them.
        """
        for name, task in other._tasks.items():
            section = _SECTIONS.get(name)
            same = section is None or getattr(self.config, section) == getattr(
                other.config, section
            )
            if same and _is_loaded(task):
                self._tasks.setdefault(name, task)

    async def aclose(self) -> None:
        """Stop all that was started."""
        tasks, self._tasks = self._tasks, {}
        for task in tasks.values():
            task.cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)
        for name in ("whisper", "voice"):  # these have threads
            loaded = tasks.get(name)
            if loaded is not None and not loaded.cancelled() and loaded.exception() is None:
                await asyncio.to_thread(loaded.result().close)
        if self._reply_server is not None:
            self._reply_server.close()
            self._reply_server = None

    async def _model(self, name: str) -> Path:
        return await asyncio.to_thread(self.store.pull, name)

    async def _once(self, name: str, load: Callable[[], Awaitable[Any]]) -> Any:
        task = self._tasks.get(name)
        if task is None or (task.done() and (task.cancelled() or task.exception() is not None)):
            task = asyncio.create_task(_as_coroutine(load), name=f"load {name}")
            self._tasks[name] = task
        # A session that goes away while a model loads must not take the load with it.
        return await asyncio.shield(task)


def _is_loaded(task: asyncio.Task[Any] | None) -> TypeGuard[asyncio.Task[Any]]:
    return task is not None and task.done() and not (task.cancelled() or task.exception())


async def _as_coroutine(load: Callable[[], Awaitable[Any]]) -> Any:
    return await load()


_runtime: Runtime | None = None
_own: contextvars.ContextVar[Runtime | None] = contextvars.ContextVar("runtime", default=None)


def runtime() -> Runtime:
    """The process's runtime; made from environment and defaults if none was set.

    In a context of ``context_of`` it is that one's.
    """
    own = _own.get()
    if own is not None:
        return own
    global _runtime
    if _runtime is None:
        _runtime = Runtime(load_config())
    return _runtime


def set_runtime(new: Runtime | None) -> None:
    """Set the process's runtime, before any session; None forgets it."""
    global _runtime
    _runtime = new


def context_of(own: Runtime) -> contextvars.Context:
    """A copy of the current context with a runtime of its own, for tasks that start in it."""
    context = contextvars.copy_context()
    context.run(_own.set, own)
    return context
