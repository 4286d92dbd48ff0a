"""A worker, seen from the listener: a child process with a control channel.

Its settings go over the channel, never over the command line, where everybody on the machine would
see the passwords. When the listener dies, the channel closes, and the worker ends by itself.
"""

import asyncio
import contextlib
import functools
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from talkpath.agent.errors import ConfigError, TalkpathError
from talkpath.transports.sip.control import ControlChannel, Handler
from talkpath.transports.sip.leg import LegError

__all__ = ["WORKER", "Timing", "Worker", "WorkerHandler"]

WORKER = (sys.executable, "-m", "talkpath.bots.sip_worker")
"""The command of a worker; the number of its control channel's descriptor follows."""

WorkerHandler = Callable[..., Awaitable[Mapping[str, Any] | None]]
"""Takes the worker that says something, and the message's fields as keywords."""

_LAST_S = 0.5  # from a closed channel to the end of its process


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """When workers are started, looked after, and given up.

    Attributes:
        start_s: seconds in which a worker must be ready; models load meanwhile.
        wait_s: seconds that a call waits for a worker with room. Callers hear ringing, and give
            up by themselves; most networks give an unanswered call one to three minutes.
        idle_s: seconds without a call after which a worker that there is no need for is ended.
            Longer than the pauses of a busy hour: loading models costs a core for seconds.
        ping_s: seconds between the looks at a worker that is ready.
        answer_s: seconds that it has to answer; one that does not is killed.
        backoff_s: seconds from a death to the next start, doubled with each further death.
        backoff_most_s: the longest of them.
        settled_s: seconds of being ready after which a death is not one of a series.
        attempts: starts in a row that may fail before nothing is tried any more.
        hang_up_s: seconds that calls have to end once they were hung up.
        exit_s: seconds that a process has to exit before it is killed.
    """

    start_s: float = 300.0
    wait_s: float = 60.0
    idle_s: float = 300.0
    ping_s: float = 2.0
    answer_s: float = 10.0
    backoff_s: float = 0.5
    backoff_most_s: float = 30.0
    settled_s: float = 60.0
    attempts: int = 3
    hang_up_s: float = 2.0
    exit_s: float = 5.0


