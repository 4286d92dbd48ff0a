"""Recorder: writes a call down while it lasts, both sides of it in step.

It stands behind ``transport.output()``, in any bot, and needs nothing else: ::

    Pipeline([transport.input(), ..., transport.output(), Recorder(NoteFolder(Path("notes")))])

Frames in: the caller's audio, the bot's audio and words as they come out of the output, which
is when they have been played: what an interruption drops is in no recording. Frames out:
everything. The caller's words it overhears where they leave speech to text, for a bot with a
language model keeps them to itself. Word times of the caller take ``hearing(words=True)``; those
of the bot take a voice whose ``TTSTextFrame`` are single words behind their audio, such as
``PiperVoice``. With others, a sentence has one time.

Pipecat's ``AudioBufferProcessor`` was not enough: it keeps the whole call in memory, or hands
out pieces whose two sides are filled up to each other's length by when frames happened to
come; it inserts silence from 0.2 s of lateness on, so that a stall moves the sides apart for
good; and while somebody speaks, the other side's silence is not written at all.
"""

import asyncio
import sqlite3
import time
from datetime import datetime

from loguru import logger
from pipecat.frames.frames import (
    BotStartedSpeakingFrame,
    BotStoppedSpeakingFrame,
    CancelFrame,
    EndFrame,
    Frame,
    InputAudioRawFrame,
    InterruptionFrame,
    OutputAudioRawFrame,
    StartFrame,
    SystemFrame,
    TranscriptionFrame,
    TTSTextFrame,
    UserStoppedSpeakingFrame,
)
from pipecat.observers.base_observer import BaseObserver, FramePushed
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor, FrameProcessorSetup
from pipecat.services.stt_service import STTService

from talkpath.agent.audio import Resampler, float_to_pcm16, pcm16_to_float
from talkpath.agent.conversation import BOT, CALLER, SpokenTurn, TurnKeeper
from talkpath.agent.notes import Notes
from talkpath.agent.stereo import Stereo
from talkpath.agent.whisper import Final
from talkpath.agent.whisper.results import Segment, Word
from talkpath.agent.write_behind import MOST_UNWRITTEN_S, write_behind

__all__ = ["Recorder"]

_MOST_WORDS = 500
_OVERHEAR_S = 2.0


class _LastWord(SystemFrame):
    """Goes through the observers behind all that they are to hear."""


