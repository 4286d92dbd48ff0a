"""Any file becomes the same sound, and a file that cannot gets one clear sentence."""

import os
import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from talkpath.agent.audio import FloatArray
from talkpath.agent.errors import AudioError
from talkpath.agent.media import AudioFile
from tests.speech import clip, resample, write_wav

RATE_HZ = 16_000


@pytest.fixture(scope="module")
def original() -> FloatArray:
    return clip("librivox-0880").samples()


def read(path: Path) -> FloatArray:
    with AudioFile(path) as file:
        samples = np.concatenate(list(file.blocks()))
        assert file.problem is None
    return samples


def encode(
    path: Path,
    channels: FloatArray,
    codec: str,
    *,
    rate_hz: int = RATE_HZ,
    layout: str = "mono",
    start_s: float = 0.0,
    picture_s: float = 0.0,
    options: dict[str, str] | None = None,
) -> Path:
    """Write ``[channels, n]`` samples at ``rate_hz`` with a codec, beside a picture if wanted."""
    with av.open(str(path), "w", options=options or {}) as container:
        stream = container.add_stream(codec, rate=rate_hz)
        assert isinstance(stream, av.AudioStream)
        stream.layout = layout
        picture = container.add_stream("mpeg4", rate=10) if picture_s else None
        if picture is not None:
            picture.width, picture.height, picture.pix_fmt = 64, 64, "yuv420p"
            for index in range(round(picture_s * 10)):
                image = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
                image.pts, image.time_base = index, Fraction(1, 10)
                container.mux(picture.encode(image))
            container.mux(picture.encode(None))
        for start in range(0, channels.shape[1], 960):
            # Interleaved: PyAV miscounts the planes of eight channels.
            part = channels[:, start : start + 960].T.reshape(1, -1).astype(np.float32)
            frame = av.AudioFrame.from_ndarray(part, format="flt", layout=layout)
            frame.sample_rate = rate_hz
            frame.pts = round(start_s * rate_hz) + start
            frame.time_base = Fraction(1, rate_hz)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def likeness(sound: FloatArray, original: FloatArray) -> tuple[float, float]:
    """Highest normalised correlation, and the shift in seconds where it lies."""
    size = len(sound) + len(original)
    spectrum = np.fft.rfft(sound, size) * np.conj(np.fft.rfft(original, size))
    correlation = np.fft.irfft(spectrum, size)
    best = int(correlation.argmax())
    norm = float(np.linalg.norm(sound) * np.linalg.norm(original))
    shift = best if best < size // 2 else best - size
    return float(correlation[best]) / norm, shift / RATE_HZ


@pytest.mark.parametrize(
    ("name", "codec", "rate_hz"),
    [
        ("mu-law.wav", "pcm_mulaw", 8_000),
        ("a-law.wav", "pcm_alaw", 8_000),
        ("8-bit.wav", "pcm_u8", 16_000),
        ("24-bit.wav", "pcm_s24le", 48_000),
        ("32-bit.wav", "pcm_s32le", 16_000),
        ("float.wav", "pcm_f32le", 44_100),
        ("a.flac", "flac", 16_000),
        ("a.mp3", "libmp3lame", 16_000),
        ("a.ogg", "libopus", 48_000),
        ("a.webm", "libopus", 48_000),
        ("a.m4a", "aac", 44_100),
        ("strange: näme.wav", "pcm_s16le", 16_000),
    ],
)
def test_every_format_gives_the_same_sound(
    name: str, codec: str, rate_hz: int, original: FloatArray, tmp_path: Path
) -> None:
    sound = resample(original, RATE_HZ, rate_hz)
    path = encode(tmp_path / name, sound[np.newaxis], codec, rate_hz=rate_hz)
    got = read(path)
    same, shift_s = likeness(got, original)
    assert same > 0.97
    assert abs(shift_s) < 0.01
    assert abs(len(got) - len(original)) < 0.03 * RATE_HZ
    with AudioFile(path) as file:
        assert file.duration_s == pytest.approx(len(original) / RATE_HZ, abs=0.05)


def test_blocks_are_even_and_come_one_by_one(original: FloatArray, tmp_path: Path) -> None:
    path = write_wav(tmp_path / "a.wav", original)
    with AudioFile(path) as file:
        sizes = [len(block) for block in file.blocks(0.5)]
    assert set(sizes[:-1]) == {8_000}
    assert 0 < sizes[-1] <= 8_000
    assert sum(sizes) == len(original)


