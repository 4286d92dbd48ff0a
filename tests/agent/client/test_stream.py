"""A client's stream against the server's codec: both without a socket, over several connections."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from talkpath.agent.client import ClientConfig
from talkpath.agent.client.stream import Heard, Quiet, RemoteStream
from talkpath.agent.client.wire import Garbled, RemoteError, read_message
from talkpath.agent.errors import DecodeFailed
from talkpath.agent.server.protocols.baseten import BasetenCodec
from talkpath.agent.server.protocols.codec import Audio, Command, Configure, Finish, Send
from talkpath.agent.whisper.results import Final, Partial, Segment, StreamFailure, Transcript

SECOND = bytes(32_000)


class Pair:
    """A stream and, on its newest connection, the codec of a server."""

    def __init__(self, *, keep_s: float = 60.0) -> None:
        self.stream = RemoteStream(keep_s)
        self.heard: list[Heard] = []
        self.commands: list[Command] = []
        self.audio_s = 0.0
        self.connect()

    def connect(self) -> None:
        """A new connection, configured and answered."""
        self.stream.closed()
        self.codec = BasetenCodec(["en", "nl"])
        self.audio_s = 0.0
        for frame in self.stream.opened(ClientConfig(language="en").message(), 0.0):
            self.to_server(frame)

    def to_server(self, frame: str | bytes) -> None:
        commands = self.codec.text(frame) if isinstance(frame, str) else self.codec.binary(frame)
        self.commands += commands
        for command in commands:
            if isinstance(command, Audio):
                self.audio_s += len(command.data) / 32_000
        self.to_client(commands)

    def to_client(self, commands: list[Command]) -> None:
        for command in commands:
            if isinstance(command, Send):
                self.heard += self.stream.received(command.text)

    def say(self, seconds: int) -> None:
        """Feed audio, and send all that may be sent."""
        for _ in range(seconds):
            self.stream.feed(SECOND)
        self.send()

    def send(self, now_s: float = 0.0) -> None:
        while (frame := self.stream.to_send(now_s)) is not None:
            self.to_server(frame)

    def partial(self, number: int, text: str, start_s: float, duration_s: float) -> None:
        self.to_client(self.codec.partial(Partial(number, text, "", "en", duration_s), start_s))

    def final(self, number: int, text: str, start_s: float, duration_s: float, **more: Any) -> None:
        segments = (Segment(0.2, duration_s - 0.2, text),) if text else ()
        transcript = Transcript(text=text, segments=segments, duration_s=duration_s)
        self.to_client(self.codec.final(Final(number, transcript, **more), start_s, 0.1))

    @property
    def finals(self) -> list[tuple[int, str, float]]:
        return [
            (result.utterance, result.transcript.text, result.start_s)
            for result in self.heard
            if isinstance(result, Final)
        ]

    @property
    def quiets(self) -> list[float]:
        return [result.at_s for result in self.heard if isinstance(result, Quiet)]


def test_the_configuration_is_one_that_the_server_takes_as_it_is_meant() -> None:
    config = ClientConfig(
        languages=("en", "nl"), task="translate", prompt="Dashwood", word_timestamps=True
    )
    (command,) = BasetenCodec(["en", "nl"]).text(config.message())
    assert isinstance(command, Configure)
    wanted = command.settings
    assert wanted.decode.language is None
    assert wanted.decode.languages == ("en", "nl")
    assert (wanted.decode.task, wanted.decode.prompt) == ("translate", "Dashwood")
    assert wanted.decode.word_timestamps and wanted.partials
    assert (wanted.activity.threshold, wanted.activity.min_silence_s) == (0.5, 0.2)


def test_utterances_and_times_go_on_over_connections() -> None:
    pair = Pair()
    pair.codec.speech_started(1.0)
    pair.say(4)
    pair.partial(1, "one", 0.5, 1.0)
    pair.final(1, "One.", 0.5, 2.5)
    pair.codec.speech_started(3.5)
    pair.partial(2, "two and", 3.2, 0.8)
    pair.connect()
    pair.codec.speech_started(0.5)
    pair.say(1)
    # The second connection begins at 3 s, less the part of a window; whole ones were sent.
    assert pair.audio_s == pytest.approx(5 - 3 + 0.024, abs=0.016)
    pair.partial(1, "two", 0.224, 0.8)
    pair.partial(1, "two and more", 0.224, 1.2)
    pair.final(1, "Two and more.", 0.224, 1.6)
    assert pair.finals == [(1, "One.", 0.5), (2, "Two and more.", 3.2)]
    partials = [result for result in pair.heard if isinstance(result, Partial)]
    assert [partial.utterance for partial in partials] == [1, 2, 2, 2]
    assert partials[1].start_s == partials[2].start_s == 3.2
    assert [partial.stable for partial in partials[2:]] == ["two", "two"]


def test_what_comes_twice_is_taken_once() -> None:
    pair = Pair()
    pair.say(2)
    message = {
        "type": "transcription",
        "is_final": True,
        "transcription_num": 7,
        "segments": [],
        "language_code": "en",
        "audio_length_sec": 1.0,
    }
    for number in (7, 7, 6, 9):
        message["transcription_num"] = number
        pair.heard += pair.stream.received(json.dumps(message))
    assert [number for number, _, _ in pair.finals] == [1, 2]


def test_no_more_than_four_seconds_are_on_the_way() -> None:
    stream = RemoteStream(60)
    configuration, question = stream.opened("{}", 0.0)
    assert stream.to_send(0.0) is None
    for _ in range(10):
        stream.feed(SECOND)
    stream.received(json.dumps({**json.loads(question), "body": {"healthy": True}}))
    sent = list(iter(lambda: stream.to_send(5.0), None))
    questions = [json.loads(frame) for frame in sent if isinstance(frame, str)]
    assert configuration == "{}"
    frames = [frame for frame in sent if isinstance(frame, bytes)]
    assert {len(frame) % 1024 for frame in frames} == {0}  # whole windows of the server's
    assert 4 <= sum(map(len, frames)) / len(SECOND) < 4.6
    assert [message["type"] for message in questions] == ["health_check"] * 4
    assert stream.unanswered_s(8.0) == 3.0
    stream.received(json.dumps({**questions[2], "body": {"healthy": True, "quiet": False}}))
    again = list(iter(lambda: stream.to_send(6.0), None))
    more = sum(len(frame) for frame in again if isinstance(frame, bytes))
    assert 3 <= more / len(SECOND) < 3.6


def test_quiet_audio_is_forgotten_and_speech_is_not() -> None:
    pair = Pair()
    pair.say(10)
    assert 9.0 <= pair.quiets[-1] <= 10.0
    pair.connect()
    pair.send()
    # The quiet may have ended a second before the answer, and the last one is a second old.
    assert 1.0 <= pair.audio_s <= 2.1
    before_s = pair.audio_s
    quiets = pair.quiets
    pair.codec.speech_started(0.5)
    pair.say(5)
    assert pair.quiets == quiets
    pair.connect()
    pair.send()
    assert pair.audio_s == pytest.approx(before_s + 5.0, abs=0.1)


def test_a_failed_utterance_is_told_and_kept_for_another_server() -> None:
    pair = Pair()
    pair.codec.speech_started(1.0)
    pair.say(3)
    pair.to_client(pair.codec.failed(StreamFailure(1, DecodeFailed("it stumbled"), False)))
    pair.final(2, "more", 2.0, 0.5)
    (failure,) = [result for result in pair.heard if isinstance(result, StreamFailure)]
    assert (failure.utterance, failure.ends_speech) == (1, False)
    assert "it stumbled" in str(failure.error)
    assert pair.finals == [(2, "more", 2.0)]


def test_an_error_that_concerns_no_utterance_stays_one() -> None:
    pair = Pair()
    pair.to_client(pair.codec.text('{"type": "what"}'))
    assert isinstance(pair.heard[-1], RemoteError)


def test_an_end_is_sent_after_the_audio_and_again_on_another_connection() -> None:
    pair = Pair()
    pair.codec.speech_started(0.1)
    pair.stream.feed(SECOND)
    pair.stream.end()
    pair.send()
    assert isinstance(pair.commands[-1], Finish)
    pair.connect()
    pair.codec.speech_started(0.1)
    pair.send()
    assert pair.audio_s == 1.0
    assert not pair.stream.finished
    pair.final(1, "one", 0.1, 0.8)
    pair.to_client(pair.codec.finished())
    assert pair.stream.finished


def test_a_configuration_changes_between_utterances_only() -> None:
    pair = Pair()
    pair.codec.speech_started(0.5)
    pair.say(2)
    pair.stream.reconfigure()
    pair.send()
    assert not pair.stream.between
    pair.final(1, "a piece", 0.2, 1.0, ends_speech=False)
    assert not pair.stream.between
    pair.final(2, "the end", 1.2, 0.6)
    assert pair.stream.between
    pair.connect()
    assert not pair.stream.between
    pair.send()
    pair.stream.reconfigure()
    pair.send()
    assert pair.stream.between


def test_a_final_that_is_long_due_is_noticed() -> None:
    pair = Pair()
    pair.codec.speech_started(0.5)
    pair.say(2)
    pair.partial(1, "so", 0.2, 1.0)
    pair.say(28)
    assert not pair.stream.overdue
    pair.say(3)
    assert pair.stream.overdue
    pair.final(1, "so it is", 0.2, 28.0)
    assert not pair.stream.overdue


def test_audio_that_is_sent_is_not_lost_when_it_is_too_much_to_keep() -> None:
    pair = Pair(keep_s=40)
    pair.codec.speech_started(0.5)
    pair.say(3)
    for _ in range(60):
        pair.say(1)
    assert pair.stream.lost_s == 0
    assert not pair.stream.too_late
    pair.stream.closed()
    for _ in range(10):
        pair.stream.feed(SECOND)
    assert pair.stream.lost_s == pytest.approx(33.0, abs=0.1)


# Another server than talkpath's: no timing, no word on quiet

FOREIGN = {
    "type": "transcription",
    "is_final": True,
    "transcription_num": 0,
    "segments": [
        {
            "start_time": 1.5,
            "end_time": 3.0,
            "text": "Hello there.",
            "log_prob": -0.2,
            "word_timestamps": [],
            "possible_hallucination": False,
        }
    ],
    "language_code": "en",
    "language_prob": None,
    "audio_length_sec": 1.5,
    "timing_info": None,
}


def test_a_server_that_says_less_is_understood() -> None:
    stream = RemoteStream(60)
    _, question = stream.opened("{}", 0.0)
    stream.received(json.dumps({**json.loads(question), "body": {"healthy": True}}))
    for _ in range(4):
        stream.feed(SECOND)
    while stream.to_send(0.0) is not None:
        pass
    (final,) = stream.received(json.dumps(FOREIGN))
    assert isinstance(final, Final)
    assert (final.utterance, final.start_s, final.ends_speech) == (1, 1.5, True)
    assert final.transcript.segments[0].start_s == 0.0
    assert final.transcript.language_probability == 1.0
    stream.reconfigure()
    asked = stream.to_send(0.0)
    assert isinstance(asked, str)
    stream.received(json.dumps({**json.loads(asked), "body": {"healthy": True}}))
    assert stream.between


# Rubbish

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)
TIMING = {"audio_start_s": 0.5, "audio_end_s": 2.0, "ends_speech": True, "speculative": False}
WORD = {"start_time": 0.5, "end_time": 1.0, "word": "one", "prob": None}
MESSAGES: list[dict[str, Any]] = [
    FOREIGN,
    {**FOREIGN, "timing_info": TIMING},
    {**FOREIGN, "is_final": False},
    {"type": "health_check", "trace_id": "1", "body": {"healthy": True, "quiet": True}},
    {"type": "end_audio", "body": {"status": "finished"}},
    {"type": "error", "body": {"error": "no", "transcription_num": 1}, "message": "no"},
    WORD,
]


@st.composite
def frames(draw: st.DrawFn) -> str:
    """Messages of a server's with a value or two that is not what it should be."""
    message = json.loads(json.dumps(draw(st.sampled_from(MESSAGES))))
    for _ in range(draw(st.integers(0, 2))):
        part = draw(
            st.sampled_from(
                [
                    message,
                    *(item for item in message.values() if isinstance(item, dict) and item),
                    *(item[0] for item in message.values() if isinstance(item, list) and item),
                ]
            )
        )
        if isinstance(part, dict) and part:
            part[draw(st.sampled_from(sorted(part)))] = draw(values)
    return json.dumps(message)


@settings(max_examples=400, deadline=None)
@given(st.lists(frames() | st.text(max_size=20), max_size=6))
def test_only_the_documented_error_comes_of_what_a_server_may_send(said: list[str]) -> None:
    stream = RemoteStream(60)
    for frame in stream.opened("{}", 0.0):
        assert frame
    stream.feed(SECOND)
    for frame in said:
        try:
            stream.received(frame)
        except Garbled as error:
            assert str(error)


@pytest.mark.parametrize(
    "frame",
    [
        "",
        "[]",
        '{"type": "session.created"}',
        '{"type": "transcription"}',
        json.dumps({**FOREIGN, "audio_length_sec": float("nan")}),
        json.dumps({**FOREIGN, "transcription_num": 1e999}),
        "[" * 100_000,
    ],
)
def test_what_is_no_message_is_garbled(frame: str) -> None:
    with pytest.raises(Garbled):
        read_message(frame)
