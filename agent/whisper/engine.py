"""Engine: one model for all streams of the process. asyncio in front, worker threads behind."""

import asyncio
import functools
import gc
import logging
import sys
import time
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from talkpath.agent.audio import SAMPLE_RATE_HZ, FloatArray, Resampler
from talkpath.agent.config import WhisperConfig
from talkpath.agent.errors import AudioError, ConfigError, EngineClosed, EngineOverloaded
from talkpath.agent.whisper.backend import Backend, Item
from talkpath.agent.whisper.batcher import Batcher, Outcome
from talkpath.agent.whisper.ctranslate import CTranslate2Backend
from talkpath.agent.whisper.live import WhisperStream
from talkpath.agent.whisper.pace import Pace
from talkpath.agent.whisper.requests import DecodeOptions, Priority, Request
from talkpath.agent.whisper.results import StreamResult, Transcript
from talkpath.agent.whisper.statistics import EngineMetrics, EngineStatistics
from talkpath.agent.whisper.stream import StreamOptions
from talkpath.agent.whisper.transcriber import Transcriber
from talkpath.agent.whisper.windows import MAX_AUDIO_S
from talkpath.agent.whisper.workers import WorkerPool

__all__ = ["WhisperEngine"]

_SWITCH_S = 0.0005
_log = logging.getLogger(__name__)

_OFFLINE_AHEAD = 8  # offline requests of one event loop in flight; one more waits
# Requests that may wait, for each stream and for files. A stream has one partial and the finals
# of its last utterances in the queue: only one that is fed faster than people speak has 16.
_WAITING_PER_STREAM = 16
_WAITING_OFFLINE = 64


