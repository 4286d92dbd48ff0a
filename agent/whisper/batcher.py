"""Batcher: which of the waiting requests the next free worker takes. No thread, no clock.

No fixed waiting window: a batch is what queued up while the workers were busy. The most
urgent request decides, then the oldest, and others that can be decoded with it ride along,
the most urgent first; with a final, only finals do. Workers that are free at the same moment
share what waits: two batches of two side by side are done before one of four.

Nobody starves. A request that has waited for a second is *kept waiting*, and of every eight
batches one goes to such requests, to each priority below the finals in its turn. So even a
constant stream of finals leaves the oldest partial, and the oldest piece of a file, waiting
for at most 8 x 5 batches, and finals lose at most an eighth of the batches, and that only
while there is more to do than the workers can do. Eight, because workers mostly number two
or more: the batches given away are so far apart that hardly ever two workers are at one.

While anybody speaks, one of several workers is kept for finals, also speculative ones: what can
wait is in the hands of the others only. A batch cannot be interrupted, and a final that finds all
workers at partials waits for as long as it takes to decode it. Measured with eight streams on two
cores: 95th percentile of the time to the final 0.60 s without, 0.47 s with it.

A speculation may be held: it is not taken before it is ripe (``Pace``), or a final.

What was decoded badly is decoded again apart (``Again``): alone in its batch, since nobody
knows how long it takes, and by one worker at a time, if there are several. So is what was in
one batch with something that a worker did not survive.
"""

import math
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace

from talkpath.agent.errors import EngineOverloaded
from talkpath.agent.whisper.requests import Priority, Request
from talkpath.agent.whisper.results import Transcript

__all__ = [
    "DEADLINE_S",
    "PATIENCE_S",
    "TURNS",
    "Batcher",
    "Job",
    "Outcome",
    "choose",
]

PATIENCE_S = 1.0
"""A request that has waited for so long may go before more urgent ones, in its turn."""

TURNS = 8
"""One batch of so many goes to requests that are kept waiting."""

DEADLINE_S = 2.0
"""After so long in the queue, a partial is too old to be shown, and a final that is to be
decoded again goes out as it is."""

# Without a live request for so long, nobody speaks: where no partials are wanted, speech of up
# to a window's length sends none.
_SPEAKING_S = 30.0

_IN_TURN = tuple(priority for priority in Priority if priority is not Priority.FINAL)

Outcome = Transcript | Exception


@dataclass(slots=True, eq=False)
class Job:
    """A request that waits or is worked on.

    Attributes:
        request: what to decode.
        deliver: takes the outcome, in any thread.
        since_s: when it came, or the request that it replaced.
        asked_s: when its audio came; for one decoded again, when the first attempt failed.
        due_s: from when on it may be taken.
        wanted: False once it was withdrawn while a worker had it.
        survivor: whether a worker was lost over a batch that it was in.
        batch: number of the batch that it is in, once it is worked on.
    """

    request: Request
    deliver: Callable[[Outcome], None]
    since_s: float
    asked_s: float
    due_s: float
    wanted: bool = True
    survivor: bool = False
    batch: int = -1

    @property
    def can_wait(self) -> bool:
        """Whether nobody waits for it at the end of their speech."""
        return self.request.priority > Priority.AGAIN

    @property
    def apart(self) -> bool:
        """Whether it must be alone in its batch: a later attempt, or one that may be deadly."""
        return self.request.attempt > 0 or self.survivor

    @property
    def late_s(self) -> float:
        """When its deadline passes; never for what somebody waits for."""
        is_live_retry = self.request.priority is Priority.AGAIN
        return self.asked_s + DEADLINE_S if self.request.is_partial or is_live_retry else math.inf


