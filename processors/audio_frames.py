"""Audio frames with other audio in them."""

from dataclasses import replace

from pipecat.frames.frames import InputAudioRawFrame

__all__ = ["with_audio"]


def with_audio(frame: InputAudioRawFrame, audio: bytes) -> InputAudioRawFrame:
    """A frame as this one in all but its audio, 16-bit PCM of the same rate and channels."""
    other = replace(frame, audio=audio)
    # What a constructor does not take.
    other.pts, other.metadata = frame.pts, frame.metadata
    other.transport_source = frame.transport_source
    return other
