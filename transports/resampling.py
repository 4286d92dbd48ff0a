"""Resampling in Pipecat's places, with 3 ms of delay at 8 kHz where its own holds back 64 to 152.

``StreamResampler`` has the interface of Pipecat's resamplers. Pipecat makes its own in private
attributes, two in each serializer of telephony and one for each stream that an output plays:
``resample_shortly`` and ``play_shortly`` put ours there.
"""

from typing import TypeVar

from pipecat.audio.resamplers.base_audio_resampler import BaseAudioResampler
from pipecat.serializers.base_serializer import FrameSerializer
from pipecat.transports.base_output import BaseOutputTransport

from talkpath.transports.sip.rates import SteadyResampler

__all__ = ["StreamResampler", "play_shortly", "resample_shortly"]

_Serializer = TypeVar("_Serializer", bound=FrameSerializer)

# What every telephony serializer of Pipecat 1.14 calls its two.
_ATTRIBUTES = ("_input_resampler", "_output_resampler")


class StreamResampler(BaseAudioResampler):
    """Resamples one mono stream of 16-bit PCM, block by block.

    A block of 20 ms gives exactly 20 ms, which those need that take no other packets. Nothing is
    cleared after a pause: the last 3 ms before it come with the first block after it. Where a
    block has another rate than the one before, the stream begins anew.
    """

    def __init__(self) -> None:
        self._stream: SteadyResampler | None = None

    async def resample(self, audio: bytes, in_rate: int, out_rate: int) -> bytes:
        """Take the next block and give what is due.

        Args:
            audio: mono samples of 16 bits, any number of them.
            in_rate: their rate in Hz.
            out_rate: the rate in Hz of what is given back.

        Raises:
            AudioError: an odd number of bytes, or a rate that no audio has.
        """
        stream = self._stream
        if stream is None or (stream.from_hz, stream.to_hz) != (in_rate, out_rate):
            stream = self._stream = SteadyResampler(in_rate, out_rate)
        return stream.process(audio)

    async def flush(self) -> bytes:
        """Give what the filter holds back, and begin anew."""
        stream, self._stream = self._stream, None
        return stream.flush() if stream is not None else b""

    async def reset(self) -> None:
        """Drop what the filter holds back, and begin anew."""
        self._stream = None


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
