"""What an engine tells a codec, in any order that ``Codec`` allows."""

import random
from collections import deque
from collections.abc import Callable

from talkpath.agent.errors import DecodeFailed, EngineClosed
from talkpath.agent.server.protocols.codec import (
    Audio,
    Clear,
    Close,
    Codec,
    Command,
    Commit,
    Configure,
    Finish,
    TurnDetection,
)
from talkpath.agent.whisper.results import (
    Final,
    Partial,
    Segment,
    StreamFailure,
    Transcript,
    Word,
)

__all__ = ["Ears"]

_TEXTS = ("", "one", "one two", "One, two, three.", "日本語", 'a "quoted" \\ word', "\ud83d", "é")
_ODD = (float("nan"), float("inf"), -float("inf"), -1.0, 0.0, 1e300)


class Ears:
    """A stream of the engine's, which hears what chance wants it to hear.

    Args:
        rng: makes the choices.
        codec: is told.

    Attributes:
        finals: numbers of the utterances whose finals the codec was given, in order.
        failures: and of those that failed.
    """

    def __init__(self, rng: random.Random, codec: Codec) -> None:
        self._rng = rng
        self._codec = codec
        self._turns: TurnDetection | None = None
        self._speaking = False
        self._made = 0
        self._open: int | None = None
        self._due: deque[tuple[int, bool]] = deque()  # ended utterances, and whether speech did
        self._at_s = 0.0
        self._finishing = False
        self.over = False
        self.finals: list[int] = []
        self.failures: list[int] = []

    def obey(self, commands: list[Command]) -> None:
        """Carry out what the codec commands."""
        for command in commands:
            match command:
                case Configure(settings):
                    self._turns = settings.turns
                    self._speaking = self._speaking and settings.turns is not TurnDetection.CLIENT
                case Audio(data):
                    self._at_s += len(data) / 32_000
                    if self._turns is TurnDetection.CLIENT and self._open is None:
                        self._open = self._next()
                case Commit():
                    self._end(True)
                    self._speaking = False
                case Clear():
                    self._open, self._speaking = None, False
                case Finish():
                    self._finishing = True
                    if self._open is not None:
                        self._end(True)
                case Close():
                    self.over = True

    def hear(self) -> list[Command]:
        """One thing that a stream may tell now; obeyed already."""
        commands = self._rng.choice(self._possible())()
        self.obey(commands)
        return commands

    def drain(self) -> list[Command]:
        """All finals that are due, and ``finished`` where that is what they were due for."""
        commands: list[Command] = []
        while self._due and not self.over:
            commands += self._result()
        if self._finishing and not self.over:
            commands += self._codec.finished()
        self.obey(commands)
        return commands

    def _possible(self) -> list[Callable[[], list[Command]]]:
        """What may come now; hearing nothing always may."""
        possible: list[Callable[[], list[Command]]] = [list]
        if self.over or self._turns is None:
            return possible
        if self._due:
            possible += [self._result, self._result]
        if self._due or self._open is not None:
            possible += [self._partial, self._partial]
        if self._finishing:
            return possible
        if self._open is not None:
            possible.append(self._piece)
        if self._turns is not TurnDetection.CLIENT:
            possible.append(self._stop if self._speaking else self._start)
        return possible

    def _next(self) -> int:
        self._made += 1
        return self._made

    def _end(self, ends_speech: bool) -> None:
        self._due.append((self._next() if self._open is None else self._open, ends_speech))
        self._open = None

    def _start(self) -> list[Command]:
        self._speaking = True
        self._open = self._next() if self._open is None else self._open
        return self._codec.speech_started(self._at_s)

    def _stop(self) -> list[Command]:
        self._speaking = False
        commands = self._codec.speech_stopped(self._at_s)
        self._end(True)
        return commands

    def _piece(self) -> list[Command]:
        """Long speech is cut, and goes on."""
        self._end(False)
        self._open = self._next()
        return []

    def _partial(self) -> list[Command]:
        numbers = [number for number, _ in self._due]
        numbers += [] if self._open is None else [self._open]
        words = self._rng.choice(_TEXTS), self._rng.choice(_TEXTS)
        partial = Partial(self._rng.choice(numbers), *words, "en", self._number())
        return self._codec.partial(partial, self._number())

    def _result(self) -> list[Command]:
        number, ends_speech = self._due.popleft()
        if self._rng.random() < 0.2:
            self.failures.append(number)
            error = self._rng.choice((DecodeFailed("it failed"), EngineClosed("closed"), OSError()))
            return self._codec.failed(StreamFailure(number, error, ends_speech))
        self.finals.append(number)
        final = Final(number, self._transcript(), ends_speech)
        return self._codec.final(final, self._number(), self._number())

    def _transcript(self) -> Transcript:
        text = self._rng.choice(_TEXTS)
        words = tuple(Word(0.0, self._number(), word, self._number()) for word in text.split())
        return Transcript(
            text=text,
            segments=(Segment(0.0, self._number(), text, words),)
            if self._rng.random() < 0.7
            else (),
            duration_s=self._rng.uniform(0, 30),
            avg_logprob=self._number(),
            language=self._rng.choice(("en", "de")),
            language_probability=self._number(),
            possible_hallucination=self._rng.random() < 0.1,
            cost_s=self._number(),
        )

    def _number(self) -> float:
        return self._rng.choice(_ODD) if self._rng.random() < 0.1 else self._rng.uniform(0, 100)
