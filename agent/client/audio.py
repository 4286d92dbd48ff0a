"""Kept audio: what a client may have to send again, and where in its stream it lies.

All positions are samples at 16 kHz from the first one that the client sent to any server. What
goes over the wire is the speaker's audio and, here and there, silence that nobody spoke: it ends
an utterance where no more audio comes. ``spoken_s`` leaves that silence out again.
"""

from dataclasses import dataclass

from talkpath.agent.audio import SAMPLE_RATE_HZ

__all__ = ["KeptAudio"]

_SAMPLE_BYTES = 2


@dataclass(frozen=True, slots=True)
class _Silence:
    """Samples that nobody spoke."""

    at: int
    samples: int


class KeptAudio:
    """The newest audio of a stream, 16-bit PCM, mono, 16 kHz.

    Args:
        most_s: seconds that are kept; of more, the oldest is dropped.
    """

    def __init__(self, most_s: float) -> None:
        self._most = round(most_s * SAMPLE_RATE_HZ)
        self._pcm = bytearray()
        self._begin = 0
        self._silences: list[_Silence] = []
        self._silent_before = 0  # samples of the silences that lie wholly before the beginning

    @property
    def begin(self) -> int:
        """Position of the oldest sample that is kept."""
        return self._begin

    @property
    def end(self) -> int:
        """Position after the newest sample."""
        return self._begin + len(self._pcm) // _SAMPLE_BYTES

    def append(self, pcm: bytes) -> None:
        """Take the next samples, and drop as many of the oldest as are too many then."""
        self._pcm += pcm
        self.forget_before(self.end - self._most)

    def append_silence(self, samples: int) -> None:
        """Take silence that the speaker does not know of."""
        self._silences.append(_Silence(self.end, samples))
        self.append(bytes(samples * _SAMPLE_BYTES))

    def forget_before(self, position: int) -> None:
        """Drop what lies before a position."""
        position = min(max(position, self._begin), self.end)
        del self._pcm[: (position - self._begin) * _SAMPLE_BYTES]
        self._begin = position
        while self._silences and self._silences[0].at + self._silences[0].samples <= position:
            self._silent_before += self._silences.pop(0).samples

    def read(self, position: int, samples: int) -> bytes:
        """At most so many samples from a position on; it must not lie before the beginning."""
        start = (position - self._begin) * _SAMPLE_BYTES
        return bytes(self._pcm[start : start + samples * _SAMPLE_BYTES])

    def spoken_s(self, position: int) -> float:
        """Seconds of the speaker's own audio before a position, at or after the beginning."""
        silent = self._silent_before + sum(
            min(max(position - silence.at, 0), silence.samples) for silence in self._silences
        )
        return (position - silent) / SAMPLE_RATE_HZ