class WhisperEngine:
    """Decodes for all streams of the process.

    The queue of waiting requests is bounded: a stream has at most one partial and the finals
    of its last utterances in it, streams are limited by ``max_streams``, and ``decode`` waits
    while more than eight of its requests are in flight. A stream that is fed much faster than
    people speak could still fill it; then a request is refused with ``EngineOverloaded``: a
    partial is left out, a final becomes a ``StreamFailure``, and ``decode`` raises it.

    Use ``await WhisperEngine.start(...)``, and ``close()`` at the end.

    Args:
        backend: a loaded model; see ``start`` for the usual way.
        config: language, limits and the like; device and type of weights are the backend's.

    Attributes:
        metrics: what the engine counts; ``metrics.registry`` goes to ``render_prometheus``.
    """

    def __init__(self, backend: Backend, config: WhisperConfig | None = None) -> None:
        self._config = config or WhisperConfig()
        self._backend = backend
        self.metrics = EngineMetrics()
        self._transcriber = Transcriber(backend, self.metrics)
        self._pace = Pace(self._config.partial_interval_s)
        self._streams: set[WhisperStream] = set()
        self._offline: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = (
            weakref.WeakKeyDictionary()
        )
        self._options = self._checked(
            DecodeOptions.of(self._config),
            self.check_language(self._config.language),
            fixed_wins=True,
        )
        self._pool = WorkerPool(
            self._transcriber,
            Batcher(
                max_batch=backend.max_batch,
                max_frames=backend.max_frames,
                workers=backend.workers,
                max_waiting=_WAITING_OFFLINE + _WAITING_PER_STREAM * self._config.max_streams,
            ),
            workers=backend.workers,
            pace=self._pace,
            metrics=self.metrics,
        )
        # Through a weak reference: whoever keeps the figures does not keep the model.
        alive = weakref.ref(self)

        def of_engine(value: Callable[[WhisperEngine], float]) -> Callable[[], float]:
            return lambda: value(engine) if (engine := alive()) is not None else 0.0

        gauge = self.metrics.gauge
        gauge("open_streams", "Streams that are open", of_engine(lambda engine: engine.streams))
        gauge("waiting_requests", "Requests that wait", of_engine(lambda engine: engine.waiting))
        gauge(
            "partial_interval_seconds",
            "Seconds of speech between partials, stretched under load",
            of_engine(lambda engine: engine.partial_interval_s),
        )
        gauge(
            "speculation_hold_seconds",
            "Seconds that speculative finals are held back under load",
            of_engine(lambda engine: engine._pace.hold_s(time.monotonic())),
        )

    @classmethod
    async def start(cls, path: Path, config: WhisperConfig | None = None) -> "WhisperEngine":
        """Load a model, warm every window size up and start the workers.

        What was loaded stays until the process ends, as a rule, so the garbage collector is
        told not to look at it again (``gc.freeze``).

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
            for bucket in backend.windows.buckets:
                encoded = backend.encode([np.zeros(SAMPLE_RATE_HZ, dtype=np.float32)], bucket)
                backend.generate(encoded, [Item("en", SAMPLE_RATE_HZ)], max_tokens=1)
            _log.debug("warmed up in %.2f s", time.perf_counter() - started)
            gc.collect()  # or garbage would be kept as well
            # A worker that wants Python's lock from a busy event loop gets it after so long. It
            # wants it after every call that computes without it.
            sys.setswitchinterval(min(sys.getswitchinterval(), _SWITCH_S))
            gc.freeze()
            return backend

        return cls(await asyncio.to_thread(load), config)

    @property
    def languages(self) -> frozenset[str]:
        """Codes of the languages that the model knows."""
        return self._backend.languages

    @property
    def options(self) -> DecodeOptions:
        """How streams are decoded that ask for nothing else: the settings."""
        return self._options

    @property
    def streams(self) -> int:
        """Streams that are open."""
        return len(self._streams)

    @property
    def waiting(self) -> int:
        """Requests that wait for a worker."""
        return len(self._pool)

    @property
    def unfinished(self) -> int:
        """Requests that wait or are worked on."""
        return self._pool.unfinished

    @property
    def partial_interval_s(self) -> float:
        """Seconds of speech between partials, as the load is; see ``Pace``."""
        return self._pace.interval_s(time.monotonic())

    def stretched_interval_s(self, usual_s: float) -> float:
        """The same for a stream whose own interval without load is ``usual_s`` seconds."""
        return self._pace.interval_s(time.monotonic(), usual_s)

    @property
    def statistics(self) -> EngineStatistics:
        """What the engine has done up to now."""
        return self.metrics.snapshot()

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

    def checked(self, options: DecodeOptions) -> DecodeOptions:
        """Options with the codes of their languages, once it is clear that the model can follow.

        Raises:
            ConfigError: the model does not know a language, or cannot do what is asked for.
        """
        return self._checked(options, self.check_language(options.language))

    def open_stream(
        self,
        on_result: Callable[[StreamResult], None],
        *,
        sample_rate_hz: int = SAMPLE_RATE_HZ,
        language: str | None = None,
        partials: bool = True,
        likely: bool = False,
        options: DecodeOptions | None = None,
    ) -> "WhisperStream":
        """Open a stream for one speaker. Call it, and the stream, on one event loop.

        Args:
            on_result: called on that loop with each partial, final or failure, in order.
            sample_rate_hz: rate of the audio that will be fed.
            language: a code, ``auto``, or None for the language of the options.
            partials: whether partials are wanted.
            likely: whether speculative finals are wanted before the stop confirms them.
            options: how to decode; None for the engine's settings.

        Raises:
            EngineOverloaded: ``max_streams`` are open.
            EngineClosed: the engine was closed.
            ConfigError: the model does not know the language, or cannot do what is asked for.
            AudioError: a sample rate outside 4 to 384 kHz.
        """
        if self._pool.closed:
            raise EngineClosed("the speech-to-text engine is closed")
        if len(self._streams) >= self._config.max_streams:
            self.metrics.refused.add()
            raise EngineOverloaded(
                f"all {self._config.max_streams} speech-to-text streams are in use; try later"
            )
        stream_options = StreamOptions(
            decode=self._resolve(options, language),
            partials=partials,
            likely=likely,
            language_mode=self._config.language_mode,
            partial_interval_s=self._config.partial_interval_s,
        )
        stream = WhisperStream(self, stream_options, Resampler(sample_rate_hz), on_result)
        self._streams.add(stream)
        self.metrics.opened.add()
        return stream

    async def decode(
        self,
        audio: FloatArray,
        *,
        language: str | None = None,
        options: DecodeOptions | None = None,
    ) -> Transcript:
        """Decode one piece of audio, after all live streams.

        Args:
            audio: float32, ``[n]``, 16 kHz, at most 28.5 s.
            language: a code, ``auto``, or None for the language of the options.
            options: how to decode; None for the engine's settings.

        Raises:
            AudioError: the audio is empty, too long, or holds values that are no numbers.
            ConfigError: the model does not know the language, or cannot do what is asked for.
            DecodeFailed: the model failed.
            EngineClosed: the engine was closed.
            EngineOverloaded: too many requests wait; not with fewer event loops than eight.
        """
        resolved = self._resolve(options, language)
        if not len(audio) or len(audio) > MAX_AUDIO_S * SAMPLE_RATE_HZ:
            raise AudioError(
                f"{len(audio) / SAMPLE_RATE_HZ:.2f} s of audio; one piece has up to {MAX_AUDIO_S} s"
            )
        async with self._ahead():
            future: asyncio.Future[Transcript] = asyncio.get_running_loop().create_future()

            def deliver(outcome: Outcome) -> None:
                if future.done():
                    return
                if isinstance(outcome, Exception):
                    future.set_exception(outcome)
                else:
                    future.set_result(outcome)

            order = self._submit(Request(audio, Priority.OFFLINE, resolved), deliver)
            try:
                return await future
            except asyncio.CancelledError:
                self._pool.cancel(order)
                raise

    def close(self) -> None:
        """Stop the workers after their current batch; waiting requests end in EngineClosed."""
        self._pool.close()

    def _resolve(self, options: DecodeOptions | None, language: str | None) -> DecodeOptions:
        """Options with the language that counts, and languages that the model knows."""
        if options is None and language is None:
            return self._options
        if options is None:
            return self._checked(
                DecodeOptions.of(self._config), self.check_language(language), fixed_wins=True
            )
        if language is None:
            return self.checked(options)
        return self._checked(options, self.check_language(language))

    def _checked(
        self, options: DecodeOptions, code: str | None, *, fixed_wins: bool = False
    ) -> DecodeOptions:
        """Options that the model can follow; ConfigError at once, not at the first word."""
        known = tuple(dict.fromkeys(self._code(language) for language in options.languages))
        if code is not None and fixed_wins:
            known = ()
        options = replace(options, language=code, languages=known)
        self._transcriber.prepare(Request(np.zeros(0, dtype=np.float32), Priority.OFFLINE, options))
        return options

    def _code(self, language: str) -> str:
        code = self.check_language(language)
        if code is None:
            raise ConfigError(f"{language!r} is no language to choose among")
        return code

    def _ahead(self) -> asyncio.Semaphore:
        """What bounds the offline requests of this event loop."""
        loop = asyncio.get_running_loop()
        semaphore = self._offline.get(loop)
        if semaphore is None:
            semaphore = self._offline[loop] = asyncio.Semaphore(_OFFLINE_AHEAD)
        return semaphore

    def _submit(
        self, request: Request, deliver: Callable[[Outcome], None], replaces: int | None = None
    ) -> int:
        """Queue a request; its outcome comes back on this event loop."""
        loop = asyncio.get_running_loop()
        return self._pool.submit(
            request, functools.partial(_hand_over, loop, deliver), replaces=replaces
        )


def _hand_over(
    loop: asyncio.AbstractEventLoop, deliver: Callable[[Outcome], None], outcome: Outcome
) -> None:
    """Call on the event loop that asked, unless that loop is gone."""
    try:
        loop.call_soon_threadsafe(deliver, outcome)
    except RuntimeError:
        if not loop.is_closed():
            raise
