"""Workers: the threads that decode, the queue in front of them, and what they survive.

A model that fails on a batch is asked again for each request alone, so that one spoils no
other. Whatever else ends a worker's batch, up to a ``SystemExit`` raised in its thread, leaves
the worker going on with the next one. The requests of that batch are decoded once more, each
alone, and the one that was alone in it gets an error. A thread that is gone for good is
replaced when the next request comes.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from talkpath.agent.errors import AudioError, DecodeFailed, EngineClosed, EngineOverloaded
from talkpath.agent.whisper.batcher import DEADLINE_S, Batcher, Job, Outcome
from talkpath.agent.whisper.pace import Pace
from talkpath.agent.whisper.requests import Again, Priority, Request
from talkpath.agent.whisper.statistics import EngineMetrics
from talkpath.agent.whisper.transcriber import Transcriber

__all__ = ["WorkerPool"]

_log = logging.getLogger(__name__)

# A defect that strikes before there is a batch would otherwise fill the log as fast as it can.
_PAUSE_S = 0.1

# So often a worker looks again at what waits and is not for it. Nobody calls it when a deadline
# passes, or when speech has ended long enough ago that no worker is kept for finals any more.
_LOOK_S = 0.25


@dataclass(slots=True, eq=False)
class _Worker:
    """A thread and what it works on."""

    thread: threading.Thread | None = None
    batch: list[Job] = field(default_factory=list)


class WorkerPool:
    """Threads that decode what is submitted. Every method may be called from any thread.

    Args:
        transcriber: decodes a batch.
        batcher: the queue.
        workers: number of threads.
        pace: is told how long partials and finals wait, and holds speculations back.
        metrics: what is counted.
        clock: seconds that only rise.
    """

    def __init__(
        self,
        transcriber: Transcriber,
        batcher: Batcher,
        *,
        workers: int,
        pace: Pace,
        metrics: EngineMetrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._transcriber = transcriber
        self._batcher = batcher
        self._pace = pace
        self._metrics = metrics
        self._clock = clock
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._idle = 0
        self._closed = False
        self._workers = [_Worker() for _ in range(workers)]
        with self._lock:
            self._see_to_threads()

    def __len__(self) -> int:
        """Requests that wait."""
        return len(self._batcher)

    @property
    def unfinished(self) -> int:
        """Requests that wait or are worked on; their outcomes are delivered before they are not."""
        with self._lock:  # one that moves between the two counts all the time
            return self._batcher.unfinished

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._closed

    def submit(
        self,
        request: Request,
        deliver: Callable[[Outcome], None],
        *,
        replaces: int | None = None,
    ) -> int:
        """Queue a request.

        Args:
            request: what to decode.
            deliver: takes the outcome, in a worker's thread; not called after ``cancel`` of a
                request that no worker has.
            replaces: order of an older request: if it still waits, this one takes its place.

        Returns:
            Its order, for ``cancel`` and ``promote``.

        Raises:
            EngineClosed: the pool was closed.
            EngineOverloaded: too many wait.
            ValueError: the audio is longer than 30 s.
        """
        request = self._transcriber.prepare(request)
        with self._lock:
            if self._closed:
                raise EngineClosed("the speech-to-text engine is closed")
            self._see_to_threads()
            try:
                order = self._queue(request, deliver, replaces)
            except EngineOverloaded:
                self._metrics.refused_requests.add()
                raise
            self._changed.notify()
        self._metrics.requests.add(of=request.priority.name.lower())
        return order

    def cancel(self, order: int) -> bool:
        """Withdraw a request; nothing happens where it is done, or was never there.

        Returns:
            Whether it was still waiting.
        """
        with self._lock:
            waited = self._batcher.cancel(order)
        self._metrics.cancelled.add(waited)
        return waited

    def promote(self, order: int) -> bool:
        """Make a speculative final that waits a final; returns whether it was waiting."""
        with self._lock:
            waited = self._batcher.promote(order, self._clock())
            if waited:
                self._changed.notify()
        return waited

    def close(self) -> None:
        """Stop the workers after their current batch; waiting requests end in EngineClosed."""
        with self._lock:
            self._closed = True
            waiting = self._batcher.clear()
            self._changed.notify_all()
        for job in waiting:
            job.deliver(EngineClosed("the speech-to-text engine is closed"))
        for worker in self._workers:
            if worker.thread is not None:
                worker.thread.join()

    def _queue(
        self, request: Request, deliver: Callable[[Outcome], None], replaces: int | None
    ) -> int:
        now_s = self._clock()
        if replaces is None:
            speculative = request.priority is Priority.SPECULATIVE
            hold_s = self._pace.hold_s(now_s) if speculative else 0.0
            return self._batcher.add(request, deliver, now_s, hold_s=hold_s)
        order = self._batcher.replace(replaces, request, deliver, now_s)
        self._metrics.replaced.add(order == replaces)
        return order

    def _see_to_threads(self) -> None:
        """Give every worker a thread that lives."""
        for index, worker in enumerate(self._workers):
            if worker.thread is None or not worker.thread.is_alive():
                worker.thread = threading.Thread(
                    target=self._work, args=(worker,), name=f"whisper-{index}", daemon=True
                )
                worker.thread.start()

    def _work(self, worker: _Worker) -> None:
        if worker.batch:  # the thread before this one died over it
            self._lose(worker, SystemExit())
        while not self._closed:
            try:
                self._next(worker)
                self._run(worker.batch)
                # A worker that waits must not hold a job, and with it the session that asked.
                worker.batch = []
            except BaseException as error:
                self._lose(worker, error)

    def _next(self, worker: _Worker) -> None:
        """Wait for a batch; there is none when the pool was closed or something expired."""
        with self._lock:
            while not self._closed:
                now_s = self._clock()
                late = self._batcher.expire(now_s)
                worker.batch = self._batcher.take(now_s, idle=self._idle + 1)
                self._pace.observe([*late, *worker.batch], now_s)
                if worker.batch or late:
                    break
                self._idle += 1
                try:
                    # What waits and may not be taken now, may be taken, or be too late, soon.
                    self._changed.wait(self._look_s(now_s))
                finally:
                    self._idle -= 1
            else:
                return
        for job in worker.batch:
            self._metrics.taken(job.request.priority, now_s - job.due_s)
        for job in late:
            self._expire(job)

    def _look_s(self, now_s: float) -> float | None:
        """After how long to look at what waits again, though nobody calls."""
        if not len(self._batcher):
            return None
        return min(self._batcher.next_due_s(now_s) - now_s, _LOOK_S)

    def _expire(self, job: Job) -> None:
        """Give a partial up, and hand out what there is of a final decoded badly."""
        if not job.request.is_partial and job.request.best is not None:
            self._metrics.decoded.add()
            job.deliver(job.request.best)
            return
        self._metrics.dropped.add()
        job.deliver(EngineOverloaded(f"a partial waited for over {DEADLINE_S} s"))

    def _run(self, batch: Sequence[Job]) -> None:
        """Decode a batch; when it fails, each request alone."""
        if not batch:
            return
        try:
            outcomes = self._transcriber.transcribe([job.request for job in batch])
        except Exception as error:
            if len(batch) > 1:
                for job in batch:
                    self._run([job])
                return
            self._fail(batch[0], error)
            return
        self._metrics.batch_sizes.observe(len(batch))
        for job, outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, Again):
                self._again(job, outcome)
                continue
            self._metrics.decoded.add()
            self._metrics.longer_windows.add(outcome.longer_window)
            self._finish(job, outcome)

    def _again(self, job: Job, outcome: Again) -> None:
        best = outcome.request.best
        with self._lock:
            closed = self._closed
            wanted = not closed and self._batcher.again(job, outcome.request, self._clock())
            self._changed.notify()
        self._metrics.again.add(wanted)
        if closed:  # nobody would take it any more
            self._finish(job, best or EngineClosed("the speech-to-text engine is closed"))

    def _fail(self, job: Job, error: Exception) -> None:
        self._metrics.failed.add()
        if isinstance(error, AudioError):
            self._finish(job, error)
            return
        _log.error("decoding failed", exc_info=error)
        failure = DecodeFailed(f"Whisper failed: {error}")
        failure.__cause__ = error
        self._finish(job, failure)

    def _finish(self, job: Job, outcome: Outcome) -> None:
        # Delivered before it is ticked off: if the worker dies in between, an error follows
        # the outcome, which nobody waits for, and not silence.
        job.deliver(outcome)
        with self._lock:
            self._batcher.finish(job)

    def _lose(self, worker: _Worker, error: BaseException) -> None:
        """Whatever hit the worker: see to its requests, and it is as good as new."""
        batch, worker.batch = worker.batch, []
        self._metrics.restarts.add()
        with self._lock:
            self._changed.notify()  # it may have been the one that was called to work
        for job in batch:
            self._rescue(job, error, alone=len(batch) == 1)
        _log.error("a decoding worker was lost and restarted", exc_info=error)
        if not batch:
            time.sleep(_PAUSE_S)

    def _rescue(self, job: Job, error: BaseException, *, alone: bool) -> None:
        """Let a request of a lost batch fail if it was alone in it; else it gets a second go."""
        with self._lock:
            if not alone and not self._closed:
                self._batcher.retry(job)
                return
            unanswered = self._batcher.finish(job)
        if unanswered:
            self._metrics.failed.add()
            failure = DecodeFailed("the worker that decoded it was lost")
            failure.__cause__ = error
            job.deliver(failure)
