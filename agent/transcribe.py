"""Files to text: speech is found, cut into pieces, decoded side by side and put in order.

Memory does not grow with the file: a piece has at most 28 s and a bounded number is in flight.
"""

import asyncio
import dataclasses
import math
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from talkpath.agent.audio import SAMPLE_RATE_HZ, FloatArray
from talkpath.agent.chunks import Chunk, Chunker
from talkpath.agent.errors import AudioError
from talkpath.agent.media import AudioFile
from talkpath.agent.speech import WINDOW_S, WINDOW_SAMPLES, SileroState, SileroVad
from talkpath.agent.whisper import Segment, Transcript, WhisperEngine
from talkpath.agent.whisper.requests import DecodeOptions
from talkpath.agent.whisper.windows import MAX_AUDIO_S

__all__ = ["FileTranscription", "Piece", "Progress"]

Progress = Callable[[float, float | None], None]
"""Called with the seconds of audio that are done and the file's length, if it is known."""

_CUE_PAD_S = 0.15  # between a segment's times and the speech that was found

# So much speech is no false alarm of the detector.
_CERTAIN_SPEECH_S = 0.5

# Below this mean log probability a piece is decoded once more, so much later in the window.
# Measured on the reference clips in six variations each (level, noise, shift): word errors fall
# from 3.18 to 3.02 %, for 0.6 more decodes a piece; with two for every piece, to 2.86 %.
_UNSURE_LOGPROB = -0.3
_LATER_S = 0.3

_BLOCK_S = 32 * WINDOW_S
_IN_FLIGHT = 8  # as many as the engine takes ahead from one caller

# The language is taken for certain at this probability, or after so much speech.
_SURE_LANGUAGE = 0.8
_LANGUAGE_SPEECH_S = 30.0

# Of one piece: several where it was decoded in parts. Times are those of the piece.
_Transcripts = tuple[Transcript, ...]


@dataclass(frozen=True, slots=True)
class Piece:
    """What was said in one piece of a file.

    Attributes:
        start_s: where the piece that was decoded begins in the file.
        segments: what was said, at least one; times are seconds from the start of the file.
        transcript: the figures of the decoding that gave them. Its own times are others.
    """

    start_s: float
    segments: tuple[Segment, ...]
    transcript: Transcript


