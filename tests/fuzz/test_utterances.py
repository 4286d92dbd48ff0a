"""No word is lost, doubled or in the wrong place, whatever a client commits, clears and changes.

The real session, engine and state machines, with a microphone of numbers: a word is a stretch of
samples that all have its number, the voice activity model hears what is not zero, and the model
answers with the numbers that it finds in its audio. So what every end has to say is known.
"""

import asyncio
import random
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from talkpath.agent.audio import FloatArray
from talkpath.agent.errors import DecodeFailed
from talkpath.agent.server.protocols.codec import (
    Audio,
    Clear,
    Close,
    Command,
    Commit,
    Configure,
    Finish,
    SessionSettings,
    TurnDetection,
)
from talkpath.agent.server.service import Service
from talkpath.agent.server.session import Session
from talkpath.agent.speech.silero import SileroState
from talkpath.agent.whisper.backend import Backend, Decoded, Item, TimedText
from talkpath.agent.whisper.requests import DecodeOptions
from talkpath.agent.whisper.results import Final, Partial, StreamFailure
from tests.agent.server.serving import the_service
from tests.agent.whisper.helpers import WAIT_S, Wrapper, backend
from tests.fuzz.seeds import named, seeds

CONVERSATIONS = 40  # of each kind, where no time is given
STEPS = 30
RATE_HZ = 16_000
LEAST_S = 0.5  # of a word, so that voice activity finds it


class Reader(Wrapper):
    """Reads the numbers in the audio, after a while; now and then it fails."""

    def __init__(self, real: Backend) -> None:
        super().__init__(real)
        self.failing = False
        self._lock = threading.Lock()
        self._rng = random.Random(0)

    def encode(self, audio: Sequence[FloatArray], bucket: int, padding: str = "silence") -> Any:
        with self._lock:
            wait_s = self._rng.choice((0.0, 0.0, 0.001, 0.01))
            fails = self.failing and self._rng.random() < 0.1
        time.sleep(wait_s)
        if fails:
            raise DecodeFailed("it stumbled")
        return [numbers_in(item) for item in audio]

    def join(self, parts: Sequence[Any]) -> Any:
        return [item for part in parts for item in part]

    def generate(
        self, encoded: Any, items: Sequence[Item], *, max_tokens: int, **options: Any
    ) -> list[Decoded]:
        return [
            Decoded((TimedText(0.0, 0.5, " ".join(map(str, numbers))),) if numbers else (), -0.1, 0)
            for numbers in encoded
        ]


class Hearing:
    """Hears whatever is not silent."""

    async def probability(self, window: FloatArray, state: SileroState) -> float:
        """Likelihood of speech in a window."""
        await asyncio.sleep(0)
        return float(np.any(window != 0))


def numbers_in(audio: FloatArray) -> list[int]:
    """The words in it, each once; what is faded at the end is none."""
    values = audio.astype(np.float64) * 32768
    whole = np.unique(values[(values > 0) & (values == np.rint(values))])
    return [int(value) for value in whole]


@dataclass
class End:
    """What ends somewhere: by voice activity or by the client.

    Attributes:
        after: the newest word that it may have.
        words: what it said.
        failed: whether a part of it could not be decoded.
    """

    after: int
    words: list[int] = field(default_factory=list)
    failed: bool = False


class Notes:
    """A codec without a protocol: it notes what it is told, and checks it."""

    def __init__(self) -> None:
        self.next: list[Command] = []
        self.turns = TurnDetection.SILENCE
        self.word = 0  # the newest that was sent
        self.committing = False
        self.due: list[End] = []
        self.ends: list[End] = []
        self.open = End(0)
        self.numbers: list[int] = []
        self.newest_partial = 0
        self.started = self.stopped = 0
        self.finished_ = False

    def opened(self) -> list[Command]:
        return []

    def text(self, frame: str) -> list[Command]:
        commands, self.next = self.next, []
        return commands

    def binary(self, frame: bytes) -> list[Command]:
        return [Audio(frame)]

    def speech_started(self, at_s: float) -> list[Command]:
        self.started += 1
        return []

    def speech_stopped(self, at_s: float) -> list[Command]:
        self.stopped += 1
        if not self.committing and self.turns is TurnDetection.SILENCE:
            self.due.append(End(self.word))
        return []

    def partial(self, partial: Partial, start_s: float) -> list[Command]:
        assert partial.utterance > max(self.numbers, default=0), "a partial comes before its final"
        assert partial.utterance >= self.newest_partial
        self.newest_partial = partial.utterance
        return []

    def final(self, final: Final, start_s: float, latency_s: float) -> list[Command]:
        assert latency_s >= 0
        self.open.words += map(int, final.transcript.text.split())
        self._note(final.utterance, final.ends_speech)
        return []

    def failed(self, failure: StreamFailure) -> list[Command]:
        self.open.failed = True
        self._note(failure.utterance, failure.ends_speech)
        return []

    def _note(self, number: int, ends_speech: bool) -> None:
        assert number > max(self.numbers, default=0), "the numbers rise"
        self.numbers.append(number)
        if ends_speech:
            assert self.due, "nothing ends twice"
            end = self.due.pop(0)
            self.ends.append(replace(self.open, after=end.after))
            self.open = End(0)

    def finished(self) -> list[Command]:
        self.finished_ = True
        return []

    def closing(self, reason: str, code: int = 1001) -> list[Command]:
        return [Close(code, reason)]


