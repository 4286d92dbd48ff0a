"""Audio out of any file that FFmpeg reads, in blocks, at the rate that the models take.

Memory does not grow with the file: one block, one packet and a resampler's tail are held. What a
small file may become in memory is bounded, too: nothing but sound is ever decoded, and frames of
more than a minute of it are not.
"""

import functools
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self, TypeVar

import av
import av.error
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.codec.codec import Codec, codecs_available
from av.container import InputContainer

from talkpath.agent.audio import SAMPLE_RATE_HZ, FloatArray
from talkpath.agent.errors import AudioError

__all__ = ["AudioFile"]

# A container's clock ticks in milliseconds at times, so timestamps jitter against the samples;
# only what is clearly more than that is a hole in the sound.
_JITTER_S = 0.1

# Longest hole that is believed where the file does not tell its length: a recorder that was
# switched off for a while. Beyond it the clock was set anew.
_LONGEST_HOLE_S = 3600.0

# A mean of channels with this share of their power or less means that they cancel each other.
_CANCELLED = 0.01

# These containers state their length instead of having it estimated from what is there,
# so that less sound than stated means that some of it is missing.
_STATES_LENGTH = {"aiff", "caf", "flac", "matroska", "mov", "w64"}

# In these sound follows on sound: a hole is where FFmpeg skipped damaged data without a word.
_HAS_NO_HOLES = {"flac", "ogg"}

# Sound at other rates than from a tenth of telephony's to the highest of converters is damage, or
# malice: 55 bytes of FLAC are 65,535 samples at 1 Hz, which are 4 GB at 16 kHz.
_RATES_HZ = range(800, 1_536_001)
_MOST_CHANNELS = 64  # as many as FFmpeg's resampler takes
_MOST_SAMPLES = 2**24  # of one frame at 16 kHz, all channels together; a FLAC's longest has 2**23.4

# After so many packets in a row without sound no more is expected: a thread that looks through a
# gigabyte of them cannot be stopped. Four minutes of damage in an MP3.
_MOST_BARREN = 10_000

# What writers that cannot go back put for the size of a WAV file that they do not know yet.
_UNKNOWN_WAV_SIZE = 0x7FFFF000

_Result = TypeVar("_Result")


