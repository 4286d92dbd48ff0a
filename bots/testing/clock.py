"""Virtual time: an event loop on which models take no time and silence takes none either.

While a ``VirtualTime`` is in use, the loop's clock

- stands still while something computes: jobs of ``run_in_executor`` (so ``asyncio.to_thread``,
  the voice, Smart Turn) and requests to Whisper;
- runs like a real one while a socket or a pipe waits for data, as a request to a language
  model does: nobody here can know how long the other side would have taken;
- jumps to the next timer when neither is the case.

So a call takes as long as its computing, and what depends on the clock alone comes out the same
on any machine. ``time.time``, ``monotonic``, ``perf_counter`` and their ``_ns`` follow the loop's
clock where Pipecat, talkpath's processors, transports and bots, or the bot under test call them
on the loop's thread; everything else (the models' threads, the test runner) keeps real time.

It works on asyncio's own loops for Unix, by replacing ``time``, ``run_in_executor`` and the
selector's ``select`` on this one loop; not on uvloop, nor on Windows.
"""

import asyncio
import contextlib
import dataclasses
import os
import socket
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import CellType
from typing import Any

from pipecat.frames import frames

from talkpath.agent.errors import ConfigError

__all__ = ["STUCK_S", "VirtualTime", "virtual_time"]

STUCK_S = 120.0
"""Real seconds of computing after which it is taken for something that never ends."""

_LOOK_S = 0.02
_NS = 1_000_000_000
# Taken before anybody replaces them.
_REAL: dict[str, Callable[[], float]] = {
    "time": time.time,
    "monotonic": time.monotonic,
    "perf_counter": time.perf_counter,
}
_REAL_NS: dict[str, Callable[[], int]] = {
    "time_ns": time.time_ns,
    "monotonic_ns": time.monotonic_ns,
    "perf_counter_ns": time.perf_counter_ns,
}
_FOLLOWERS = ("pipecat.", "talkpath.bots.", "talkpath.processors.", "talkpath.transports.")


class VirtualTime:
    """The clock of one event loop.

    It never goes back, and is continuous with the loop's own clock when it is put in use. When
    it is taken out of use it goes on as a real clock, from where it is.

    Args:
        loop: the running loop.

    Raises:
        ConfigError: this loop's clock cannot be replaced.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        if not isinstance(loop, asyncio.SelectorEventLoop):
            raise ConfigError(
                f"virtual time needs asyncio's selector event loop, not {type(loop).__name__}; "
                'make the call with time="real"'
            )
        self._loop: Any = loop
        self._thread = threading.get_ident()
        self._now_s = loop.time()
        self._real_s = _REAL["monotonic"]()  # at which it was ``_now_s``
        self._bases: dict[str, float] = {}
        self._users: list[tuple[Callable[[], bool], Callable[[], None]]] = []
        self._jobs = 0
        unchecked: Any = loop
        self._select: Callable[[float | None], list[Any]] = unchecked._selector.select
        self._submit = loop.run_in_executor
        self.modules: list[str] = []  # of bots under test, whose clocks follow, too

    @contextlib.contextmanager
    def used(
        self, computing: Callable[[], bool], on_stuck: Callable[[], None], module: str
    ) -> Iterator[None]:
        """Make time virtual for as long as this lasts, or another user longer.

        Args:
            computing: whether something that is no executor job computes; asked often.
            on_stuck: called when something has computed for longer than ``STUCK_S``.
            module: the bot's own, whose clock follows as well.
        """
        user = (computing, on_stuck)
        if not self._users:
            self._begin()
        self._users.append(user)
        self.modules.append(module)
        try:
            yield
        finally:
            self._users.remove(user)
            self.modules.remove(module)
            if not self._users:
                self._end()

    def time(self) -> float:
        """The loop's clock, in seconds."""
        if self._users:
            return self._now_s
        return self._now_s + _REAL["monotonic"]() - self._real_s

    def read(self, name: str) -> float:
        """One of ``time``'s clocks as those see it who follow."""
        return self._bases[name] + self._now_s

    def is_followed_by(self, module: str) -> bool:
        """Whether code of a module, in the running thread, sees this clock."""
        return threading.get_ident() == self._thread and (
            module.startswith(_FOLLOWERS) or module in self.modules
        )

    def _begin(self) -> None:
        self._now_s = self.time()
        self._bases = {name: real() - self._now_s for name, real in _REAL.items()}
        self._loop.time = self.time
        self._loop.run_in_executor = self._run_in_executor
        self._loop._selector.select = self._wait
        _in_use.append(self)
        if len(_in_use) == 1:
            _replace_clocks()

    def _end(self) -> None:
        self._loop.run_in_executor = self._submit
        self._loop._selector.select = self._select
        self._real_s = _REAL["monotonic"]()
        _in_use.remove(self)
        if not _in_use:
            _restore_clocks()

    def _run_in_executor(self, executor: Any, function: Any, *args: Any) -> Any:
        future = self._submit(executor, function, *args)
        self._jobs += 1
        future.add_done_callback(self._job_done)
        return future

    def _job_done(self, _: object) -> None:
        self._jobs -= 1

    def _busy(self) -> bool:
        return self._jobs > 0 or any(computing() for computing, _ in self._users)

    def _wait(self, timeout: float | None = None) -> list[Any]:
        """Stand in for the selector's ``select``: nothing else is ready for ``timeout`` seconds."""
        # In this order: what computes hands its result to the loop before it counts as done.
        busy = self._busy()
        events = self._select(0)
        if events or (timeout is not None and timeout <= 0):
            return events
        if busy:
            return self._stand_still()
        if timeout is None:
            return self._select(None)
        if self._waits_for_data():
            began_s = _REAL["monotonic"]()
            events = self._select(timeout)
            self._now_s += min(_REAL["monotonic"]() - began_s, timeout)
            return events
        self._now_s += timeout
        return []

    def _stand_still(self) -> list[Any]:
        began_s = _REAL["monotonic"]()
        while True:
            busy = self._busy()
            events = self._select(_LOOK_S if busy else 0)
            if events or not busy:
                return events
            if _REAL["monotonic"]() - began_s > STUCK_S:
                for _, on_stuck in self._users:
                    self._loop.call_soon(on_stuck)
                return []

    def _waits_for_data(self) -> bool:
        """Whether anything but the loop itself and listening sockets is in the selector."""
        keys = self._loop._selector.get_map().values()
        own = self._loop._ssock.fileno()
        return any(key.fd != own and not _listens(key.fd) for key in keys)


