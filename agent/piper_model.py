"""A Piper model's file, taken apart: what computes the frames of speech, and what makes them sound.

A Piper model (VITS, https://arxiv.org/abs/2106.06103) first works out how long each phoneme lasts
and what every frame of 256 samples sounds like, then a decoder of nothing but convolutions turns
frames into samples. The decoder takes two thirds of the time. As a model of its own it can be
given the first frames alone, and the first sound is there before the last is computed.

An ONNX file is a protocol buffer (https://protobuf.dev/programming-guides/encoding), so parts of
it can be left out and put together without any library for it. Field numbers are those of
onnx.proto: ModelProto.graph = 7; GraphProto.node = 1, .initializer = 5, .input = 11, .output = 12,
.value_info = 13; NodeProto.input = 1, .output = 2, .name = 3, .op_type = 4; TensorProto.name = 8;
ValueInfoProto.name = 1, .type = 2.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

__all__ = ["Halves", "halves", "with_durations"]

_DURATIONS_OP = b"Ceil"
"""The last step of the duration predictor; a Piper model has one node of this kind."""
_DECODER = b"/dec/conv_pre/Conv"
"""The decoder's first step, as Piper's export names it."""
_FLOATS = b"\x0a\x13\x08\x01\x12\x0f" + b"\x0a\x03\x12\x01b\x0a\x03\x12\x01c\x0a\x03\x12\x01f"
"""TypeProto of a float tensor of three dimensions: batch, channels, frames."""


@dataclass(frozen=True, slots=True)
class Halves:
    """A Piper model in two, each an ONNX file's content.

    Attributes:
        front: has the model's inputs; gives frames, float32 ``[1, channels, frames]``, and how
            many of them each phoneme lasts.
        decoder: frames in, the model's output out.
    """

    front: bytes
    decoder: bytes


@dataclass(frozen=True, slots=True)
class _Node:
    raw: memoryview
    name: bytes
    kind: bytes
    inputs: tuple[bytes, ...]
    outputs: tuple[bytes, ...]


def with_durations(model: bytes) -> bytes:
    """Make a Piper model's phoneme durations its second output.

    Of two protocol buffers one after the other the second is merged into the first. So a few
    bytes at the end that name one more output are enough.

    Args:
        model: an ONNX file's content.

    Returns:
        The same with one more output, or as it was where there is nothing to add.

    Raises:
        ValueError: this is no protocol buffer.
    """
    durations: list[bytes] = []
    outputs: list[bytes] = []
    for graph in _contents(memoryview(model), 7):
        durations.extend(_durations(_nodes(graph)))
        outputs.extend(_names(graph, 12, 1))
    if len(durations) != 1 or durations[0] in outputs:
        return model
    return model + _field(7, _field(12, _field(1, durations[0])))


def halves(model: bytes) -> Halves | None:
    """Part a Piper model in front of its decoder.

    Args:
        model: an ONNX file's content.

    Returns:
        Both parts, or None where the model is built otherwise: one of many speakers, whose
        decoder is told who speaks, or the work of another export.

    Raises:
        ValueError: this is no protocol buffer.
    """
    whole = memoryview(model)
    graphs = list(_contents(whole, 7))
    if len(graphs) != 1:
        return None
    (graph,) = graphs
    nodes = list(_nodes(graph))
    durations = _durations(nodes)
    decoder = _from(nodes, _DECODER)
    if len(durations) != 1 or not decoder:
        return None
    frames = decoder[0].inputs[0]
    made = {name for node in decoder for name in node.outputs}
    front = [node for node in nodes if made.isdisjoint(node.outputs)]
    weights = dict(zip(_names(graph, 5, 8), _raw(graph, 5), strict=True))
    if any(
        name not in made and name not in weights and name != frames
        for node in decoder
        for name in node.inputs
    ):
        return None
    # Nodes of the front may have graphs in them, with weights that no node's inputs name.
    heard = {name for node in front for name in node.inputs}
    spoken = {name for node in decoder for name in node.inputs}
    fronts = {name: raw for name, raw in weights.items() if name in heard or name not in spoken}
    decoders = {name: raw for name, raw in weights.items() if name in spoken}
    outputs = [_field(12, _field(1, name)) for name in (frames, durations[0])]
    takes = _field(11, _field(1, frames) + _field(2, _FLOATS))
    return Halves(
        front=_model(whole, graph, front, fronts, [*_raw(graph, 11), *outputs]),
        decoder=_model(whole, graph, decoder, decoders, [takes, *_raw(graph, 12)]),
    )


def _from(nodes: Iterable[_Node], name: bytes) -> list[_Node]:
    """The node of this name and all that depend on it; a graph's nodes are in order."""
    made: set[bytes] = set()
    found = []
    for node in nodes:
        if node.name == name or not made.isdisjoint(node.inputs):
            found.append(node)
            made.update(node.outputs)
    return found


