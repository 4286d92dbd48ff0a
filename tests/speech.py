"""Real speech for tests, on any machine.

Ten clips with transcripts come from the source distribution of pocketsphinx 5.1.1
(five sentences of LibriVox, public domain; five names of cards, BSD-2-Clause). pip fetches it
once, so the user's own index and settings apply; it lies in ``~/.cache/talkpath/tests`` afterwards
and every clip is checked by its SHA-256.

All samples are float32, mono, at 16 kHz unless a rate is named.
"""

import functools
import hashlib
import os
import subprocess
import sys
import tarfile
import tempfile
import wave
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from talkpath.agent.bench.wer import word_error_rate

__all__ = [
    "Clip",
    "clip",
    "clips",
    "join",
    "read_wav",
    "resample",
    "silence",
    "speech_wav",
    "word_error_rate",
    "write_wav",
]

RATE_HZ = 16_000

_REQUIREMENT = (
    "pocketsphinx==5.1.1 "
    "--hash=sha256:675778b309a22dfc9b7d37f7621976bba491d2a5f8c59696bd77fd6d07271355"
)
_LIBRIVOX = "librivox/sense_and_sensibility_01_austen_64kb-"

# id: (member below pocketsphinx-5.1.1/test/data, sha256, the words of its transcription file)
_CLIPS = {
    "librivox-0870": (
        f"{_LIBRIVOX}0870.wav",
        "b0557cf95c974d930577e58e46b7f068c432a6e3afcc286563d88922b2a5315c",
        "and mister john dashwood had then leisure to consider how much there might be "
        "prudently in his power to do for them",
    ),
    "librivox-0880": (
        f"{_LIBRIVOX}0880.wav",
        "fbec491ef00ee734a67f0ee318e98c51c157b479e1629ff4f4426861ecac0414",
        "he was not an ill disposed young man",
    ),
    "librivox-0890": (
        f"{_LIBRIVOX}0890.wav",
        "5793ffbdee55fb8bfd284943a6866864c832d9d4accf2661cabd39915c84ee10",
        "unless to be rather cold hearted and rather selfish is to be ill disposed",
    ),
    "librivox-0920": (
        f"{_LIBRIVOX}0920.wav",
        "40882414ef4cc51f3ff7a63bad0c8c87e7f595ffeb8209fbf756c8ebc5c28a59",
        "had he married a more a amiable woman he might have been made still more "
        "respectable than he was",
    ),
    "librivox-0930": (
        f"{_LIBRIVOX}0930.wav",
        "954adbf0b56ac8a148cbe77b39ca18d76b5f2a1e1f405565bd786ce3e68a68b7",
        "he might even have been made amiable himself",
    ),
    "cards-001": (
        "cards/001.wav",
        "899951e768666f27c8f8b1d4090b96fe7909cae9cec01bec0a5d5d1b8a8d566e",
        "ten of clubs",
    ),
    "cards-002": (
        "cards/002.wav",
        "a3f9eae6fdb69a1231989e39a14d62388a6f52fb59666c76d95005318fadafec",
        "four queen of clubs",
    ),
    "cards-003": (
        "cards/003.wav",
        "00d283e46bc257ae479e4aa86593cadb541656eba1d19fc8abeece37f6a5a18b",
        "seven of clubs",
    ),
    "cards-004": (
        "cards/004.wav",
        "4c44a8177f5b128b99f078cdeb918119933155574231f1833e8840d1af09c521",
        "five five",
    ),
    "cards-005": (
        "cards/005.wav",
        "090f18f5f76cf8b2b43cd9e6b07823f4685a4742d9a36cd98b174a6586c18cf9",
        "eight of spades four of clubs seven of hearts",
    ),
}

# pip prepares a source distribution's metadata even when it only downloads, which would install
# a compiler's worth of build dependencies for it; this backend answers for them at once.
_BUILD_BACKEND = """
import pathlib

def prepare_metadata_for_build_wheel(folder, config_settings=None):
    info = pathlib.Path(folder, "pocketsphinx-5.1.1.dist-info")
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\\nName: pocketsphinx\\nVersion: 5.1.1\\n")
    return info.name
"""


@dataclass(frozen=True, slots=True)
class Clip:
    """One recording: a 16-bit mono WAV file at 16 kHz, and what is said in it."""

    id: str
    path: Path
    text: str
    duration_s: float

    def samples(self) -> NDArray[np.float32]:
        return read_wav(self.path)


@functools.cache
def clips() -> tuple[Clip, ...]:
    """Give all clips: five sentences (``librivox-...``), then five names of cards."""
    folder = _cache_folder()
    if not all(_is_intact(_clip_path(folder, name), name) for name in _CLIPS):
        _fetch(folder)
    found = []
    for name, (_, _, text) in _CLIPS.items():
        path = _clip_path(folder, name)
        with wave.open(str(path), "rb") as file:
            assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (16000, 1, 2)
            found.append(Clip(name, path, text, file.getnframes() / RATE_HZ))
    return tuple(found)


