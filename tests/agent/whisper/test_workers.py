"""What the engine survives: lost workers, failing models, late partials, too many requests."""

import asyncio
import ctypes
import logging
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from talkpath.agent.audio import FloatArray, float_to_pcm16
from talkpath.agent.config import WhisperConfig
from talkpath.agent.errors import DecodeFailed, EngineOverloaded
from talkpath.agent.metrics import render_prometheus
from talkpath.agent.whisper import Transcript, WhisperEngine
from talkpath.agent.whisper.batcher import DEADLINE_S, Batcher, Job, Outcome
from talkpath.agent.whisper.pace import Pace
from talkpath.agent.whisper.requests import Priority, Request
from talkpath.agent.whisper.statistics import EngineMetrics
from talkpath.agent.whisper.transcriber import Transcriber
from talkpath.agent.whisper.windows import FULL_WINDOW
from talkpath.agent.whisper.workers import WorkerPool
from tests.agent.whisper.helpers import (
    Gate,
    Parrot,
    Results,
    Speaker,
    Spoiled,
    backend,
    engine,
    marked,
    threads,
    until,
)
from tests.speech import clip, join, word_error_rate

SPEECH = clip("librivox-0930")
SHORT = clip("librivox-0930").samples()[:24_000]


def kill(thread: threading.Thread) -> None:
    """Raise SystemExit in a thread, at the next Python instruction that it comes to."""
    assert thread.ident is not None
    raised = ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(thread.ident), ctypes.py_object(SystemExit)
    )
    assert raised == 1


# Lost workers


@pytest.mark.parametrize("count", [1, 2])
async def test_a_killed_worker_fails_its_own_request_and_no_other(
    count: int, caplog: pytest.LogCaptureFixture
) -> None:
    gate = Gate(backend("tiny.en"), workers=count)
    async with engine(gate) as running:
        doomed = [asyncio.create_task(running.decode(SHORT))]
        await until(lambda: gate.batches)
        (victim,) = [item for item in threads() if item.name == "whisper-0"]
        if count == 2:
            doomed.append(asyncio.create_task(running.decode(SHORT)))
            await until(lambda: len(gate.batches) == 2)
        waiting = [asyncio.create_task(running.decode(SPEECH.samples())) for _ in range(3)]
        await until(lambda: running.waiting == 3)
        kill(victim)
        gate.open()
        outcomes = await asyncio.gather(*doomed, return_exceptions=True)
        lost = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
        assert [str(error) for error in lost] == ["the worker that decoded it was lost"]
        assert isinstance(lost[0], DecodeFailed)
        for transcript in await asyncio.gather(*waiting):
            assert word_error_rate([SPEECH.text], [transcript.text]) < 0.2
        assert len(threads()) == count
        assert running.statistics.restarts == 1
        assert running.statistics.failed == 1
        assert running.statistics.decoded == 3 + len(doomed) - 1
    assert not threads()
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


async def test_one_streams_lost_final_is_its_failure_and_the_others_go_on() -> None:
    gate = Gate(backend("tiny.en"))
    mine, theirs = Results(), Results()
    async with engine(gate) as running:
        streams = [running.open_stream(item, partials=False) for item in (mine, theirs)]
        for stream in streams:
            stream.speech_started(0.0)
            stream.feed(float_to_pcm16(SPEECH.samples()))
        streams[0].speech_stopped(0.0)
        await until(lambda: gate.batches)
        streams[1].speech_stopped(0.0)
        kill(threads()[0])
        gate.open()
        await asyncio.gather(*(stream.drain() for stream in streams))
        assert [type(failure.error) for failure in mine.failures] == [DecodeFailed]
        assert word_error_rate([SPEECH.text], [theirs.text]) < 0.2
        # The stream that lost one is as good as ever.
        await Speaker(streams[0]).say(join([SPEECH.id]))
        await streams[0].drain()
        assert mine.finals
        for stream in streams:
            stream.close()


async def test_workers_killed_over_and_over_while_they_work_are_always_there_again() -> None:
    async with engine() as running:
        failures = 0
        for number in range(1, 13):
            tasks = [asyncio.create_task(running.decode(SPEECH.samples())) for _ in range(4)]
            await asyncio.sleep(0)  # all are asked for now
            await until(lambda: running.waiting < 4)
            kill(threads()[number % 2])
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
            failures += sum(isinstance(outcome, DecodeFailed) for outcome in outcomes)
            assert all(isinstance(outcome, Transcript | DecodeFailed) for outcome in outcomes)
            # One that was killed while it waited notices when there is work.
            while running.statistics.restarts < number:
                await running.decode(SHORT)
        assert len(threads()) == 2
        # One that is killed just after it has answered counts, too.
        assert failures <= running.statistics.failed
        assert (await running.decode(SPEECH.samples())).text
    assert not threads()