def _model(
    whole: memoryview,
    graph: memoryview,
    nodes: Iterable[_Node],
    weights: Mapping[bytes, memoryview],
    ends: Iterable[bytes | memoryview],
) -> bytes:
    """A model of some of the nodes, with their weights, and its inputs and outputs."""
    rest = [raw for number, raw, _ in _fields(whole) if number != 7]
    content = [
        *(raw for number, raw, _ in _fields(graph) if number not in (1, 5, 11, 12, 13)),
        *(_field(1, node.raw) for node in nodes),
        *weights.values(),
        *ends,
    ]
    return b"".join([*rest, _field(7, b"".join(content))])


def _nodes(graph: memoryview) -> Iterator[_Node]:
    for raw in _contents(graph, 1):
        inputs, outputs, name, kind = (
            tuple(bytes(content) for content in _contents(raw, number)) for number in (1, 2, 3, 4)
        )
        yield _Node(raw, b"".join(name), b"".join(kind), inputs, outputs)


def _durations(nodes: Iterable[_Node]) -> list[bytes]:
    return [name for node in nodes if node.kind == _DURATIONS_OP for name in node.outputs]


def _names(graph: memoryview, of: int, name: int) -> list[bytes]:
    return [b"".join(map(bytes, _contents(content, name))) for content in _contents(graph, of)]


def _contents(message: memoryview, wanted: int) -> Iterator[memoryview]:
    """The contents of the fields of bytes with one number."""
    return (content for number, _, content in _fields(message) if number == wanted)


def _raw(message: memoryview, wanted: int) -> list[memoryview]:
    """The fields with one number, as they are encoded."""
    return [raw for number, raw, _ in _fields(message) if number == wanted]


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview, memoryview]]:
    """Number, encoded field and content of each field; only those of bytes have content."""
    position = 0
    while position < len(message):
        start = position
        key, position = _varint(message, position)
        kind = key & 7
        content = message[:0]
        if kind == 0:
            _, position = _varint(message, position)
        elif kind in (1, 5):
            position += 8 if kind == 1 else 4
        elif kind == 2:
            length, position = _varint(message, position)
            if position + length > len(message):
                raise ValueError("the file is cut off")
            content = message[position : position + length]
            position += length
        else:
            raise ValueError("the file is no protocol buffer")
        if position > len(message):
            raise ValueError("the file is cut off")
        yield key >> 3, message[start:position], content


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if position >= len(message) or shift > 63:
            raise ValueError("the file is no protocol buffer")
        byte = message[position]
        value |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return value, position


def _field(number: int, content: bytes | memoryview) -> bytes:
    """Encode a field of bytes with a number below 16."""
    length = bytearray()
    rest = len(content)
    while rest > 127:
        length.append(rest & 0x7F | 0x80)
        rest >>= 7
    return b"".join([bytes([number << 3 | 2]), length, bytes([rest]), content])
