"""CTranslate2's Whisper, loaded through faster-whisper: the model on a CPU or on CUDA."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from talkpath.agent.audio import SAMPLE_RATE_HZ, FloatArray
from talkpath.agent.errors import ConfigError, MissingDependency, ModelError
from talkpath.agent.whisper.backend import Decoded, Item
from talkpath.agent.whisper.tokens import WhisperTokens
from talkpath.agent.whisper.windows import pad_to_bucket

__all__ = ["CTranslate2Backend"]

_log = logging.getLogger(__name__)


class CTranslate2Backend:
    """CTranslate2's Whisper, loaded through faster-whisper, on a CPU or on CUDA.

    Args:
        path: folder with ``model.bin``, ``config.json``, ``tokenizer.json`` and the vocabulary.
        device: ``auto``, ``cpu`` or ``cuda``.
        compute_type: CTranslate2's, or ``auto``: int8 on a CPU and float16 on CUDA.
        workers: calls that run side by side; 0 means one a core on a CPU and two on CUDA.

    Raises:
        ModelError: the folder does not hold a Whisper model.
        ConfigError: the device or the compute type is not to be had here.
        MissingDependency: a CUDA library is not installed.
    """

    def __init__(
        self, path: Path, *, device: str = "auto", compute_type: str = "auto", workers: int = 0
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
        try:
            # One thread a worker: a second one gains nothing on a CPU (measured).
            model = WhisperModel(
                str(path),
                device=device,
                compute_type=compute_type,
                cpu_threads=1,
                num_workers=self.workers,
            )
        except ValueError as error:
            raise ConfigError(f"cannot load Whisper on {device}: {error}") from error
        except RuntimeError as error:
            if "libcu" in str(error) or "libnv" in str(error):
                raise MissingDependency(
                    f'{error}; the CUDA libraries come with pip install "talkpath[cuda]"'
                ) from error
            raise ModelError(f"cannot load the Whisper model in {path}: {error}") from error
        self._model = model.model
        self._features = model.feature_extractor
        self.multilingual = model.model.is_multilingual
        self.languages = frozenset(model.supported_languages)
        self._tokens = WhisperTokens(model.hf_tokenizer, self.multilingual)
        _log.info("Whisper on %s, %s, %d workers", device, compute_type, self.workers)

    def tokenize(self, text: str) -> tuple[int, ...]:
        """See ``Backend.tokenize``."""
        return self._tokens.encode(text)

    def encode(self, audio: Sequence[FloatArray], bucket: int) -> Any:
        """See ``Backend.encode``."""
        import ctranslate2

        mel = np.stack([self._features(pad_to_bucket(item, bucket), padding=0) for item in audio])
        features = ctranslate2.StorageView.from_array(np.ascontiguousarray(mel, dtype=np.float32))
        return self._model.encode(features)

    def detect_language(self, encoded: Any) -> list[dict[str, float]]:
        """See ``Backend.detect_language``."""
        results = self._model.detect_language(encoded)
        return [
            {token.strip("<|>"): float(probability) for token, probability in item}
            for item in results
        ]

    def generate(
        self,
        encoded: Any,
        items: Sequence[Item],
        *,
        max_tokens: int,
        task: str = "transcribe",
        beam_size: int = 1,
        temperature: float = 0.0,
    ) -> list[Decoded]:
        """See ``Backend.generate``."""
        prompts = [self._tokens.prompt(item.language, task, item.context) for item in items]
        results = self._model.generate(
            encoded,
            prompts,
            beam_size=beam_size,
            max_length=len(prompts[0]) + max_tokens,
            return_scores=True,
            return_no_speech_prob=True,
        )
        return [
            Decoded(
                segments=self._tokens.segments(
                    result.sequences_ids[0], item.samples / SAMPLE_RATE_HZ
                ),
                # The score is the sum over the tokens divided by their number; Whisper's own
                # mean counts the end of text too.
                avg_logprob=result.scores[0]
                * len(result.sequences_ids[0])
                / (len(result.sequences_ids[0]) + 1),
                no_speech_probability=result.no_speech_prob,
                tokens=tuple(result.sequences_ids[0]),
            )
            for result, item in zip(results, items, strict=True)
        ]


def _cpu_count() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
