"""A Piper voice, loaded once and shared by all sessions of a process.

Piper's models synthesize a whole sentence at a time, in about a fourteenth of its
duration on one core. Here the part that makes sound is given a piece of the sentence at a
time, so that the beginning can be heard while the rest is computed (``piper_model``). Every
model computes how long each phoneme lasts but keeps it to itself; here that tensor is made
an output, so that words get their exact times.

piper-tts is licensed under GPL-3.0 and therefore optional: nothing here imports it
before a voice is loaded.
"""

import asyncio
import copy
import itertools
import json
import os
import statistics
import unicodedata
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from talkpath.agent.audio import FloatArray, Resampler, float_to_pcm16
from talkpath.agent.errors import MissingDependency, ModelUnavailable
from talkpath.agent.piper_model import halves, with_durations

__all__ = ["SpokenSentence", "SpokenWord", "Voice", "piece_ends", "word_ends"]

_MOST_THREADS = 4
_FIRST_FRAMES = 24
"""Frames of the first piece: 0.28 s at 22,050 Hz, decoded in 25 ms on one core."""
_CONTEXT_FRAMES = 10
"""So many frames on each side are heard in a frame's sound: the convolutions of a medium voice's
decoder reach no further (conv_pre 3, the widest of the resblocks at an eighth of a frame 5.6). With
10 the samples are those of the whole sentence to 4e-7, with 8 to 1e-4, which is as little heard."""
_WARM = ("Hello.", "How are you today?", "I would like to know more.")
_PEAK = 0.95
_START, _PAUSE, _END = "^", "_", "$"  # Piper's names of what stands around phonemes
_KNEE = 0.8
"""Sample value from which a sound louder than usual is bent, so that it is not clipped."""


@dataclass(frozen=True, slots=True)
class SpokenWord:
    """A word as written, and where its sound ends.

    Attributes:
        text: the word with its punctuation.
        end: sample after its last one, counted from the start of the sentence.
    """

    text: str
    end: int


@dataclass(frozen=True, slots=True)
class SpokenSentence:
    """A sentence as sound.

    Attributes:
        pcm: mono, signed 16-bit little-endian.
        sample_rate_hz: its rate.
        words: in order; after the last one's end there may be silence.
    """

    pcm: bytes
    sample_rate_hz: int
    words: tuple[SpokenWord, ...]


