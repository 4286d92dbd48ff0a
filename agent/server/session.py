"""Session: one client's stream, between its codec and the engine. No socket here.

::

    frames ─► codec ─► samples at 16 kHz ─► voice activity ─► engine's stream
      ▲         ▲ │ messages                    │ events           │ results
      │         └─┼─────────────────────────────┴──────────────────┘
      └───────────┴─► emit

Frames are taken one after the other; while one is worked on, the next waits, and so does the
client behind it. That is the flow control: who sends more than ``serve.ahead_s`` ahead of real
time waits until it is due. Results come when they come; a codec is quick and never waits.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from talkpath.agent.audio import SAMPLE_RATE_HZ, FloatArray
from talkpath.agent.config import SpeechConfig
from talkpath.agent.errors import EngineOverloaded, ModelError, TalkpathError
from talkpath.agent.server.intake import Ahead, SampleReader
from talkpath.agent.server.protocols.codec import (
    GOING_AWAY,
    Audio,
    Clear,
    Close,
    Codec,
    Command,
    Commit,
    Configure,
    Finish,
    Send,
    SessionSettings,
    TurnDetection,
)
from talkpath.agent.server.service import Service
from talkpath.agent.server.turns import SemanticTurns
from talkpath.agent.server.utterances import Utterances
from talkpath.agent.speech import (
    WINDOW_S,
    WINDOW_SAMPLES,
    EarlyPause,
    SpeechEvent,
    SpeechResumed,
    SpeechStarted,
    SpeechStopped,
    SpeechTracker,
)
from talkpath.agent.whisper.live import WhisperStream
from talkpath.agent.whisper.results import (
    Final,
    Likely,
    Partial,
    StreamFailure,
    StreamResult,
    Transcript,
)
from talkpath.agent.whisper.stream import StreamOptions

__all__ = ["Session"]

_log = logging.getLogger(__name__)

_POLICY_VIOLATION, _INTERNAL_ERROR, _TRY_AGAIN_LATER = 1008, 1011, 1013  # of RFC 6455's registry
_BLOCK_S = 0.5  # what is taken of a long message at once
# Where the client says when it has finished, only a long pause parts what it said: a sentence
# spoken slowly is better heard as one (at 1 s, "ask not" and what follows it became two). A click
# counts as speech, for it may be a short word.
_CLIENTS_PAUSE_S, _CLIENTS_START_S = 2.0, 0.1
_LEAST_PRE_ROLL_S = StreamOptions().pre_roll_s


class Session:
    """One client's stream. Call it on one event loop, one frame after the other.

    Args:
        service: what all sessions share.
        codec: the client's protocol.
        emit: takes what goes to the client, in order; must not block.
    """

    def __init__(
        self, service: Service, codec: Codec, emit: Callable[[Send | Close], None]
    ) -> None:
        self._service = service
        self._codec = codec
        self._emit = emit
        self._settings: SessionSettings | None = None
        self._stream: WhisperStream | None = None
        self._reader: SampleReader | None = None
        self._tracker = SpeechTracker(service.vad)
        self._semantic: SemanticTurns | None = None
        self._rest: FloatArray = np.zeros(0, dtype=np.float32)
        self._heard = 0  # samples that voice activity has seen
        self._ahead = Ahead(service.config.serve.ahead_s)
        self._utterances = Utterances()
        self._finishing: asyncio.Task[None] | None = None
        self._working = False
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._closed = False

    async def opened(self) -> None:
        """The client is there."""
        await self._carry_out(self._codec.opened())

    async def text(self, frame: str) -> None:
        """A text frame came."""
        await self._carry_out(self._codec.text(frame))

    async def binary(self, frame: bytes) -> None:
        """A binary frame came."""
        await self._carry_out(self._codec.binary(frame))

    def end(self, reason: str, code: int = GOING_AWAY) -> None:
        """Tell the client why the server ends the connection, and close it."""
        if not self._closed:
            self._send(self._codec.closing(reason, code))
            self.close()

    async def drain(self, reason: str, code: int, within_s: float) -> None:
        """End as soon as nobody speaks and every final is out, or in the middle of speech.

        Args:
            reason: for the client.
            code: of the close frame.
            within_s: seconds until speech that goes on is ended; its final still goes out.
        """
        try:
            async with asyncio.timeout(within_s):
                await self._quiet.wait()
        except TimeoutError:
            self._stop_speech()
        if self._stream is not None:
            await self._stream.drain()
        if self._finishing is not None:
            await asyncio.wait({self._finishing})  # not the task's own end: it may be cancelled
        self.end(reason, code)

    def close(self) -> None:
        """Give the stream's place back; nothing is heard of the session any more."""
        self._closed = True
        self._quiet.set()
        if self._stream is not None:
            self._stream.close()
        if self._finishing is not None:
            self._finishing.cancel()

    # -- what the codec wants ----------------------------------------------------------------

    async def _carry_out(self, commands: list[Command]) -> None:
        self._working = True
        self._note_quiet()
        try:
            for command in commands:
                if self._closed:
                    return
                await self._do(command)
        finally:
            self._working = False
            self._note_quiet()

    async def _do(self, command: Command) -> None:
        match command:
            case Send() | Close():
                self._emit(command)
            case Audio(data):
                await self._take(data)
            case Configure(settings):
                await self._configure(settings)
            case Commit():
                self._commit()
            case Clear():
                self._clear()
            case Finish():
                await self._finish()

    def _send(self, commands: list[Command]) -> None:
        """What a codec says to the engine's news is for the client only."""
        for command in commands:
            assert isinstance(command, Send | Close)
            self._emit(command)

    async def _configure(self, settings: SessionSettings) -> None:
        before, self._settings = self._settings, settings
        try:
            if before is None or (before.encoding, before.sample_rate_hz) != (
                settings.encoding,
                settings.sample_rate_hz,
            ):
                self._reader = SampleReader(settings.encoding, settings.sample_rate_hz)
            self._tracker.machine.configure(_speech(settings, self._service.config.speech))
            if self._stream is None:
                self._stream = self._service.engine.open_stream(self._result)
            self._stream.configure(_stream_options(settings))
            await self._set_turns(settings)
        except EngineOverloaded as error:
            self.end(str(error), _TRY_AGAIN_LATER)
        except TalkpathError as error:
            self.end(str(error), _POLICY_VIOLATION)

    async def _set_turns(self, settings: SessionSettings) -> None:
        if settings.turns is not TurnDetection.SEMANTIC:
            self._semantic = None
            return
        threshold = settings.activity.semantic_threshold
        if self._semantic is None:
            self._semantic = SemanticTurns(await self._service.smart_turn(), threshold)
        self._semantic.threshold = threshold

    async def _take(self, data: bytes) -> None:
        """Take audio, in short blocks, each when it is due."""
        reader = self._reader
        assert reader is not None, "the codec sends settings before audio"
        size = round(_BLOCK_S * reader.bytes_per_s) // 2 * 2
        for start in range(0, len(data), size):
            block = data[start : start + size]
            if await self._ahead.wait(len(block) / reader.bytes_per_s):
                self._service.metrics.held_back.add()
            if self._closed:
                return
            await self._hear(reader.read(block))

    async def _hear(self, audio: FloatArray) -> None:
        """Let the stream and then voice activity have each window that is complete."""
        samples = np.concatenate([self._rest, audio]) if len(self._rest) else audio
        end = len(samples) - len(samples) % WINDOW_SAMPLES
        self._rest = samples[:0]  # a stop may come in between, and is not to hear the end first
        for start in range(0, end, WINDOW_SAMPLES):
            if self._closed or self._stream is None:
                return
            window = samples[start : start + WINDOW_SAMPLES]
            self._stream.feed_samples(window)
            self._heard += WINDOW_SAMPLES
            for event in await self._events(window):
                if not self._closed:
                    self._tell(event)
        self._rest = samples[end:]

    async def _events(self, window: FloatArray) -> list[SpeechEvent]:
        try:
            events = await self._tracker.hear(window)
        except ModelError:
            # The next window may go well; the audio is in the stream either way.
            _log.warning("voice activity failed on a window", exc_info=True)
            return []
        machine = self._tracker.machine
        complete = self._semantic is not None and await self._semantic.complete(window, events)
        # Somebody else may have ended the speech while the model thought about it.
        return [*events, machine.force_stop()] if complete and machine.speaking else events

    def _tell(self, event: SpeechEvent) -> None:
        """Tell the codec, then the stream, whose results may come at once."""
        stream = self._stream
        assert stream is not None
        now_s = self._heard / SAMPLE_RATE_HZ
        match event:
            case SpeechStarted(ago_s):
                self._send(self._codec.speech_started(now_s - ago_s))
                stream.speech_started(ago_s)
            case EarlyPause():
                stream.early_pause()
            case SpeechResumed():
                stream.speech_resumed()
            case SpeechStopped(silence_s):
                ended_s = time.monotonic() - silence_s
                self._utterances.ended(stream.utterance, ended_s, by_client=self._by_client)
                self._send(self._codec.speech_stopped(now_s - silence_s))
                stream.speech_stopped(silence_s)

    def _stop_speech(self) -> bool:
        """End the utterance under way, because no more of it is to be heard, if there is one."""
        self._feed_rest()
        speaking = self._tracker.machine.speaking
        if speaking:
            self._tell(self._tracker.machine.force_stop())
        if self._semantic is not None:
            self._semantic.restart()
        return speaking

    def _feed_rest(self) -> None:
        """Let the stream have what is no whole window."""
        if self._stream is not None and len(self._rest):
            self._stream.feed_samples(self._rest)
            self._heard += len(self._rest)
            self._rest = self._rest[:0]

    def _commit(self) -> None:
        if self._stop_speech() and not self._by_client:
            return  # the utterance that ends here ends what is committed, as any other would
        self._utterances.commit(time.monotonic())
        self._end_commits()

    def _clear(self) -> None:
        self._feed_rest()  # it is forgotten with the rest, and counts for the times of what comes
        self._tracker.restart()
        if self._reader is not None:
            self._reader.forget()
        if self._semantic is not None:
            self._semantic.restart()
        if self._stream is not None:
            self._utterances.forget(self._stream.utterance)
            self._stream.abandon()

    async def _finish(self) -> None:
        if self._reader is not None:
            await self._hear(self._reader.finish())
        self._stop_speech()
        # The client may still ask for something while its finals come.
        self._finishing = asyncio.create_task(self._finished(), name="last finals of a stream")

    async def _finished(self) -> None:
        if self._stream is not None:
            await self._stream.drain()
        self._send(self._codec.finished())

    # -- what the engine says ----------------------------------------------------------------

    @property
    def _by_client(self) -> bool:
        return self._settings is not None and self._settings.turns is TurnDetection.CLIENT

    def _result(self, result: StreamResult) -> None:
        """The engine calls it and knows nothing of codecs: their defects end here."""
        try:
            self._tell_result(result)
        except Exception:
            _log.exception("a result could not be told to the client")
            self.end("internal error", _INTERNAL_ERROR)

    def _tell_result(self, result: StreamResult) -> None:
        if isinstance(result, Partial):
            if not self._utterances.is_forgotten(result.utterance):
                number = self._utterances.number(result.utterance)
                renamed = replace(result, utterance=number)
                self._send(self._codec.partial(renamed, result.start_s))
            return
        if isinstance(result, Likely):
            return  # no protocol has a message for it
        end = self._utterances.done(result.utterance)
        if not end.forgotten:
            ends_speech = result.ends_speech and not end.by_client  # else the commit ends it
            result = replace(result, utterance=end.number, ends_speech=ends_speech)
            self._end_utterance(result, end.latency_s)
        self._end_commits()
        self._note_quiet()

    def _end_utterance(self, result: Final | StreamFailure, latency_s: float | None) -> None:
        if isinstance(result, StreamFailure):
            _log.warning("an utterance could not be decoded: %s", result.error)
            self._send(self._codec.failed(result))
            return
        if latency_s is None:  # the piece of long speech has no end that somebody waits for
            latency_s = result.transcript.cost_s
        else:
            self._service.metrics.final_s.observe(latency_s)
        self._send(self._codec.final(result, result.start_s, latency_s))

    def _end_commits(self) -> None:
        for number, committed_s in self._utterances.ended_commits():
            end = Final(number, Transcript(text=""), start_s=self._heard / SAMPLE_RATE_HZ)
            self._send(self._codec.final(end, end.start_s, time.monotonic() - committed_s))

    def _note_quiet(self) -> None:
        """Nothing is said, and nothing of what was is still to come."""
        stream = self._stream
        speaking = self._tracker.machine.speaking or (stream is not None and stream.pending)
        if (speaking or self._working) and not self._closed:
            self._quiet.clear()
        else:
            self._quiet.set()


def _speech(settings: SessionSettings, usual: SpeechConfig) -> SpeechConfig:
    """When speech begins and ends, for the detector, which knows windows of 32 ms."""
    activity = settings.activity
    start_s, stop_s = activity.min_speech_s, max(activity.min_silence_s, WINDOW_S)
    if settings.turns is TurnDetection.SEMANTIC:
        stop_s = activity.semantic_wait_s
    elif settings.turns is TurnDetection.CLIENT:
        start_s, stop_s = _CLIENTS_START_S, _CLIENTS_PAUSE_S
    return SpeechConfig(
        threshold=activity.threshold,
        start_s=start_s,
        early_pause_s=min(usual.early_pause_s, stop_s),
        stop_s=stop_s,
    )


def _stream_options(settings: SessionSettings) -> StreamOptions:
    return StreamOptions(
        decode=settings.decode,
        partials=settings.partials,
        partial_interval_s=settings.partial_interval_s,
        language_mode=settings.language_mode,
        # Whisper wants a little before the first word, whatever counts as speech.
        pre_roll_s=max(settings.activity.pad_s, _LEAST_PRE_ROLL_S),
        longest_utterance_s=settings.longest_utterance_s,
    )
