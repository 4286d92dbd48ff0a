"""Plan: who says what when in a load, and the search for the largest load that holds.

A plan depends on its numbers and seed alone, so both sides of a comparison get the same.
"""

import itertools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

__all__ = ["BLOCK_S", "Play", "StreamPlan", "find_largest", "plan_streams"]

BLOCK_S = 0.02
"""Seconds of audio in one block, as a telephone or a browser sends it."""

_THINK_S = (1.0, 4.0)  # a caller who listens to an answer before the next words
_LEAD_S = 0.5  # the detectors hear some silence before the first word


@dataclass(frozen=True, slots=True)
class Play:
    """One clip, and the silence after it.

    Attributes:
        clip: its index.
        start_block: first block of it, counted from the stream's beginning.
        blocks: blocks of 20 ms that it fills.
        think_blocks: blocks of silence after it.
    """

    clip: int
    start_block: int
    blocks: int
    think_blocks: int

    @property
    def end_block(self) -> int:
        """First block after its silence."""
        return self.start_block + self.blocks + self.think_blocks


@dataclass(frozen=True, slots=True)
class StreamPlan:
    """One stream.

    Attributes:
        offset_s: seconds between the beginning of the load and that of the stream.
        plays: what is said, in order, without gaps between them.
    """

    offset_s: float
    plays: tuple[Play, ...]

    @property
    def blocks(self) -> int:
        """Blocks of the whole stream."""
        return self.plays[-1].end_block

    def play_at(self, block: int) -> int:
        """Index of the play that a block belongs to; those before the first to the first."""
        for index, play in enumerate(self.plays):
            if block < play.end_block:
                return index
        return len(self.plays) - 1


def plan_streams(
    durations_s: Sequence[float],
    streams: int,
    *,
    seconds: float,
    least_plays: int = 1,
    think_s: tuple[float, float] = _THINK_S,
    seed: int = 1,
) -> list[StreamPlan]:
    """Plan a load.

    Every stream has its own order of the clips and begins at its own time within the first
    seconds. It begins no clip after ``seconds``, and always ends a clip that it began.

    Args:
        durations_s: of the clips.
        streams: how many speak at once.
        seconds: how long new clips are begun.
        least_plays: clips that each stream plays even if that takes longer.
        think_s: shortest and longest silence after a clip, evenly drawn.
        seed: of all that is drawn.
    """
    # Every stream draws from its own source: stream 1 of 8 plays what stream 1 of 80 plays.
    return [
        _plan_stream(durations_s, random.Random(f"{seed}/{index}"), seconds, least_plays, think_s)
        for index in range(streams)
    ]


def _plan_stream(
    durations_s: Sequence[float],
    draw: random.Random,
    seconds: float,
    least_plays: int,
    think_s: tuple[float, float],
) -> StreamPlan:
    offset_s = draw.uniform(0, think_s[1])
    plays: list[Play] = []
    at = round(_LEAD_S / BLOCK_S)
    order = draw.sample(range(len(durations_s)), len(durations_s))
    for clip in itertools.cycle(order):
        if len(plays) >= least_plays and offset_s + at * BLOCK_S >= seconds:
            break
        blocks = -(-round(durations_s[clip] * 1000) // round(BLOCK_S * 1000))
        think = round(draw.uniform(*think_s) / BLOCK_S)
        plays.append(Play(clip, at, blocks, think))
        at = plays[-1].end_block
    return StreamPlan(offset_s, tuple(plays))


def find_largest(holds: Callable[[int], bool], *, first: int = 1, most: int = 512) -> int:
    """Find the largest load that holds: by doubling until one does not, then by halving.

    Args:
        holds: whether so many streams hold; taken to fail for all above one that failed.
        first: where the doubling begins.
        most: the largest load to try.

    Returns:
        The largest number of streams that held, 0 if not even one did.
    """
    good, bad, step = 0, most + 1, min(first, most)
    while step < bad:
        if not holds(step):
            bad = step
            break
        good = step
        step = min(2 * step, most) if step < most else bad
    while bad - good > 1:
        middle = (good + bad) // 2
        if holds(middle):
            good = middle
        else:
            bad = middle
    return good
