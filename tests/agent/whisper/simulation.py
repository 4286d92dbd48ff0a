"""The engine without threads or model, on a virtual clock: the real queue and real streams."""

import heapq
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from talkpath.agent.errors import EngineOverloaded
from talkpath.agent.whisper.batcher import Batcher, Job, Outcome
from talkpath.agent.whisper.pace import Pace
from talkpath.agent.whisper.requests import Again, DecodeOptions, Priority
from talkpath.agent.whisper.results import Partial, StreamResult, Transcript
from talkpath.agent.whisper.stream import Cancel, Decode, Promote, Stream, StreamOptions
from talkpath.agent.whisper.windows import FULL_WINDOW

__all__ = ["SimulatedEngine", "SimulatedStream", "heard"]


def heard(job: Job) -> Transcript:
    """A word for every quarter of a second, each as the audio has it there."""
    audio = job.request.audio
    words = " ".join(f"word{level * 1e4:.0f}" for level in audio[::4_000])
    return Transcript(text=words, duration_s=len(audio) / 16_000)


@dataclass
class Taken:
    """A job that left the queue: how urgent it was, and for how long it waited."""

    priority: Priority
    wait_s: float
    at_s: float


@dataclass
class SimulatedEngine:
    """Workers that take as long as they are told to.

    Attributes:
        workers: how many.
        takes_s: seconds for a batch.
        outcome: what comes of a job.
    """

    workers: int
    takes_s: Callable[[Sequence[Job]], float]
    outcome: Callable[[Job], Outcome | Again] = heard
    interval_s: float = 0.5
    max_batch: int = 4
    now_s: float = 0.0
    taken: list[Taken] = field(default_factory=list)
    dropped: int = 0

    def __post_init__(self) -> None:
        self.batcher = Batcher(
            max_batch=self.max_batch,
            max_frames=self.max_batch * FULL_WINDOW,
            workers=self.workers,
            max_waiting=10_000,
        )
        self.pace = Pace(self.interval_s)
        self._free = self.workers
        self._numbers = itertools.count()
        self._busy: list[tuple[float, int, list[Job]]] = []

    @property
    def working(self) -> bool:
        return bool(self._busy)

    def advance(self, to_s: float) -> None:
        """Let time pass."""
        self._dispatch()
        while (next_s := self._next_s()) <= to_s:
            self.now_s = next_s
            while self._busy and self._busy[0][0] <= next_s:
                _, _, batch = heapq.heappop(self._busy)
                self._free += 1
                for job in batch:
                    self._complete(job)
            self._dispatch()
        self.now_s = max(self.now_s, to_s)

    def finish(self) -> None:
        """Let time pass until nothing is left to do."""
        self._dispatch()
        while (next_s := self._next_s()) < math.inf:
            self.advance(next_s)

    def _next_s(self) -> float:
        """When a worker is done, or one that is free may take what was held."""
        done_s = self._busy[0][0] if self._busy else math.inf
        return min(done_s, self.batcher.next_due_s(self.now_s) if self._free else math.inf)

    def _complete(self, job: Job) -> None:
        outcome = self.outcome(job)
        if isinstance(outcome, Again):
            self.batcher.again(job, outcome.request, self.now_s)
            return
        assert self.batcher.finish(job)
        job.deliver(outcome)

    def _dispatch(self) -> None:
        while self._free:
            late = self.batcher.expire(self.now_s)
            for job in late:
                self.dropped += job.request.is_partial
                job.deliver(job.request.best or EngineOverloaded("it waited for too long"))
            batch = self.batcher.take(self.now_s, idle=self._free)
            self.pace.observe([*late, *batch], self.now_s)
            if not batch:
                return
            for job in batch:
                self.taken.append(Taken(job.request.priority, self.now_s - job.since_s, self.now_s))
            self._free -= 1
            end_s = self.now_s + self.takes_s(batch)
            heapq.heappush(self._busy, (end_s, next(self._numbers), batch))


class SimulatedStream:
    """A real ``Stream`` in front of a simulated engine."""

    def __init__(self, engine: SimulatedEngine) -> None:
        self._engine = engine
        self.stream = Stream(
            StreamOptions(decode=DecodeOptions(language="en"), partial_interval_s=engine.interval_s)
        )
        self.results: list[StreamResult] = []
        self._orders: dict[int, int] = {}
        self._level = 0.0

    @property
    def partials(self) -> list[Partial]:
        return [result for result in self.results if isinstance(result, Partial)]

    def feed(self, seconds: float) -> None:
        self.stream.set_partial_interval(self._engine.pace.interval_s(self._engine.now_s))
        self._level += 1e-4  # no two blocks sound the same
        self.stream.feed(np.full(round(seconds * 16_000), self._level, dtype=np.float32))
        self.pump()

    def pump(self) -> None:
        for action in self.stream.actions():
            match action:
                case Decode():
                    self._decode(action)
                case Promote(ticket):
                    order = self._orders.get(ticket, -1)
                    if self._engine.batcher.promote(order, self._engine.now_s):
                        self.stream.not_begun_at_stop(ticket)
                case Cancel(ticket):
                    self._engine.batcher.cancel(self._orders.pop(ticket, -1))
        self.results += self.stream.results()

    def _decode(self, action: Decode) -> None:
        def deliver(outcome: Outcome) -> None:
            self._orders.pop(action.ticket, None)
            if isinstance(outcome, Exception):
                self.stream.failed(action.ticket, outcome)
            else:
                self.stream.transcript(action.ticket, outcome)
            self.pump()

        batcher, now_s = self._engine.batcher, self._engine.now_s
        request = replace(action.request, mixes=True)
        speculative = request.priority is Priority.SPECULATIVE
        hold_s = self._engine.pace.hold_s(now_s) if speculative else 0.0
        replaced = self._orders.get(action.replaces or -1)
        if replaced is None:
            order = batcher.add(request, deliver, now_s, hold_s=hold_s)
        else:
            order = batcher.replace(replaced, request, deliver, now_s)
        self._orders[action.ticket] = order
