"""Batcher: which of the waiting requests the next free worker takes. Pure functions.

No fixed waiting window: a batch is what queued up while the workers were busy. The most
urgent request decides, and others of the same bucket ride along, the most urgent first.
"""

from collections.abc import Sequence

from talkpath.agent.whisper.requests import Request

__all__ = ["choose"]


def choose(waiting: Sequence[Request], max_batch: int) -> list[Request]:
    """Choose the next batch.

    Args:
        waiting: requests in any order.
        max_batch: most requests in a batch.

    Returns:
        Requests of one bucket, the most urgent and then the oldest first; none if none waits.
    """
    if not waiting:
        return []
    ranked = sorted(waiting, key=lambda request: (request.priority, request.order))
    bucket = ranked[0].bucket
    return [request for request in ranked if request.bucket == bucket][:max_batch]
