"""Whisper for tests: real models, loaded once, and wrappers that delay or spoil a decode."""

import asyncio
import functools
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from talkpath.agent.audio import FloatArray, float_to_pcm16
from talkpath.agent.config import WhisperConfig
from talkpath.agent.models import ModelStore
from talkpath.agent.speech import (
    EarlyPause,
    SileroVad,
    SpeechResumed,
    SpeechStarted,
    SpeechStopped,
    SpeechTracker,
)
from talkpath.agent.whisper import (
    Final,
    Partial,
    StreamFailure,
    StreamResult,
    WhisperEngine,
    WhisperStream,
)
from talkpath.agent.whisper.backend import Backend, Decoded, Item, TimedText
from talkpath.agent.whisper.ctranslate import CTranslate2Backend
from talkpath.agent.whisper.results import Word

__all__ = [
    "WAIT_S",
    "Gate",
    "Looping",
    "Parrot",
    "Results",
    "Speaker",
    "Spoiled",
    "Wrapper",
    "backend",
    "engine",
    "forget_threads",
    "marked",
    "threads",
    "until",
    "vad",
]

# So long until a hanging test fails; nothing is ever measured against it.
WAIT_S = 60
BLOCK = 320


@functools.cache
def backend(name: str) -> CTranslate2Backend:
    """A model on the CPU, loaded once for all tests; its engines come and go."""
    return CTranslate2Backend(ModelStore().pull(name), device="cpu", workers=2)


@functools.cache
def vad() -> SileroVad:
    return SileroVad()


@asynccontextmanager
async def engine(
    model: Backend | str = "tiny.en", config: WhisperConfig | None = None
) -> AsyncIterator[WhisperEngine]:
    """An engine on a loaded model."""
    running = WhisperEngine(backend(model) if isinstance(model, str) else model, config)
    try:
        yield running
    finally:
        await asyncio.to_thread(running.close)


_others: "weakref.WeakSet[threading.Thread]" = weakref.WeakSet()


def forget_threads() -> None:
    """Leave the threads that there are now out of all later ``threads``."""
    _others.clear()
    _others.update(threading.enumerate())


def threads(prefix: str = "whisper") -> list[threading.Thread]:
    """The test's own threads of this name, alive."""
    return [
        thread
        for thread in threading.enumerate()
        if thread.name.startswith(prefix) and thread not in _others
    ]


async def until(condition: Callable[[], object]) -> None:
    """Wait for something to come true."""
    async with asyncio.timeout(WAIT_S):
        while not condition():  # noqa: ASYNC110 - worker threads change it and set no event
            await asyncio.sleep(0.002)


class Results:
    """What a stream handed out."""

    def __init__(self) -> None:
        self.all: list[StreamResult] = []

    def __call__(self, result: StreamResult) -> None:
        self.all.append(result)

    @property
    def partials(self) -> list[Partial]:
        return [result for result in self.all if isinstance(result, Partial)]

    @property
    def finals(self) -> list[Final]:
        return [result for result in self.all if isinstance(result, Final)]

    @property
    def failures(self) -> list[StreamFailure]:
        return [result for result in self.all if isinstance(result, StreamFailure)]

    @property
    def text(self) -> str:
        return " ".join(final.transcript.text for final in self.finals)


class Speaker:
    """Feeds a stream as a caller would: blocks of audio, and what the detector says of them.

    With ``engine``, of which it is the only caller, every block waits until all that was asked for
    is answered: what the stream gives is the same then, however busy the machine is.
    """

    def __init__(self, stream: WhisperStream, engine: WhisperEngine | None = None) -> None:
        self._stream = stream
        self._engine = engine
        self._tracker = SpeechTracker(vad())

    async def say(self, audio: FloatArray, *, paced: bool = False) -> None:
        """``paced`` lets the decoding threads run between two blocks."""
        for at in range(0, len(audio), BLOCK):
            part = audio[at : at + BLOCK]
            self._stream.feed(float_to_pcm16(part))
            for event in self._tracker.process(part):
                match event:
                    case SpeechStarted(ago_s):
                        self._stream.speech_started(ago_s)
                    case EarlyPause():
                        self._stream.early_pause()
                    case SpeechResumed():
                        self._stream.speech_resumed()
                    case SpeechStopped(silence_s):
                        self._stream.speech_stopped(silence_s)
            await asyncio.sleep(0.005 if paced else 0)
            await self._until_answered()

    async def _until_answered(self) -> None:
        running = self._engine
        while running is not None:
            await until(lambda: not running.unfinished)
            await asyncio.sleep(0)  # now the stream has the answers, and may ask for more
            if not running.unfinished:
                return


