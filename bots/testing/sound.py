"""The sound of a call: what goes into a line, and what came out of it."""

import io
import wave
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from talkpath.agent.audio import (
    SAMPLE_RATE_HZ,
    FloatArray,
    Resampler,
    float_to_pcm16,
    pcm16_to_float,
)
from talkpath.agent.media import AudioFile
from talkpath.transports.inprocess import Played

__all__ = ["read_audio", "stereo_wav", "track"]


def read_audio(file: Path) -> FloatArray:
    """Read any audio file: float32, ``[n]``, 16 kHz, mono. It blocks."""
    with AudioFile(file) as audio:
        return np.concatenate([np.zeros(0, np.float32), *audio.blocks()])


def track(chunks: Sequence[Played], began_s: float, until_s: float) -> FloatArray:
    """Put chunks where they were played.

    Args:
        chunks: in order.
        began_s: when the call began, on the chunks' clock.
        until_s: where the track ends, on the same clock.

    Returns:
        float32, ``[n]``, 16 kHz.
    """
    sound = np.zeros(max(0, round((until_s - began_s) * SAMPLE_RATE_HZ)), np.float32)
    runs: list[list[Played]] = []
    for chunk in chunks:
        if runs and abs(runs[-1][-1].end_s - chunk.at_s) < 0.5 / SAMPLE_RATE_HZ:
            runs[-1].append(chunk)
        else:
            runs.append([chunk])
    for run in runs:
        resampler = Resampler(run[0].rate_hz)
        pcm = b"".join(chunk.samples.tobytes() for chunk in run)
        samples = np.concatenate([resampler.process(pcm16_to_float(pcm)), resampler.flush()])
        start = round((run[0].at_s - began_s) * SAMPLE_RATE_HZ)
        part = sound[start : start + len(samples)]
        part += samples[: len(part)]
    return sound


def stereo_wav(left: FloatArray, right: FloatArray) -> bytes:
    """Two tracks of 16 kHz as a WAV file; the shorter one ends in silence."""
    length = max(len(left), len(right))
    both = np.stack([np.pad(side, (0, length - len(side))) for side in (left, right)], axis=1)
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(2)
        out.setsampwidth(2)
        out.setframerate(SAMPLE_RATE_HZ)
        out.writeframes(float_to_pcm16(both.reshape(-1)))
    return file.getvalue()
