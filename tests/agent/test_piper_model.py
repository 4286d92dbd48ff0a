"""A model's file in two: what is left of it where it fits, and what is told where it does not."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from talkpath.agent.piper_model import halves, with_durations
from talkpath.agent.voice import Voice
from tests.local_models import voice_model


def field(number: int, content: bytes) -> bytes:
    size = [len(content)] if len(content) < 128 else [len(content) & 127 | 128, len(content) >> 7]
    return bytes([number << 3 | 2, *size]) + content


CEIL = field(1, field(2, b"w_ceil") + field(4, b"Ceil"))
OTHER = field(1, field(2, b"sum") + field(4, b"Add"))
AUDIO = field(12, field(1, b"output"))
DURATIONS = field(12, field(1, b"w_ceil"))


def test_the_durations_become_an_output() -> None:
    # Field 1 is a number, 15 and 14 have a fixed size: the reader steps over them.
    start = b"\x08\x07" + b"\x7d" + bytes(4) + b"\x71" + bytes(8)
    model = start + field(7, OTHER + CEIL + AUDIO)
    assert with_durations(model) == model + field(7, DURATIONS)


@pytest.mark.parametrize("graph", [OTHER + AUDIO, CEIL + CEIL, CEIL + AUDIO + DURATIONS])
def test_a_model_with_nothing_to_add_stays_as_it_is(graph: bytes) -> None:
    assert with_durations(field(7, graph)) == field(7, graph)


def test_a_long_name_becomes_an_output_too() -> None:
    name = b"w" * 125
    model = field(7, field(1, field(2, name) + field(4, b"Ceil")))
    assert with_durations(model) == model + field(7, field(12, field(1, name)))


@given(st.binary(max_size=60))
def test_what_is_no_protocol_buffer_gets_a_clear_error(content: bytes) -> None:
    try:
        assert with_durations(content).startswith(content)
    except ValueError as error:
        assert str(error) in ("the file is cut off", "the file is no protocol buffer")


def node(kind: bytes, name: bytes, takes: list[bytes], gives: bytes) -> bytes:
    inputs = b"".join(field(1, one) for one in takes)
    return field(1, inputs + field(2, gives) + field(3, name) + field(4, kind))


def weight(name: bytes) -> bytes:
    return field(5, field(8, name))


FRAMES = node(b"Mul", b"/Mul", [b"text", b"w_ceil"], b"frames")
DECODER = node(b"Conv", b"/dec/conv_pre/Conv", [b"frames", b"kernel"], b"deep")
SOUND = node(b"Tanh", b"/dec/Tanh", [b"deep"], b"output")
TEXT = field(11, field(1, b"text"))


def test_each_half_has_its_own_nodes_and_weights() -> None:
    long = node(b"Ceil", b"", [b"text", b"table"], b"w_ceil")
    weights = weight(b"kernel") + weight(b"table")
    start = b"\x08\x07"
    model = start + field(7, long + FRAMES + DECODER + SOUND + weights + TEXT + AUDIO)
    parts = halves(model)
    assert parts is not None
    gives = field(12, field(1, b"frames")) + DURATIONS
    assert parts.front == start + field(7, long + FRAMES + weight(b"table") + TEXT + gives)
    assert DECODER + SOUND + weight(b"kernel") in parts.decoder
    assert parts.decoder.endswith(AUDIO)
    assert b"table" not in parts.decoder


@pytest.mark.parametrize(
    "graph",
    [
        CEIL + FRAMES + SOUND,
        FRAMES + DECODER + SOUND,
        CEIL + FRAMES + DECODER + node(b"Add", b"/dec/cond", [b"deep", b"speaker"], b"output"),
    ],
)
def test_a_model_that_is_built_otherwise_stays_whole(graph: bytes) -> None:
    assert halves(field(7, graph + weight(b"kernel") + TEXT + AUDIO)) is None


@given(st.binary(max_size=60))
def test_halves_of_anything_else_are_none_or_a_clear_error(content: bytes) -> None:
    try:
        assert halves(content) is None
    except ValueError as error:
        assert str(error) in ("the file is cut off", "the file is no protocol buffer")


async def test_a_voice_in_pieces_sounds_and_times_as_the_whole_model_does() -> None:
    piper = pytest.importorskip("piper")
    onnxruntime = pytest.importorskip("onnxruntime")
    path = voice_model()
    session = onnxruntime.InferenceSession(
        with_durations(path.read_bytes()), providers=["CPUExecutionProvider"]
    )
    config = piper.config.PiperConfig.from_dict(
        json.loads(path.with_suffix(".onnx.json").read_text())
    )
    whole = Voice(piper.PiperVoice(session=session, config=config), threads=1)
    voice = await Voice.load(path, threads=1)
    try:
        sentence = "It takes about two hours to fly there, most of the time."
        wanted = await whole.steady().say(sentence, 22_050)
        pieces = [piece async for piece in voice.steady().pieces(sentence, 22_050)]
        spoken = await voice.steady().say(sentence, 22_050)
    finally:
        whole.close()
        voice.close()
    assert spoken.words == wanted.words
    sound, whole_sound = (np.frombuffer(s.pcm, np.int16).astype(float) for s in (spoken, wanted))
    # How loud it is may differ, and the loudest samples are bent.
    assert np.corrcoef(sound, whole_sound)[0, 1] > 0.999
    assert len(pieces) > 3 and b"".join(piece.pcm for piece in pieces) == spoken.pcm
