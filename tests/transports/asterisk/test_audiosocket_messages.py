"""AudioSocket's messages."""

import json
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from talkpath.transports.asterisk.audiosocket_messages import (
    HANGUP,
    Audio,
    AudioSocketReader,
    Digit,
    Failure,
    HangUp,
    Identity,
    Message,
    audio_message,
)
from talkpath.transports.asterisk.errors import WrongMessage
from talkpath.transports.asterisk.formats import FORMATS

CAPTURE = json.loads((Path(__file__).parent / "captures/audiosocket.json").read_text())
STREAM = bytes.fromhex("".join(CAPTURE["hex"]))


def told(message: Message) -> str:
    match message:
        case Identity(id):
            return f"Identity {id}"
        case Audio(data, audio_format):
            return f"Audio {audio_format.name} {data.hex()}"
        case Digit(key):
            return f"Digit {key}"
        case Failure(reason):
            return f"Failure {reason}"
        case HangUp():
            return "HangUp"


@settings(max_examples=60, deadline=None)
@given(some.lists(some.integers(0, len(STREAM)), max_size=12))
def test_messages_are_the_same_however_the_stream_is_cut(cuts: list[int]) -> None:
    reader = AudioSocketReader()
    edges = [0, *sorted(cuts), len(STREAM)]
    messages = [
        message for first, last in pairwise(edges) for message in reader.feed(STREAM[first:last])
    ]
    assert [told(message) for message in messages] == CAPTURE["messages"]


@pytest.mark.parametrize("name", [name for name in FORMATS if name.startswith("slin")])
def test_what_is_written_can_be_read(name: str) -> None:
    message = audio_message(b"\1\2" * 160, FORMATS[name])
    assert AudioSocketReader().feed(message) == [Audio(b"\1\2" * 160, FORMATS[name])]
    assert AudioSocketReader().feed(HANGUP) == [HangUp()]


@pytest.mark.parametrize(
    "stream",
    [
        b"\x02\0\0",
        b"\x19\0\0",
        b"GET / HTTP/1.1",
        b"\1\0\1x",
        b"\3\0\2ab",
        b"\3\0\1x",
        b"\x10\0\1x",
    ],
)
def test_what_asterisk_does_not_send_is_refused(stream: bytes) -> None:
    with pytest.raises(WrongMessage):
        AudioSocketReader().feed(stream)


@settings(max_examples=300, deadline=None)
@given(some.lists(some.binary(max_size=40), max_size=8))
def test_nothing_but_the_documented_error_escapes(parts: list[bytes]) -> None:
    reader = AudioSocketReader()
    try:
        for part in parts:
            reader.feed(part)
    except WrongMessage as error:
        assert str(error)
