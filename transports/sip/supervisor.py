"""The workers of a listener: as many as there is need for, replaced when they die."""

import asyncio
import contextlib
import itertools
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from loguru import logger

from talkpath.agent.config import Config, dump_config
from talkpath.agent.errors import TalkpathError
from talkpath.agent.metrics_text import lasting_prometheus, merge_prometheus
from talkpath.transports.sip.leg import LegError
from talkpath.transports.sip.worker_process import WORKER, Timing, Worker, WorkerHandler

__all__ = ["Supervisor"]

_FIGURES_S = 2.0  # for what a worker that is to end has counted


class Supervisor:
    """Keeps as many workers as there is need for.

    With ``sip.calls_per_worker`` 0 there is one. Otherwise there are at least ``sip.workers``, and
    always room for as many further calls as one worker carries, up to ``sip.max_calls``, so that
    callers seldom wait for a process to load its models. A call that finds no room waits for it. A
    worker that there is no need for is ended once it has had no call for ``timing.idle_s``.

    Args:
        config: the settings; the workers get all of them.
        bots: names or paths of the bots that workers load; the first is that of calls which name
            none.
        handlers: by type, what workers may say besides ``ready``, ``failed`` and ``load``; they
            get the worker before the message's fields.
        on_death: told of each worker that dies after it was ready.
        setup: further fields of the first message to each worker, as JSON has them.
        command: what is run, ``WORKER`` by default; the number of the channel's descriptor is put
            at its end.
        timing: when what happens.

    Attributes:
        failed: set when no worker is left and further ones die before they are ready.
        failure: why, then.
        past_figures: what workers counted that were ended since, for ``merge_prometheus``.
    """

    def __init__(
        self,
        config: Config,
        bots: Sequence[str],
        *,
        handlers: Mapping[str, WorkerHandler],
        on_death: Callable[[Worker], Awaitable[None]],
        setup: Mapping[str, Any],
        command: Sequence[str] | None = None,
        timing: Timing | None = None,
    ) -> None:
        self.failed = asyncio.Event()
        self.failure: TalkpathError | None = None
        self.past_figures = ""
        self._timing = timing or Timing()
        self._handlers = dict(handlers)
        self._on_death = on_death
        self._command = tuple(command or WORKER)
        self._start = {**setup, "config": dump_config(config), "bots": list(bots)}
        self._max_calls = config.sip.max_calls
        self._per_worker = config.sip.calls_per_worker or self._max_calls
        self._least = config.sip.workers
        self._most = math.ceil(self._max_calls / self._per_worker)
        self._keepers: dict[asyncio.Task[None], Worker | None] = {}
        self._waiting: dict[asyncio.Future[Worker | None], str] = {}  # the first one is next
        self._number = 0
        self._deaths = 0  # in a row, none of them after a settled life
        self._false_starts = 0  # in a row
        self._proven = False  # whether a worker has ever been ready
        self._stopping = False
        self._changed = asyncio.Event()
        self._shrinking: asyncio.Task[None] | None = None

    @property
    def workers(self) -> tuple[Worker, ...]:
        """All that live or are being started."""
        return tuple(worker for worker in self._keepers.values() if worker is not None)

    @property
    def calls(self) -> int:
        """Calls of all workers together."""
        return sum(worker.calls for worker in self.workers)

    def find(self, number: int) -> Worker | None:
        """The worker of this number, or None."""
        return next((worker for worker in self.workers if worker.id == number), None)

    @property
    def takes_calls(self) -> bool:
        """Whether a call would be taken, if not at once: a worker lives, and a line is free."""
        lives = any(worker.state == "ready" for worker in self.workers)
        return lives and self._demand < self._max_calls

    def pick(self) -> Worker | None:
        """The worker for the next call: ready, with room, and with the fewest calls; or None.

        Those that there is no need for come last, so that they run out of calls.
        """
        ready = [worker for worker in self.workers if worker.state == "ready"]
        for workers in (ready[: self._wanted], ready):
            free = (worker for worker in workers if worker.calls < self._per_worker)
            worker = min(free, key=lambda worker: worker.calls, default=None)
            if worker is not None:
                return worker
        return None

    def take(self, call_id: str) -> Worker | None:
        """Give a call to a worker; None where it has to ``wait`` for one."""
        worker = None if self._waiting else self.pick()
        if worker is not None:
            worker.add(call_id)
        return worker

    async def wait(self, call_id: str, limit_s: float | None = None) -> Worker | None:
        """Give a call to the next worker that has room; who came first is first.

        Args:
            call_id: of the call.
            limit_s: seconds that it waits; None: ``timing.wait_s``.

        Returns:
            None where none has in that time, where none will ever be, or where as
            many wait already as there may be calls.
        """
        if self._stopping or self.failure or len(self._waiting) >= self._max_calls:
            return None
        seat: asyncio.Future[Worker | None] = asyncio.get_running_loop().create_future()
        self._waiting[seat] = call_id
        self._grow()
        try:
            await asyncio.wait({seat}, timeout=self._timing.wait_s if limit_s is None else limit_s)
        except asyncio.CancelledError:
            if seat.done() and (worker := seat.result()) is not None:
                worker.remove(call_id)  # given in the very moment
            raise
        finally:
            self._waiting.pop(seat, None)
        return seat.result() if seat.done() else None

    async def start(self) -> None:
        """Start workers; return when the first one is ready.

        Raises:
            ConfigError: the workers say that a setting or a bot is wrong.
            TalkpathError: no worker can be started.
        """
        self._grow()
        if self._most > 1:
            self._shrinking = asyncio.create_task(self._shrink(), name="the end of idle workers")
        while not any(worker.state == "ready" for worker in self.workers):
            if self.failure is not None:
                raise self.failure
            await self._change()

    async def drain(self, timeout_s: float) -> None:
        """Give no more calls to anybody; return when all are over, or hung up after a time."""
        self._stopping = True
        self._send_away()
        for worker in self.workers:
            if worker.state == "ready":
                worker.state = "draining"
                with contextlib.suppress(LegError):  # it has just died
                    await worker.channel.tell("drain")
        if await self._idle(timeout_s):
            return
        for worker in self.workers:
            for call_id in worker.call_ids:
                with contextlib.suppress(LegError):
                    await worker.channel.tell("hang_up", call_id=call_id)
        if not await self._idle(self._timing.hang_up_s):
            logger.warning("{} calls did not end when they were hung up", self.calls)

    async def stop(self) -> None:
        """End all workers, and whatever calls they have; nobody is told of these deaths."""
        self._stopping = True
        self._send_away()
        tasks: list[asyncio.Task[None]] = [*self._keepers]
        if self._shrinking is not None:
            tasks.append(self._shrinking)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    async def _idle(self, timeout_s: float) -> bool:
        """Wait until there are no calls."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self.calls:
                    await self._change()
        return not self.calls

    @property
    def _demand(self) -> int:
        """Calls that there are, and those that wait."""
        return self.calls + len(self._waiting)

    @property
    def _wanted(self) -> int:
        """How many workers there should be: room for one worker's calls more than there are."""
        wanted = math.ceil(self._demand / self._per_worker) + 1
        return min(self._most, max(self._least, wanted))

    def _on_change(self) -> None:
        self._changed.set()
        self._seat()
        self._grow()

    def _seat(self) -> None:
        """Give calls that wait to workers that have room by now."""
        while self._waiting and (worker := self.pick()) is not None:
            seats = list(itertools.islice(self._waiting, self._per_worker - worker.calls))
            worker.add(*(self._waiting.pop(seat) for seat in seats))
            for seat in seats:
                seat.set_result(worker)

    def _send_away(self) -> None:
        """Let those that wait know that there will be no worker for them."""
        for seat in self._waiting:
            seat.set_result(None)
        self._waiting.clear()

    def _grow(self) -> None:
        """Start what is missing."""
        staying = sum(not task.cancelling() for task in self._keepers)
        missing = 0 if self._stopping or self.failure else self._wanted - staying
        for _ in range(missing):
            task = asyncio.create_task(self._keep(), name="a worker's supervision")
            self._keepers[task] = None
            task.add_done_callback(self._kept)

    def _kept(self, task: asyncio.Task[None]) -> None:
        del self._keepers[task]
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.opt(exception=error).error("a worker cannot be looked after")
            self._give_up(TalkpathError(f"a worker cannot be looked after: {error}"))
        self._on_change()

    async def _shrink(self) -> None:
        """End workers that there is no need for, one at a time."""
        while True:
            await asyncio.sleep(self._timing.idle_s / 10)
            while (spare := self._spare()) is not None:
                try:
                    await self._dismiss(*spare)
                except Exception:
                    logger.exception("{} cannot be ended", spare[1])

    def _spare(self) -> tuple[asyncio.Task[None], Worker] | None:
        """A worker that may go, and its keeper; the last one of several."""
        ready = [(task, one) for task, one in self._keepers.items() if one and one.state == "ready"]
        if self._waiting or len(ready) <= self._wanted:
            return None
        idle = (pair for pair in reversed(ready) if pair[1].idle_s >= self._timing.idle_s)
        return next(idle, None)

    async def _dismiss(self, keeper: asyncio.Task[None], worker: Worker) -> None:
        """End a worker that has no call, and keep what it has counted."""
        worker.state = "draining"
        logger.info("{} ends: it has had no call for {:g} s", worker, self._timing.idle_s)
        try:
            answer = await worker.channel.ask("metrics", _FIGURES_S)
            figures = lasting_prometheus(str(answer["text"]))
            self.past_figures = merge_prometheus([self.past_figures, figures])
        except LegError as error:
            logger.warning("what {} has counted is lost: {}", worker, error)
        finally:
            keeper.cancel()
            await asyncio.wait({keeper})

    async def _keep(self) -> None:
        """Run a worker, and another one after its death, as long as there is hope."""
        keeper = asyncio.current_task()
        assert keeper is not None
        while not (self._stopping or self.failure):
            self._number += 1
            worker = Worker(self._number, self._on_change, self._timing)
            self._keepers[keeper] = worker
            try:
                await worker.run(self._command, self._start, self._handlers)
            except TalkpathError as error:
                self._keepers[keeper] = None
                await self._bury(worker, error)
            finally:
                self._keepers[keeper] = None
                self._changed.set()
            if not (self._stopping or self.failure):
                waits_s = self._timing.backoff_s * 2 ** min(self._deaths - 1, 16)
                await asyncio.sleep(min(waits_s, self._timing.backoff_most_s))

    async def _bury(self, worker: Worker, why: TalkpathError) -> None:
        """Tell of a death; give up where no worker lives and none ever will."""
        was_ready = worker.ready_s > 0
        self._proven = self._proven or was_ready
        self._false_starts = 0 if was_ready else self._false_starts + 1
        self._deaths = 1 if worker.ready_s > self._timing.settled_s else self._deaths + 1
        logger.error("{} died with {} calls: {}", worker, len(worker.call_ids), why)
        if was_ready:
            try:
                await self._on_death(worker)
            except Exception:
                logger.exception("the calls of {} could not be ended", worker)
        alive = any(other.state in ("ready", "draining") for other in self.workers)
        if alive or self._stopping:
            return
        if not self._proven and worker.told_why:
            self._give_up(why)
        elif self._false_starts >= self._timing.attempts:
            self._give_up(TalkpathError(f"workers die before they are ready: {why}"))

    def _give_up(self, failure: TalkpathError) -> None:
        if self.failure is None:
            self.failure = failure
            self.failed.set()
            self._send_away()
        self._changed.set()