@pytest.mark.parametrize(
    ("layout", "speaking"), [("stereo", 0), ("stereo", 1), ("5.1", 2), ("5.1", 5), ("7.1", 7)]
)
def test_speech_on_one_channel_alone_is_kept(
    layout: str, speaking: int, original: FloatArray, tmp_path: Path
) -> None:
    channels = np.zeros((av.AudioLayout(layout).nb_channels, len(original)), np.float32)
    channels[speaking] = original
    got = read(encode(tmp_path / "a.flac", channels, "flac", layout=layout))
    assert likeness(got, original)[0] > 0.99


def test_loud_channels_together_do_not_clip(tmp_path: Path) -> None:
    tone = np.sin(np.arange(RATE_HZ, dtype=np.float32) * 0.3).astype(np.float32)
    got = read(encode(tmp_path / "a.wav", np.stack([tone, tone]), "pcm_f32le", layout="stereo"))
    assert np.abs(got - tone).max() < 1e-4


def test_channels_with_swapped_wires_do_not_cancel(original: FloatArray, tmp_path: Path) -> None:
    path = write_wav(tmp_path / "a.wav", np.stack([original, -original]))
    assert likeness(read(path), original)[0] > 0.99


@pytest.mark.parametrize("name", ["late.mkv", "late.mp4"])
def test_sound_that_begins_after_the_picture_keeps_its_time(
    name: str, original: FloatArray, tmp_path: Path
) -> None:
    path = encode(tmp_path / name, original[np.newaxis], "aac", start_s=2.0, picture_s=5.0)
    same, shift_s = likeness(read(path), original)
    assert same > 0.97
    assert shift_s == pytest.approx(2.0, abs=0.05)


def test_a_clock_that_does_not_start_at_zero_shifts_nothing(
    original: FloatArray, tmp_path: Path
) -> None:
    path = encode(tmp_path / "cut.mkv", original[np.newaxis], "flac", start_s=500.0)
    got = read(path)
    assert len(got) == pytest.approx(len(original), abs=800)
    assert abs(likeness(got, original)[1]) < 0.05


def test_values_that_are_no_numbers_become_silence(original: FloatArray, tmp_path: Path) -> None:
    damaged = original.copy()
    damaged[8_000:8_100] = np.nan
    damaged[9_000] = np.inf
    got = read(encode(tmp_path / "a.wav", damaged[np.newaxis], "pcm_f32le"))
    assert np.isfinite(got).all()


def test_a_recording_written_through_a_pipe_is_read_to_its_end(
    original: FloatArray, tmp_path: Path
) -> None:
    path = write_wav(tmp_path / "a.wav", original)
    content = bytearray(path.read_bytes())
    content[4:8] = content[40:44] = b"\xff" * 4  # as ffmpeg does when it cannot seek
    path.write_bytes(content)
    assert len(read(path)) == len(original)


def test_unreadable_files_get_one_sentence_with_their_name(tmp_path: Path) -> None:
    empty, text, folder = tmp_path / "empty.wav", tmp_path / "text.wav", tmp_path / "folder.wav"
    headers, silent = tmp_path / "headers.wav", tmp_path / "silent.mp4"
    noise = tmp_path / "noise.mp3"
    empty.touch()
    text.write_text("These are words, but nobody speaks them.\n" * 50)
    folder.mkdir()
    write_wav(headers, np.zeros(0, np.float32))
    noise.write_bytes(np.random.default_rng(1).bytes(50_000))
    with av.open(str(silent), "w") as container:
        picture = container.add_stream("mpeg4", rate=10)
        picture.width, picture.height, picture.pix_fmt = 64, 64, "yuv420p"
        image = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
        container.mux(picture.encode(image))
        container.mux(picture.encode(None))
    for path, words in [
        (empty, "is empty"),
        (text, "is not an audio file"),
        (folder, "is a folder"),
        (headers, "no audio is in it"),
        (silent, "has no audio in it"),
        (noise, "is not an audio file"),
        (tmp_path / "nowhere.wav", "does not exist"),
    ]:
        with pytest.raises(AudioError, match=words) as caught:
            read(path)
        assert path.name in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_says_so(original: FloatArray, tmp_path: Path) -> None:
    path = write_wav(tmp_path / "a.wav", original)
    path.chmod(0)
    with pytest.raises(AudioError, match="permission denied"):
        AudioFile(path)


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("a.wav", "pcm_s16le", {}),
        ("a.flac", "flac", {}),
        ("a.mp3", "libmp3lame", {}),
        ("a.m4a", "aac", {"movflags": "faststart"}),
    ],
)
def test_a_truncated_file_gives_what_is_there_and_says_so(
    name: str, codec: str, options: dict[str, str], original: FloatArray, tmp_path: Path
) -> None:
    path = encode(tmp_path / name, original[np.newaxis], codec, options=options)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    with AudioFile(path) as file:
        got = np.concatenate(list(file.blocks()))
        assert file.problem is not None
        assert "is incomplete" in file.problem and name in file.problem
    assert 0.3 * len(original) < len(got) < 0.75 * len(original)
    same, shift_s = likeness(got, original[: len(got)])
    assert same > 0.95 and abs(shift_s) < 0.01


