"""Silero's network (version 6, 16 kHz) in numpy: a third of onnxruntime's cost in a batch.

The weights come out of the ONNX file of the silero-vad package. The layers, as they are in its
TorchScript model: a Fourier transform as a convolution (256 samples, hop 128, four frames after
64 reflected samples), the magnitudes, four convolutions with rectifiers, an LSTM cell, and one
neuron. A convolution is written as one product of matrices over all streams and frames.

Microseconds a window on one thread (``talkpath bench vad``):

=====  =====  ===========  =====
batch  numpy  onnxruntime  torch
=====  =====  ===========  =====
1         71          112    310
8         28           61     77
32        19           56     33
128       18           56     23
=====  =====  ===========  =====
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from talkpath.agent.audio import FloatArray
from talkpath.agent.errors import ModelError

__all__ = ["SileroNetwork"]

_PADDING = 64
_FILTER, _HOP, _FRAMES = 256, 128, 4
_BINS = _FILTER // 2 + 1
_UNITS = 128

# Fields of ONNX's protocol buffers (onnx.proto): ModelProto.graph, GraphProto.initializer,
# TensorProto.dims, .name and .raw_data.
_GRAPH, _INITIALIZER, _DIMS, _NAME, _RAW_DATA = 7, 5, 1, 8, 9
_VARINT, _BYTES = 0, 2
_FIXED = {1: 8, 5: 4}


class SileroNetwork:
    """The network; holds weights and nothing of any stream.

    Args:
        path: ``silero_vad_16k_op15.onnx``.

    Raises:
        ModelError: the file does not hold this network.
    """

    def __init__(self, path: Path) -> None:
        try:
            tensors = _tensors(path.read_bytes())
            # The transposed weights, so that a row of a matrix is a frame of a stream.
            self._fourier = _matrix(tensors["stft.forward_basis_buffer"])
            convolutions = [tensors[f"encoder.{i}.reparam_conv.weight"] for i in range(4)]
            # The third sees two frames and makes one: its first tap meets only padding. The
            # fourth sees one frame: both its outer taps do.
            convolutions[2] = convolutions[2][:, :, 1:]
            convolutions[3] = convolutions[3][:, :, 1:2]
            self._convolutions = [_matrix(item) for item in convolutions]
            self._biases = [tensors[f"encoder.{i}.reparam_conv.bias"] for i in range(4)]
            cell = [tensors[f"decoder.rnn.weight_{side}"] for side in ("ih", "hh")]
            self._cell = np.ascontiguousarray(np.concatenate(cell, axis=1).T)
            self._cell_bias = tensors["decoder.rnn.bias_ih"] + tensors["decoder.rnn.bias_hh"]
            self._output = tensors["decoder.decoder.2.weight"].reshape(_UNITS)
            self._output_bias = tensors["decoder.decoder.2.bias"]
            state = np.zeros((2, 1, _UNITS), dtype=np.float32)
            self(np.zeros((1, 576), dtype=np.float32), state)  # do the shapes fit?
        except (OSError, KeyError, ValueError, IndexError) as error:
            raise ModelError(f"{path} is not the voice activity model that we know") from error

    def __call__(self, samples: FloatArray, recurrent: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Advance one window in each of several streams.

        Args:
            samples: 64 samples of context and 512 new ones, ``[streams, 576]``.
            recurrent: hidden and cell state, ``[2, streams, 128]``.

        Returns:
            Probabilities ``[streams]`` and the new state.
        """
        hidden, cell = recurrent
        features = self._encode(self._magnitudes(samples))
        gates = np.concatenate([features, hidden], axis=1) @ self._cell
        gates += self._cell_bias
        sigmoids = _sigmoid(gates)
        keep, forget, show = (sigmoids[:, at * _UNITS : (at + 1) * _UNITS] for at in (0, 1, 3))
        cell = forget * cell + keep * np.tanh(gates[:, 2 * _UNITS : 3 * _UNITS])
        hidden = show * np.tanh(cell)
        logits = np.maximum(hidden, 0) @ self._output + self._output_bias
        return _sigmoid(logits), np.stack([hidden, cell])

    def _magnitudes(self, samples: FloatArray) -> FloatArray:
        """Spectra with an empty frame on both sides, ``[streams, 6, 129]``."""
        streams = len(samples)
        padded = np.concatenate([samples, samples[:, -2 : -2 - _PADDING : -1]], axis=1)
        spectra = _taps(padded, _FRAMES, _HOP, _FILTER) @ self._fourier
        squares = np.square(spectra, out=spectra)
        magnitudes = np.zeros((streams, _FRAMES + 2, _BINS), dtype=np.float32)
        power = (squares[:, :_BINS] + squares[:, _BINS:]).reshape(streams, _FRAMES, _BINS)
        np.sqrt(power, out=magnitudes[:, 1:-1])
        return magnitudes

    def _encode(self, magnitudes: FloatArray) -> FloatArray:
        """From spectra to features, ``[streams, 128]``."""
        streams = len(magnitudes)
        frames = _taps(magnitudes.reshape(streams, -1), _FRAMES, _BINS, 3 * _BINS)
        first = self._layer(0, frames)
        # Every second frame from here on.
        padded = np.zeros((streams, _FRAMES + 1, _UNITS), dtype=np.float32)
        padded[:, 1:] = first.reshape(streams, _FRAMES, _UNITS)
        frames = _taps(padded.reshape(streams, -1), _FRAMES // 2, 2 * _UNITS, 3 * _UNITS)
        second = self._layer(1, frames).reshape(streams, -1)
        return self._layer(3, self._layer(2, second))

    def _layer(self, index: int, frames: FloatArray) -> FloatArray:
        output = frames @ self._convolutions[index]
        output += self._biases[index]
        return np.asarray(np.maximum(output, 0, out=output), dtype=np.float32)


def _taps(rows: FloatArray, frames: int, hop: int, length: int) -> FloatArray:
    """What a convolution sees of each row: ``[rows * frames, length]``."""
    views = np.lib.stride_tricks.as_strided(
        rows,
        (len(rows), frames, length),
        (rows.strides[0], hop * rows.itemsize, rows.itemsize),
        writeable=False,
    )
    return np.asarray(views.reshape(-1, length), dtype=np.float32)


def _sigmoid(values: FloatArray) -> FloatArray:
    # By way of tanh, which has nothing to overflow.
    return np.asarray(np.tanh(values * 0.5) * 0.5 + 0.5, dtype=np.float32)


def _matrix(weight: FloatArray) -> FloatArray:
    """A convolution's weight ``[out, in, taps]`` as ``[taps * in, out]``."""
    taps_first = weight.transpose(2, 1, 0)
    return np.ascontiguousarray(taps_first.reshape(-1, weight.shape[0]))


def _tensors(data: bytes) -> dict[str, FloatArray]:
    """Initial values of an ONNX graph by their names, without the prefix ``model.``."""
    graph = next((value for field, value in _fields(data) if field == _GRAPH), b"")
    found = {}
    for field, value in _fields(_as_bytes(graph)):
        if field != _INITIALIZER:
            continue
        entries = list(_fields(_as_bytes(value)))
        name = next((_as_bytes(entry) for key, entry in entries if key == _NAME), b"").decode()
        raw = next((_as_bytes(entry) for key, entry in entries if key == _RAW_DATA), b"")
        dims = [int(entry) for key, entry in entries if key == _DIMS]
        if len(raw) == 4 * int(np.prod(dims)):
            values = np.frombuffer(raw, dtype="<f4").astype(np.float32)
            found[name.removeprefix("model.")] = values.reshape(dims)
    return found


def _as_bytes(value: "int | bytes") -> bytes:
    if isinstance(value, int):
        raise ValueError("a number where bytes were expected")
    return value


def _fields(data: bytes) -> "Iterator[tuple[int, int | bytes]]":
    """Numbers and values of a message's fields, by the protocol buffers' encoding."""
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(data):
        key = varint()
        kind = key & 7
        if kind == _VARINT:
            yield key >> 3, varint()
            continue
        if kind != _BYTES and kind not in _FIXED:
            raise ValueError(f"an unknown kind of field: {kind}")
        length = varint() if kind == _BYTES else _FIXED[kind]
        yield key >> 3, data[at : at + length]
        at += length
