"""A load is the same for everybody who plans it, and the search finds where it breaks."""

import pytest
from hypothesis import given
from hypothesis import strategies as some

from talkpath.agent.bench.plan import BLOCK_S, Load, find_largest

DURATIONS_S = [2.0, 3.5, 0.61]


@given(
    streams=some.integers(1, 6),
    seconds=some.floats(0.1, 60),
    least=some.integers(1, 5),
    seed=some.integers(0, 99),
)
def test_a_stream_plays_without_gaps_and_ends_what_it_began(
    streams: int, seconds: float, least: int, seed: int
) -> None:
    load = Load(streams=streams, seconds=seconds, least_clips=least * streams, seed=seed)
    plans = load.plan(DURATIONS_S)
    assert len(plans) == streams
    for plan in plans:
        assert len(plan.plays) >= least
        assert 0 <= plan.offset_s <= 4
        for play, following in zip(plan.plays, plan.plays[1:], strict=False):
            assert play.end_block == following.start_block
        for play in plan.plays:
            assert DURATIONS_S[play.clip] <= play.blocks * BLOCK_S < DURATIONS_S[play.clip] + 0.021
            assert 1.0 <= play.think_blocks * BLOCK_S <= 4.0
        for play in plan.plays[least:]:
            assert plan.offset_s + play.start_block * BLOCK_S < seconds
        assert plan.blocks == plan.plays[-1].end_block
        assert [plan.play_at(play.start_block) for play in plan.plays] == list(
            range(len(plan.plays))
        )


def test_a_block_outside_the_plays_belongs_to_the_nearest() -> None:
    plan = Load(streams=1, seconds=10).plan(DURATIONS_S)[0]
    assert plan.play_at(0) == 0
    assert plan.play_at(plan.blocks + 100) == len(plan.plays) - 1


def test_every_clip_is_played_before_one_comes_again() -> None:
    plan = Load(streams=1, seconds=1, least_clips=6).plan(DURATIONS_S)[0]
    assert sorted(play.clip for play in plan.plays[:3]) == [0, 1, 2]
    assert [play.clip for play in plan.plays[3:]] == [play.clip for play in plan.plays[:3]]


def test_more_streams_do_not_change_the_first_ones() -> None:
    few = Load(streams=2, seconds=30, least_clips=0, seed=3).plan(DURATIONS_S)
    many = Load(streams=20, seconds=30, seed=3).plan(DURATIONS_S)
    assert many[:2] == few
    assert len({plan.offset_s for plan in many}) == 20
    assert Load(streams=2, seconds=30, least_clips=0, seed=4).plan(DURATIONS_S) != few


@given(limit=some.integers(0, 600), first=some.integers(1, 600), most=some.integers(1, 600))
def test_the_largest_load_is_found_in_few_steps(limit: int, first: int, most: int) -> None:
    tried: list[int] = []

    def holds(streams: int) -> bool:
        tried.append(streams)
        return streams <= limit

    assert find_largest(holds, first=first, most=most) == min(limit, most)
    assert len(set(tried)) == len(tried) <= 2 * most.bit_length() + 2
    assert all(1 <= streams <= most for streams in tried)


@pytest.mark.parametrize("first", [1, 8])
def test_the_search_doubles_and_then_halves(first: int) -> None:
    tried: list[int] = []

    def holds(streams: int) -> bool:
        tried.append(streams)
        return streams <= 21

    assert find_largest(holds, first=first) == 21
    assert tried == [number for number in (1, 2, 4, 8, 16, 32, 24, 20, 22, 21) if number >= first]
