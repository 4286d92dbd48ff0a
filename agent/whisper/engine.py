"""Engine: one model for all streams of the process. asyncio in front, worker threads behind."""

import asyncio
import dataclasses
import itertools
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from talkpath.agent.audio import SAMPLE_RATE_HZ, FloatArray, Resampler
from talkpath.agent.config import WhisperConfig
from talkpath.agent.errors import (
    AudioError,
    ConfigError,
    DecodeFailed,
    EngineClosed,
    EngineOverloaded,
)
from talkpath.agent.whisper.backend import Backend, Item
from talkpath.agent.whisper.batcher import choose
from talkpath.agent.whisper.ctranslate import CTranslate2Backend
from talkpath.agent.whisper.live import WhisperStream
from talkpath.agent.whisper.requests import DecodeOptions, Priority, Request
from talkpath.agent.whisper.results import StreamResult, Transcript
from talkpath.agent.whisper.stream import Stream, StreamOptions
from talkpath.agent.whisper.transcriber import Transcriber
from talkpath.agent.whisper.windows import BUCKETS, MAX_AUDIO_S

__all__ = ["EngineStatistics", "WhisperEngine"]

_log = logging.getLogger(__name__)

_MAX_BATCH = 4  # on a CPU the encoder loses from larger ones (measured)
_OFFLINE_AHEAD = 8  # offline requests in flight; the caller of one more waits

_Outcome = Transcript | Exception


@dataclass(slots=True)
class EngineStatistics:
    """Counters since the start.

    Attributes:
        decoded: requests answered.
        batches: batches run.
        cancelled: requests that were withdrawn before a worker took them.
        full_windows: requests decoded again in the full window.
        failed: requests that the model failed on.
        refused: streams refused because the engine was full.
    """

    decoded: int = 0
    batches: int = 0
    cancelled: int = 0
    full_windows: int = 0
    failed: int = 0
    refused: int = 0


@dataclass(slots=True, eq=False)
class _Job:
    """A request, and where its outcome goes: called on the event loop that asked."""

    request: Request
    loop: asyncio.AbstractEventLoop
    deliver: Callable[[_Outcome], None]