class Client:
    """Says, commits, clears and changes what it likes."""

    def __init__(self, rng: random.Random, service: Service) -> None:
        self.rng = rng
        self.notes = Notes()
        self.session = Session(service, self.notes, lambda item: None)
        self.longest_s = rng.choice((1.0, 3.0, 28.0))
        self.cleared: set[int] = set()  # words of which some may have been cleared
        self.log: list[object] = []

    async def command(self, command: Command) -> None:
        self.log.append(type(command).__name__)
        self.notes.next = [command]
        await self.session.text("")

    async def configure(self) -> None:
        turns = self.rng.choice((TurnDetection.SILENCE, TurnDetection.CLIENT))
        settings = SessionSettings(
            decode=DecodeOptions(language="en"),
            partials=self.rng.random() < 0.5,
            longest_utterance_s=self.longest_s,
            turns=turns,
        )
        self.log.append(turns.name)
        self.notes.turns = turns
        await self.command(Configure(settings))

    async def speak(self, seconds: float, value: int) -> None:
        """Some audio in frames of any size, halves of samples included."""
        self.log.append((value, round(seconds, 2)))
        pcm = np.full(round(seconds * RATE_HZ), value, dtype="<i2").tobytes()
        while pcm:
            size = self.rng.choice((1, 640, 1024, 8_001, 40_000))
            await self.session.binary(pcm[:size])
            pcm = pcm[size:]

    async def word(self) -> None:
        self.notes.word += 1
        await self.speak(self.rng.uniform(LEAST_S, 1.5), self.notes.word)

    async def pause(self) -> None:
        await self.speak(self.rng.choice((0.05, 0.4, 0.7, 2.0)), 0)

    async def commit(self) -> None:
        self.notes.committing = True
        self.notes.due.append(End(self.notes.word))
        await self.command(Commit())
        self.notes.committing = False

    async def clear(self) -> None:
        """All that is not settled may be gone; it is enough to know that the rest is not."""
        ended = max((end.after for end in (*self.notes.ends, *self.notes.due)), default=0)
        self.cleared |= set(range(ended, self.notes.word + 1))
        await self.command(Clear())
        if not self.notes.due:  # else what it says so far is of what was committed
            self.notes.open = End(0)

    async def wait(self) -> None:
        await asyncio.sleep(self.rng.choice((0, 0.001, 0.02)))

    async def play(self) -> None:
        await self.configure()
        for _ in range(self.rng.randrange(STEPS)):
            what = (self.word, self.pause, self.commit, self.clear, self.configure, self.wait)
            await self.rng.choices(what, (8, 6, 3, 1, 1, 2))[0]()
        await self.pause()
        await self.commit()
        await self.command(Finish())
        async with asyncio.timeout(WAIT_S):
            while not self.notes.finished_:  # noqa: ASYNC110 - no event of a codec's
                await asyncio.sleep(0.001)

    def check(self) -> None:
        """Every end came, in order, with its words and no others."""
        notes = self.notes
        assert not notes.due, "all that was due came"
        said: list[int] = []
        before = 0
        for end in notes.ends:
            assert all(before < word <= end.after for word in end.words), "each where it was said"
            before = end.after
            said += end.words
        assert said == sorted(said)
        if self.longest_s * LEAST_S > notes.word:  # no word was cut in two
            assert len(said) == len(set(said)), "no word was heard twice"
        if not any(end.failed for end in notes.ends):
            lost = set(range(1, notes.word + 1)) - set(said) - self.cleared
            assert not lost, "every word was heard"


PATIENT = {"serve.ahead_s": 1e9, "whisper.language": "en"}


@pytest.mark.parametrize("failing", [False, True])
async def test_every_end_says_its_own_words(failing: bool) -> None:
    reader = Reader(backend("tiny.en"))
    reader.failing = failing
    async with the_service(PATIENT, model=reader) as service:
        shared = replace(service, vad=Hearing())  # type: ignore[arg-type]
        for seed in seeds(CONVERSATIONS, share=2):
            with named(seed):
                client = Client(random.Random(f"{failing} {seed}"), shared)
                try:
                    await client.play()
                    client.check()
                except BaseException as error:
                    error.add_note(f"{client.log}\n{client.notes.ends}\n{client.notes.due}")
                    raise
                finally:
                    client.session.close()
