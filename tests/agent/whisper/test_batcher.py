"""Batcher: what the next free worker takes."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from talkpath.agent.whisper.batcher import choose
from talkpath.agent.whisper.requests import DecodeOptions, Priority, Request


def request(
    seconds: float, priority: Priority = Priority.FINAL, order: int = 0, language: str | None = "en"
) -> Request:
    audio = np.zeros(round(seconds * 16_000), dtype=np.float32)
    return Request(audio, priority, DecodeOptions(language=language), order)


waiting_requests = st.lists(
    st.tuples(st.sampled_from([0.5, 3, 4, 6, 20, 29]), st.sampled_from(Priority)), max_size=30
).flatmap(
    lambda items: st.permutations(
        [request(seconds, priority, order) for order, (seconds, priority) in enumerate(items)]
    )
)


@given(waiting_requests, st.integers(1, 8))
def test_a_batch_is_of_one_window_urgent_first_then_old_first(
    waiting: list[Request], max_batch: int
) -> None:
    batch = choose(waiting, max_batch)
    if not waiting:
        assert batch == []
        return
    most_urgent = min(waiting, key=lambda item: (item.priority, item.order))
    assert batch[0] is most_urgent
    assert {item.bucket for item in batch} == {most_urgent.bucket}
    same = [item for item in waiting if item.bucket == most_urgent.bucket]
    assert len(batch) == min(max_batch, len(same))
    ranks = [(item.priority, item.order) for item in batch]
    assert ranks == sorted(ranks)
    left = [(item.priority, item.order) for item in same if item not in batch]
    assert not left or max(ranks) < min(left)


@given(waiting_requests, st.integers(1, 8))
def test_batch_after_batch_takes_every_request_once(waiting: list[Request], max_batch: int) -> None:
    taken: list[Request] = []
    rest = list(waiting)
    while batch := choose(rest, max_batch):
        taken += batch
        rest = [item for item in rest if item not in batch]
    assert sorted(item.order for item in taken) == sorted(item.order for item in waiting)
    assert not rest


def test_finals_go_before_all_others() -> None:
    ranked = [
        Priority.FINAL,
        Priority.SPECULATIVE,
        Priority.FIRST_PARTIAL,
        Priority.PARTIAL,
        Priority.OFFLINE,
    ]
    waiting = [request(1, priority, order) for order, priority in enumerate(reversed(ranked))]
    assert [item.priority for item in choose(waiting, 8)] == ranked


def test_a_final_in_another_window_leaves_older_partials_waiting() -> None:
    waiting = [request(1, Priority.PARTIAL, order) for order in range(5)]
    waiting.append(request(12, Priority.FINAL, 9))
    assert [item.order for item in choose(waiting, 4)] == [9]


def test_languages_may_be_mixed_in_one_batch() -> None:
    waiting = [request(1, order=0, language="de"), request(1, order=1, language=None)]
    assert len(choose(waiting, 4)) == 2
