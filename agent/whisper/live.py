"""Live stream: one speaker's stream on the event loop, between the engine and a ``Stream``."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from talkpath.agent.audio import FloatArray, Resampler, pcm16_to_float
from talkpath.agent.errors import EngineError
from talkpath.agent.whisper.batcher import Outcome
from talkpath.agent.whisper.requests import Priority
from talkpath.agent.whisper.results import Final, StreamResult
from talkpath.agent.whisper.stream import Cancel, Decode, Promote, Stream, StreamOptions

if TYPE_CHECKING:
    from talkpath.agent.whisper.engine import WhisperEngine

__all__ = ["WhisperStream"]


class WhisperStream:
    """One speaker's stream, for the event loop: feed audio, report speech, receive results."""

    def __init__(
        self,
        engine: "WhisperEngine",
        options: StreamOptions,
        resampler: Resampler,
        on_result: Callable[[StreamResult], None],
    ) -> None:
        self._engine = engine
        self._stream = Stream(options)
        self._interval_s = options.partial_interval_s
        self._resampler = resampler
        self._on_result = on_result
        self._orders: dict[int, int] = {}
        self._speculation: int | None = None  # its ticket, until it is used, void or failed
        self._idle = asyncio.Event()
        self._idle.set()
        self._closed = False

    def feed(self, pcm: bytes) -> None:
        """Take the next samples: 16-bit mono PCM at the stream's rate.

        Raises:
            AudioError: an odd number of bytes.
        """
        self.feed_samples(self._resampler.process(pcm16_to_float(pcm)))

    def feed_samples(self, audio: FloatArray) -> None:
        """Take the next samples, float32 ``[n]`` at 16 kHz, whatever the stream's rate."""
        self._stream.set_partial_interval(self._engine.stretched_interval_s(self._interval_s))
        self._stream.feed(audio)
        self._pump()

    def speech_started(self, ago_s: float) -> None:
        """Speech began ``ago_s`` seconds before the end of the audio fed so far."""
        self._stream.speech_started(ago_s)
        self._pump()

    def early_pause(self) -> None:
        """It has been silent for a moment."""
        self._stream.early_pause()
        self._pump()

    def speech_resumed(self) -> None:
        """Speech went on after an early pause."""
        if self._stream.speech_resumed():
            self._speculation = None  # it is a piece's final now
        self._discard_speculation()
        self._pump()

    def speech_stopped(self, silence_s: float) -> None:
        """Speech ended ``silence_s`` seconds before the end of the audio fed so far."""
        self._stream.speech_stopped(silence_s)
        self._speculation = None  # it is the final now
        self._pump()

    def forget(self) -> None:
        """Forget the audio before the next utterance: what follows does not join it."""
        self._stream.forget()

    def abandon(self) -> None:
        """Forget the utterance under way, too: nothing more comes of it."""
        self._stream.abandon()
        self._discard_speculation()
        self._pump()

    def configure(self, options: StreamOptions) -> None:
        """Go by other options from the next utterance on.

        Raises:
            ConfigError: the model does not know a language, or cannot do what is asked for.
        """
        decode = self._engine.checked(options.decode)
        self._stream.configure(replace(options, decode=decode))
        self._interval_s = options.partial_interval_s

    @property
    def utterance(self) -> int:
        """Number of the utterance that was begun last; 0 before the first."""
        return self._stream.utterance

    @property
    def pending(self) -> bool:
        """Whether a final is still to come for speech that has stopped."""
        return self._stream.pending

    def end_turn(self) -> None:
        """What is said from now on does not go on what was said before."""
        self._stream.end_turn()

    def set_language(self, language: str | None) -> None:
        """Decode in this language from the next utterance on.

        Args:
            language: a code, or ``auto`` or None to detect it.

        Raises:
            ConfigError: the model does not know the language.
        """
        self._stream.set_language(self._engine.check_language(language))

    async def drain(self) -> None:
        """Wait until the finals of all speech that has stopped were handed out."""
        await self._idle.wait()

    def close(self) -> None:
        """Give the stream's place back. What was not handed out is dropped."""
        if self._closed:
            return
        self._closed = True
        self._stream.close()
        self._discard_speculation()
        self._pump()
        self._engine._streams.discard(self)

    def _pump(self) -> None:
        """Carry out what the stream wants done, and hand out what it has."""
        for action in self._stream.actions():
            match action:
                case Decode():
                    self._decode(action)
                case Promote():
                    if self._engine._pool.promote(self._orders.get(action.ticket, -1)):
                        self._stream.not_begun_at_stop(action.ticket)
                case Cancel():
                    self._engine._pool.cancel(self._orders.pop(action.ticket, -1))
        if self._stream.pending:
            self._idle.clear()
        else:
            self._idle.set()
        if not self._closed:
            for result in self._stream.results():
                if isinstance(result, Final) and result.speculative:
                    self._engine.metrics.used.add()
                self._on_result(result)

    def _decode(self, action: Decode) -> None:
        if action.request.priority is Priority.SPECULATIVE:
            self._discard_speculation()  # a long utterance was split since
            self._speculation = action.ticket

        def deliver(outcome: Outcome) -> None:
            self._orders.pop(action.ticket, None)
            if isinstance(outcome, Exception):
                self._fail(action.ticket, outcome)
            else:
                self._stream.transcript(action.ticket, outcome)
            self._pump()

        replaced = None if action.replaces is None else self._orders.get(action.replaces)
        try:
            order = self._engine._submit(action.request, deliver, replaced)
        except EngineError as error:
            self._fail(action.ticket, error)
            return
        if action.replaces is not None and order == replaced:
            self._orders.pop(action.replaces)  # nothing will come of that one
        self._orders[action.ticket] = order

    def _fail(self, ticket: int, error: Exception) -> None:
        if ticket == self._speculation:
            self._speculation = None
        self._stream.failed(ticket, error)

    def _discard_speculation(self) -> None:
        """Withdraw what was speculated; where a worker had it, it was for nothing."""
        if self._speculation is not None:
            waited = self._engine._pool.cancel(self._orders.pop(self._speculation, -1))
            self._speculation = None
            self._engine.metrics.discarded.add(not waited)