class Recorder(FrameProcessor):
    """Records one call into notes of its own.

    Writing has a thread and holds nobody up. What waits to be written is bounded: storage that
    falls two minutes behind, or fails, ends the recording with an error; the call goes on.

    Args:
        notes: where to. They are ended with the call.
        audio: whether to record sound, or only who said what when.
        caller: the caller's name in the transcript; empty where nobody else speaks.
    """

    def __init__(self, notes: Notes, *, audio: bool = True, caller: str = CALLER) -> None:
        # Frames are handled where they are pushed: their time counts, and no interruption
        # drops what has been played.
        super().__init__(enable_direct_mode=True)
        self._notes = notes
        self._audio = audio
        self._caller = caller
        self._began_s = 0.0
        self._rate_hz = 0
        self._stereo: Stereo | None = None
        self._resampler: Resampler | None = None
        self._turns = TurnKeeper()
        self._ended: list[SpokenTurn] = []
        self._bot_words: list[Word] = []
        self._whole_sentences = False
        self._overheard = asyncio.Event()
        self._over = asyncio.Event()
        self._failed = False
        self._writing: asyncio.Task[None] | None = None
        self._ear = _Ear(self)

    @property
    def failed(self) -> bool:
        """Whether the recording ended before the call, with an error."""
        return self._failed

    # Pipecat's own FrameProcessor.setup departs from its base in the same way.
    async def setup(self, setup: FrameProcessorSetup) -> None:  # type: ignore[override]
        """Take the pipeline's sample rate, and begin to overhear."""
        await super().setup(setup)
        self._rate_hz = setup.audio_in_sample_rate
        setup.pipeline_worker.add_observer(self._ear)

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Record the frame and forward it; the last frame waits until all is written."""
        await super().process_frame(frame, direction)
        if isinstance(frame, StartFrame):
            self._begin()
        elif isinstance(frame, EndFrame):
            await self._overhear_all()
            await self._finish()
        elif isinstance(frame, CancelFrame):
            await self._finish()
        elif direction is FrameDirection.DOWNSTREAM:
            await self._record(frame)
        await self.push_frame(frame, direction)

    async def cleanup(self) -> None:
        """Finish the notes if neither the end nor a cancellation came through."""
        await self._finish()
        await super().cleanup()  # type: ignore[no-untyped-call]

    def heard(self, frame: TranscriptionFrame) -> None:
        """Note words of the caller."""
        final = frame.result
        if isinstance(final, Final):
            placed_s = self._stereo.placed_s(final.start_s) if self._stereo else final.start_s
            transcript = final.transcript
            segments = [segment.shifted(placed_s) for segment in transcript.segments] or [
                Segment(placed_s, placed_s + transcript.duration_s, transcript.text)
            ]
            self._keep(self._turns.add(self._caller, segments, transcript.language))
        else:  # another service's, which has no times
            now_s = self._now_s()
            language = str(frame.language) if frame.language else None
            self._keep(self._turns.add(self._caller, [Segment(now_s, now_s, frame.text)], language))

    def turn_over(self) -> None:
        """The caller's turn is over."""
        self._keep(self._turns.end(self._caller))

    def all_overheard(self) -> None:
        """Nothing that was said is still to come."""
        self._overheard.set()

    def _begin(self) -> None:
        self._began_s = time.monotonic()
        if self._audio:
            self._stereo = Stereo(self._rate_hz, self._began_s)
        self._writing = self.create_task(self._write_on())

    async def _record(self, frame: Frame) -> None:
        if self._over.is_set():
            return
        if isinstance(frame, InputAudioRawFrame):
            if self._stereo is not None:
                self._stereo.caller(frame.audio, time.monotonic())
        elif isinstance(frame, OutputAudioRawFrame):
            self._play(frame)
        elif isinstance(frame, BotStartedSpeakingFrame):
            if self._stereo is not None:
                self._stereo.bot_started(time.monotonic())
        elif isinstance(frame, TTSTextFrame):
            self._say(frame.text)
        elif isinstance(frame, (BotStoppedSpeakingFrame, InterruptionFrame)):
            self._end_bot_turn()
        if self._stereo is not None and self._unwritten_s() > MOST_UNWRITTEN_S:
            await self._fail("its storage is too slow")

    def _play(self, frame: OutputAudioRawFrame) -> None:
        if self._stereo is None:
            return
        if self._resampler is None or self._resampler.from_hz != frame.sample_rate:
            self._resampler = Resampler(frame.sample_rate, self._rate_hz)
        pcm = float_to_pcm16(self._resampler.process(pcm16_to_float(frame.audio)))
        if not self._stereo.bot(pcm, time.monotonic()):
            logger.warning("{} drops what the bot says: it comes faster than it is played", self)

    def _say(self, text: str) -> None:
        now_s = self._now_s()
        start_s, end_s = self._stereo.bot_word() if self._stereo else (now_s, now_s)
        self._whole_sentences |= len(text.split()) > 1
        self._bot_words.append(Word(start_s, end_s, text.strip(), 1.0))
        if len(self._bot_words) >= _MOST_WORDS:
            self._end_bot_turn()

    def _end_bot_turn(self) -> None:
        words = tuple(word for word in self._bot_words if word.text)
        timed = () if self._whole_sentences else words
        self._bot_words, self._whole_sentences = [], False
        if words:
            text = " ".join(word.text for word in words)
            said = Segment(words[0].start_s, words[-1].end_s, text, timed)
            self._keep(SpokenTurn(BOT, (said,)))

    def _keep(self, turn: SpokenTurn | None) -> None:
        if turn is not None and not self._over.is_set():
            self._ended.append(turn)

    def _now_s(self) -> float:
        now_s = time.monotonic()
        return self._stereo.at_s(now_s) if self._stereo else now_s - self._began_s

    def _unwritten_s(self) -> float:
        return self._stereo.unwritten_s if self._stereo else 0.0

    async def _overhear_all(self) -> None:
        """Observers hear a little later: the caller's last words may be on their way."""
        await self.push_frame(_LastWord(), FrameDirection.UPSTREAM)
        try:
            async with asyncio.timeout(_OVERHEAR_S):
                await self._overheard.wait()
        except TimeoutError:
            logger.warning("{}: the caller's last words may be missing", self)

    async def _finish(self) -> None:
        if self._writing is None:
            return
        writing, self._writing = self._writing, None
        self._end_bot_turn()
        for turn in self._turns.end_all():
            self._keep(turn)
        self._over.set()
        await writing

    async def _fail(self, why: str) -> None:
        """End the recording and say so, once."""
        if not self._failed:
            self._failed = True
            self._over.set()
            await self.push_error(f"the recording of this call ends here: {why}")

    async def _write_on(self) -> None:
        try:
            at = datetime.now().astimezone()
            await asyncio.to_thread(self._notes.begin, at, self._rate_hz)
            await write_behind(self._write, self._over)
        except (OSError, sqlite3.Error) as error:
            await self._fail(str(error))
        await self._end()

    async def _write(self, *, all: bool = False) -> None:
        pcm = self._stereo.take(time.monotonic(), all=all) if self._stereo else b""
        turns, self._ended = self._ended, []
        if pcm or turns:
            await asyncio.to_thread(self._notes.write, pcm, turns)

    async def _end(self) -> None:
        duration_s = self._stereo.taken_s if self._stereo else self._now_s()
        try:
            await asyncio.to_thread(self._notes.end, duration_s)
        except (OSError, sqlite3.Error) as error:
            await self._fail(str(error))


class _Ear(BaseObserver):
    """Overhears the caller's words, and when a turn is over, wherever in the pipeline."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__(observe_every_push=False)
        self._recorder = recorder

    async def on_push_frame(self, data: FramePushed) -> None:
        """Take a frame where it is pushed first."""
        frame = data.frame
        if isinstance(frame, TranscriptionFrame) and isinstance(data.source, STTService):
            self._recorder.heard(frame)
        elif isinstance(frame, _LastWord) and data.source is self._recorder:
            self._recorder.all_overheard()
        elif (
            # What is broadcast goes both ways as two frames; one is enough.
            isinstance(frame, UserStoppedSpeakingFrame)
            and data.direction is FrameDirection.DOWNSTREAM
        ):
            self._recorder.turn_over()
