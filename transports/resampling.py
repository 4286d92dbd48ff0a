"""Resampling in Pipecat's places, with 3 ms of delay at 8 kHz where its own holds back 64 to 152.

``StreamResampler`` has the interface of Pipecat's resamplers. Pipecat makes its own in private
attributes, two in each serializer of telephony and one for each stream that an output plays:
``resample_shortly`` and ``play_shortly`` put ours there.
"""

from typing import TypeVar

import numpy as np
from pipecat.audio.resamplers.base_audio_resampler import BaseAudioResampler
from pipecat.serializers.base_serializer import FrameSerializer
from pipecat.transports.base_output import BaseOutputTransport

from talkpath.agent.audio import Resampler, float_to_pcm16, pcm16_to_float
from talkpath.agent.errors import AudioError

__all__ = ["StreamResampler", "play_shortly", "resample_shortly"]

_Serializer = TypeVar("_Serializer", bound=FrameSerializer)

# What every telephony serializer of Pipecat 1.14 calls its two.
_ATTRIBUTES = ("_input_resampler", "_output_resampler")


class StreamResampler(BaseAudioResampler):
    """Resamples one mono stream of 16-bit PCM, block by block.

    The stream begins with as much silence as the filter delays it by: from then on a block of
    20 ms gives exactly 20 ms, which those need that take no other packets. Nothing is cleared
    after a pause: the last 3 ms before it come with the first block after it.
    """

    def __init__(self) -> None:
        self._resampler: Resampler | None = None

    async def resample(self, audio: bytes, in_rate: int, out_rate: int) -> bytes:
        """Take the next block and give what is due.

        Args:
            audio: mono samples of 16 bits, any number of them.
            in_rate: their rate in Hz.
            out_rate: the rate in Hz of what is given back.

        Raises:
            AudioError: an odd number of bytes, a rate that no audio has, or other rates than
                those that the stream began with.
        """
        if in_rate == out_rate:
            return audio
        if self._resampler is None:
            self._resampler = _begun(in_rate, out_rate)
        began = self._resampler.from_hz, self._resampler.to_hz
        if began != (in_rate, out_rate):
            raise AudioError(
                f"a stream that began as {began[0]} to {began[1]} Hz goes on as {in_rate} to "
                f"{out_rate} Hz"
            )
        return float_to_pcm16(self._resampler.process(pcm16_to_float(audio)))

    async def flush(self) -> bytes:
        """Give what the filter holds back, and begin anew."""
        if self._resampler is None:
            return b""
        rest = float_to_pcm16(self._resampler.flush())
        await self.reset()
        return rest

    async def reset(self) -> None:
        """Drop what the filter holds back, and begin anew; the rates may be others then."""
        self._resampler = None


def _begun(in_rate: int, out_rate: int) -> Resampler:
    resampler = Resampler(in_rate, out_rate)
    resampler.process(np.zeros(resampler.delay, dtype=np.float32))
    return resampler


def resample_shortly(serializer: _Serializer) -> _Serializer:
    """Put our resamplers into a Pipecat serializer; one that has none is left as it is.

    Returns:
        The same serializer. It must not have seen audio yet.
    """
    for name in _ATTRIBUTES:
        if isinstance(getattr(serializer, name, None), BaseAudioResampler):
            setattr(serializer, name, StreamResampler())
    return serializer


def play_shortly(output: BaseOutputTransport) -> None:
    """Put our resamplers into an output that is ready and has played nothing yet."""
    for sender in output._media_senders.values():
        sender._resampler = StreamResampler()