class WhisperEngine:
    """Decodes for all streams of the process.

    The queue of waiting requests is bounded by construction: a stream has at most one
    partial and the finals of its last utterances in it, streams are limited by
    ``max_streams``, and ``decode`` waits while more than eight of its requests are in flight.

    Use ``await WhisperEngine.start(...)``, and ``close()`` at the end.
    """

    def __init__(self, backend: Backend, config: WhisperConfig | None = None) -> None:
        """Start the worker threads on a loaded backend; see ``start`` for the usual way."""
        self._config = config or WhisperConfig()
        self._backend = backend
        self._transcriber = Transcriber(backend)
        self._language = self.check_language(self._config.language)
        self._waiting: dict[int, _Job] = {}
        self._orders = itertools.count()
        self._changed = threading.Condition()
        self._closed = False
        self._streams: set[WhisperStream] = set()
        self._offline = asyncio.Semaphore(_OFFLINE_AHEAD)
        self.statistics = EngineStatistics()
        self._workers = [
            threading.Thread(target=self._work, name=f"whisper-{index}", daemon=True)
            for index in range(backend.workers)
        ]
        for worker in self._workers:
            worker.start()

    @classmethod
    async def start(cls, path: Path, config: WhisperConfig | None = None) -> "WhisperEngine":
        """Load a model, warm every window size up and start the workers.

        Args:
            path: folder of a CTranslate2 Whisper model.
            config: device, type of weights, workers, language, limits.

        Raises:
            ModelError: the folder does not hold a Whisper model.
            ConfigError: device, compute type or language is not to be had.
            MissingDependency: a CUDA library is not installed.
        """
        config = config or WhisperConfig()

        def load() -> Backend:
            backend = CTranslate2Backend(
                path,
                device=config.device,
                compute_type=config.compute_type,
                workers=config.workers,
            )
            started = time.perf_counter()
            for bucket in BUCKETS:
                encoded = backend.encode([np.zeros(SAMPLE_RATE_HZ, dtype=np.float32)], bucket)
                backend.generate(encoded, [Item("en", SAMPLE_RATE_HZ)], max_tokens=1)
            _log.debug("warmed up in %.2f s", time.perf_counter() - started)
            return backend

        return cls(await asyncio.to_thread(load), config)

    @property
    def languages(self) -> frozenset[str]:
        """Codes of the languages that the model knows."""
        return self._backend.languages

    @property
    def streams(self) -> int:
        """Streams that are open."""
        return len(self._streams)

    def check_language(self, language: str | None) -> str | None:
        """Turn a language setting into a code, or None for detection.

        Args:
            language: a Whisper code, a tag such as ``en-US``, ``auto`` or None.

        Raises:
            ConfigError: the model does not know the language.
        """
        if not self._backend.multilingual:
            if language not in (None, "auto") and not str(language).lower().startswith("en"):
                raise ConfigError(f"this model knows English only, not {language!r}")
            return "en"
        if language is None or language == "auto":
            return None
        code = language.lower().split("-")[0]
        if code not in self._backend.languages:
            raise ConfigError(f"Whisper does not know the language {language!r}")
        return code

    def open_stream(
        self,
        on_result: Callable[[StreamResult], None],
        *,
        sample_rate_hz: int = SAMPLE_RATE_HZ,
        language: str | None = None,
        partials: bool = True,
    ) -> "WhisperStream":
        """Open a stream for one speaker. Call it, and the stream, on one event loop.

        Args:
            on_result: called on that loop with each partial, final or failure, in order.
            sample_rate_hz: rate of the audio that will be fed.
            language: a code, ``auto``, or None for the engine's setting.
            partials: whether partials are wanted.

        Raises:
            EngineOverloaded: ``max_streams`` are open.
            EngineClosed: the engine was closed.
            ConfigError: the model does not know the language.
            AudioError: a sample rate outside 4 to 384 kHz.
        """
        if self._closed:
            raise EngineClosed("the speech-to-text engine is closed")
        if len(self._streams) >= self._config.max_streams:
            self.statistics.refused += 1
            raise EngineOverloaded(
                f"all {self._config.max_streams} speech-to-text streams are in use; try later"
            )
        options = StreamOptions(
            decode=DecodeOptions(
                language=self._language if language is None else self.check_language(language)
            ),
            partials=partials,
            partial_interval_s=self._config.partial_interval_s,
        )
        stream = WhisperStream(self, Stream(options), Resampler(sample_rate_hz), on_result)
        self._streams.add(stream)
        return stream

    async def decode(self, audio: FloatArray, *, language: str | None = None) -> Transcript:
        """Decode one piece of audio, after all live streams.

        Args:
            audio: float32, ``[n]``, 16 kHz, at most 28.5 s.
            language: a code, ``auto``, or None for the engine's setting.

        Raises:
            AudioError: the audio is empty, too long, or holds values that are no numbers.
            ConfigError: the model does not know the language.
            DecodeFailed: the model failed.
            EngineClosed: the engine was closed.
        """
        code = self._language if language is None else self.check_language(language)
        if not len(audio) or len(audio) > MAX_AUDIO_S * SAMPLE_RATE_HZ:
            raise AudioError(
                f"{len(audio) / SAMPLE_RATE_HZ:.2f} s of audio; one piece has up to {MAX_AUDIO_S} s"
            )
        async with self._offline:
            future: asyncio.Future[Transcript] = asyncio.get_running_loop().create_future()

            def deliver(outcome: _Outcome) -> None:
                if future.done():
                    return
                if isinstance(outcome, Exception):
                    future.set_exception(outcome)
                else:
                    future.set_result(outcome)

            order = self._submit(
                Request(audio, Priority.OFFLINE, DecodeOptions(language=code)), deliver
            )
            try:
                return await future
            except asyncio.CancelledError:
                self._cancel(order)
                raise

    def close(self) -> None:
        """Stop the workers after their current batch; waiting requests end in EngineClosed."""
        with self._changed:
            if self._closed:
                return
            self._closed = True
            waiting = list(self._waiting.values())
            self._waiting.clear()
            self._changed.notify_all()
        for job in waiting:
            _deliver(job, EngineClosed("the speech-to-text engine is closed"))
        for worker in self._workers:
            worker.join()

    def _submit(self, request: Request, deliver: Callable[[_Outcome], None]) -> int:
        request = dataclasses.replace(request, order=next(self._orders))
        job = _Job(request, asyncio.get_running_loop(), deliver)
        with self._changed:
            if self._closed:
                raise EngineClosed("the speech-to-text engine is closed")
            self._waiting[request.order] = job
            self._changed.notify()
        return request.order

    def _cancel(self, order: int) -> None:
        with self._changed:
            if self._waiting.pop(order, None) is not None:
                self.statistics.cancelled += 1

    def _promote(self, order: int) -> None:
        with self._changed:
            job = self._waiting.get(order)
            if job is not None:
                job.request = dataclasses.replace(job.request, priority=Priority.FINAL)

    def _work(self) -> None:
        # No variable here holds a job: a worker that waits would keep it alive, and with it
        # the whole session that asked.
        while not self._closed:
            self._wait()
            self._run(self._take())

    def _wait(self) -> None:
        with self._changed:
            while not self._waiting and not self._closed:
                self._changed.wait()

    def _take(self) -> list[_Job]:
        """Take the next batch; there may be none left."""
        with self._changed:
            requests = choose([job.request for job in self._waiting.values()], _MAX_BATCH)
            return [self._waiting.pop(request.order) for request in requests]

    def _run(self, batch: Sequence[_Job]) -> None:
        """Decode a batch; when it fails, each request alone, so that one spoils no other."""
        if not batch:  # another worker was quicker, or the engine was closed
            return
        try:
            transcripts = self._transcriber.transcribe([job.request for job in batch])
        except Exception as error:
            if len(batch) > 1:
                for job in batch:
                    self._run([job])
                return
            self._count(failed=1)
            if isinstance(error, AudioError):
                _deliver(batch[0], error)
                return
            _log.exception("decoding failed")
            failure = DecodeFailed(f"Whisper failed: {error}")
            failure.__cause__ = error
            _deliver(batch[0], failure)
            return
        self._count(
            batches=1,
            decoded=len(batch),
            full_windows=sum(transcript.full_window for transcript in transcripts),
        )
        for job, transcript in zip(batch, transcripts, strict=True):
            _deliver(job, transcript)

    def _count(
        self, *, batches: int = 0, decoded: int = 0, full_windows: int = 0, failed: int = 0
    ) -> None:
        """Add to the statistics; several workers may do so at once."""
        with self._changed:
            self.statistics.batches += batches
            self.statistics.decoded += decoded
            self.statistics.full_windows += full_windows
            self.statistics.failed += failed


def _deliver(job: _Job, outcome: _Outcome) -> None:
    """Hand an outcome to the event loop that asked, unless that loop is gone."""
    try:
        job.loop.call_soon_threadsafe(job.deliver, outcome)
    except RuntimeError:
        if not job.loop.is_closed():
            raise