class Worker:
    """One worker process.

    Args:
        number: its id.
        changed: called when its state or its calls change.
        timing: when what happens.

    Attributes:
        id: counts up from 1.
        state: ``starting``, ``ready``, ``draining`` or ``dead``.
        port: UDP port of its SIP stack on the loopback interface, once it is ready.
        users: by profile, the user part of the address under which its stack takes calls.
        told_why: whether it died of something that it explained itself before it was ready.
    """

    def __init__(self, number: int, changed: Callable[[], None], timing: Timing) -> None:
        self.id = number
        self.state = "starting"
        self.port = 0
        self.users: Mapping[str, str] = {}
        self.told_why = False
        self._changed = changed
        self._timing = timing
        self._call_ids: set[str] = set()
        self._load = 0
        self._ready_at = 0.0
        self._idle_at = 0.0
        self._channel: ControlChannel | None = None
        self._process: asyncio.subprocess.Process | None = None

    def __str__(self) -> str:
        return f"worker {self.id}"

    @property
    def channel(self) -> ControlChannel:
        """The way to talk to it.

        Raises:
            LegError: it never came to life.
        """
        if self._channel is None:
            raise LegError(f"{self} cannot be reached")
        return self._channel

    @property
    def pid(self) -> int:
        """The process's number; 0 where there is none."""
        return self._process.pid if self._process else 0

    @property
    def call_ids(self) -> frozenset[str]:
        """The calls that were given to it."""
        return frozenset(self._call_ids)

    @property
    def calls(self) -> int:
        """How many calls it has: those given to it, or those it tells of if they are more."""
        return max(len(self._call_ids), self._load)

    @property
    def ready_s(self) -> float:
        """Seconds since it was ready; 0 where it never was."""
        return time.monotonic() - self._ready_at if self._ready_at else 0.0

    @property
    def idle_s(self) -> float:
        """Seconds for which it has been ready and without a call; 0 where it is not."""
        if self.state != "ready" or self.calls:
            return 0.0
        return time.monotonic() - self._idle_at

    def add(self, *call_ids: str) -> None:
        """Calls are given to it."""
        self._call_ids.update(call_ids)
        self._changed()

    def rename(self, old: str, new: str) -> None:
        """A call that was given to it is known by another name."""
        self._call_ids.discard(old)
        self.add(new)

    def remove(self, call_id: str) -> None:
        """A call of its is over."""
        self._call_ids.discard(call_id)
        self._idle_at = time.monotonic()
        self._changed()

    async def run(
        self,
        command: Sequence[str],
        start: Mapping[str, Any],
        handlers: Mapping[str, WorkerHandler],
    ) -> None:
        """Start the process, and look after it until it is dead.

        Args:
            command: see ``WORKER``.
            start: fields of the first message.
            handlers: what it may say besides ``ready``, ``failed`` and ``load``.

        Raises:
            TalkpathError: why it died; always, but for a cancellation.
        """
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        own: dict[str, Handler] = {
            **{type: functools.partial(take, self) for type, take in handlers.items()},
            "ready": functools.partial(self._be_ready, ready),
            "failed": functools.partial(self._fail, ready),
            "load": self._set_load,
        }
        patience_s = 0.0
        try:
            await self._spawn(command, own)
            await self.channel.tell("start", **start)
            await self._live(ready)
        except asyncio.CancelledError:
            patience_s = self._timing.exit_s
            raise
        finally:
            ready.cancel()
            self.state = "dead"
            self._load = 0
            await self._end(patience_s)

    async def _spawn(self, command: Sequence[str], handlers: Mapping[str, Handler]) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._channel = ControlChannel(ours, handlers, str(self))
            await self._channel.start()
            try:
                # A session of its own: Ctrl-C in a terminal is for the listener, which ends calls
                # in good order.
                self._process = await asyncio.create_subprocess_exec(
                    *command,
                    str(theirs.fileno()),
                    pass_fds=(theirs.fileno(),),
                    stdin=asyncio.subprocess.DEVNULL,
                    start_new_session=True,
                )
            except OSError as error:
                raise TalkpathError(f"{self} cannot be started: {error}") from error

    async def _live(self, ready: "asyncio.Future[None]") -> None:
        """Wait for the process to be ready, then for its death."""
        assert self._process is not None
        gone = asyncio.create_task(self._process.wait(), name=f"{self} lives")
        closed = asyncio.create_task(self.channel.closed.wait(), name=f"{self} speaks")
        pings = asyncio.create_task(self._ping(ready), name=f"pings of {self}")
        try:
            await asyncio.wait({gone, closed, pings}, return_when=asyncio.FIRST_COMPLETED)
            if ready.done():
                ready.result()  # it may have said why it cannot start
            if closed.done() and not gone.done():  # in an exit, the channel is closed first
                await asyncio.wait({gone}, timeout=_LAST_S)
            if not gone.done() and pings.done():
                pings.result()
            raise TalkpathError(_end_of(gone.result()) if gone.done() else "it fell silent")
        finally:
            tasks = (gone, closed, pings)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _ping(self, ready: "asyncio.Future[None]") -> None:
        """Look whether the process still answers, once it is ready.

        Raises:
            TalkpathError: it does not, or it cannot start.
        """
        try:
            async with asyncio.timeout(self._timing.start_s):
                await asyncio.shield(ready)
        except TimeoutError as error:
            what = f"it was not ready within {self._timing.start_s:g} s"
            raise TalkpathError(what) from error
        while not self.channel.closed.is_set():
            await self.channel.ask("ping", self._timing.answer_s)
            await asyncio.sleep(self._timing.ping_s)

    async def _end(self, patience_s: float) -> None:
        """Close the channel, which asks the process to exit, and see that it does."""
        if self._channel is not None:
            await self._channel.stop()
        if self._process is None:
            return
        try:
            async with asyncio.timeout(patience_s):
                await self._process.wait()
        except TimeoutError:
            pass
        finally:
            if self._process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    self._process.kill()
                await self._process.wait()

    async def _be_ready(
        self, ready: "asyncio.Future[None]", port: int, users: Mapping[str, str]
    ) -> None:
        self.port, self.users = port, dict(users)
        self._ready_at = self._idle_at = time.monotonic()
        self.state = "ready"
        if not ready.done():
            ready.set_result(None)
        self._changed()

    async def _fail(self, ready: "asyncio.Future[None]", message: str, setting: bool) -> None:
        self.told_why = True
        if not ready.done():
            ready.set_exception(ConfigError(message) if setting else TalkpathError(message))

    async def _set_load(self, calls: int) -> None:
        self._load = calls
        self._idle_at = time.monotonic()
        self._changed()


def _end_of(code: int) -> str:
    return f"it was killed by signal {-code}" if code < 0 else f"it exited with code {code}"
