"""How often somebody may do something: tables of a bounded size, by address.

Both forget first whom they have not heard from for the longest time: a flood of forged addresses
costs memory for ``capacity`` entries and no more. Who was forgotten starts afresh.
"""

from collections import OrderedDict

__all__ = ["Lockout", "RateLimit"]


class RateLimit:
    """A bucket of tokens for each key: it fills at a steady rate, and each request takes one.

    Args:
        per_s: tokens a second.
        burst: what a bucket holds; it is full in the beginning.
        capacity: most keys at once.
    """

    def __init__(self, per_s: float, burst: float, capacity: int = 10_000) -> None:
        self._per_s = per_s
        self._burst = max(1.0, burst)
        self._capacity = capacity
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, key: str, now_s: float) -> bool:
        """Take a token; False where there is none."""
        tokens, then_s = self._buckets.pop(key, (self._burst, now_s))
        tokens = min(self._burst, tokens + max(0.0, now_s - then_s) * self._per_s)
        is_there = tokens >= 1.0
        self._buckets[key] = (tokens - 1.0 if is_there else tokens, now_s)
        if len(self._buckets) > self._capacity:
            self._buckets.popitem(last=False)
        return is_there


class Lockout:
    """Shuts out who failed too often.

    Args:
        failures: so many of them shut out.
        window_s: within this time.
        lock_s: for this time.
        capacity: most keys at once.
    """

    def __init__(
        self,
        failures: int = 10,
        window_s: float = 60.0,
        lock_s: float = 600.0,
        capacity: int = 10_000,
    ) -> None:
        self._failures = failures
        self._window_s = window_s
        self._lock_s = lock_s
        self._capacity = capacity
        self._failed_s: OrderedDict[str, tuple[float, ...]] = OrderedDict()
        self._locked: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._failed_s) + len(self._locked)

    def is_locked(self, key: str, now_s: float) -> bool:
        """Whether somebody is shut out now."""
        until_s = self._locked.get(key)
        if until_s is not None and until_s <= now_s:
            del self._locked[key]
        return until_s is not None and now_s < until_s

    def fail(self, key: str, now_s: float) -> None:
        """Count a failure."""
        past_s = self._failed_s.pop(key, ())
        recent_s = (*(one for one in past_s if now_s - one < self._window_s), now_s)
        if len(recent_s) >= self._failures:
            self._locked[key] = now_s + self._lock_s
            table: OrderedDict[str, float] | OrderedDict[str, tuple[float, ...]] = self._locked
        else:
            self._failed_s[key] = recent_s
            table = self._failed_s
        if len(table) > self._capacity:
            table.popitem(last=False)
