"""A call to a bot, in this process."""

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Mapping
from types import ModuleType
from typing import Any, Literal, TypeAlias

from talkpath.agent.audio import SAMPLE_RATE_HZ, FloatArray, pcm16_to_float
from talkpath.agent.config import Config, load_config
from talkpath.agent.runtime import Runtime, context_of
from talkpath.agent.timeline import TurnLatency
from talkpath.agent.voice import Voice
from talkpath.bots.loader import Bot, Prepare, load_bot
from talkpath.bots.testing.caller import Caller, CallFailed
from talkpath.bots.testing.clock import virtual_time
from talkpath.bots.testing.protocol import Ear
from talkpath.processors.latency_timeline import LatencyTimeline
from talkpath.transports.inprocess import InProcessArguments, Line

__all__ = ["call"]

AnyBot: TypeAlias = "Bot | ModuleType | str"

STARTS_S = 60.0
ENDS_S = 10.0

VOICE = "piper-en-us-joe"
"""The caller's voice, unless another one is named."""


@contextlib.asynccontextmanager
async def call(
    bot: AnyBot,
    *,
    settings: Mapping[str, Any] | Config | None = None,
    time: Literal["virtual", "real"] = "virtual",
    voice: str = VOICE,
    body: Any = None,
    errors: Literal["raise", "keep"] = "raise",
) -> AsyncIterator[Caller]:
    """Call a bot: in the block, the caller is connected; at its end, the caller hangs up.

    Calls may run side by side. Models that one has loaded are there for all later ones with the
    same settings of that model, until the process ends.

    Args:
        bot: ``async def bot(runner_args)``, a module that has it, or a bot's name or path as for
            ``talkpath run``.
        settings: by name (``{"whisper.model": "tiny.en"}``); the others have their defaults, and
            neither the environment nor a file counts. Or all of them.
        time: ``virtual`` leaves out what is waiting only, see ``talkpath.bots.testing.clock``;
            ``real`` takes as long as a real call.
        voice: the caller's, as in ``talkpath models list``, or a path.
        body: what the runner was asked with (``runner_args.body``).
        errors: whether an error that the bot's pipeline reports is raised in the test, or kept in
            ``Caller.errors``, for a test of what the bot does then.

    Yields:
        The caller.

    Raises:
        CallFailed: the bot did not start, or did not end with the call. Its own exceptions are
            raised as they are.
        ConfigError: there is no such bot or setting, or virtual time is not to be had.
    """
    function, prepare, module = _load(bot)
    runtime = _runtime(settings)
    news = asyncio.Event()
    ear = Ear(news.set)
    timeline: list[TurnLatency] = []

    async def on_turn(latency: TurnLatency) -> None:
        timeline.append(latency)
        news.set()

    line = Line([ear, LatencyTimeline(on_turn)], news.set)
    ear.line = line
    arguments = InProcessArguments(line=line, body={} if body is None else body)

    async def run() -> None:
        if prepare is not None:
            await prepare()
        await function(arguments)

    with contextlib.ExitStack() as stack:
        running = asyncio.get_running_loop().create_task(
            run(), name="bot under test", context=context_of(runtime)
        )
        running.add_done_callback(lambda _: news.set())
        speak = functools.partial(_speak, runtime, voice)
        caller = Caller(running, line, ear, speak, timeline, news, keep_errors=errors == "keep")
        if time == "virtual":
            stack.enter_context(
                virtual_time().used(lambda: runtime.computing, caller.got_stuck, module)
            )
        try:
            await caller.is_connected(within_s=STARTS_S)
            yield caller
            await caller.hangs_up()
        except CallFailed:
            raise
        except Exception as error:
            error.add_note(str(caller))
            raise
        finally:
            running.cancel()
            await asyncio.wait({running}, timeout=ENDS_S)


def _load(bot: AnyBot) -> tuple[Bot, Prepare | None, str]:
    """A bot, what it prepares, and the name of its module."""
    if isinstance(bot, str):
        function, prepare = load_bot(bot)
    elif isinstance(bot, ModuleType):
        function, prepare = bot.bot, getattr(bot, "prepare", None)
    else:
        function, prepare = bot, None
    return function, prepare, getattr(function, "__module__", "")


class _SteadyRuntime(Runtime):
    """Of which Piper's voice, the bot's and the caller's, says a sentence alike in each run."""

    async def voice(self) -> Voice:
        return (await super().voice()).steady()


_runtimes: list[Runtime] = []


def _runtime(settings: Mapping[str, Any] | Config | None) -> Runtime:
    """The runtime with these settings, with what others have loaded already."""
    config = settings
    if not isinstance(config, Config):
        config = load_config(dict(config or {}), environ={})
    runtime = next((known for known in _runtimes if known.config == config), None)
    if runtime is None:
        _runtimes.append(runtime := _SteadyRuntime(config))
    for other in _runtimes:
        runtime.share(other)
    return runtime


async def _speak(runtime: Runtime, voice: str, text: str) -> FloatArray:
    """Say a text as float32 samples, ``[n]``, 16 kHz."""
    if runtime.config.voice.piper_model != voice:
        runtime = _runtime({"voice.model": voice})
    spoken = await (await runtime.voice()).say(text, SAMPLE_RATE_HZ)
    return pcm16_to_float(spoken.pcm)
