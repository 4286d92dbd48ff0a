"""Small files that would become large ones in memory."""

import io
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest

from talkpath.agent.errors import AudioError
from talkpath.agent.media import AudioFile
from tests.agent.test_media import encode

_PEAK = """
import resource, sys
from pathlib import Path
from talkpath.agent.media import AudioFile
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with Path(sys.argv[1]).open("rb") as content, AudioFile(Path(sys.argv[1]), content) as file:
    samples = sum(map(len, file.blocks()))
print(samples, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def wav(rate_hz: int, *, channels: int = 1, frames: int = 4_000) -> bytes:
    """A file of eight bits a sample."""
    data = b"\x80" * (frames * channels)
    form = struct.pack("<IHHIIHH", 16, 1, channels, rate_hz, rate_hz * channels, channels, 8)
    head = b"RIFF" + struct.pack("<I", 36 + len(data)) + b"WAVEfmt " + form
    return head + b"data" + struct.pack("<I", len(data)) + data


def crc(content: bytes, *, bits: int, polynomial: int) -> int:
    """The check sums of FLAC's frames."""
    value = 0
    for byte in content:
        value ^= byte << bits - 8
        for _ in range(8):
            value = value << 1 ^ (polynomial if value >> bits - 1 else 0)
            value &= (1 << bits) - 1
    return value


def flac(rate_hz: int) -> bytes:
    """A frame of 65,535 samples that are all alike."""
    shape = (rate_hz << 44 | 15 << 36).to_bytes(8, "big")
    info = struct.pack(">HH", 65_535, 65_535) + bytes(6) + shape + bytes(16)
    frame = b"\xff\xf8\x70\x08\x00" + struct.pack(">H", 65_534)
    frame += bytes([crc(frame, bits=8, polynomial=0x07)]) + bytes(3)
    frame += struct.pack(">H", crc(frame, bits=16, polynomial=0x8005))
    return b"fLaC\x80\x00\x00\x22" + info + frame


def cover(side: int) -> bytes:
    """A tag of MP3 with a black picture."""
    row = bytes(1 + 4 * side)
    packer = zlib.compressobj(1)
    packed = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()

    def part(name: bytes, content: bytes) -> bytes:
        sum_ = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + sum_

    head = part(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 6, 0, 0, 0))
    picture = b"\x89PNG\r\n\x1a\n" + head + part(b"IDAT", packed) + part(b"IEND", b"")
    frame = b"\0image/png\0\3\0" + picture
    frame = b"APIC" + struct.pack(">I", len(frame)) + b"\0\0" + frame
    size = bytes(len(frame) >> shift & 127 for shift in (21, 14, 7, 0))
    return b"ID3\3\0\0" + size + frame


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.flac", flac(1)),  # 55 bytes, and 4 GB when resampled
        ("a.wav", wav(1)),
        ("a.wav", wav(2**31 - 1)),
        ("a.wav", wav(8_000, channels=65)),
        ("a.wav", wav(8_000, channels=512)),
    ],
    ids=["frame of hours", "1 Hz", "2 GHz", "65 channels", "512 channels"],
)
def test_sound_that_nobody_recorded_is_refused(name: str, content: bytes) -> None:
    with pytest.raises(AudioError, match=f"{name} cannot be decoded"):
        with AudioFile(Path(name), io.BytesIO(content)) as file:
            list(file.blocks())


def test_a_long_file_without_sound_is_not_looked_through() -> None:
    """It took twelve seconds, and an hour and a half a gigabyte, in which nothing could stop it."""
    content = io.BytesIO(wav(1, frames=2_000_000))
    with AudioFile(Path("a.wav"), content) as file:
        with pytest.raises(AudioError, match="cannot be decoded"):
            next(file.blocks())
    assert content.tell() < 200_000


@pytest.mark.parametrize("rate_hz", [8_000, 1_000])
def test_long_frames_are_read(rate_hz: int) -> None:
    with AudioFile(Path("a.flac"), io.BytesIO(flac(rate_hz))) as file:
        samples = sum(map(len, file.blocks()))
    assert samples == pytest.approx(65_535 * 16_000 / rate_hz, abs=200)


def test_a_cover_is_not_unpacked(tmp_path: Path) -> None:
    plain = encode(tmp_path / "a.mp3", np.zeros((1, 16_000), np.float32), "libmp3lame")
    path = tmp_path / "covered.mp3"
    path.write_bytes(cover(8_000) + plain.read_bytes())
    done = subprocess.run(
        [sys.executable, "-c", _PEAK, path], check=True, capture_output=True, text=True
    )
    samples, grown_kib = map(int, done.stdout.split())
    assert samples >= 16_000
    assert grown_kib < 100 * 1024  # unpacked it has 244 MiB
