"""Batcher: what the next free worker takes, and that nobody waits for ever."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from talkpath.agent.errors import DecodeFailed, EngineOverloaded
from talkpath.agent.whisper.batcher import (
    DEADLINE_S,
    PATIENCE_S,
    TURNS,
    Batcher,
    Job,
    Outcome,
    choose,
)
from talkpath.agent.whisper.requests import Again, DecodeOptions, Priority, Request
from talkpath.agent.whisper.results import Final, Partial, StreamFailure, Transcript
from tests.agent.whisper.simulation import SimulatedEngine, SimulatedStream, heard

CLASSES = len(Priority) - 1  # those below the finals
FRAMES = 1_000_000


def request(
    seconds: float, priority: Priority = Priority.FINAL, order: int = 0, language: str | None = "en"
) -> Request:
    audio = np.zeros(round(seconds * 16_000), dtype=np.float32)
    return Request(audio, priority, DecodeOptions(language=language), order)


def job(
    seconds: float,
    priority: Priority = Priority.FINAL,
    order: int = 0,
    *,
    since_s: float = 0.0,
    language: str | None = "en",
    mixes: bool = False,
) -> Job:
    wanted = replace(request(seconds, priority, order, language), mixes=mixes)
    if priority is Priority.AGAIN:
        wanted = replace(wanted, attempt=1)
    return Job(wanted, nobody, since_s, since_s, since_s)


def nobody(outcome: Outcome) -> None:
    pass


def rank(item: Job) -> tuple[int, int]:
    return item.request.priority, item.request.order


def batcher(max_batch: int = 4, workers: int = 2, max_waiting: int = 1000) -> Batcher:
    return Batcher(max_batch=max_batch, max_frames=FRAMES, workers=workers, max_waiting=max_waiting)


def orders(batch: list[Job]) -> list[int]:
    return [item.request.order for item in batch]


waiting_jobs = st.lists(
    st.tuples(st.sampled_from([0.5, 3, 4, 6, 20, 28]), st.sampled_from(Priority), st.booleans()),
    max_size=30,
).flatmap(
    lambda items: st.permutations(
        [
            job(seconds, priority, order, mixes=mixes)
            for order, (seconds, priority, mixes) in enumerate(items)
        ]
    )
)


# One batch


@given(waiting_jobs, st.integers(1, 8), st.integers(1, 3), st.sampled_from([1, 2048, FRAMES]))
def test_a_batch_is_of_one_kind_urgent_first_then_old_first(
    waiting: list[Job], max_batch: int, idle: int, max_frames: int
) -> None:
    batch = choose(waiting, 0.0, max_batch=max_batch, max_frames=max_frames, idle=idle)
    if not waiting:
        assert batch == []
        return
    most_urgent = min(waiting, key=rank)
    assert batch[0] is most_urgent
    assert {item.request.batch_key for item in batch} == {most_urgent.request.batch_key}
    if most_urgent.apart:
        assert len(batch) == 1
        return
    same = [
        item
        for item in waiting
        if item.request.batch_key == most_urgent.request.batch_key
        and item.can_wait == most_urgent.can_wait
        and not item.apart
    ]
    assert len(batch) <= max_batch
    ranks = [rank(item) for item in batch]
    assert ranks == sorted(ranks)
    left = sorted((item for item in same if item not in batch), key=rank)
    assert not left or max(ranks) < rank(left[0])
    frames = sum(item.request.bucket for item in batch)
    assert len(batch) == 1 or frames <= max_frames
    is_full = bool(left) and frames + left[0].request.bucket > max_frames
    assert is_full or len(batch) * idle >= min(max_batch, len(same))


@given(waiting_jobs, st.integers(1, 8))
def test_batch_after_batch_takes_every_request_once(waiting: list[Job], max_batch: int) -> None:
    taken: list[Job] = []
    rest = list(waiting)
    turns = itertools.count()
    while batch := choose(rest, 60.0, max_batch=max_batch, max_frames=FRAMES, turn=next(turns)):
        taken += batch
        rest = [item for item in rest if item not in batch]
    assert sorted(orders(taken)) == sorted(orders(waiting))
    assert not rest


def test_a_batch_has_so_many_frames_and_long_windows_fill_it_sooner() -> None:
    waiting = [job(seconds, order=order) for order, seconds in enumerate((6, 6, 0.5))]
    for item in waiting:
        item.request = replace(item.request, mixes=True)
    long, short = waiting[0].request.bucket, waiting[2].request.bucket
    assert long > short

    def taken(max_frames: int) -> list[int]:
        return orders(choose(waiting, 0.0, max_batch=4, max_frames=max_frames))

    assert taken(2 * long + short) == [0, 1, 2]
    assert taken(2 * long + short - 1) == [0, 1]
    assert taken(long + short) == [0]  # nobody overtakes
    assert taken(1) == [0]


def test_finals_go_before_all_others() -> None:
    ranked = [item for item in Priority if item is not Priority.AGAIN]
    waiting = [job(1, priority, order) for order, priority in enumerate(reversed(ranked))]
    taken: list[Priority] = []
    while batch := choose(waiting, 0.0, max_batch=8, max_frames=FRAMES):
        taken += [item.request.priority for item in batch]
        waiting = [item for item in waiting if item not in batch]
    assert taken == ranked


def test_no_partial_makes_a_final_wait_for_it() -> None:
    waiting = [job(1, Priority.FINAL, 1), job(1, Priority.PARTIAL, 2), job(1, order=3)]
    assert orders(choose(waiting, 0.0, max_batch=8, max_frames=FRAMES)) == [1, 3]


def test_one_of_several_workers_is_kept_for_finals_while_anybody_speaks() -> None:
    queue = batcher(max_batch=1, workers=2)
    for _ in range(3):
        queue.add(request(1, Priority.PARTIAL), nobody, 0.0)
    (partial,) = queue.take(0.0)
    assert queue.take(0.0) == []
    queue.add(request(1), nobody, 0.1)
    assert orders(queue.take(0.1)) == [4]
    queue.finish(partial)
    assert orders(queue.take(0.2)) == [2]


def test_files_have_all_workers_when_nobody_speaks() -> None:
    queue = batcher(max_batch=1, workers=2)
    queue.add(request(1, Priority.PARTIAL), nobody, 0.0)
    queue.finish(queue.take(0.0)[0])
    for _ in range(4):
        queue.add(request(1, Priority.OFFLINE), nobody, 1.0)
    assert orders(queue.take(1.0)) == [2]
    assert queue.take(1.0) == []
    assert orders(queue.take(60.0)) == [3]


def test_a_final_in_another_window_leaves_older_partials_waiting() -> None:
    waiting = [job(1, Priority.PARTIAL, order) for order in range(5)]
    waiting.append(job(12, Priority.FINAL, 9))
    assert orders(choose(waiting, 0.0, max_batch=4, max_frames=FRAMES)) == [9]


def test_languages_may_be_mixed_in_one_batch() -> None:
    waiting = [job(1, order=0, language="de"), job(1, order=1, language=None)]
    assert len(choose(waiting, 0.0, max_batch=4, max_frames=FRAMES)) == 2


def test_workers_that_are_free_together_share_what_waits() -> None:
    queue = batcher(max_batch=4, workers=2)
    for _ in range(4):
        queue.add(request(1), nobody, 0.0)
    assert orders(queue.take(0.0, idle=2)) == [1, 2]
    assert orders(queue.take(0.0, idle=1)) == [3, 4]


# Second attempts


def attempt(item: Job, number: int = 1) -> Request:
    best = Transcript(text=f"best of {number}")
    return replace(item.request, attempt=number, best=best, priority=Priority.AGAIN)


def test_second_attempts_go_alone_after_first_ones_and_one_at_a_time() -> None:
    queue = batcher(workers=2)
    for _ in range(2):
        queue.add(request(1), nobody, 0.0)
    for item in queue.take(0.0):
        assert queue.again(item, attempt(item), 0.1)
    queue.add(request(1, Priority.SPECULATIVE), nobody, 0.2)
    queue.add(request(1, Priority.FIRST_PARTIAL), nobody, 0.2)
    assert orders(queue.take(0.3)) == [3]
    again = queue.take(0.3)
    assert orders(again) == [1]
    assert orders(queue.take(0.3)) == [4]
    assert queue.take(0.3) == []  # the other one waits until this one is done
    assert queue.again(again[0], attempt(again[0], 2), 0.4)
    assert orders(queue.take(0.4)) == [1]


def test_a_single_worker_takes_second_attempts_too() -> None:
    queue = batcher(workers=1)
    queue.add(request(1), nobody, 0.0)
    (item,) = queue.take(0.0)
    queue.again(item, attempt(item), 0.1)
    assert queue.take(0.1) == [item]
    assert item.apart


def test_a_files_second_attempt_stays_behind_the_live_ones() -> None:
    queue = batcher(workers=1)
    queue.add(request(1, Priority.OFFLINE), nobody, 0.0)
    (file,) = queue.take(0.0)
    queue.again(file, attempt(file), 0.1)
    queue.add(request(1, Priority.PARTIAL), nobody, 0.2)
    assert orders(queue.take(0.3)) == [2]
    assert queue.take(0.3) == [file]
    assert queue.expire(1e6) == []


def test_what_nobody_waits_for_is_not_decoded_again() -> None:
    queue = batcher()
    order = queue.add(request(1), nobody, 0.0)
    (item,) = queue.take(0.0)
    assert not queue.cancel(order)  # too late to keep it from the worker
    assert not queue.again(item, attempt(item), 0.1)
    assert len(queue) == 0
    assert not queue.finish(item)


def test_a_final_that_cannot_be_put_right_in_time_goes_out_as_it_is() -> None:
    queue = batcher()
    queue.add(request(1), nobody, 0.0)
    (item,) = queue.take(5.0)
    queue.again(item, attempt(item), 5.5)
    queue.take(6.0)
    queue.again(item, attempt(item, 2), 7.0)  # the first failure counts, not the last
    assert queue.expire(5.5 + DEADLINE_S - 0.01) == []
    assert queue.expire(5.5 + DEADLINE_S) == [item]
    assert item.request.best == Transcript(text="best of 2")
    assert len(queue) == 0


def test_the_requests_of_a_lost_batch_are_decoded_once_more_each_alone() -> None:
    queue = batcher(workers=1)
    for _ in range(3):
        queue.add(request(1), nobody, 0.0)
    lost = queue.take(0.0)
    queue.cancel(lost[1].request.order)
    for item in lost:
        queue.retry(item)
    queue.add(request(1), nobody, 0.1)
    assert [orders(queue.take(0.2)) for _ in range(4)] == [[1], [3], [4], []]
    queue.retry(lost[1])  # nobody wants it
    assert len(queue) == 0


# The queue


def test_a_newer_partial_keeps_the_place_of_the_older_one() -> None:
    queue = batcher(max_batch=1)
    first = queue.add(request(1, Priority.PARTIAL), nobody, 0.0)
    second = queue.add(request(1, Priority.PARTIAL), nobody, 0.1)
    assert queue.replace(first, request(2, Priority.PARTIAL), nobody, 1.9) == first
    assert len(queue) == 2
    # The deadline is its own: its audio is new.
    assert orders(queue.expire(0.1 + DEADLINE_S)) == [second]
    (item,) = queue.take(2.2)
    assert (len(item.request.audio), item.since_s) == (32_000, 0.0)
    # It is in a worker's hands now.
    third = queue.replace(first, request(3, Priority.PARTIAL), nobody, 2.3)
    assert third > second
    assert queue.finish(item)
    assert orders(queue.take(2.4)) == [third]


def test_only_partials_have_a_deadline() -> None:
    queue = batcher()
    for priority in Priority:
        queue.add(request(1, priority), nobody, 0.0)
    late = queue.expire(DEADLINE_S)
    assert {item.request.priority for item in late} >= {Priority.FIRST_PARTIAL, Priority.PARTIAL}
    kept = {item.request.priority for item in queue.clear()}
    assert kept == {Priority.FINAL, Priority.SPECULATIVE, Priority.OFFLINE}


def test_a_speculative_final_that_came_true_is_urgent() -> None:
    queue = batcher(max_batch=1)
    queue.add(request(1, Priority.SPECULATIVE), nobody, 0.0)
    second = queue.add(request(1, Priority.SPECULATIVE), nobody, 0.0)
    partial = queue.add(request(1, Priority.PARTIAL), nobody, 0.0)
    queue.promote(second, 0.0)
    queue.promote(partial, 0.0)  # not a speculation
    queue.promote(77, 0.0)
    assert orders(queue.take(0.0)) == [second]
    assert [item.request.priority for item in queue.clear()] == [
        Priority.SPECULATIVE,
        Priority.PARTIAL,
    ]


def test_a_speculation_that_is_held_is_taken_when_it_is_due_or_a_final() -> None:
    queue = batcher()
    assert queue.next_due_s(0.0) == math.inf
    first = queue.add(request(1, Priority.SPECULATIVE), nobody, 0.0, hold_s=0.16)
    second = queue.add(request(1, Priority.SPECULATIVE), nobody, 0.1, hold_s=0.16)
    partial = queue.add(request(1, Priority.PARTIAL), nobody, 0.1)
    assert queue.next_due_s(0.1) == 0.16
    assert orders(queue.take(0.1)) == [partial]
    queue.promote(second, 0.12)
    (final,) = queue.take(0.12)
    assert (final.request.order, final.due_s) == (second, 0.12)
    assert queue.take(0.15) == []
    assert orders(queue.take(0.16)) == [first]
    assert queue.next_due_s(0.16) == math.inf


def test_a_held_speculation_that_became_due_is_due_since_then() -> None:
    queue = batcher()
    order = queue.add(request(1, Priority.SPECULATIVE), nobody, 0.0, hold_s=0.1)
    queue.promote(order, 0.2)
    (final,) = queue.take(0.3)
    assert final.due_s == 0.1


def test_a_queue_that_is_full_says_so_and_keeps_what_it_has() -> None:
    queue = batcher(max_waiting=2)
    first = queue.add(request(1, Priority.PARTIAL), nobody, 0.0)
    queue.add(request(1), nobody, 0.0)
    with pytest.raises(EngineOverloaded, match="2 requests wait for speech-to-text already"):
        queue.add(request(1), nobody, 0.0)
    assert queue.replace(first, request(2, Priority.PARTIAL), nobody, 0.1) == first
    assert len(queue) == 2
    assert queue.cancel(first)
    assert not queue.cancel(first)
    queue.add(request(1), nobody, 0.2)


def test_audio_that_fits_no_window_is_refused_where_it_was_asked_for() -> None:
    queue = batcher()
    with pytest.raises(ValueError, match="do not fit"):
        queue.add(request(31), nobody, 0.0)
    order = queue.add(request(1, Priority.PARTIAL), nobody, 0.0)
    with pytest.raises(ValueError, match="do not fit"):
        queue.replace(order, request(31, Priority.PARTIAL), nobody, 0.1)
    (item,) = queue.take(0.1)
    assert len(item.request.audio) == 16_000


# Nobody starves


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([item for item in Priority if item is not Priority.AGAIN]),
            st.sampled_from([1, 6, 12, 20]),
            st.integers(0, 40),
        ),
        min_size=1,
        max_size=12,
    ),
    st.integers(1, 4),
    st.floats(0.02, 0.5),
)
def test_every_request_is_taken_in_bounded_time_under_a_flood_of_finals(
    arrivals: list[tuple[Priority, float, int]], max_batch: int, takes_s: float
) -> None:
    """More finals than one worker can do, for ever, and others among them at random."""
    queue = batcher(max_batch, workers=1, max_waiting=100_000)
    came: dict[int, tuple[Priority, int]] = {}
    left = sorted(arrivals, key=lambda item: item[2])
    count, step = len(left), 0
    seconds = itertools.cycle([2, 5, 9, 25])
    bound = round(PATIENCE_S / takes_s) + 1 + TURNS * CLASSES * (count + 1)
    lost: list[int] = []
    while came or left:
        now_s = step * takes_s
        for _ in range(max_batch + 1):
            queue.add(request(next(seconds)), nobody, now_s)
        while left and left[0][2] <= step:
            priority, length, _ = left.pop(0)
            # Its deadline is kept away, as newer partials do it.
            order = queue.add(request(length, priority), nobody, now_s)
            if priority is not Priority.FINAL:
                came[order] = (priority, step)
        for item in queue._waiting.values():
            item.asked_s = now_s
        batch = queue.take(now_s)
        if batch[0].request.priority is not Priority.FINAL:
            lost.append(step)
        for item in batch:
            _, since = came.pop(item.request.order, (None, step))
            assert step - since <= bound
            queue.finish(item)
        step += 1
    # What the finals give away is one batch of eight, and never two in a row.
    assert all(later - earlier >= TURNS for earlier, later in itertools.pairwise(lost))


@given(waiting_jobs, st.floats(0, 0.99), st.integers(0, 200))
def test_nothing_goes_before_a_final_unless_it_was_kept_waiting(
    waiting: list[Job], now_s: float, turn: int
) -> None:
    batch = choose(waiting, now_s, max_batch=4, max_frames=FRAMES, turn=turn)
    assert not waiting or batch[0] is min(waiting, key=rank)


# Streams on a simulated engine


def shuffle_outcomes(chance: Random) -> SimulatedEngine:
    """Workers that take any time, fail now and then, and decode finals again."""

    def outcome(item: Job) -> Outcome | Again:
        draw = chance.random()
        if draw < 0.1:
            return DecodeFailed("the model failed")
        if draw < 0.3 and not item.request.is_partial and item.request.attempt < 3:
            better = replace(item.request, attempt=item.request.attempt + 1, best=heard(item))
            return Again(better)
        return heard(item)

    def takes_s(batch: Sequence[Job]) -> float:
        return chance.choice([0.01, 0.1, 0.4, 1.5])

    return SimulatedEngine(chance.choice([1, 2, 3]), takes_s, outcome)


def act(stream: SimulatedStream, chance: Random) -> int:
    """What a speaker may do next; returns how many utterances it ended."""
    core, ended = stream.stream, 0
    match chance.choice(["speak", "speak", "speak", "start", "pause", "resume", "stop"]):
        case "start":
            core.speech_started(0.1)
        case "pause":
            core.early_pause()
        case "resume":
            core.speech_resumed()
        case "stop":
            ended = int(core.speaking)
            core.speech_stopped(0.1)
    stream.pump()
    stream.feed(chance.choice([0.02, 0.1, 0.3, 0.6]))
    return ended


@settings(max_examples=80, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(1, 5))
def test_one_streams_results_are_never_reordered_and_none_is_missing(
    chance: Random, count: int
) -> None:
    engine = shuffle_outcomes(chance)
    streams = [SimulatedStream(engine) for _ in range(count)]
    ended = [0] * count
    for _ in range(60):
        for index, stream in enumerate(streams):
            ended[index] += act(stream, chance)
        engine.advance(engine.now_s + chance.choice([0.05, 0.3, 0.6]))
    for index, stream in enumerate(streams):
        ended[index] += stream.stream.speaking
        stream.stream.speech_stopped(0.0)
        stream.pump()
    engine.finish()
    assert len(engine.batcher) == 0
    for stream, utterances in zip(streams, ended, strict=True):
        closed = [
            result.utterance
            for result in stream.results
            if isinstance(result, Final | StreamFailure)
        ]
        assert closed == list(range(1, utterances + 1))
        assert not stream.stream.pending
        assert_partials_in_order(stream)


def assert_partials_in_order(stream: SimulatedStream) -> None:
    over = 0
    latest: dict[int, Partial] = {}
    for result in stream.results:
        if not isinstance(result, Partial):
            over = result.utterance
            continue
        assert result.utterance > over
        before = latest.get(result.utterance)
        if before is not None:
            assert result.duration_s > before.duration_s
            assert result.stable.startswith(before.stable)
        latest[result.utterance] = result


def test_finals_keep_their_time_while_partials_thin_out() -> None:
    """Three times the partials that two workers can decode; the interval is the only brake."""
    engine = SimulatedEngine(2, lambda batch: 0.1 + 0.04 * len(batch))
    streams = [SimulatedStream(engine) for _ in range(36)]
    chance = Random(3)
    length_s = [chance.uniform(2, 6) for _ in streams]
    for stream in streams:
        stream.stream.speech_started(0.0)
    spoken_s = [chance.uniform(0, 5) for _ in streams]
    for _ in range(600):
        for index, stream in enumerate(streams):
            stream.feed(0.1)
            spoken_s[index] += 0.1
            if spoken_s[index] >= length_s[index]:
                spoken_s[index] = 0.0
                stream.stream.speech_stopped(0.0)
                stream.pump()
                stream.stream.speech_started(0.0)
        engine.advance(engine.now_s + 0.1)
    settled = [item for item in engine.taken if item.at_s > 10]
    finals = sorted(item.wait_s for item in settled if item.priority is Priority.FINAL)
    lower = (Priority.FIRST_PARTIAL, Priority.PARTIAL)
    partials = [item for item in settled if item.priority in lower]
    assert 1.5 < engine.pace.interval_s(engine.now_s) / engine.interval_s < 8
    # A final waits for a batch under way, and hardly ever for more than that.
    assert finals[round(0.95 * len(finals))] <= 0.26
    assert finals[-1] <= 2 * 0.26
    # Partials still come: each stream has one every few seconds.
    assert len(partials) / 50 / 36 > 0.2
    assert engine.dropped < 0.01 * len(partials)