def virtual_time() -> VirtualTime:
    """The running loop's virtual clock.

    Raises:
        ConfigError: this loop's clock cannot be replaced.
    """
    loop = asyncio.get_running_loop()
    clock = getattr(loop.time, "__self__", None)
    return clock if isinstance(clock, VirtualTime) else VirtualTime(loop)


def _listens(fd: int) -> bool:
    if not stat.S_ISSOCK(os.fstat(fd).st_mode):
        return False
    with socket.socket(fileno=os.dup(fd)) as other:
        return bool(other.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


_in_use: list[VirtualTime] = []


def _followed() -> VirtualTime | None:
    """The clock that the caller's caller sees; None for the real one."""
    module = sys._getframe(2).f_globals.get("__name__", "")
    return next((clock for clock in _in_use if clock.is_followed_by(module)), None)


def _seconds(name: str) -> Callable[[], float]:
    def read() -> float:
        clock = _followed()
        return _REAL[name]() if clock is None else clock.read(name)

    return read


def _nanoseconds(name: str) -> Callable[[], int]:
    def read() -> int:
        clock = _followed()
        if clock is None:
            return _REAL_NS[name]()
        return round(clock.read(name.removesuffix("_ns")) * _NS)

    return read


_VIRTUAL: dict[str, Callable[[], Any]] = {
    **{name: _seconds(name) for name in _REAL},
    **{name: _nanoseconds(name) for name in _REAL_NS},
}


def _replace_clocks() -> None:
    for name, function in _VIRTUAL.items():
        setattr(time, name, function)
    for cell in _stamps(_REAL["time"]):
        cell.cell_contents = _VIRTUAL["time"]


def _restore_clocks() -> None:
    for name, function in (_REAL | _REAL_NS).items():
        setattr(time, name, function)
    for cell in _stamps(_VIRTUAL["time"]):
        cell.cell_contents = _REAL["time"]


def _stamps(function: Callable[[], Any]) -> list[CellType]:
    """Where Pipecat's frames keep the function that stamps them with the time.

    A dataclass's constructor has a field's ``default_factory`` in its closure; nothing else
    reaches it.
    """
    constructors = (
        kind.__init__
        for kind in vars(frames).values()
        if isinstance(kind, type) and dataclasses.is_dataclass(kind)
    )
    return [
        cell
        for constructor in constructors
        for cell in getattr(constructor, "__closure__", None) or ()
        if cell.cell_contents is function
    ]
