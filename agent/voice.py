"""A Piper voice, loaded once and shared by all sessions of a process.

Piper's models synthesize a whole sentence at a time, in about a fourteenth of its
duration on one core. Every model computes how long each phoneme lasts but keeps it to
itself; here that tensor is made an output, so that words get their exact times.

piper-tts is licensed under GPL-3.0 and therefore optional: nothing here imports it
before a voice is loaded.
"""

import asyncio
import copy
import itertools
import json
import os
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from talkpath.agent.audio import Resampler, float_to_pcm16
from talkpath.agent.errors import MissingDependency, ModelUnavailable

__all__ = ["SpokenSentence", "SpokenWord", "Voice", "with_durations", "word_ends"]

_MOST_THREADS = 4
_DURATIONS_OP = b"Ceil"
"""The last step of the duration predictor; a Piper model has one node of this kind."""


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
        threads: sentences synthesized at the same time, more wait in order; 0 means one a
            core, at most 4.
    """

    def __init__(self, piper: Any, *, threads: int = 0) -> None:
        self._piper = piper
        self._is_steady = False
        # More sentences at a time than there are cores would only slow each other down.
        self._threads = ThreadPoolExecutor(
            threads or min(_MOST_THREADS, os.cpu_count() or 1), thread_name_prefix="voice"
        )

    @classmethod
    async def load(cls, model_path: Path, *, threads: int = 0) -> "Voice":
        """Load a voice and say one word, so that a caller's first sentence is quick.

        Args:
            model_path: an ``.onnx`` file with its ``.onnx.json`` beside it.
            threads: sentences synthesized at the same time; 0 means one a core, at most 4.

        Raises:
            MissingDependency: piper-tts is not installed.
            ModelUnavailable: the files are not there or are no Piper voice.
        """
        voice = cls(await asyncio.to_thread(_load, model_path), threads=threads)
        await voice.say("Hello.")
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
            self._threads, self._synthesize, sentence, sample_rate_hz
        )

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

    def _synthesize(self, text: str, sample_rate_hz: int) -> SpokenSentence:
        pieces: list[NDArray[np.float32]] = []
        phonemes: list[tuple[str, int]] = []
        config = _without_noise() if self._is_steady else None
        for chunk in self._piper.synthesize(text, config, include_alignments=True):
            pieces.append(chunk.audio_float_array)
            phonemes.extend(_timed_phonemes(chunk))
        audio = np.concatenate(pieces) if pieces else np.zeros(0, np.float32)
        resampler = Resampler(self.voice_rate_hz, sample_rate_hz)
        # The whole sentence at once: nothing is held back for the next one.
        resampled = np.concatenate([resampler.process(audio), resampler.flush()])
        words = text.split()
        ends = word_ends(words, phonemes, self._phoneme_count)
        ratio = sample_rate_hz / self.voice_rate_hz
        return SpokenSentence(
            float_to_pcm16(resampled),
            sample_rate_hz,
            tuple(
                SpokenWord(word, min(round(end * ratio), len(resampled)))
                for word, end in zip(words, ends, strict=True)
            ),
        )

    def _phoneme_count(self, word: str) -> int:
        return sum(_sounds(phoneme) for part in self._piper.phonemize(word) for phoneme in part)


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


def _timed_phonemes(chunk: Any) -> Iterator[tuple[str, int]]:
    """Phonemes of a ``piper.AudioChunk`` with their duration in samples."""
    if chunk.phoneme_alignments:
        for alignment in chunk.phoneme_alignments:
            yield alignment.phoneme, int(alignment.num_samples)
        return
    # Without the model's durations: all the same.
    total, count = len(chunk.audio_float_array), len(chunk.phonemes)
    for index, phoneme in enumerate(chunk.phonemes):
        yield phoneme, total * (index + 1) // count - total * index // count


def _load(model_path: Path) -> Any:
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
        model = with_durations(model_path.read_bytes())
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        return PiperVoice(session=session, config=PiperConfig.from_dict(config))
    except FileNotFoundError as error:
        raise ModelUnavailable(f"there is no voice at {model_path}: {error}") from error
    except Exception as error:  # onnxruntime's errors have no common base but this
        raise ModelUnavailable(f"{model_path} is no Piper voice: {error}") from error


def with_durations(model: bytes) -> bytes:
    """Make a Piper model's phoneme durations its second output.

    An ONNX file is a protocol buffer, and of two of them one after the other the second is
    merged into the first (https://protobuf.dev/programming-guides/encoding/#last-one-wins).
    So a few bytes at the end that name one more output are enough.

    Args:
        model: an ONNX file's content.

    Returns:
        The same with one more output, or as it was where there is nothing to add.

    Raises:
        ValueError: this is no protocol buffer.
    """
    durations: list[bytes] = []
    outputs: list[bytes] = []
    # Field numbers are those of onnx.proto: ModelProto.graph = 7, GraphProto.node = 1 and
    # .output = 12, NodeProto.output = 2 and .op_type = 4, ValueInfoProto.name = 1.
    for graph in _fields(memoryview(model), 7):
        for node in _fields(graph, 1):
            if _DURATIONS_OP in (bytes(kind) for kind in _fields(node, 4)):
                durations.extend(bytes(name) for name in _fields(node, 2))
        for output in _fields(graph, 12):
            outputs.extend(bytes(name) for name in _fields(output, 1))
    if len(durations) != 1 or durations[0] in outputs:
        return model
    return model + _field(7, _field(12, _field(1, durations[0])))


def _field(number: int, content: bytes) -> bytes:
    """Encode a short field of bytes."""
    if len(content) > 127:
        raise ValueError("the name of an output is too long")
    return bytes([number << 3 | 2, len(content)]) + content


def _fields(message: memoryview, wanted: int) -> Iterator[memoryview]:
    """Find the fields of bytes with one number in an encoded message."""
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        kind = key & 7
        if kind == 0:
            _, position = _varint(message, position)
        elif kind in (1, 5):
            position += 8 if kind == 1 else 4
        elif kind == 2:
            length, position = _varint(message, position)
            if position + length > len(message):
                raise ValueError("the file is cut off")
            if key >> 3 == wanted:
                yield message[position : position + length]
            position += length
        else:
            raise ValueError("the file is no protocol buffer")


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if position >= len(message) or shift > 63:
            raise ValueError("the file is no protocol buffer")
        byte = message[position]
        value |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return value, position