class Deadly(logging.Handler):
    """Kills the thread that logs the loss of a worker, once: then nothing can catch it."""

    def __init__(self) -> None:
        super().__init__()
        self.struck = False

    def emit(self, record: logging.LogRecord) -> None:
        if not self.struck and "lost" in record.getMessage():
            self.struck = True
            raise SystemExit


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_a_thread_that_is_gone_for_good_is_replaced() -> None:
    gate = Gate(backend("tiny.en"))
    log = logging.getLogger("talkpath.agent.whisper.workers")
    deadly = Deadly()
    log.addHandler(deadly)
    try:
        async with engine(gate) as running:
            doomed = asyncio.create_task(running.decode(SHORT))
            await until(lambda: gate.batches)
            (victim,) = threads()
            kill(victim)
            gate.open()
            with pytest.raises(DecodeFailed):
                await doomed
            await until(lambda: not threads())
            assert deadly.struck
            assert (await running.decode(SPEECH.samples())).text
            assert len(threads()) == 1
    finally:
        log.removeHandler(deadly)
    assert not threads()


class Deaf(Gate):
    """Ends every thread that decodes a marked item, in a way that no ``Exception`` is."""

    def encode(self, audio: Sequence[FloatArray], bucket: int, padding: str = "silence") -> Any:
        if any(len(item) == 12_345 for item in audio):
            raise KeyboardInterrupt
        return super().encode(audio, bucket, padding)


async def test_a_request_that_ends_every_worker_leaves_the_engine_working() -> None:
    deaf = Deaf(backend("tiny.en"), workers=2)
    deaf.open()
    async with engine(deaf) as running:
        bad = [asyncio.create_task(running.decode(np.zeros(12_345, np.float32))) for _ in range(5)]
        # They would go into one batch with some of those.
        good = [asyncio.create_task(running.decode(SHORT)) for _ in range(3)]
        outcomes = await asyncio.gather(*bad, return_exceptions=True)
        assert all(isinstance(outcome, DecodeFailed) for outcome in outcomes)
        for transcript in await asyncio.gather(*good):
            assert transcript.text
        assert running.statistics.restarts >= 2


# Failing models


async def test_a_models_failure_in_one_batch_fails_one_utterance_and_no_stream() -> None:
    spoiled = Spoiled(backend("tiny.en"))
    results = [Results() for _ in range(3)]
    async with engine(spoiled) as running:
        first = asyncio.create_task(running.decode(SHORT))
        await until(lambda: spoiled.batches)
        streams = [running.open_stream(item, partials=False) for item in results]
        # 0.7654321 does not survive 16-bit PCM: the mark goes in behind the resampler.
        for stream, audio in zip(
            streams, (SPEECH.samples(), marked(SPEECH.samples()), SPEECH.samples()), strict=True
        ):
            stream.speech_started(0.0)
            stream._stream.feed(audio)
            stream.speech_stopped(0.0)
        await until(lambda: running.waiting == 3)
        spoiled.open()
        await first
        await asyncio.gather(*(stream.drain() for stream in streams))
        for stream in streams:
            stream.close()
    assert spoiled.batches[1] == [len(SPEECH.samples())] * 3 or len(spoiled.batches[1]) == 3
    assert [len(item.failures) for item in results] == [0, 1, 0]
    for item in (results[0], results[2]):
        assert word_error_rate([SPEECH.text], [item.text]) < 0.2


# Partials under load


async def test_a_newer_partial_replaces_one_that_waits() -> None:
    gate = Gate(backend("tiny.en"))
    results = Results()
    second = float_to_pcm16(SPEECH.samples()[:16_000])
    async with engine(gate) as running:
        first = asyncio.create_task(running.decode(SHORT))
        await until(lambda: gate.batches)
        stream = running.open_stream(results)
        stream.speech_started(0.0)
        for _ in range(3):
            stream.feed(second)
        assert running.waiting == 1
        assert running.statistics.replaced_partials >= 2
        gate.open()
        await first
        await until(lambda: running.statistics.decoded == 2)
        # The newest audio was decoded, and nothing else.
        assert gate.batches[1:] == [[48_000]]
        await until(lambda: not stream._orders)
        stream.close()


