"""Plan: who says what when in a load, and the search for the largest load that holds.

A plan depends on its numbers and seed alone, so both sides of a comparison get the same.
"""

import itertools
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

__all__ = ["BLOCK_S", "Load", "Play", "StreamPlan", "find_largest"]

BLOCK_S = 0.02
"""Seconds of audio in one block, as a telephone or a browser sends it."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """How much is said at once.

    Attributes:
        streams: how many speak.
        seconds: how long new clips are begun; a clip that was begun is always ended.
        least_clips: clips that all streams together play even if that takes longer. With less
            than twenty, a 95th percentile is the largest value and nothing more.
        think_s: shortest and longest silence after a clip, evenly drawn.
        seed: of all that is drawn.
    """

    streams: int
    seconds: float = 60.0
    least_clips: int = 20
    think_s: tuple[float, float] = (1.0, 4.0)
    seed: int = 1

    def plan(self, durations_s: Sequence[float]) -> list[StreamPlan]:
        """Plan every stream: its own order of the clips, its own start in the first seconds.

        Args:
            durations_s: of the clips.
        """
        # Every stream draws from its own source: stream 1 of 8 plays what stream 1 of 80 plays.
        return [
            self._plan_stream(durations_s, random.Random(f"{self.seed}/{index}"))
            for index in range(self.streams)
        ]

    def _plan_stream(self, durations_s: Sequence[float], draw: random.Random) -> StreamPlan:
        least = math.ceil(self.least_clips / self.streams)
        offset_s = draw.uniform(0, self.think_s[1])
        plays: list[Play] = []
        at = round(_LEAD_S / BLOCK_S)
        clips = itertools.cycle(draw.sample(range(len(durations_s)), len(durations_s)))
        while len(plays) < max(least, 1) or offset_s + at * BLOCK_S < self.seconds:
            clip = next(clips)
            blocks = math.ceil(round(durations_s[clip] / BLOCK_S, 3))
            think = round(draw.uniform(*self.think_s) / BLOCK_S)
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
