"""The network in numpy is the one of the ONNX file, run by onnxruntime for comparison."""

import struct
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import silero_vad
from numpy.typing import NDArray

from talkpath.agent.errors import ModelError
from talkpath.agent.speech.network import SileroNetwork
from tests.speech import join

DATA = Path(silero_vad.__file__).parent / "data"
MODEL = DATA / "silero_vad_16k_op15.onnx"


@pytest.mark.parametrize("file", ["silero_vad_16k_op15.onnx", "silero_vad.onnx"])
def test_it_hears_what_onnxruntime_hears(file: str) -> None:
    """Over speech, quiet speech, speech in noise and noise, with the state carried on."""
    session = onnxruntime.InferenceSession(str(DATA / file), providers=["CPUExecutionProvider"])
    network = SileroNetwork(MODEL)
    speech = join()
    noise = np.random.default_rng(5).normal(0, 0.05, len(speech)).astype(np.float32)
    length = (len(speech) - 64) // 512
    streams = np.stack([speech, speech * np.float32(0.01), speech + noise, noise])
    ours = theirs = np.zeros((2, len(streams), 128), np.float32)
    heard: list[NDArray[np.float32]] = []
    for index in range(length):
        samples = np.ascontiguousarray(streams[:, index * 512 : index * 512 + 576])
        mine, ours = network(samples, ours)
        expected, theirs = session.run(
            None, {"input": samples, "state": theirs, "sr": np.array(16_000)}
        )
        np.testing.assert_allclose(mine, expected[:, 0], atol=1e-4)
        heard.append(mine)
    assert np.max(heard, axis=0)[:3].min() > 0.9
    assert np.max(heard, axis=0)[3] < 0.5


def test_extreme_samples_neither_overflow_nor_warn() -> None:
    network = SileroNetwork(MODEL)
    samples = np.full((3, 576), 1e6, np.float32)
    samples[1] *= np.float32(-1)
    samples[2, ::2] = 0
    probabilities, recurrent = network(samples, np.zeros((2, 3, 128), np.float32))
    assert np.isfinite(probabilities).all()
    assert np.isfinite(recurrent).all()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a model",
        bytes(range(256)),
        b"\x3a\x00",  # a graph with nothing in it
        b"\x38\x01",  # a number where the graph should be
        b"\xff" * 20,
        struct.pack("<BI", 0x3D, 7),  # a fixed-size field instead
    ],
)
def test_a_file_that_is_another_one_is_a_clear_error(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match="not the voice activity model"):
        SileroNetwork(path)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_truncated_file_is_a_clear_error(share: float, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    content = MODEL.read_bytes()
    path.write_bytes(content[: round(share * len(content))])
    with pytest.raises(ModelError, match="not the voice activity model"):
        SileroNetwork(path)


def test_a_file_that_is_missing_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="nowhere"):
        SileroNetwork(tmp_path / "nowhere.onnx")
