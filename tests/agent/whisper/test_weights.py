"""Weights: CTranslate2's model files, whole and broken."""

import struct
from pathlib import Path

import numpy as np
import pytest

from talkpath.agent.errors import ModelError
from talkpath.agent.models import ModelStore
from talkpath.agent.whisper.weights import read_weights


def name(text: str) -> bytes:
    data = text.encode() + b"\0"
    return struct.pack("<H", len(data)) + data


def variable(text: str, array: np.ndarray, kind: int) -> bytes:
    shape = struct.pack(f"<B{array.ndim}I", array.ndim, *array.shape)
    return name(text) + shape + struct.pack("<BI", kind, array.nbytes) + array.tobytes()


def written(
    folder: Path, variables: list[bytes], aliases: dict[str, str] | None = None, version: int = 6
) -> Path:
    aliases = aliases or {}
    data = struct.pack("<I", version) + name("WhisperSpec") + struct.pack("<II", 3, len(variables))
    data += b"".join(variables) + struct.pack("<I", len(aliases))
    data += b"".join(name(alias) + name(of) for alias, of in aliases.items())
    path = folder / "model.bin"
    path.write_bytes(data)
    return path


def test_a_real_model_is_read() -> None:
    weights = read_weights(ModelStore().pull("tiny.en") / "model.bin")
    assert weights.number("decoder/num_heads") == 6
    embeddings = weights.floats("decoder/embeddings/weight")
    assert embeddings.shape == (51864, 384)
    assert embeddings.dtype == np.float32
    assert weights.rows("decoder/projection/weight") == 51864
    assert np.array_equal(embeddings, weights.floats("decoder/projection/weight"))
    assert "decoder/layer_3/ffn/linear_0/weight" in weights
    assert "decoder/layer_4/ffn/linear_0/weight" not in weights


def test_quantized_rows_are_multiplied_out(tmp_path: Path) -> None:
    rows = np.array([[127, -64], [10, 0]], dtype=np.int8)
    scales = np.array([127.0, 20.0], dtype=np.float32)
    path = written(tmp_path, [variable("a", rows, 1), variable("a_scale", scales, 0)])
    assert read_weights(path).floats("a") == pytest.approx(np.array([[1.0, -64 / 127], [0.5, 0.0]]))


def test_what_is_not_there_or_not_a_number_of_that_kind_is_named(tmp_path: Path) -> None:
    weights = read_weights(
        written(tmp_path, [variable("count", np.array([3], dtype=np.int32), 3)], {"as": "count"})
    )
    assert weights.number("as") == 3
    with pytest.raises(ModelError, match="no 'weight'"):
        weights.floats("weight")
    with pytest.raises(ModelError, match="'count' is of type int32"):
        weights.floats("count")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"cannot read .*model\.bin"):
        read_weights(tmp_path / "model.bin")


@pytest.mark.parametrize("length", [1, 4, 20, 60, 90])
def test_a_file_that_is_cut_off_is_refused(tmp_path: Path, length: int) -> None:
    path = written(tmp_path, [variable("weight", np.zeros((4, 4), dtype=np.float32), 0)])
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ModelError, match="not a model file"):
        read_weights(path)


def test_another_kind_of_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(b"GGUF" + bytes(range(256)) * 20)
    with pytest.raises(ModelError, match="not a model file"):
        read_weights(path)
    with pytest.raises(ModelError, match="version 2"):
        read_weights(written(tmp_path, [], version=2))
