"""Asterisk's audio formats that a bot can hear and speak: signed linear at any rate, and G.711.

Signed linear is 16-bit little-endian; its names and rates are those of Asterisk's
``main/codec_builtin.c``.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from talkpath.agent.audio import (
    FloatArray,
    alaw_to_float,
    float_to_pcm16,
    mulaw_to_float,
    pcm16_to_float,
)
from talkpath.agent.errors import AudioError

__all__ = ["FORMATS", "AudioFormat", "format_named"]

_COMPANDED = {"ulaw": mulaw_to_float, "alaw": alaw_to_float}


@dataclass(frozen=True, slots=True)
class AudioFormat:
    """One format.

    Attributes:
        name: as Asterisk calls it.
        rate_hz: samples a second.
    """

    name: str
    rate_hz: int

    @property
    def sample_bytes(self) -> int:
        """Bytes of a sample."""
        return 1 if self.name in _COMPANDED else 2

    @property
    def silence(self) -> bytes:
        """One silent sample."""
        return self.encode(np.zeros(1, np.float32))

    def seconds(self, data: bytes) -> float:
        """How long audio lasts."""
        return len(data) / self.sample_bytes / self.rate_hz

    def decode(self, data: bytes) -> FloatArray:
        """Give audio as float32 within -1 to 1, shape ``[n]``.

        Raises:
            AudioError: half a sample is left over.
        """
        expand = _COMPANDED.get(self.name, pcm16_to_float)
        return expand(data)

    def encode(self, audio: FloatArray) -> bytes:
        """Give float32 audio, shape ``[n]``, in this format; what is too loud is clipped."""
        pcm = float_to_pcm16(audio)
        if self.name not in _COMPANDED:
            return pcm
        codes: bytes = _codes(self.name)[np.frombuffer(pcm, "<u2")].tobytes()
        return codes


@lru_cache(maxsize=2)
def _codes(name: str) -> npt.NDArray[np.uint8]:
    """The code nearest to each 16-bit sample, by the sample's bits, shape ``[65536]``."""
    values = _COMPANDED[name](bytes(range(256)))
    order = np.argsort(values, kind="stable")
    ranked = values[order]
    samples = np.arange(65536, dtype=np.uint16).view(np.int16).astype(np.float32) / 32768
    nearest = np.searchsorted((ranked[1:] + ranked[:-1]) / 2, samples)
    return order[nearest].astype(np.uint8)


FORMATS = {
    item.name: item
    for item in (
        AudioFormat("slin", 8_000),
        AudioFormat("slin12", 12_000),
        AudioFormat("slin16", 16_000),
        AudioFormat("slin24", 24_000),
        AudioFormat("slin32", 32_000),
        AudioFormat("slin44", 44_100),
        AudioFormat("slin48", 48_000),
        AudioFormat("slin96", 96_000),
        AudioFormat("slin192", 192_000),
        AudioFormat("ulaw", 8_000),
        AudioFormat("alaw", 8_000),
    )
}
"""The formats by name."""


def format_named(name: str) -> AudioFormat:
    """Give a format.

    Raises:
        AudioError: it is none of ``FORMATS``.
    """
    if name not in FORMATS:
        raise AudioError(
            f"Asterisk's channel has the format {name[:40]!r}, which is not taken here: "
            "dial it with c(slin16), or another of " + ", ".join(FORMATS)
        )
    return FORMATS[name]
