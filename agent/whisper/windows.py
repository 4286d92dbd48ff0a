"""Windows: how much audio the encoder sees at once, and how many tokens it may answer with.

Whisper was trained on 30 s windows, but the model takes any even number of mel frames
(10 ms each), and the encoder's cost grows with it: a 5 s window of ``base`` costs about a
thirteenth of the full one on a CPU. Three things keep short windows right, each measured:

- at least 1.5 s of silence after the speech and no window under 5 s, or the decoder loops;
- the silence is put into the audio, not into the mel, where zeros are not silence;
- decoding with time stamps, which tell the decoder where the audio ends.

This holds for the models it was measured with, ``tiny`` and ``base``. Reports on the larger
ones disagree, so they get no window under 10 s (``policy_for``).

Two sizes are forbidden: an encoded output as long as the mel has bands is taken for a mel
by CTranslate2 and encoded again. ``WindowPolicy`` refuses both.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from talkpath.agent.audio import SAMPLE_RATE_HZ, FloatArray

__all__ = [
    "BUCKETS",
    "FATAL_FRAMES",
    "FRAME_SAMPLES",
    "FULL_WINDOW",
    "MAX_AUDIO_S",
    "MAX_POSITIONS",
    "WindowPolicy",
    "longest_utterance_s",
    "pad_to_bucket",
    "policy_for",
    "token_cap",
]

FRAME_SAMPLES = 160
"""Samples between two mel frames at 16 kHz (10 ms), Whisper's hop."""

FULL_WINDOW = 3000
"""Mel frames of the window that Whisper was trained on: 30 s."""

BUCKETS = (512, 640, 768, 896, 1024, 1280, 1536, 2048, 2560, FULL_WINDOW)
"""Window sizes in mel frames. On a GPU a batch has one size: fewer sizes make larger batches."""

FATAL_FRAMES = (160, 256)
"""Twice the 80 and the 128 bands of Whisper's mels; the encoder halves the frames."""

MAX_AUDIO_S = 28.5
"""Longest audio that fits the full window and leaves the silence that decoding needs."""

MAX_POSITIONS = 448
"""Positions of Whisper's decoder, shared by the prompt and the answer."""

_TOKENS, _TOKENS_IN_PIECES = 12, 60  # most in a second
# Scripts of which Whisper's vocabulary has few words or letters. The first article of the
# Universal Declaration of Human Rights, 7 s when read fast, has 34 tokens in English and 42 to
# 81 in most languages, but 99 in Greek, 126 in Thai, 195 in Hindi, 425 in Georgian, 726 in
# Burmese.
_IN_PIECES = frozenset(
    "am as bn bo el gu hi hy ka km kn lo ml mr my ne pa sa si ta te th yi".split()
)
_MEASURED_PIECES = {"el": 14, "th": 18, "hi": 28, "ka": 61, "my": 104}  # a second, of the same
_LONGEST_S = 28.0
# Floors by the encoder's width: tiny and base, with and without .en (docs/performance.md).
_MEASURED_FLOORS = {384: 768, 512: 512}
_CAREFUL_FLOOR = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowPolicy:
    """Which windows audio is decoded in.

    Attributes:
        floor_frames: no window is smaller, in mel frames of 10 ms.
        trailing_silence_s: least silence after the audio.
        padding: ``silence`` is put into the audio before its mel is computed; ``zeros`` are put
            into the mel.
        sizes: the windows there are, in mel frames, rising; the last one is the full window.

    Raises:
        ValueError: a size that the model cannot take, or sizes that do not rise to 3000.
    """

    floor_frames: int = 512
    trailing_silence_s: float = 1.5
    padding: Literal["silence", "zeros"] = "silence"
    sizes: tuple[int, ...] = BUCKETS

    def __post_init__(self) -> None:
        if any(size in FATAL_FRAMES or size % 2 or size <= 0 for size in self.sizes):
            raise ValueError(f"windows are even and never {FATAL_FRAMES} frames: {self.sizes}")
        if list(self.sizes) != sorted(set(self.sizes)) or self.sizes[-1:] != (FULL_WINDOW,):
            raise ValueError(f"windows rise up to {FULL_WINDOW} frames: {self.sizes}")

    @property
    def buckets(self) -> tuple[int, ...]:
        """Windows in use, in mel frames: those from the floor on."""
        return tuple(size for size in self.sizes if size >= self.floor_frames) or (FULL_WINDOW,)

    def bucket_for(self, duration_s: float) -> int:
        """Smallest window, in mel frames, for audio of a duration in seconds.

        Raises:
            ValueError: the audio is longer than 30 s.
        """
        if duration_s > FULL_WINDOW / 100:
            raise ValueError(f"{duration_s:.2f} s do not fit Whisper's window of 30 s")
        frames = math.ceil((duration_s + self.trailing_silence_s) * 100)
        return next((bucket for bucket in self.buckets if bucket >= frames), FULL_WINDOW)

    def longer(self, bucket: int) -> int:
        """Smallest window of at least twice the length, in mel frames; at most the full one."""
        return next((size for size in self.buckets if size >= 2 * bucket), FULL_WINDOW)


def policy_for(width: int) -> WindowPolicy:
    """The windows that are known to do for a model.

    Args:
        width: values in each vector of the encoder's output: 384 for ``tiny``, 512 ``base``,
            768 ``small``, 1024 ``medium``, 1280 ``large`` and ``turbo``.
    """
    return WindowPolicy(floor_frames=_MEASURED_FLOORS.get(width, _CAREFUL_FLOOR))


def pad_to_bucket(audio: FloatArray, bucket: int) -> FloatArray:
    """Append silence until ``[n]`` samples at 16 kHz fill a bucket: ``[bucket * 160]``."""
    return np.pad(audio, (0, bucket * FRAME_SAMPLES - len(audio)))


def longest_utterance_s(language: str = "en") -> float:
    """Seconds of speech, read fast, that one answer of Whisper's has room for.

    A full window for most languages. In those that it spells in small pieces it is what takes
    400 of its 448 positions.

    Args:
        language: Whisper's code.
    """
    if language not in _IN_PIECES:
        return _LONGEST_S
    rate = _MEASURED_PIECES.get(language, _TOKENS_IN_PIECES)
    return min(_LONGEST_S, 400 / rate)


def token_cap(samples: int, language: str = "en") -> int:
    """Most tokens that so much audio can be worth.

    20 and 12 a second: fast speech has about 5 words a second and a word about 1.5 tokens; the
    rest is room for time stamps. Languages that Whisper spells in small pieces get 60 a second.

    Args:
        samples: of the audio at 16 kHz, without padding.
        language: Whisper's code.
    """
    per_second = _TOKENS_IN_PIECES if language in _IN_PIECES else _TOKENS
    return min(MAX_POSITIONS, 20 + math.ceil(per_second * samples / SAMPLE_RATE_HZ))
