"""Weights: read the arrays of a CTranslate2 model file.

The file (``model.bin``, little-endian) is a header (u32 version, the specification's name, u32
revision), a u32 count of variables, and for each one its name, u8 rank, u32 dimensions, u8 type,
u32 bytes and the bytes themselves; then a u32 count of aliases, pairs of names. A name is a u16
length, the terminating zero included, and the bytes. Source: ``python/ctranslate2/specs/
model_spec.py`` of CTranslate2, which writes it.
"""

import struct
from pathlib import Path

import numpy as np

from talkpath.agent.audio import FloatArray
from talkpath.agent.errors import ModelError

__all__ = ["Weights", "read_weights"]

_TYPES: dict[int, type[np.generic]] = {
    0: np.float32,
    1: np.int8,
    2: np.int16,
    3: np.int32,
    4: np.float16,
}
_FIRST_VERSION = 4  # u8 types and sizes in bytes


class Weights:
    """The variables of a model by name."""

    def __init__(self, arrays: dict[str, np.ndarray]) -> None:
        self._arrays = arrays

    def __contains__(self, name: str) -> bool:
        return name in self._arrays

    def number(self, name: str) -> int:
        """A scalar, such as ``decoder/num_heads``.

        Raises:
            ModelError: the model has no such variable.
        """
        return int(self._find(name).reshape(-1)[0])

    def rows(self, name: str) -> int:
        """Length of an array's first dimension.

        Raises:
            ModelError: the model has no such variable.
        """
        return len(self._find(name))

    def floats(self, name: str) -> FloatArray:
        """An array as float32, in its own shape; quantized rows are multiplied out.

        Raises:
            ModelError: the model has no such variable, or in a type that is not known here.
        """
        array = self._find(name)
        if array.dtype == np.int8 and f"{name}_scale" in self:
            # CTranslate2 keeps one scale a row: quantized = value * scale.
            scale = self.floats(f"{name}_scale").reshape(-1, *[1] * (array.ndim - 1))
            return np.asarray(array.astype(np.float32) / scale, dtype=np.float32)
        if array.dtype not in (np.float32, np.float16):
            raise ModelError(f"the model's {name!r} is of type {array.dtype}")
        return array.astype(np.float32)

    def _find(self, name: str) -> np.ndarray:
        if name not in self._arrays:
            raise ModelError(f"the model has no {name!r}")
        return self._arrays[name]


def read_weights(path: Path) -> Weights:
    """Map a ``model.bin`` into memory; nothing is copied before it is used.

    Raises:
        ModelError: the file is missing, cut off, or not such a file.
    """
    try:
        data = np.memmap(path, dtype=np.uint8, mode="r")
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot read {path}: {error}") from error
    try:
        return Weights(_Reader(data).variables())
    except (struct.error, ValueError, KeyError, UnicodeDecodeError) as error:
        raise ModelError(f"{path} is not a model file of CTranslate2: {error}") from error


class _Reader:
    def __init__(self, data: np.ndarray) -> None:
        self._data = data
        self._at = 0

    def variables(self) -> dict[str, np.ndarray]:
        version = self._number("I")
        if version < _FIRST_VERSION:
            raise ValueError(f"version {version}")
        self._name()
        self._number("I")
        arrays = {}
        for _ in range(self._number("I")):
            name = self._name()
            arrays[name] = self._array()
        for _ in range(self._number("I")):
            alias = self._name()
            arrays[alias] = arrays[self._name()]
        return arrays

    def _number(self, kind: str) -> int:
        value: int = struct.unpack_from(f"<{kind}", self._data.data, self._at)[0]
        self._at += struct.calcsize(kind)
        return value

    def _name(self) -> str:
        length = self._number("H")
        start, self._at = self._at, self._at + length
        return bytes(self._data[start : self._at]).rstrip(b"\0").decode()

    def _array(self) -> np.ndarray:
        shape = [self._number("I") for _ in range(self._number("B"))]
        kind = np.dtype(_TYPES[self._number("B")])
        size = self._number("I")
        array = np.frombuffer(self._data, kind, size // kind.itemsize, self._at).reshape(shape)
        self._at += size
        return array