def marked(audio: FloatArray) -> FloatArray:
    """The same audio with a mark by which ``Spoiled`` and ``Looping`` know it."""
    return np.concatenate([audio, np.full(3, 0.7654321, dtype=np.float32)])


def _is_marked(audio: FloatArray) -> bool:
    return len(audio) >= 3 and bool(np.all(audio[-3:] == np.float32(0.7654321)))


class Wrapper:
    """A backend that is another one but for what a subclass changes."""

    def __init__(self, real: Backend) -> None:
        self._real = real
        self.multilingual = real.multilingual
        self.languages = real.languages
        self.workers = real.workers
        self.max_batch = real.max_batch
        self.max_frames = real.max_frames
        self.mixes = real.mixes
        self.windows = real.windows

    def encode(self, audio: Sequence[FloatArray], bucket: int, padding: str = "silence") -> Any:
        return self._real.encode(audio, bucket, padding)

    def join(self, parts: Sequence[Any]) -> Any:
        return self._real.join(parts)

    def tokenize(self, text: str) -> tuple[int, ...]:
        return self._real.tokenize(text)

    def detect_language(self, encoded: Any) -> list[dict[str, float]]:
        return self._real.detect_language(encoded)

    def generate(
        self, encoded: Any, items: Sequence[Item], *, max_tokens: int, **options: Any
    ) -> list[Decoded]:
        return self._real.generate(encoded, items, max_tokens=max_tokens, **options)

    def align(
        self, encoded: Any, items: Sequence[Item], decoded: Sequence[Decoded], **options: Any
    ) -> list[tuple[tuple[Word, ...], ...]]:
        return self._real.align(encoded, items, decoded, **options)


class Parrot(Wrapper):
    """Gives its first answer again and again, for no work."""

    def __init__(self, real: Backend) -> None:
        super().__init__(real)
        self._said: Decoded | None = None

    def encode(self, audio: Sequence[FloatArray], bucket: int, padding: str = "silence") -> Any:
        return super().encode(audio, bucket, padding) if self._said is None else None

    def generate(
        self, encoded: Any, items: Sequence[Item], *, max_tokens: int, **options: Any
    ) -> list[Decoded]:
        if self._said is None:
            (self._said,) = super().generate(encoded, items, max_tokens=max_tokens, **options)
        return [self._said] * len(items)


class Gate(Wrapper):
    """Lets nothing through before it is opened; ``batches`` tells what came to it."""

    def __init__(self, real: Backend, workers: int = 1) -> None:
        super().__init__(real)
        self.workers = workers
        self.batches: list[list[int]] = []
        self._open = threading.Event()

    def encode(self, audio: Sequence[FloatArray], bucket: int, padding: str = "silence") -> Any:
        self.batches.append([len(item) for item in audio])
        if not self._open.wait(WAIT_S):
            raise TimeoutError("the test never opened the gate")
        return super().encode(audio, bucket, padding)

    def open(self) -> None:
        self._open.set()


class Spoiled(Gate):
    """Fails on every batch with a marked item in it."""

    def encode(self, audio: Sequence[FloatArray], bucket: int, padding: str = "silence") -> Any:
        encoded = super().encode(audio, bucket, padding)
        if any(_is_marked(item) for item in audio):
            raise RuntimeError("out of memory, or so")
        return encoded


class Looping(Wrapper):
    """Goes round in circles on marked items, in short windows or in all."""

    LOOP = "and again " * 20

    def __init__(self, real: Backend, *, always: bool) -> None:
        super().__init__(real)
        self._always = always

    def encode(self, audio: Sequence[FloatArray], bucket: int, padding: str = "silence") -> Any:
        loops = [_is_marked(item) and (self._always or bucket < 3000) for item in audio]
        return super().encode(audio, bucket, padding), loops

    def join(self, parts: Sequence[Any]) -> Any:
        encoded, loops = zip(*parts, strict=True)
        return super().join(encoded), [item for part in loops for item in part]

    def detect_language(self, encoded: Any) -> list[dict[str, float]]:
        return super().detect_language(encoded[0])

    def generate(
        self, encoded: Any, items: Sequence[Item], *, max_tokens: int, **options: Any
    ) -> list[Decoded]:
        decoded = super().generate(encoded[0], items, max_tokens=max_tokens, **options)
        return [
            replace(item, segments=(TimedText(0.0, 1.0, self.LOOP.strip()),)) if loops else item
            for item, loops in zip(decoded, encoded[1], strict=True)
        ]
