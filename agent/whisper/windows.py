"""Windows: how much audio the encoder sees at once, and how many tokens it may answer with.

Whisper was trained on 30 s windows, but the model takes any even number of mel frames
(10 ms each), and the encoder's cost grows with it: a 5 s window of ``base`` costs about a
thirteenth of the full one on a CPU. Three things keep short windows right, each measured:

- at least 1.5 s of silence after the speech and no window under 5 s, or the decoder loops;
- the silence is put into the audio, not into the mel, where zeros are not silence;
- decoding with time stamps, which tell the decoder where the audio ends.

Two sizes are forbidden: an encoded output as long as the mel has bands is taken for a mel
by CTranslate2 and encoded again. The buckets below stay clear of both.
"""

import math

import numpy as np

from talkpath.agent.audio import SAMPLE_RATE_HZ, FloatArray

__all__ = [
    "BUCKETS",
    "FRAME_SAMPLES",
    "FULL_WINDOW",
    "MAX_AUDIO_S",
    "bucket_for",
    "pad_to_bucket",
    "token_cap",
]

FRAME_SAMPLES = 160
"""Samples between two mel frames at 16 kHz (10 ms), Whisper's hop."""

FULL_WINDOW = 3000
"""Mel frames of the window that Whisper was trained on: 30 s."""

BUCKETS = (512, 640, 768, 896, 1024, 1280, 1536, 2048, 2560, FULL_WINDOW)
"""Window sizes in mel frames. One batch has one size, so fewer sizes make larger batches."""

MAX_AUDIO_S = 28.5
"""Longest audio that fits the full window and leaves the silence that decoding needs."""

_TRAILING_SILENCE_S = 1.5
_MAX_TOKENS = 224  # half of Whisper's 448 positions; the other half is for the prompt


def bucket_for(duration_s: float) -> int:
    """Smallest bucket, in mel frames, for audio of a duration in seconds.

    Raises:
        ValueError: the audio is longer than 30 s.
    """
    if duration_s > FULL_WINDOW / 100:
        raise ValueError(f"{duration_s:.2f} s do not fit Whisper's window of 30 s")
    frames = math.ceil((duration_s + _TRAILING_SILENCE_S) * 100)
    return next((bucket for bucket in BUCKETS if bucket >= frames), FULL_WINDOW)


def pad_to_bucket(audio: FloatArray, bucket: int) -> FloatArray:
    """Append silence until ``[n]`` samples at 16 kHz fill a bucket: ``[bucket * 160]``."""
    return np.pad(audio, (0, bucket * FRAME_SAMPLES - len(audio)))


def token_cap(samples: int) -> int:
    """Most tokens that so much audio can be worth.

    20 and 12 a second: fast speech has about 5 words a second and a word about 1.5 tokens;
    the rest is room for time stamps and for languages that Whisper spells in small pieces.
    """
    return min(_MAX_TOKENS, 20 + math.ceil(12 * samples / SAMPLE_RATE_HZ))