def choose(
    waiting: Iterable[Job],
    now_s: float,
    *,
    max_batch: int,
    max_frames: int,
    turn: int = 0,
    idle: int = 1,
    apart: bool = True,
    can_wait: bool = True,
) -> list[Job]:
    """Choose the next batch.

    Args:
        waiting: jobs in any order.
        now_s: the time on the clock of ``Job.since_s``; a job that is not due is passed over.
        max_batch: most jobs in a batch.
        max_frames: most mel frames in their windows; the first job may have more.
        turn: how many batches were chosen before.
        idle: workers that are free now, the one that asks included.
        apart: whether jobs may be chosen that must be alone.
        can_wait: whether jobs may be chosen that are no finals, nor second attempts at them.

    Returns:
        Jobs of one batch key, the one that decides first; none if none may be chosen.
    """
    ranked = sorted(
        (
            job
            for job in waiting
            if job.due_s <= now_s and (apart or not job.apart) and (can_wait or not job.can_wait)
        ),
        key=lambda job: (job.request.priority, job.request.order),
    )
    if not ranked:
        return []
    first = _kept_waiting(ranked, now_s, turn) or ranked[0]
    if first.apart:
        return [first]
    key = first.request.batch_key
    # A final does not wait for the partials that could ride along with it.
    others = [
        job
        for job in ranked
        if job is not first
        and not job.apart
        and job.can_wait == first.can_wait
        and job.request.batch_key == key
    ]
    size = min(max_batch, -(-(1 + len(others)) // idle))
    batch, frames = [first], first.request.bucket
    for job in others:
        frames += job.request.bucket
        if len(batch) == size or frames > max_frames:
            break
        batch.append(job)
    return batch


def _kept_waiting(ranked: Collection[Job], now_s: float, turn: int) -> Job | None:
    """The job that goes before more urgent ones in this turn, if there is one."""
    if turn % TURNS != TURNS - 1:
        return None
    at = turn // TURNS % len(_IN_TURN)
    for priority in (*_IN_TURN[at:], *_IN_TURN[:at]):
        oldest = next((job for job in ranked if job.request.priority is priority), None)
        if oldest is not None and now_s - oldest.since_s >= PATIENCE_S:
            return oldest
    return None


class Batcher:
    """What waits and what is worked on. Not thread-safe; every call is told the time.

    Args:
        max_batch: most jobs in a batch.
        max_frames: most mel frames in one; see ``choose``.
        workers: how many there are.
        max_waiting: most jobs that wait; one more is refused.
    """

    def __init__(self, *, max_batch: int, max_frames: int, workers: int, max_waiting: int) -> None:
        self._max_batch = max_batch
        self._max_frames = max_frames
        self._workers = workers
        self._max_waiting = max_waiting
        self._waiting: dict[int, Job] = {}
        self._running: dict[int, Job] = {}
        self._orders = 0
        self._turn = 0
        self._live_s = -math.inf  # when the last live request came

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    @property
    def unfinished(self) -> int:
        """How many wait or are worked on."""
        return len(self._waiting) + len(self._running)

    def add(
        self,
        request: Request,
        deliver: Callable[[Outcome], None],
        now_s: float,
        *,
        hold_s: float = 0.0,
    ) -> int:
        """Queue a request.

        Args:
            request: what to decode.
            deliver: takes the outcome.
            now_s: the time.
            hold_s: so long it is not to be taken, unless it becomes a final.

        Returns:
            Its order, by which it is known from now on.

        Raises:
            EngineOverloaded: as many wait as may.
            ValueError: the audio is longer than 30 s.
        """
        if len(self._waiting) >= self._max_waiting:
            raise EngineOverloaded(
                f"{self._max_waiting} requests wait for speech-to-text already; "
                "something asks for more than there is speech"
            )
        # A request that fits no window fails here, where it was asked for, not in a worker.
        _ = request.batch_key
        if request.priority is not Priority.OFFLINE:
            self._live_s = now_s
        self._orders += 1
        request = replace(request, order=self._orders)
        self._waiting[self._orders] = Job(request, deliver, now_s, now_s, now_s + hold_s)
        return self._orders

    def replace(
        self, order: int, request: Request, deliver: Callable[[Outcome], None], now_s: float
    ) -> int:
        """Let a request take another one's place in the queue; nothing comes of the old one.

        Returns:
            The same order; or a new one if the old request is not waiting any more: then
            this one is queued like any other.

        Raises:
            EngineOverloaded: as many wait as may.
            ValueError: the audio is longer than 30 s.
        """
        job = self._waiting.get(order)
        if job is None:
            return self.add(request, deliver, now_s)
        _ = request.batch_key
        self._live_s = now_s
        job.request = replace(request, order=order)
        job.deliver = deliver
        job.asked_s = now_s
        return order

    def cancel(self, order: int) -> bool:
        """Withdraw a request; returns whether it was still waiting.

        One that a worker has is decoded to the end, but not again if it comes out badly.
        """
        if self._waiting.pop(order, None) is not None:
            return True
        if order in self._running:
            self._running[order].wanted = False
        return False

    def promote(self, order: int, now_s: float) -> bool:
        """Make a speculative final that waits a final, which is due; returns whether it waited."""
        job = self._waiting.get(order)
        if job is None or job.request.priority is not Priority.SPECULATIVE:
            return False
        job.request = replace(job.request, priority=Priority.FINAL)
        job.due_s = min(job.due_s, now_s)
        return True

    def next_due_s(self, now_s: float) -> float:
        """When the next request that is held will be due; infinity if none is held."""
        held = (job.due_s for job in self._waiting.values() if job.due_s > now_s)
        return min(held, default=math.inf)

    def expire(self, now_s: float) -> list[Job]:
        """Take out the jobs whose deadline has passed."""
        late = [job for job in self._waiting.values() if job.late_s <= now_s]
        for job in late:
            del self._waiting[job.request.order]
        return late

    def take(self, now_s: float, *, idle: int = 1) -> list[Job]:
        """Take the next batch for a worker; see ``choose``."""
        running = self._running.values()
        apart = self._workers == 1 or not any(job.apart for job in running)
        others = len({job.batch for job in running if job.can_wait})
        speaking = now_s - self._live_s < _SPEAKING_S
        can_wait = self._workers == 1 or not speaking or others < self._workers - 1
        batch = choose(
            self._waiting.values(),
            now_s,
            max_batch=self._max_batch,
            max_frames=self._max_frames,
            turn=self._turn,
            idle=idle,
            apart=apart,
            can_wait=can_wait,
        )
        self._turn += bool(batch)
        for job in batch:
            job.batch = self._turn
            order = job.request.order
            self._running[order] = self._waiting.pop(order)
        return batch

    def finish(self, job: Job) -> bool:
        """A worker is done with a job; returns whether it was not done with it already."""
        return self._running.pop(job.request.order, None) is not None

    def again(self, job: Job, request: Request, now_s: float) -> bool:
        """Queue a job's next attempt in its old place; returns whether anybody wants it.

        A live final's attempts go after all first ones; those of a file stay with the files.
        """
        self.finish(job)
        if not job.wanted:
            return False
        order, file = job.request.order, job.request.priority is Priority.OFFLINE
        if not job.request.attempt:
            job.asked_s = now_s
        priority = Priority.OFFLINE if file else Priority.AGAIN
        job.request = replace(request, order=order, priority=priority)
        self._waiting[order] = job
        return True

    def retry(self, job: Job) -> None:
        """Queue a job of a batch that was lost once more in its old place, alone."""
        if self.finish(job) and job.wanted:
            job.survivor = True
            self._waiting[job.request.order] = job

    def clear(self) -> list[Job]:
        """Take out all that waits."""
        waiting = list(self._waiting.values())
        self._waiting.clear()
        return waiting