class AudioFile:
    """The best audio stream of an audio or video file; a context manager.

    Args:
        path: the file, or the name of the content.
        content: what to read instead of the path: a stranger's file, open for reading in binary,
            that can seek. Nothing else is opened then, whatever it may refer to. It is not closed.

    Attributes:
        path: the file.
        duration_s: length in seconds as the file states or FFmpeg estimates it, or None.
        problem: after the blocks were read, one sentence on what could not be read, or None.

    Raises:
        AudioError: there is no such file, it cannot be read, or it has no audio.
    """

    def __init__(self, path: Path, content: BinaryIO | None = None) -> None:
        self.path = path
        self.problem: str | None = None
        self._content = content
        self._container = _open(path, content)
        try:
            self._stream = _best_stream(self._container, path)
        except AudioError:
            self._container.close()
            raise
        self._formats = set(self._container.format.name.split(","))
        self.duration_s = self._stated_duration_s()
        self._broken = 0
        self._cut_off = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._container.close()

    def blocks(self, block_s: float = 1.0) -> Iterator[FloatArray]:
        """Read the sound once, from start to end.

        Sample ``n`` lies ``n / 16000`` seconds after the file's start, also where the audio
        begins later than the picture or has holes: silence stands there. All channels count
        alike (their mean), so that no side of a call is lost and nothing clips.

        Args:
            block_s: seconds of one block.

        Yields:
            float32 samples, mono, 16 kHz, ``[round(block_s * 16000)]``; the last may be shorter.

        Raises:
            AudioError: nothing of the sound could be decoded.
        """
        size = round(block_s * SAMPLE_RATE_HZ)
        pending: list[FloatArray] = []
        held = total = 0
        for piece in self._pieces():
            # A hole comes as one large piece of silence: it is cut like all others.
            pending.append(piece)
            held += len(piece)
            total += len(piece)
            while held >= size:
                joined = np.concatenate(pending)
                yield joined[:size]
                pending = [joined[size:]]
                held -= size
        if held:
            yield np.concatenate(pending)
        self.problem = self._what_went_wrong(total / SAMPLE_RATE_HZ)

    def _stated_duration_s(self) -> float | None:
        start_s = _start_s(self._container)
        stream = self._stream
        if stream.duration is not None and stream.time_base is not None:
            begin_s = float((stream.start_time or 0) * stream.time_base)
            duration_s = float(stream.duration * stream.time_base) + max(begin_s - start_s, 0.0)
        elif self._container.duration is not None:
            duration_s = self._container.duration / av.time_base
            if "matroska" in self._formats:  # states where it ends
                duration_s -= start_s
        else:
            return None
        # A recorder that writes to a pipe cannot go back to fill in a WAV file's length.
        return duration_s if 0 < duration_s < 10 * 24 * 3600 else None

    def _pieces(self) -> Iterator[FloatArray]:
        """Decode, resample and mix; silence stands where the file has no sound."""
        start_s = _start_s(self._container)
        position_s = 0.0  # of the decoder's output on the file's clock
        shift_s = -start_s  # from the stream's clock to the file's
        mixer = _Mixer()
        for frame in self._frames():
            if frame.pts is not None and frame.time_base is not None:
                at_s = float(frame.pts * frame.time_base) + shift_s
                hole_s = at_s - position_s
                longest_s = _LONGEST_HOLE_S
                if self.duration_s is not None:
                    longest_s = self.duration_s - position_s + 1.0
                if hole_s > longest_s or hole_s < -1.0:
                    shift_s -= hole_s  # the clock was set anew; sound goes on where it was
                elif hole_s > _JITTER_S:
                    yield from mixer.flush()
                    yield from _silence(hole_s)
                    self._broken += bool(self._formats & _HAS_NO_HOLES)
                    position_s = at_s
            position_s += frame.samples / frame.sample_rate
            yield from mixer.feed(frame)
        yield from mixer.flush()

    def _frames(self) -> Iterator[AudioFrame]:
        """All frames that can be decoded; the rest is counted."""
        packets = self._container.demux(self._stream)
        barren = 0
        while barren < _MOST_BARREN:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except av.error.FFmpegError:
                break
            except IndexError:  # a packet of a stream that was not there at the beginning
                packets = self._container.demux(self._stream)
                barren += 1
                continue
            barren += 1
            try:
                for frame in packet.decode():
                    if _is_sane(frame):
                        barren = 0
                        yield frame
                    else:
                        self._broken += 1
            except av.error.EOFError:
                return
            except av.error.FFmpegError:
                self._broken += 1
        self._cut_off = True

    def _what_went_wrong(self, decoded_s: float) -> str | None:
        name = self.path
        if decoded_s == 0:
            if self._broken or self._cut_off:
                raise AudioError(f"{name} cannot be decoded: its audio data is damaged")
            raise AudioError(f"{name} has an audio stream, but no audio is in it")
        stated_s = self._length_stated_s()
        if stated_s is not None and stated_s - decoded_s > max(0.5, 0.01 * decoded_s):
            return (
                f"{name} is incomplete: {decoded_s:.1f} s of the {stated_s:.1f} s "
                "that it states could be read"
            )
        if self._cut_off:
            return f"{name} cannot be read past {decoded_s:.1f} s"
        if self._broken:
            places = "one place" if self._broken == 1 else f"{self._broken} places"
            return f"{name} is damaged in {places}; what could not be read was left out"
        return None

    def _length_stated_s(self) -> float | None:
        """Give the length that the file states for its audio, if it does; no estimates."""
        if self._formats & _STATES_LENGTH:
            # A length for all streams together is none for the audio.
            own = self._stream.duration is not None or len(self._container.streams) == 1
            return self.duration_s if own else None
        if "wav" in self._formats:
            return self._look_into(_wav_length_s)
        if "mp3" in self._formats and self._look_into(_has_mp3_length):
            return self.duration_s
        return None

    def _look_into(self, read: Callable[[BinaryIO], _Result]) -> _Result | None:
        """Read what FFmpeg has read once more; nothing where that is not possible."""
        if self._content is not None:
            self._content.seek(0)
            return read(self._content)
        if not self.path.is_file():
            return None
        with self.path.open("rb") as file:
            return read(file)


class _Source:
    """Content under a name: from its extension FFmpeg knows what has no header."""

    def __init__(self, content: BinaryIO, name: str) -> None:
        self.name = name
        self.read = content.read
        self.seek = content.seek
        self.tell = content.tell


class _Mixer:
    """Resamples every channel and gives their mean; takes a change of format in midstream."""

    def __init__(self) -> None:
        self._resampler: av.AudioResampler | None = None
        self._shape: tuple[str, str, int] | None = None

    def feed(self, frame: AudioFrame) -> Iterator[FloatArray]:
        shape = (frame.format.name, frame.layout.name, frame.sample_rate)
        if shape != self._shape:
            yield from self.flush()
            self._shape = shape
            self._resampler = av.AudioResampler("flt", frame.layout, SAMPLE_RATE_HZ)
        assert self._resampler is not None
        frame.pts = None  # holes are filled outside; the resampler must not do so again
        yield from map(_mean, self._resampler.resample(frame))

    def flush(self) -> Iterator[FloatArray]:
        if self._resampler is not None:
            yield from map(_mean, self._resampler.resample(None))
        self._resampler = self._shape = None