async def test_a_partial_that_a_worker_has_is_followed_by_the_newer_one() -> None:
    gate = Gate(backend("tiny.en"))
    results = Results()
    audio = float_to_pcm16(SPEECH.samples())
    async with engine(gate) as running:
        stream = running.open_stream(results)
        stream.speech_started(0.0)
        stream.feed(audio[:64_000])
        await until(lambda: gate.batches)
        stream.feed(audio[64_000:])
        await until(lambda: running.waiting == 1)
        assert (
            running.statistics.replaced_partials
            == running.statistics.requests.get("first_partial", 0) - 2
        )
        gate.open()
        await until(lambda: len(results.partials) >= 1 and not running.waiting)
        await until(lambda: not stream._orders)
        stream.close()
    durations = [partial.duration_s for partial in results.partials]
    assert durations == sorted(set(durations))
    assert durations[-1] == 3


async def test_partials_that_wait_are_asked_for_less_often() -> None:
    gate = Gate(backend("tiny.en"))
    block = bytes(16_000)
    async with engine(gate) as running:
        assert running.partial_interval_s == 0.5
        first = asyncio.create_task(running.decode(SHORT))
        await until(lambda: gate.batches)
        streams = [running.open_stream(Results()) for _ in range(2)]
        for stream in streams:
            stream.speech_started(0.0)
        streams[0].feed(block)
        await asyncio.sleep(0.5)  # it waits for so long at least
        gate.open()
        await first
        await until(lambda: running.partial_interval_s > 0.5)
        interval_s = running.partial_interval_s
        asked = running.statistics.requests
        streams[1].feed(block)
        assert running.statistics.requests == asked
        for _ in range(8):
            streams[1].feed(block)
        assert running.statistics.requests != asked
        assert 0.5 < interval_s <= 4.0
        for stream in streams:
            stream.close()


class Clock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


async def test_what_waited_for_too_long_is_not_decoded() -> None:
    gate = Gate(backend("tiny.en"))
    clock, metrics = Clock(), EngineMetrics()
    outcomes: dict[str, Outcome] = {}

    def ask(name: str, priority: Priority, **others: Any) -> None:
        request = Request(SPEECH.samples(), priority, **others)
        pool.submit(request, lambda outcome: outcomes.update({name: outcome}))

    pool = WorkerPool(
        Transcriber(gate, metrics),
        Batcher(max_batch=4, max_frames=4 * FULL_WINDOW, workers=1, max_waiting=10),
        workers=1,
        pace=Pace(0.5),
        metrics=metrics,
        clock=clock,
    )
    best = Transcript(text="what there is")
    ask("first", Priority.FINAL)
    await until(lambda: gate.batches)
    ask("partial", Priority.PARTIAL)
    ask("final", Priority.FINAL)
    ask("again", Priority.AGAIN, attempt=2, best=best)
    clock.now_s += DEADLINE_S
    gate.open()
    await until(lambda: len(outcomes) == 4)
    pool.close()
    assert isinstance(outcomes["partial"], EngineOverloaded)
    assert outcomes["again"] is best
    for name in ("first", "final"):
        outcome = outcomes[name]
        assert isinstance(outcome, Transcript)
        assert word_error_rate([SPEECH.text], [outcome.text]) < 0.2
    statistics = metrics.snapshot()
    assert (statistics.dropped_partials, statistics.decoded) == (1, 3)
    assert sum(len(batch) for batch in gate.batches) == 2