class FileTranscription:
    """The transcription of one file. It is worked off once, by ``pieces`` or ``segments``.

    Args:
        path: any file with sound in it, or the name of the content.
        engine: decodes; shared with whoever else decodes.
        vad: finds the speech.
        content: what to read instead of the path, see ``AudioFile``.
        language: Whisper's code, or None to detect it once, from the first speech.
        options: how to decode; None for the engine's settings. The language does not count.
        threshold: Silero probability from which a window counts as speech.
        longest_s: seconds of sound after which the file is refused; None reads any length.
        progress: called on the event loop as the file is worked off.

    Attributes:
        language: the language once it is certain, else None.
        duration_s: length of the file as it states it; the true length at the end.
        problem: at the end, one sentence on what of the file could not be read, or None.
    """

    def __init__(
        self,
        path: Path,
        engine: WhisperEngine,
        vad: SileroVad,
        *,
        content: BinaryIO | None = None,
        language: str | None = None,
        options: DecodeOptions | None = None,
        threshold: float = 0.5,
        longest_s: float | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.path = path
        self.language = engine.check_language(language)
        self.duration_s: float | None = None
        self.problem: str | None = None
        self._content = content
        self._engine = engine
        self._options = options and dataclasses.replace(options, language=None)
        self._vad = vad
        self._threshold = threshold
        self._longest_s = math.inf if longest_s is None else longest_s
        self._progress = progress

    async def segments(self) -> AsyncGenerator[Segment, None]:
        """Give the segments in order, each as soon as those before it are there.

        Times are seconds from the start of the file; segments do not overlap. Close the
        generator (``contextlib.aclosing``) when leaving it early.

        Raises:
            AudioError: the file cannot be read, has no sound in it, or too much.
            DecodeFailed: the model failed.
            EngineClosed: the engine was closed.
        """
        async with aclosing(self.pieces()) as pieces:
            async for piece in pieces:
                for segment in piece.segments:
                    yield segment

    async def pieces(self) -> AsyncGenerator[Piece, None]:
        """Give the same segments by pieces, with the figures of each; see ``segments``."""
        last_end_s = 0.0
        async with aclosing(self._transcripts()) as decoded:
            async for chunk, transcripts in decoded:
                for transcript in transcripts:
                    segments: list[Segment] = []
                    for segment in transcript.segments:
                        placed = _place(segment, chunk, last_end_s)
                        if placed.text:
                            segments.append(placed)
                            last_end_s = placed.end_s
                    if segments:
                        yield Piece(chunk.start_s, tuple(segments), transcript)
                if self._progress is not None:
                    self._progress(chunk.end_s, self.duration_s)
        if self._progress is not None and self.duration_s is not None:
            self._progress(self.duration_s, self.duration_s)

    async def _transcripts(self) -> AsyncGenerator[tuple[Chunk, _Transcripts], None]:
        in_flight: deque[tuple[Chunk, asyncio.Task[_Transcripts]]] = deque()
        try:
            async with aclosing(self._chunks()) as chunks:
                if self.language is None:
                    for known in await self._detect_language(chunks):
                        yield known
                async for chunk in chunks:
                    in_flight.append((chunk, asyncio.create_task(self._decode(chunk))))
                    while in_flight and (len(in_flight) >= _IN_FLIGHT or in_flight[0][1].done()):
                        ready, task = in_flight.popleft()
                        yield ready, await task
                while in_flight:
                    ready, task = in_flight.popleft()
                    yield ready, await task
        finally:
            for _, task in in_flight:
                task.cancel()
            await asyncio.gather(*(task for _, task in in_flight), return_exceptions=True)

    async def _detect_language(
        self, chunks: AsyncGenerator[Chunk, None]
    ) -> list[tuple[Chunk, _Transcripts]]:
        """Decode pieces until the language is certain; those in another one once more."""
        first: list[tuple[Chunk, Transcript]] = []
        votes: dict[str, float] = {}
        heard_s = 0.0
        async for chunk in chunks:
            transcript = await self._listen(chunk.audio)
            first.append((chunk, transcript))
            seconds = _speech_s(chunk)
            opinion = await self._better_opinion(chunk, transcript)
            vote = seconds * opinion.language_probability
            votes[opinion.language] = votes.get(opinion.language, 0.0) + vote
            heard_s += seconds
            sure = opinion.language_probability >= _SURE_LANGUAGE
            if (sure and seconds > 1.0) or heard_s >= _LANGUAGE_SPEECH_S:
                break
        if not votes:
            return []
        self.language = max(votes, key=lambda code: votes[code])
        return [
            (chunk, await self._second_look(chunk, transcript))
            if transcript.language == self.language
            else (chunk, await self._decode(chunk))
            for chunk, transcript in first
        ]

    async def _better_opinion(self, chunk: Chunk, transcript: Transcript) -> Transcript:
        """Ask for an unsure language again in Whisper's full window, for which it was trained.

        Measured on a Spanish sentence of 4 s: a short window says Swahili (0.29), the full one
        Spanish (0.54). Where the short window is sure, both agree.
        """
        missing = round(MAX_AUDIO_S * SAMPLE_RATE_HZ) - len(chunk.audio)
        if transcript.language_probability >= _SURE_LANGUAGE or missing <= 0:
            return transcript
        return await self._listen(np.pad(chunk.audio, (0, missing)))

    async def _listen(self, audio: FloatArray) -> Transcript:
        return await self._engine.decode(audio, language=self.language, options=self._options)

    async def _decode(self, chunk: Chunk) -> _Transcripts:
        transcript = await self._listen(chunk.audio)
        return await self._second_look(chunk, transcript)

    async def _second_look(self, chunk: Chunk, transcript: Transcript) -> _Transcripts:
        """Decode a piece in another cut where the model failed on it.

        Where it goes round in circles or has more words than it can say, in two halves. Where
        it calls nobody's speech what the detector is sure of, without the surroundings: it is
        unsure of strings of digits. Where it is unsure of its words, a little later in the
        window; the surer text counts.
        """
        if transcript.possible_hallucination or transcript.truncated:
            middle = _middle_pause(chunk)
            parts = [(0, middle), (middle, len(chunk.audio))]
        elif not transcript.text and _speech_s(chunk) >= _CERTAIN_SPEECH_S:
            parts = [_tight(chunk)]
        elif transcript.text and transcript.avg_logprob < _UNSURE_LOGPROB:
            return (await self._surer(chunk, transcript),)
        else:
            return (transcript,)
        found: list[Transcript] = []
        for start, end in parts:
            again = await self._listen(chunk.audio[start:end])
            if again.possible_hallucination:
                continue  # what the model made up is worse than nothing
            found.append(_shifted(again, start / SAMPLE_RATE_HZ))
        return tuple(found)

    async def _surer(self, chunk: Chunk, transcript: Transcript) -> Transcript:
        if chunk.end_s - chunk.start_s + _LATER_S > MAX_AUDIO_S:
            return transcript
        audio = np.pad(chunk.audio, (round(_LATER_S * SAMPLE_RATE_HZ), 0))
        again = await self._listen(audio)
        surer = again.avg_logprob > transcript.avg_logprob
        if not surer or not again.text or again.possible_hallucination:
            return transcript
        return _shifted(again, -_LATER_S)

    async def _chunks(self) -> AsyncGenerator[Chunk, None]:
        """Read and cut the file in a thread, one step at a time."""
        file = await asyncio.to_thread(AudioFile, self.path, self._content)
        self.duration_s = file.duration_s
        reading: asyncio.Future[list[Chunk] | None] | None = None
        try:
            steps = self._steps(file)
            while True:
                reading = asyncio.ensure_future(asyncio.to_thread(next, steps, None))
                chunks = await asyncio.shield(reading)
                if chunks is None:
                    break
                for chunk in chunks:
                    yield chunk
            self.problem = file.problem
        finally:
            # A thread cannot be cancelled, and must not decode a file that is closed.
            if reading is not None and not reading.done():
                await asyncio.wait([reading])
            file.close()

    def _steps(self, file: AudioFile) -> Iterator[list[Chunk]]:
        """Work through the file; a step is short, and gives the pieces that end in it."""
        chunker = Chunker(self._threshold)
        state = SileroState()
        samples = 0
        for block in file.blocks(_BLOCK_S):
            samples += len(block)
            if samples > self._longest_s * SAMPLE_RATE_HZ:
                raise AudioError(f"{self.path} has more than {self._longest_s:g} s of sound")
            probabilities = self._vad.probabilities(block, state)
            windows = np.pad(block, (0, -len(block) % WINDOW_SAMPLES)).reshape(-1, WINDOW_SAMPLES)
            chunks = chunker.push(windows, probabilities)
            if chunker.quiet and max(probabilities) < 0.1:
                state.reset()  # music or long silence can leave the model deaf
            # Also without a piece: whoever leaves must not wait for the end of a long silence.
            yield chunks
        self.duration_s = samples / SAMPLE_RATE_HZ
        yield chunker.finish()


def _place(segment: Segment, chunk: Chunk, not_before_s: float) -> Segment:
    """Put a segment's times on the file's clock, and off the silence that they reach into."""
    segment = segment.shifted(chunk.start_s)
    start_s, end_s = segment.start_s, segment.end_s
    inside = [part for part in chunk.speech if part[1] > start_s and part[0] < end_s]
    if inside:
        start_s = max(start_s, inside[0][0] - _CUE_PAD_S)
        end_s = min(end_s, inside[-1][1] + _CUE_PAD_S)
    start_s = max(start_s, not_before_s)
    end_s = max(end_s, start_s + 0.02)
    words = tuple(
        dataclasses.replace(
            word,
            start_s=min(max(word.start_s, start_s), end_s),
            end_s=min(max(word.end_s, start_s), end_s),
        )
        for word in segment.words
    )
    return dataclasses.replace(segment, start_s=start_s, end_s=end_s, words=words)


def _shifted(transcript: Transcript, by_s: float) -> Transcript:
    """The same, so many seconds later."""
    segments = tuple(segment.shifted(by_s) for segment in transcript.segments)
    return dataclasses.replace(transcript, segments=segments)


def _speech_s(chunk: Chunk) -> float:
    """Seconds of speech in a piece."""
    return sum(stop - start for start, stop in chunk.speech)


def _tight(chunk: Chunk) -> tuple[int, int]:
    """First and last sample of a piece that stay when it is cut close to the speech."""
    start_s = chunk.speech[0][0] - _CUE_PAD_S - chunk.start_s
    end_s = chunk.speech[-1][1] + _CUE_PAD_S - chunk.start_s
    return max(0, round(start_s * SAMPLE_RATE_HZ)), round(end_s * SAMPLE_RATE_HZ)


def _middle_pause(chunk: Chunk) -> int:
    """Sample in the middle of the pause that is nearest to the middle of a piece."""
    middle_s = (chunk.start_s + chunk.end_s) / 2
    gaps = [
        (left[1] + right[0]) / 2
        for left, right in zip(chunk.speech, chunk.speech[1:], strict=False)
    ]
    at_s = min(gaps, key=lambda gap_s: math.fabs(gap_s - middle_s), default=middle_s)
    return round((at_s - chunk.start_s) * SAMPLE_RATE_HZ)