def _is_sane(frame: AudioFrame) -> bool:
    """Whether it can be resampled, in little memory."""
    channels, rate_hz = frame.layout.nb_channels, frame.sample_rate
    if channels not in range(1, _MOST_CHANNELS + 1) or rate_hz not in _RATES_HZ:
        return False
    return frame.samples * channels * SAMPLE_RATE_HZ <= _MOST_SAMPLES * rate_hz


def _mean(frame: AudioFrame) -> FloatArray:
    """Mean of the channels, or the loudest one where they cancel each other.

    The latter is a microphone with its two wires swapped on one side.
    """
    # Interleaved, since PyAV miscounts the planes of eight channels and more.
    samples = np.asarray(frame.to_ndarray(), np.float32).reshape(frame.samples, -1).T
    # Damaged float files carry infinities, which would stay in a recurrent model's state.
    channels: FloatArray = np.nan_to_num(samples, nan=0.0, posinf=0.0, neginf=0.0)
    mean: FloatArray = channels.mean(axis=0)
    power = np.square(channels).mean(axis=1)
    if np.square(mean).mean() < _CANCELLED * power.max():
        mean = channels[int(power.argmax())]
    return mean


def _silence(seconds: float) -> Iterator[FloatArray]:
    count = round(seconds * SAMPLE_RATE_HZ)
    for start in range(0, count, SAMPLE_RATE_HZ):
        yield np.zeros(min(SAMPLE_RATE_HZ, count - start), np.float32)


def _open(path: Path, content: BinaryIO | None) -> InputContainer:
    try:
        if content is not None:
            return _open_content(path, content)
        if path.is_dir():
            raise AudioError(f"{path} is a folder, not an audio file")
        if path.is_file() and path.stat().st_size == 0:
            raise AudioError(f"{path} is empty")
        return av.open(
            # With the protocol in front no name is taken for one ("a:b.wav"), and with the
            # list no playlist makes FFmpeg fetch something from a network.
            f"file:{path.absolute()}",
            options={"protocol_whitelist": "file", "codec_whitelist": _audio_decoders()},
            metadata_errors="replace",
        )
    except FileNotFoundError as error:
        raise AudioError(f"{path} does not exist") from error
    except PermissionError as error:
        raise AudioError(f"{path} cannot be read: permission denied") from error
    except (av.error.InvalidDataError, av.error.EOFError) as error:
        raise AudioError(f"{path} is not an audio file, or it is damaged") from error
    except (av.error.FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise AudioError(f"{path} cannot be read: {reason}") from error


def _open_content(path: Path, content: BinaryIO) -> InputContainer:
    if not content.seek(0, os.SEEK_END):
        raise AudioError(f"{path} is empty")
    content.seek(0)
    # Without protocols a playlist can make FFmpeg read nothing: not from a network, and no file
    # of this machine.
    return av.open(
        _Source(content, str(path)),
        "r",
        options={"protocol_whitelist": "", "codec_whitelist": _audio_decoders()},
        metadata_errors="replace",
    )


@functools.cache
def _audio_decoders() -> str:
    """Names of FFmpeg's decoders of sound.

    With all others it looks into the pictures of a file before the first sound: a cover of 2 MB
    may unpack to 2 GB.
    """
    names = set()
    for name in codecs_available:
        try:
            codec = Codec(name, "r")
        except ValueError:  # it only encodes
            continue
        if codec.type == "audio":
            names.add(codec.name)
    return ",".join(sorted(names))


def _best_stream(container: InputContainer, path: Path) -> AudioStream:
    stream = container.streams.best("audio")
    if not isinstance(stream, AudioStream):
        raise AudioError(f"{path} has no audio in it")
    return stream


def _start_s(container: InputContainer) -> float:
    """Where the file's clock starts: a cut out of a broadcast does not start at zero."""
    return (container.start_time or 0) / av.time_base


def _has_mp3_length(file: BinaryIO) -> bool:
    """Tell whether an MP3 file states its length; without it FFmpeg estimates."""
    head = file.read(10)
    tag = 0
    if head[:3] == b"ID3" and len(head) == 10:
        size = 0
        for byte in head[6:]:  # seven bits each
            size = size << 7 | byte
        tag = 10 + size
    file.seek(tag)
    frame = file.read(4096)
    return any(mark in frame for mark in (b"Xing", b"Info", b"VBRI"))


def _wav_length_s(file: BinaryIO) -> float | None:
    """Read a WAV file's length from its header; FFmpeg gives what is there instead."""
    if file.read(4) != b"RIFF":
        return None
    file.seek(12)
    bytes_a_second = 0
    while len(head := file.read(8)) == 8:
        name, size = struct.unpack("<4sI", head)
        if name == b"data":
            known = bytes_a_second and size < _UNKNOWN_WAV_SIZE
            return size / bytes_a_second if known else None
        content = file.read(min(size, 64))
        if name == b"fmt " and len(content) >= 12:
            (bytes_a_second,) = struct.unpack_from("<I", content, 8)
        file.seek(size - len(content) + size % 2, os.SEEK_CUR)
    return None