@pytest.mark.parametrize(("name", "codec"), [("a.flac", "flac"), ("a.mp3", "libmp3lame")])
def test_damage_in_the_middle_keeps_both_sides_and_says_so(
    name: str, codec: str, original: FloatArray, tmp_path: Path
) -> None:
    path = encode(tmp_path / name, original[np.newaxis], codec)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 2_000] = np.random.default_rng(2).bytes(2_000)
    path.write_bytes(content)
    with AudioFile(path) as file:
        got = np.concatenate(list(file.blocks()))
        assert file.problem is not None and name in file.problem
    quarter = len(original) // 4
    assert likeness(got[:quarter], original[:quarter])[0] > 0.95
    assert likeness(got[-quarter:], original[-quarter:])[0] > 0.9


def test_an_mp3_that_states_no_length_is_not_called_truncated(
    original: FloatArray, tmp_path: Path
) -> None:
    path = encode(
        tmp_path / "a.mp3", original[np.newaxis], "libmp3lame", options={"write_xing": "0"}
    )
    assert len(read(path)) > len(original) - 2_000


def test_tags_in_an_old_encoding_do_no_harm(original: FloatArray, tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp3", original[np.newaxis], "libmp3lame")
    title = b"\x03" + "Gr\xfc\xdfe".encode("latin-1")  # says UTF-8 and is not
    frame = b"TIT2" + struct.pack(">I", len(title)) + b"\0\0" + title
    tag = b"ID3\x03\0\0" + bytes([0, 0, 0, len(frame)]) + frame
    tagged = tmp_path / "tagged.mp3"
    tagged.write_bytes(tag + path.read_bytes())
    assert likeness(read(tagged), original)[0] > 0.97


# -- content of strangers ----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.wav", "a.mp3", "a.m4a", "a.flac"])
def test_content_is_read_as_a_file_is(name: str, original: FloatArray, tmp_path: Path) -> None:
    codec = {"wav": "pcm_s16le", "mp3": "libmp3lame", "m4a": "aac", "flac": "flac"}[name[2:]]
    path = encode(tmp_path / name, original[np.newaxis], codec)
    with path.open("rb") as content, AudioFile(Path("other") / name, content) as file:
        assert np.array_equal(np.concatenate(list(file.blocks())), read(path))
        assert file.problem is None
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with path.open("rb") as content:
        try:
            with AudioFile(Path(name), content) as file:
                list(file.blocks())
                problem = file.problem
        except AudioError as error:  # the M4A's index is at its end
            problem = str(error)
        assert problem is not None and problem.startswith(name)
        assert not content.closed


def test_content_cannot_make_other_files_be_read(original: FloatArray, tmp_path: Path) -> None:
    """Playlists are read from paths, but a stranger's could name whatever lies on the server."""
    secret = encode(tmp_path / "secret.mp3", original[np.newaxis], "libmp3lame")
    start, end = "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n", "\n#EXT-X-ENDLIST\n"
    playlist = tmp_path / "list.m3u8"
    for target in (str(secret), f"file:{secret}", secret.name):
        playlist.write_text(start + target + end)
        assert len(read(playlist)) > RATE_HZ
        with playlist.open("rb") as content, pytest.raises(AudioError, match="not an audio file"):
            AudioFile(playlist, content)
    concat = tmp_path / "list.ffconcat"
    concat.write_text(f"ffconcat version 1.0\nfile {secret.name}\n")
    with concat.open("rb") as content, pytest.raises(AudioError):
        AudioFile(concat, content)
    with (tmp_path / "empty.wav").open("xb+") as content:
        with pytest.raises(AudioError, match=r"empty\.wav is empty"):
            AudioFile(Path("empty.wav"), content)