class Voice:
    """A loaded Piper voice with the threads that it speaks in.

    Args:
        piper: a ``piper.PiperVoice``.
        decoder: an ``onnxruntime.InferenceSession`` that makes sound of what ``piper`` gives, see
            ``halves``; None where that gives sound itself.
        threads: sentences synthesized at the same time, more wait in order; 0 means one a
            core, at most 4.
    """

    def __init__(self, piper: Any, decoder: Any = None, *, threads: int = 0) -> None:
        self._piper = piper
        self._decoder = decoder
        self._gain = 1.0
        self._is_steady = False
        # More sentences at a time than there are cores would only slow each other down.
        self._threads = ThreadPoolExecutor(
            threads or min(_MOST_THREADS, os.cpu_count() or 1), thread_name_prefix="voice"
        )

    @classmethod
    async def load(cls, model_path: Path, *, threads: int = 0) -> "Voice":
        """Load a voice and say a few words, so that a caller's first sentence is quick.

        Args:
            model_path: an ``.onnx`` file with its ``.onnx.json`` beside it.
            threads: sentences synthesized at the same time; 0 means one a core, at most 4.

        Raises:
            MissingDependency: piper-tts is not installed.
            ModelUnavailable: the files are not there or are no Piper voice.
        """
        voice = cls(*await asyncio.to_thread(_load, model_path), threads=threads)
        await voice._warm_up()
        return voice

    @property
    def voice_rate_hz(self) -> int:
        """Rate that the model speaks at, before resampling."""
        return int(self._piper.config.sample_rate)

    async def say(self, sentence: str, sample_rate_hz: int = 24_000) -> SpokenSentence:
        """Synthesize a sentence, off the event loop.

        A sentence that still waits for a thread is dropped when the caller is cancelled; one
        that is being synthesized is finished first, and its sound thrown away.

        Args:
            sentence: plain text. Longer text works, but nothing is heard before all is done.
            sample_rate_hz: rate of the sound wanted.
        """
        return await asyncio.get_running_loop().run_in_executor(
            self._threads, self._whole, sentence, sample_rate_hz
        )

    async def pieces(
        self, sentence: str, sample_rate_hz: int = 24_000
    ) -> AsyncIterator[SpokenSentence]:
        """Synthesize a sentence piece by piece, off the event loop; the first piece is short.

        Nothing is computed ahead of who asks: once nobody does, the rest is never computed.

        Args:
            sentence: plain text.
            sample_rate_hz: rate of the sound wanted.

        Yields:
            Pieces that follow each other without a seam. A word is in the piece that it ends in,
            and its end counts from that piece's start.
        """
        if self._decoder is None:
            yield await self.say(sentence, sample_rate_hz)
            return
        loop = asyncio.get_running_loop()
        pieces = self._synthesize(sentence, sample_rate_hz)
        while piece := await loop.run_in_executor(self._threads, next, pieces, None):
            yield piece

    def steady(self) -> "Voice":
        """The same voice, in the same threads, which says a sentence the same way each time.

        Piper draws each phoneme's length and sound anew, and Whisper may hear another word then:
        a test wants a caller who is heard alike in each run. It is a little monotonous.
        """
        voice = copy.copy(self)
        voice._is_steady = True
        return voice

    def close(self) -> None:
        """End the threads, after the sentences that are being synthesized."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _warm_up(self) -> None:
        """Say a few words, and choose how loud this voice is from now on.

        Piper makes the loudest sample of each sentence full scale. Nobody knows that sample
        before the last piece, so the usual one is made so, and every sentence alike.
        """
        steady = self.steady()  # as loud in every run
        peaks = []
        for words in _WARM:
            sound = np.frombuffer((await steady.say(words)).pcm, np.int16)
            peaks.append(float(np.abs(sound.astype(np.float32)).max(initial=1.0)) / 32768)
        self._gain = _PEAK / statistics.median(peaks)

    def _whole(self, text: str, sample_rate_hz: int) -> SpokenSentence:
        pcm = bytearray()
        words = []
        for piece in self._synthesize(text, sample_rate_hz):
            done = len(pcm) // 2
            words += [SpokenWord(word.text, done + word.end) for word in piece.words]
            pcm += piece.pcm
        return SpokenSentence(bytes(pcm), sample_rate_hz, tuple(words))

    def _synthesize(self, text: str, sample_rate_hz: int) -> Iterator[SpokenSentence]:
        """The pieces of a text. How long all of it lasts is worked out before the first one."""
        sounds: list[Iterator[FloatArray]] = []
        phonemes: list[tuple[str, int]] = []
        for sound, timed in self._sentences(text):
            sounds.append(sound)
            phonemes += timed
        words = text.split()
        ratio = sample_rate_hz / self.voice_rate_hz
        ends = [round(end * ratio) for end in word_ends(words, phonemes, self._phoneme_count)]
        left = deque(zip(words, ends, strict=True))
        resampler = Resampler(self.voice_rate_hz, sample_rate_hz)
        done = 0
        for audio in itertools.chain(*sounds, [None]):
            pcm = resampler.flush() if audio is None else resampler.process(audio)
            ended = []
            # At the very end, the filter may have given a sample less than was counted on.
            while left and (audio is None or left[0][1] <= done + len(pcm)):
                word, end = left.popleft()
                ended.append(SpokenWord(word, min(max(0, end - done), len(pcm))))
            done += len(pcm)
            yield SpokenSentence(float_to_pcm16(pcm), sample_rate_hz, tuple(ended))

    def _sentences(self, text: str) -> Iterator[tuple[Iterator[FloatArray], list[tuple[str, int]]]]:
        """What eSpeak takes for sentences: the sound of each, and its phonemes with their times."""
        config = _without_noise() if self._is_steady else None
        if self._decoder is None:
            for chunk in self._piper.synthesize(text, config, include_alignments=True):
                samples = len(chunk.audio_float_array)
                timed = self._timed(chunk.phonemes, chunk.phoneme_id_samples, samples)
                yield iter([chunk.audio_float_array]), timed
            return
        for phonemes in filter(None, self._piper.phonemize(text)):
            frames, lasting = self._piper.phoneme_ids_to_audio(
                self._piper.phonemes_to_ids(phonemes), config, include_alignments=True
            )
            yield self._decoded(frames), self._timed(phonemes, lasting, int(sum(lasting)))

    def _decoded(self, frames: FloatArray) -> Iterator[FloatArray]:
        """Sound of frames ``[channels, frames]``, in pieces."""
        (wanted,) = self._decoder.get_inputs()
        start = 0
        for end in piece_ends(frames.shape[1]):
            before = max(0, start - _CONTEXT_FRAMES)
            heard = frames[np.newaxis, :, before : end + _CONTEXT_FRAMES]
            audio = self._decoder.run(None, {wanted.name: heard})[0].ravel()
            hop = len(audio) // heard.shape[2]
            yield _limited(self._gain * audio[(start - before) * hop : (end - before) * hop])
            start = end

    def _timed(
        self, phonemes: Sequence[str], lasting: NDArray[np.int64] | None, samples: int
    ) -> list[tuple[str, int]]:
        """Phonemes with their duration in samples; between two of them is a pause of no length.

        Args:
            phonemes: of a sentence.
            lasting: samples of each number that stands for it in the model: those of the start,
                of each phoneme and a pause, and of the end.
            samples: of all.
        """
        numbers = self._piper.config.phoneme_id_map
        pause = len(numbers.get(_PAUSE, ()))
        marked = [_START, *phonemes, _END]
        counts = [len(numbers.get(phoneme, ())) + pause for phoneme in marked]
        counts[-1] -= pause
        if lasting is None or sum(counts) != len(lasting):
            # Without the model's durations: all the same.
            count = max(1, len(phonemes))
            ends = [samples * index // count for index in range(count + 1)]
            return [(phoneme, ends[i + 1] - ends[i]) for i, phoneme in enumerate(phonemes)]
        at = list(itertools.accumulate(counts, initial=0))
        return [(phoneme, int(sum(lasting[at[i] : at[i + 1]]))) for i, phoneme in enumerate(marked)]

    def _phoneme_count(self, word: str) -> int:
        return sum(_sounds(phoneme) for part in self._piper.phonemize(word) for phoneme in part)


def piece_ends(frames: int) -> list[int]:
    """Where a sentence of so many frames is cut: after 24, then after twice as many as before.

    So a piece can be computed while the one before it is heard, even where that takes half as
    long as the sound lasts, several times what it takes on a free core. None is shorter than 24
    but the only one.
    """
    ends = []
    end, length = 0, _FIRST_FRAMES
    while frames - end >= length + _FIRST_FRAMES:
        end += length
        length *= 2
        ends.append(end)
    return [*ends, frames] if frames else []


def word_ends(
    words: Sequence[str],
    phonemes: Sequence[tuple[str, int]],
    phoneme_count: Callable[[str], int],
) -> list[int]:
    """Find where each word's sound ends.

    A space parts the phonemes of two words, and where there are as many groups as words
    the answer is exact. But the front end joins words ("of the") and spells out numbers.
    Then each word gets its share of the phonemes, by the number that it has alone.

    Args:
        words: the sentence's words as written.
        phonemes: of the whole sentence, each with its duration in samples.
        phoneme_count: number of phonemes of a word by itself.

    Returns:
        For each word the sample after its last one, without the pause that follows; never
        falling.
    """
    groups: list[list[int]] = [[]]  # samples at the end of each sounding phoneme
    time = 0
    for phoneme, duration in phonemes:
        time += duration
        if phoneme.isspace() and groups[-1]:
            groups.append([])
        elif _sounds(phoneme):
            groups[-1].append(time)
    groups = [group for group in groups if group]
    if len(groups) == len(words):
        return [group[-1] for group in groups]
    ends = [end for group in groups for end in group]
    if not ends:
        return [time] * len(words)
    # A word without any phoneme ("-") ends with the word before.
    counts = [phoneme_count(word) for word in words]
    share = len(ends) / max(1, sum(counts))
    positions = (round(total * share) for total in itertools.accumulate(counts))
    return [ends[max(0, min(position, len(ends)) - 1)] for position in positions]


def _without_noise() -> Any:
    """What makes Piper draw nothing."""
    from piper.config import SynthesisConfig

    return SynthesisConfig(noise_scale=0.0, noise_w_scale=0.0)


def _sounds(phoneme: str) -> bool:
    """Whether it belongs to a word: no space, no punctuation, no start or end mark."""
    return phoneme not in "^$" and unicodedata.category(phoneme[0])[0] not in "PZ"


def _limited(audio: FloatArray) -> FloatArray:
    """Sound within full scale: what is louder than the knee is bent, not cut."""
    over = np.maximum(np.abs(audio) - _KNEE, 0) / (1 - _KNEE)
    bent = _KNEE + (1 - _KNEE) * np.tanh(over)
    return np.where(over > 0, np.copysign(bent, audio), audio).astype(np.float32)


def _load(model_path: Path) -> tuple[Any, Any]:
    """A ``piper.PiperVoice``, and the decoder if that is a model of its own."""
    try:
        from piper import PiperVoice
        from piper.config import PiperConfig
    except ModuleNotFoundError as error:
        raise MissingDependency(
            'a voice on this machine needs piper-tts: pip install "talkpath[local]"'
        ) from error
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # Sentences run beside each other, not faster one by one.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    try:
        config = json.loads(Path(f"{model_path}.json").read_text(encoding="utf-8"))
        model = model_path.read_bytes()
        parts = halves(model)
        models = [with_durations(model)] if parts is None else [parts.front, parts.decoder]
        sessions = [
            onnxruntime.InferenceSession(part, options, providers=["CPUExecutionProvider"])
            for part in models
        ]
        voice = PiperVoice(session=sessions[0], config=PiperConfig.from_dict(config))
        return voice, None if parts is None else sessions[1]
    except FileNotFoundError as error:
        raise ModelUnavailable(f"there is no voice at {model_path}: {error}") from error
    except Exception as error:  # onnxruntime's errors have no common base but this
        raise ModelUnavailable(f"{model_path} is no Piper voice: {error}") from error
