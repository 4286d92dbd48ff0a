"""Statistics: what the engine counts and measures of every stage."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from talkpath.agent.metrics import SECONDS, Counter, Distribution, Histogram, Registry
from talkpath.agent.whisper.requests import Priority

__all__ = ["EngineMetrics", "EngineStatistics"]

_BATCHES = (1, 2, 4, 8, 16, 32, 64)
_NONE = Distribution((), (0,), 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineStatistics:
    """What an engine has done since its start, at one moment.

    Attributes:
        requests: requests that came, by priority, in lower case.
        decoded: requests answered.
        batches: batches run.
        cancelled: requests that were withdrawn before a worker took them.
        dropped_partials: partials that waited so long that nobody needs them any more.
        replaced_partials: partials that a newer one replaced while they waited.
        used_speculations: speculative finals that went out as finals.
        discarded_speculations: those that speech went on after.
        again: attempts after a first one that did not come out well.
        longer_windows: requests answered from a longer window, because the first one misled.
        failed: requests that the model failed on, or that were lost with a worker.
        refused: streams refused because the engine was full.
        refused_requests: requests refused because too many waited.
        opened: streams opened.
        restarts: workers that were lost and restarted.
        tokens: tokens decoded.
        drafted: draft tokens offered to the decoder; where there was nothing to go by, the
            guess that speech begins at once is one.
        accepted: those of them that held.
        queue_s: seconds in the queue, by priority, in lower case.
        encode_s: seconds of encoding a batch.
        decode_s: seconds of decoding a batch.
        batch_sizes: requests in a batch.
    """

    requests: Mapping[str, int] = field(default_factory=dict)
    decoded: int = 0
    batches: int = 0
    cancelled: int = 0
    dropped_partials: int = 0
    replaced_partials: int = 0
    used_speculations: int = 0
    discarded_speculations: int = 0
    again: int = 0
    longer_windows: int = 0
    failed: int = 0
    refused: int = 0
    refused_requests: int = 0
    opened: int = 0
    restarts: int = 0
    tokens: int = 0
    drafted: int = 0
    accepted: int = 0
    queue_s: Mapping[str, Distribution] = field(default_factory=dict)
    encode_s: Distribution = _NONE
    decode_s: Distribution = _NONE
    batch_sizes: Distribution = _NONE


class EngineMetrics:
    """The engine's counters and histograms. Any thread may count.

    It is the ``Stages`` of a ``Transcriber``, too.

    Attributes:
        registry: all of them, for ``render_prometheus``.
    """

    def __init__(self) -> None:
        self.registry = Registry()
        counter, histogram = self._counter, self._histogram
        self.requests = counter("requests", "Requests that came", "priority")
        self.decoded = counter("decoded", "Requests answered")
        self.cancelled = counter("cancelled", "Requests withdrawn before a worker took them")
        self.dropped = counter("dropped_partials", "Partials that waited for too long")
        self.replaced = counter("replaced_partials", "Waiting partials replaced by newer ones")
        self.used = counter("used_speculations", "Speculative finals that went out as finals")
        self.discarded = counter("discarded_speculations", "Speculative finals thrown away")
        self.again = counter("again", "Attempts after a first one that did not come out well")
        self.longer_windows = counter("longer_windows", "Requests answered from a longer window")
        self.failed = counter("failed", "Requests that failed")
        self.refused_requests = counter("refused_requests", "Requests refused: too many waited")
        self.opened = counter("opened_streams", "Streams opened")
        self.refused = counter("refused_streams", "Streams refused: the engine was full")
        self.restarts = counter("worker_restarts", "Workers lost and restarted")
        self.tokens = counter("tokens", "Tokens decoded")
        self.drafted = counter("draft_tokens", "Draft tokens offered to the decoder")
        self.accepted = counter("accepted_draft_tokens", "Draft tokens that held")
        self.queue_s = histogram("queue_seconds", "Seconds in the queue", label="priority")
        self.encode_s = histogram("encode_seconds", "Seconds of encoding a batch")
        self.decode_s = histogram("decode_seconds", "Seconds of decoding a batch")
        self.batch_sizes = histogram("batch_size", "Requests in a batch", _BATCHES)

    def gauge(self, name: str, help: str, read: Callable[[], float]) -> None:
        """Add a figure that is read when somebody asks."""
        self.registry.gauge(f"talkpath_whisper_{name}", f"{help}.", read)

    def encode(self, seconds: float, batch: int) -> None:
        """See ``Stages.encode``."""
        self.encode_s.observe(seconds)

    def decode(
        self, seconds: float, batch: int, *, tokens: int = 0, drafted: int = 0, accepted: int = 0
    ) -> None:
        """See ``Stages.decode``."""
        self.decode_s.observe(seconds)
        self.tokens.add(tokens)
        self.drafted.add(drafted)
        self.accepted.add(accepted)

    def taken(self, priority: Priority, wait_s: float) -> None:
        """A request left the queue after so many seconds."""
        self.queue_s.observe(wait_s, priority.name.lower())

    def snapshot(self) -> EngineStatistics:
        """All figures as they are now."""
        batch_sizes = self.batch_sizes.distribution()
        return EngineStatistics(
            requests=self.requests.values,
            decoded=self.decoded.value,
            batches=batch_sizes.count,
            cancelled=self.cancelled.value,
            dropped_partials=self.dropped.value,
            replaced_partials=self.replaced.value,
            used_speculations=self.used.value,
            discarded_speculations=self.discarded.value,
            again=self.again.value,
            longer_windows=self.longer_windows.value,
            failed=self.failed.value,
            refused=self.refused.value,
            refused_requests=self.refused_requests.value,
            opened=self.opened.value,
            restarts=self.restarts.value,
            tokens=self.tokens.value,
            drafted=self.drafted.value,
            accepted=self.accepted.value,
            queue_s=self.queue_s.distributions,
            encode_s=self.encode_s.distribution(),
            decode_s=self.decode_s.distribution(),
            batch_sizes=batch_sizes,
        )

    def _counter(self, name: str, help: str, label: str = "") -> Counter:
        return self.registry.counter(f"talkpath_whisper_{name}_total", f"{help}.", label)

    def _histogram(
        self, name: str, help: str, bounds: Sequence[float] = SECONDS, label: str = ""
    ) -> Histogram:
        return self.registry.histogram(f"talkpath_whisper_{name}", f"{help}.", bounds, label)
