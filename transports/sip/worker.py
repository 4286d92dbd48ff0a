"""A worker: one SIP stack, the models, and the bots' pipelines, in a process of its own.

It talks to its listener over a control channel, from which it also gets its settings, and exits
when the channel closes or the SIP stack dies: what is left of its calls then is the listener's.
"""

import asyncio
import contextlib
import ctypes
import gc
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from loguru import logger

from talkpath.agent.config import Config, load_config
from talkpath.agent.errors import ConfigError, TalkpathError, UnknownModel
from talkpath.agent.metrics import render_prometheus
from talkpath.agent.runtime import Runtime, set_runtime
from talkpath.transports.sessions import Bot
from talkpath.transports.sip.baresip_engine import BaresipEngine, MediaProfile
from talkpath.transports.sip.control import ControlChannel
from talkpath.transports.sip.leg import CallLeg, LegError
from talkpath.transports.sip.remote_exchange import RemoteExchange, call_info
from talkpath.transports.sip.session import attend_call

__all__ = ["Loader", "attend_calls", "follow_parent"]

Loader = Callable[[str], tuple[Bot, Callable[[], Awaitable[None]] | None]]
"""Finds a bot and its ``prepare`` by name or path."""

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def follow_parent() -> None:
    """Die with the process that started this one, and leave signals to it.

    What a terminal or a service manager sends to all processes is for the listener, which lets
    calls end in good order. Linux kills this process with its parent; elsewhere the closed control
    channel ends it.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


async def attend_calls(sock: socket.socket, load: Loader) -> int:
    """Be a worker until the listener wants no more of it.

    Args:
        sock: the worker's end of the control channel.
        load: finds the bots.

    Returns:
        The exit code: 0 where the listener closed the channel.
    """
    worker = _Worker(sock, load)
    try:
        return await worker.run()
    finally:
        await worker.close()


class _Worker:
    def __init__(self, sock: socket.socket, load: Loader) -> None:
        self._load = load
        self._started: asyncio.Future[Mapping[str, Any]]
        self._started = asyncio.get_running_loop().create_future()
        self._dead = asyncio.Event()
        self._draining = False
        self._bots: dict[str, Bot] = {}
        self._calls: set[asyncio.Task[Any]] = set()
        self._config = Config()
        self._runtime: Runtime | None = None
        self._engine: BaresipEngine | None = None
        self._exchange: RemoteExchange | None = None
        self._channel = ControlChannel(
            sock,
            {
                "start": self._start,
                "ping": self._ping,
                "incoming": self._incoming,
                "dial": self._dial,
                "hang_up": self._hang_up,
                "drain": self._drain,
                "metrics": self._metrics,
                "quality": self._quality,
            },
            "the listener",
        )

    async def run(self) -> int:
        await self._channel.start()
        preparing = asyncio.create_task(self._prepare(), name="preparation")
        closed = asyncio.create_task(self._channel.closed.wait(), name="the listener lives")
        dead = asyncio.create_task(self._dead.wait(), name="the SIP stack lives")
        try:
            await asyncio.wait({preparing, closed}, return_when=asyncio.FIRST_COMPLETED)
            if closed.done():
                return 0
            await preparing
            await asyncio.wait({closed, dead}, return_when=asyncio.FIRST_COMPLETED)
            return 0 if closed.done() else 1
        except TalkpathError as error:
            setting = isinstance(error, (ConfigError, UnknownModel))
            with contextlib.suppress(LegError):  # then nobody wants to know
                await self._channel.tell("failed", message=str(error), setting=setting)
            return 1
        finally:
            for task in (preparing, closed, dead):
                task.cancel()
            await asyncio.gather(preparing, closed, dead, return_exceptions=True)

    async def close(self) -> None:
        """End the calls, the stack, and what was loaded."""
        if self._engine is not None:
            await self._engine.stop()
        for task in tuple(self._calls):
            task.cancel()
        await asyncio.gather(*self._calls, return_exceptions=True)
        await self._channel.stop()
        set_runtime(None)
        if self._runtime is not None:
            await self._runtime.aclose()

    async def _prepare(self) -> None:
        """Load everything, and say that calls may come."""
        start = await self._started
        self._config = load_config(start["config"], environ={})
        self._runtime = Runtime(self._config)
        set_runtime(self._runtime)
        await self._load_bots(start["bots"])
        self._exchange = RemoteExchange(self._channel, start["address"])
        profiles = {profile.pop("name"): _profile(profile) for profile in start["profiles"]}
        engine = BaresipEngine(
            self._exchange, self._config.sip, profiles, advertised=start["advertised"]
        )
        engine.on_incoming(self._take)
        engine.on_dead(self._dead.set)
        await engine.start()
        self._engine = engine
        # What was loaded stays: no later collection needs to look at it.
        gc.collect()
        gc.freeze()
        await self._channel.tell("ready", port=engine.port, users=dict(engine.users))

    async def _load_bots(self, names: Sequence[str]) -> None:
        for name in names:
            # Importing a bot and its libraries takes seconds; the channel is served meanwhile.
            self._bots[name], prepare = await asyncio.to_thread(self._load, name)
            if prepare is not None:
                await prepare()

    # -- calls -------------------------------------------------------------------------------

    async def _take(self, leg: CallLeg) -> None:
        """An inbound call came."""
        bot = self._bots.get(leg.info.bot)
        if bot is None or self._draining:
            await leg.reject(503 if self._draining else 404)
            return
        self._attend(bot, leg)

    def _attend(self, bot: Bot, leg: CallLeg) -> None:
        work = attend_call(bot, leg, self._config.sip)
        task = asyncio.create_task(work, name=f"call {leg.info.call_id}")
        self._calls.add(task)
        task.add_done_callback(self._over)
        self._tell_load()

    def _over(self, task: asyncio.Task[Any]) -> None:
        self._calls.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.opt(exception=error).error("{} failed", task.get_name())
        self._tell_load()

    def _tell_load(self) -> None:
        """Say how many calls there are."""
        try:
            self._channel.tell_now("load", calls=len(self._calls))
        except LegError as error:  # a closed channel ends everything soon
            logger.debug("the listener does not learn of the load: {}", error)

    # -- what the listener says --------------------------------------------------------------

    async def _start(self, **fields: Any) -> None:
        if not self._started.done():
            self._started.set_result(fields)

    async def _ping(self) -> None:
        """The answer is that there is one."""

    async def _incoming(self, info: Mapping[str, Any]) -> None:
        if self._exchange is not None:
            self._exchange.announce(call_info(info))

    async def _dial(
        self, info: Mapping[str, Any], headers: Mapping[str, str], uri: str = ""
    ) -> dict[str, Any]:
        wanted = call_info(info)
        bot = self._bots.get(wanted.bot)
        if self._engine is None or bot is None:
            raise LegError(f"there is no bot {wanted.bot!r} here")
        if self._draining:
            raise LegError("no calls are made any more")
        leg = await self._engine.dial(wanted, headers, uri=uri)
        self._attend(bot, leg)
        return {"call_id": leg.info.call_id}

    async def _hang_up(self, call_id: str) -> None:
        legs = self._engine.legs if self._engine is not None else ()
        leg = next((leg for leg in legs if leg.info.call_id == call_id), None)
        if leg is None:
            raise LegError(f"there is no call {call_id}")
        await leg.hang_up()

    async def _drain(self) -> None:
        self._draining = True

    async def _metrics(self) -> dict[str, Any]:
        registries = self._runtime.registries() if self._runtime is not None else []
        return {"text": "".join(render_prometheus(registry) for registry in registries)}

    async def _quality(self) -> dict[str, Any]:
        legs = self._engine.legs if self._engine is not None else ()
        return {"calls": {leg.info.call_id: asdict(leg.quality()) for leg in legs}}


def _profile(fields: Mapping[str, Any]) -> MediaProfile:
    return MediaProfile(**{**fields, "codecs": tuple(fields["codecs"])})
