"""Seeds of conversations: a few that are always the same, or new ones for a given time.

``TALKPATH_FUZZ_SECONDS`` is how long a file's tests run together; without it they play what CI
plays. ``TALKPATH_FUZZ_SEED`` is a seed to begin with.
"""

import contextlib
import itertools
import os
import random
import time
from collections.abc import Iterator

__all__ = ["named", "seeds"]

_SECONDS = float(os.environ.get("TALKPATH_FUZZ_SECONDS", "0"))
_FIRST = os.environ.get("TALKPATH_FUZZ_SEED")


def seeds(usual: int, *, share: int) -> Iterator[int]:
    """Seeds for one test.

    Args:
        usual: how many, where no time is given.
        share: of the time this test takes one part in so many.
    """
    if _FIRST is not None:
        yield int(_FIRST)
    if not _SECONDS:
        yield from range(usual)
        return
    deadline = time.monotonic() + _SECONDS / share
    first = random.SystemRandom().randrange(2**40)
    yield from itertools.takewhile(lambda _: time.monotonic() < deadline, itertools.count(first))


@contextlib.contextmanager
def named(seed: int) -> Iterator[None]:
    """What goes wrong inside says in which conversation."""
    try:
        yield
    except BaseException as error:
        error.add_note(f"in the conversation of TALKPATH_FUZZ_SEED={seed}")
        raise