def clip(name: str) -> Clip:
    """Give one clip by its id."""
    return next(item for item in clips() if item.id == name)


def read_wav(path: Path) -> NDArray[np.float32]:
    """Read a 16-bit mono WAV file at its own rate."""
    with wave.open(str(path), "rb") as file:
        pcm = np.frombuffer(file.readframes(file.getnframes()), "<i2")
    return pcm.astype(np.float32) / np.float32(32768)


def write_wav(path: Path, samples: NDArray[np.float32], rate_hz: int = RATE_HZ) -> Path:
    """Write samples ``[n]`` or ``[channels, n]`` as 16-bit WAV; gives ``path``."""
    channels = np.atleast_2d(samples)
    pcm = (np.clip(channels, -1, 1) * 32767).round().astype("<i2")
    with wave.open(str(path), "wb") as file:
        file.setnchannels(len(channels))
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(pcm.T.tobytes())
    return path


def silence(seconds: float, rate_hz: int = RATE_HZ) -> NDArray[np.float32]:
    """Give digital silence."""
    return np.zeros(round(seconds * rate_hz), np.float32)


def resample(samples: NDArray[np.float32], from_hz: int, to_hz: int) -> NDArray[np.float32]:
    """Change the rate of mono samples."""
    if from_hz == to_hz:
        return samples
    resampler = av.AudioResampler(format="flt", layout="mono", rate=to_hz)
    frame = av.AudioFrame.from_ndarray(samples[np.newaxis, :], format="flt", layout="mono")
    frame.sample_rate = from_hz
    frames = [*resampler.resample(frame), *resampler.resample(None)]
    return np.concatenate([np.asarray(part.to_ndarray()[0], np.float32) for part in frames])


def join(
    names: Iterable[str] | None = None,
    *,
    gap_s: float = 1.0,
    lead_s: float = 0.5,
    tail_s: float = 1.0,
) -> NDArray[np.float32]:
    """Put clips (all by default) one after the other: lead, clip, gap, clip, ..., tail."""
    chosen = clips() if names is None else [clip(name) for name in names]
    parts = [silence(lead_s)]
    for index, item in enumerate(chosen):
        parts += [silence(gap_s)] if index else []
        parts.append(item.samples())
    return np.concatenate([*parts, silence(tail_s)])


def speech_wav(
    path: Path,
    names: Iterable[str] | None = None,
    *,
    rate_hz: int = RATE_HZ,
    gap_s: float = 1.0,
    lead_s: float = 0.5,
    tail_s: float = 1.0,
) -> Path:
    """Write ``join(...)`` to ``path`` at any rate.

    Chromium's ``--use-file-for-fake-audio-capture`` takes such a file at 48 kHz and plays it in
    a loop, hence a tail that is long enough for the last turn to end.
    """
    samples = join(names, gap_s=gap_s, lead_s=lead_s, tail_s=tail_s)
    return write_wav(path, resample(samples, RATE_HZ, rate_hz), rate_hz)


def _cache_folder() -> Path:
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = base / "talkpath" / "tests"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _clip_path(folder: Path, name: str) -> Path:
    return folder / f"{name}.wav"


def _is_intact(path: Path, name: str) -> bool:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest() == _CLIPS[name][1]
    except FileNotFoundError:
        return False


def _fetch(folder: Path) -> None:
    """Download the source distribution and put its clips in place, each in one step.

    Processes that do so at the same time replace equal files by equal files.
    """
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        archive = _download(Path(temporary))
        with tarfile.open(archive) as source:
            for name, (member, sha256, _) in _CLIPS.items():
                file = source.extractfile(f"pocketsphinx-5.1.1/test/data/{member}")
                assert file is not None
                content = file.read()
                assert hashlib.sha256(content).hexdigest() == sha256, name
                part = Path(temporary, name)
                part.write_bytes(content)
                part.replace(_clip_path(folder, name))


def _download(folder: Path) -> Path:
    backend = folder / "backend" / "scikit_build_core"
    backend.mkdir(parents=True)
    (backend / "__init__.py").touch()
    (backend / "build.py").write_text(_BUILD_BACKEND)
    requirements = folder / "requirements.txt"
    requirements.write_text(_REQUIREMENT + "\n")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--no-binary", ":all:", "--no-build-isolation", "--require-hashes"]
    command += ["--dest", str(folder), "--requirement", str(requirements)]
    result = subprocess.run(
        command,
        env=os.environ | {"PYTHONPATH": str(backend.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode != 0:
        raise RuntimeError(
            "pip could not fetch the speech that the tests need "
            f"(the source distribution of pocketsphinx 5.1.1):\n{result.stderr}"
        )
    return folder / "pocketsphinx-5.1.1.tar.gz"