class Held:
    """A pool of one worker, behind which speculations are held because finals have waited."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.metrics = EngineMetrics()
        self.outcomes: list[str] = []
        pace = Pace(0.5)
        late = Job(Request(SHORT, Priority.FINAL), lambda outcome: None, 0.0, 0.0, 0.0)
        pace.observe([late], self.clock.now_s)
        self.pool = WorkerPool(
            Transcriber(backend("tiny.en"), self.metrics),
            Batcher(max_batch=4, max_frames=4 * FULL_WINDOW, workers=1, max_waiting=10),
            workers=1,
            pace=pace,
            metrics=self.metrics,
            clock=self.clock,
        )

    def ask(self, name: str, priority: Priority) -> int:
        return self.pool.submit(
            Request(SHORT, priority), lambda outcome: self.outcomes.append(name)
        )


async def test_a_held_speculation_is_taken_when_it_is_due_though_nobody_calls() -> None:
    held = Held()
    held.ask("speculation", Priority.SPECULATIVE)
    held.ask("final", Priority.FINAL)
    await until(lambda: held.outcomes)
    assert held.outcomes == ["final"]
    assert len(held.pool) == 1
    held.clock.now_s += 0.2
    await until(lambda: len(held.outcomes) == 2)
    held.pool.close()
    # It was held, and did not wait.
    assert held.metrics.snapshot().queue_s["speculative"].total < 0.1


async def test_a_held_speculation_that_becomes_a_final_is_taken_at_once() -> None:
    held = Held()
    order = held.ask("speculation", Priority.SPECULATIVE)
    other = held.ask("other", Priority.SPECULATIVE)
    assert held.pool.promote(order)
    await until(lambda: held.outcomes == ["speculation"])
    assert not held.pool.promote(order)
    assert held.pool.cancel(other)
    assert not held.pool.cancel(other)
    held.pool.close()
    statistics = held.metrics.snapshot()
    assert statistics.queue_s["final"].total == 0.0
    assert statistics.cancelled == 1


# Too many requests


async def test_a_queue_that_one_stream_floods_refuses_and_recovers() -> None:
    gate = Gate(Parrot(backend("tiny.en")))
    results = Results()
    async with engine(gate, WhisperConfig(max_streams=1)) as running:
        stream = running.open_stream(results, partials=False)
        audio = float_to_pcm16(SHORT)
        for _ in range(100):
            stream.speech_started(0.0)
            stream.feed(audio)
            stream.speech_stopped(0.0)
        assert running.waiting <= 80
        refused = running.statistics.refused_requests
        assert refused >= 100 - 80 - gate.max_batch  # a worker has a batch already
        gate.open()
        await stream.drain()
        assert running.waiting == 0
        stream.close()
    assert len(results.failures) == refused
    assert all(isinstance(item.error, EngineOverloaded) for item in results.failures)
    utterances = [result.utterance for result in results.all]
    assert utterances == list(range(1, 101))


def test_each_event_loop_has_files_of_its_own_in_flight() -> None:
    async def decode_many(running: WhisperEngine) -> int:
        return len(await asyncio.gather(*(running.decode(SHORT) for _ in range(20))))

    running = WhisperEngine(Parrot(backend("tiny.en")))
    try:
        assert [asyncio.run(decode_many(running)) for _ in range(2)] == [20, 20]
    finally:
        running.close()


# Figures


async def test_every_stage_is_counted() -> None:
    results = Results()
    async with engine() as running:
        stream = running.open_stream(results)
        speaker = Speaker(stream, running)
        await speaker.say(join([SPEECH.id, "cards-003"], gap_s=0.8))
        await stream.drain()
        await until(lambda: not running.waiting and not stream._orders)
        stream.close()
        statistics = running.statistics
        text = render_prometheus(running.metrics.registry)
    assert statistics.opened == 1
    assert sum(statistics.requests.values()) == (
        sum(held.count for held in statistics.queue_s.values())
        + statistics.cancelled
        + statistics.replaced_partials
        + statistics.dropped_partials
        - statistics.again
    )
    assert set(statistics.queue_s) <= {item.name.lower() for item in Priority}
    assert statistics.used_speculations == sum(final.speculative for final in results.finals) > 0
    assert statistics.requests["speculative"] == (
        statistics.used_speculations + statistics.discarded_speculations
    )
    assert statistics.batch_sizes.count == statistics.batches > 0
    assert statistics.batch_sizes.total == statistics.decoded + statistics.again
    assert statistics.encode_s.count == statistics.decode_s.count == statistics.batches
    assert statistics.encode_s.mean > 0
    assert statistics.decode_s.mean > 0
    assert statistics.tokens > 10
    assert f"talkpath_whisper_decoded_total {statistics.decoded}\n" in text
    assert "talkpath_whisper_open_streams 0\n" in text
    assert 'talkpath_whisper_queue_seconds_bucket{priority="speculative",le="0.005"}' in text


async def test_a_speculation_counts_as_discarded_where_a_worker_had_it() -> None:
    gate = Gate(backend("tiny.en"))
    async with engine(gate) as running:
        stream = running.open_stream(Results(), partials=False)
        stream.speech_started(0.0)
        stream.feed(bytes(32_000))
        stream.early_pause()
        await until(lambda: gate.batches)
        stream.speech_resumed()
        for _ in range(2):  # these wait behind it
            stream.early_pause()
            stream.speech_resumed()
        stream.early_pause()
        stream.close()
        statistics = running.statistics
        assert statistics.discarded_speculations == 1
        assert statistics.cancelled == 3
        assert statistics.used_speculations == 0
        gate.open()
