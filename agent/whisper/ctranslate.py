"""CTranslate2's Whisper, loaded through faster-whisper: the model on a CPU or on CUDA."""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from talkpath.agent.audio import SAMPLE_RATE_HZ, FloatArray
from talkpath.agent.errors import ConfigError, MissingDependency, ModelError
from talkpath.agent.whisper.backend import Decoded, Item
from talkpath.agent.whisper.results import Word
from talkpath.agent.whisper.tokens import WhisperTokens
from talkpath.agent.whisper.windows import (
    BUCKETS,
    FRAME_SAMPLES,
    FULL_WINDOW,
    MAX_POSITIONS,
    pad_to_bucket,
    policy_for,
)
from talkpath.agent.whisper.words import Alignment, place_words

if TYPE_CHECKING:
    from talkpath.agent.whisper.decoder import Memory
    from talkpath.agent.whisper.drafting import Drafting

__all__ = ["CTranslate2Backend"]

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Encoded:
    """A batch's encoded audio, and what the drafting decoder prepared of it, once it has."""

    view: Any  # None where it was joined of several
    memories: "list[Memory] | None" = None


_POSITION_S = 0.02  # the encoder halves the mel frames of 10 ms
_DRAWS = 5  # at a temperature the best of so many, as in Whisper


class CTranslate2Backend:
    """CTranslate2's Whisper, loaded through faster-whisper, on a CPU or on CUDA.

    On a CPU and in int8, greedy decoding and the detection of the language are left to
    ``Drafting``, which is faster and checks drafts in one pass; CTranslate2 encodes, aligns
    words, searches with a beam and draws at a temperature. Otherwise it does all of it, and
    drafts have no effect.

    Args:
        path: folder with ``model.bin``, ``config.json``, ``tokenizer.json`` and the vocabulary.
        device: ``auto``, ``cpu`` or ``cuda``.
        compute_type: CTranslate2's, or ``auto``: int8 on a CPU and float16 on CUDA.
        workers: calls that run side by side; 0 means one a core on a CPU and two on CUDA.
        seed: makes what is drawn at a temperature the same in each run with one worker;
            CTranslate2 has one seed for the whole process. None draws differently each time.
        drafting: whether to use ``Drafting`` where it can be had.

    Raises:
        ModelError: the folder does not hold a Whisper model.
        ConfigError: the device or the compute type is not to be had here.
        MissingDependency: a CUDA library is not installed.
    """

    def __init__(
        self,
        path: Path,
        *,
        device: str = "auto",
        compute_type: str = "auto",
        workers: int = 0,
        seed: int | None = None,
        drafting: bool = True,
    ) -> None:
        import ctranslate2
        from faster_whisper import WhisperModel

        if not (path / "model.bin").is_file():
            raise ModelError(f"{path} is not a CTranslate2 Whisper model: it has no model.bin")
        if device == "auto":
            device = "cuda" if ctranslate2.get_cuda_device_count() else "cpu"
        if compute_type == "auto":
            compute_type = "int8" if device == "cpu" else "float16"
        self.workers = workers or (_cpu_count() if device == "cpu" else 2)
        in_int8 = device == "cpu" and compute_type in ("int8", "int8_float32")
        if seed is not None:
            ctranslate2.set_random_seed(seed)  # for the worker threads that start now
        try:
            # One thread a worker: a second one gains nothing on a CPU (measured).
            model = WhisperModel(
                str(path),
                device=device,
                compute_type=compute_type,
                cpu_threads=1,
                num_workers=self.workers,
            )
            self._model = model.model
            self._features = model.feature_extractor
            # This encodes, and a CUDA library that is missing shows only then.
            self.windows = policy_for(self._width())
            # On a CPU the encoder gains nothing from a batch, and the first waits for the last.
            self.max_batch = 4 if device == "cpu" else 16
            window = self.windows.floor_frames if device == "cpu" else FULL_WINDOW
            self.max_frames = self.max_batch * window
        except ValueError as error:
            raise ConfigError(f"cannot load Whisper on {device}: {error}") from error
        except RuntimeError as error:
            if "libcu" in str(error) or "libnv" in str(error):
                raise MissingDependency(
                    f'{error}; the CUDA libraries come with pip install "talkpath[cuda]"'
                ) from error
            raise ModelError(f"cannot load the Whisper model in {path}: {error}") from error
        self.multilingual = model.model.is_multilingual
        self._tokens = WhisperTokens(model.hf_tokenizer, self.multilingual)
        self.languages = frozenset(filter(self._tokens.knows, model.supported_languages))
        self._drafting = self._load_drafting(path) if drafting and in_int8 else None
        self.mixes = self._drafting is not None
        _log.info("Whisper on %s, %s, %d workers", device, compute_type, self.workers)

    def _load_drafting(self, path: Path) -> "Drafting | None":
        from talkpath.agent.whisper.drafting import Drafting

        try:
            return Drafting(path, self._tokens, self.languages if self.multilingual else ())
        except ModelError as error:
            _log.warning("CTranslate2 decodes, slower and without drafts: %s", error)
            return None

    def tokenize(self, text: str) -> tuple[int, ...]:
        """See ``Backend.tokenize``."""
        return self._tokens.encode(text)

    def encode(
        self, audio: Sequence[FloatArray], bucket: int, padding: str = "silence"
    ) -> _Encoded:
        """See ``Backend.encode``."""
        import ctranslate2

        mel = np.stack([self._mel(item, bucket, padding) for item in audio])
        features = ctranslate2.StorageView.from_array(np.ascontiguousarray(mel, dtype=np.float32))
        return _Encoded(self._model.encode(features))

    def join(self, parts: Sequence[_Encoded]) -> _Encoded:
        """See ``Backend.join``."""
        if self._drafting is None:
            raise ValueError("CTranslate2 decodes items of one window together, not of several")
        return _Encoded(
            None, [memory for part in parts for memory in self._memories(self._drafting, part)]
        )

    def _mel(self, audio: FloatArray, bucket: int, padding: str) -> FloatArray:
        """Log-mel spectrogram ``[bands, bucket]``."""
        if padding == "silence":
            mel: FloatArray = self._features(pad_to_bucket(audio, bucket), padding=0)
            return mel
        least = max(0, 4 * FRAME_SAMPLES - len(audio))  # more than one step of the transform
        mel = self._features(np.pad(audio, (0, least)), padding=0)[:, :bucket]
        return np.pad(mel, ((0, 0), (0, bucket - mel.shape[1])))

    def _width(self) -> int:
        """Values in each vector of the encoder's output, by which the models are told apart."""
        encoded = self.encode([np.zeros(0, dtype=np.float32)], BUCKETS[0])
        return int(encoded.view.shape[-1])

    def detect_language(self, encoded: _Encoded) -> list[dict[str, float]]:
        """See ``Backend.detect_language``."""
        if self._drafting is not None:
            return self._drafting.detect_language(self._memories(self._drafting, encoded))
        results = self._model.detect_language(encoded.view)
        return [
            {token.strip("<|>"): float(probability) for token, probability in item}
            for item in results
        ]

    def generate(
        self,
        encoded: _Encoded,
        items: Sequence[Item],
        *,
        max_tokens: int,
        task: str = "transcribe",
        beam_size: int = 1,
        temperature: float = 0.0,
    ) -> list[Decoded]:
        """See ``Backend.generate``."""
        if self._drafting is not None and beam_size == 1 and not temperature:
            memories = self._memories(self._drafting, encoded)
            return self._drafting.generate(memories, items, max_tokens=max_tokens, task=task)
        prompts = [self._tokens.prompt(item.language, task, item.context) for item in items]
        length = min(max_tokens, MAX_POSITIONS - len(prompts[0]))
        drawing = (
            {"num_hypotheses": _DRAWS, "sampling_topk": 0, "sampling_temperature": temperature}
            if temperature
            else {"beam_size": beam_size}
        )
        results = self._model.generate(
            encoded.view,
            prompts,
            # CTranslate2 makes the answer no longer than half of this, and no longer than
            # this without the prompt.
            max_length=max(2 * length, length + len(prompts[0])),
            return_scores=True,
            return_no_speech_prob=True,
            **({"beam_size": 1} | drawing),
        )
        return [
            self._decoded(result.sequences_ids[0], result.scores[0], result.no_speech_prob, item)
            for result, item in zip(results, items, strict=True)
        ]

    def _memories(self, drafting: "Drafting", encoded: _Encoded) -> "list[Memory]":
        if encoded.memories is None:
            encoded.memories = drafting.remember(np.asarray(encoded.view))
        return encoded.memories

    def _decoded(
        self, tokens: Sequence[int], score: float, no_speech_probability: float, item: Item
    ) -> Decoded:
        return Decoded(
            segments=self._tokens.segments(tokens, item.samples / SAMPLE_RATE_HZ),
            # The score is the sum over the tokens divided by their number; Whisper's own mean
            # counts the end of text too.
            avg_logprob=score * len(tokens) / (len(tokens) + 1),
            no_speech_probability=no_speech_probability,
            tokens=tuple(tokens),
        )

    def align(
        self,
        encoded: _Encoded,
        items: Sequence[Item],
        decoded: Sequence[Decoded],
        *,
        task: str = "transcribe",
    ) -> list[tuple[tuple[Word, ...], ...]]:
        """See ``Backend.align``."""
        placed: list[tuple[tuple[Word, ...], ...]] = [()] * len(items)
        # One call has one language; in it the items of the others have no text.
        for language in sorted({item.language for item in items}):
            texts = [
                [token for segment in answer.segments for token in segment.tokens]
                if item.language == language
                else []
                for item, answer in zip(items, decoded, strict=True)
            ]
            if not any(texts):
                continue
            results = self._model.align(
                encoded.view,
                self._tokens.prompt(language, task),
                texts,
                [_frames(item.samples) for item in items],
            )
            for index, (result, text) in enumerate(zip(results, texts, strict=True)):
                if text:
                    placed[index] = self._words(items[index], decoded[index], result)
        return placed

    def _words(self, item: Item, decoded: Decoded, result: Any) -> tuple[tuple[Word, ...], ...]:
        texts = [self._tokens.words(part.tokens, item.language) for part in decoded.segments]
        starts: dict[int, float] = {}
        for token, position in result.alignments:
            starts.setdefault(token, round(position * _POSITION_S, 2))
        alignment = Alignment(tuple(starts.values()), tuple(result.text_token_probs))
        return place_words(decoded.segments, texts, alignment, item.samples / SAMPLE_RATE_HZ)


def _frames(samples: int) -> int:
    """Mel frames of so much audio, an even number of at least two."""
    return max(2, -(-samples // (2 * FRAME_SAMPLES)) * 2)


def _cpu_count() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
