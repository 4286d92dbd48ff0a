"""What docs/protocols.md says is what the code does."""

import base64
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from talkpath.agent.errors import DecodeFailed
from talkpath.agent.server.protocols.baseten import BasetenCodec
from talkpath.agent.server.protocols.codec import Close, Codec, Command, Send
from talkpath.agent.server.protocols.openai_realtime import RealtimeCodec
from talkpath.agent.server.protocols.together import TogetherCodec
from talkpath.agent.server.recordings.answers import Events, Heard, answer_for
from talkpath.agent.server.recordings.form import TranscriptionWish
from talkpath.agent.transcribe import Piece
from talkpath.agent.whisper.requests import DecodeOptions
from talkpath.agent.whisper.results import (
    Final,
    Partial,
    Segment,
    StreamFailure,
    Transcript,
    Word,
)
from tests.protocols_page import PAGE, blocks, lines, messages
from tests.realtime_peer import KEYS

NAME = "8f3a1c5e9b7d2046"
LANGUAGES = ("de", "en")
SILENCE = base64.b64encode(bytes(9_600)).decode()
APPEND = {"type": "input_audio_buffer.append"}
Step = Callable[[Codec], list[Command]]


def started(at_s: float) -> Step:
    return lambda codec: codec.speech_started(at_s)


def stopped(at_s: float) -> Step:
    return lambda codec: codec.speech_stopped(at_s)


def partial(stable: str, rest: str = "", *, utterance: int = 1, start_s: float = 1.2) -> Step:
    said = Partial(utterance, stable, rest, "en", 1.3)
    return lambda codec: codec.partial(said, start_s)


def final(text: str, *, utterance: int = 1, start_s: float = 1.2, **values: Any) -> Step:
    segments = (Segment(0.3, 2.1, text, values.pop("words", ())),)
    given = {"text": text, "segments": segments, "duration_s": 2.4, "avg_logprob": -0.21, **values}
    return lambda codec: codec.final(Final(utterance, Transcript(**given)), start_s, 0.183)


def failed(utterance: int = 1) -> Step:
    failure = StreamFailure(utterance, DecodeFailed("the model stumbled"))
    return lambda codec: codec.failed(failure)


def finished(codec: Codec) -> list[Command]:
    return codec.finished()


def closing(codec: Codec) -> list[Command]:
    return codec.closing("this server is about to stop", 1012)


def client(codec: Codec) -> list[Command]:
    """Stands for the next thing that the client says in the exchange on the page."""
    raise NotImplementedError


WORDS = (Word(0.3, 0.9, "One,", 0.94), Word(0.9, 2.1, "two.", 0.88))


@dataclass(frozen=True)
class Script:
    """What happens in an exchange on the page, beside what the client says there."""

    codec: Callable[[], Codec]
    steps: tuple[Step, ...]


SCRIPTS = {
    "baseten utterance": Script(
        lambda: BasetenCodec(LANGUAGES),
        (
            client, client, client, partial("", "one"), client, final("One, two.", words=WORDS),
            client, finished,
        ),
    ),
    "baseten refused": Script(lambda: BasetenCodec(LANGUAGES), (client,)),
    "baseten mistakes": Script(
        lambda: BasetenCodec(LANGUAGES),
        (client, client, client, failed(), client, client, client, finished),
    ),
    "baseten timing": Script(
        lambda: BasetenCodec(LANGUAGES),
        (
            client, client, started(1.5), final("One, two.", cost_s=0.071), client,
            started(5.0), failed(2), closing,
        ),
    ),
    "openai detection": Script(
        lambda: RealtimeCodec(model="base", languages=LANGUAGES, name=NAME),
        (
            client, client, client, client, started(0.5), client, client, client,
            partial("One,", "to"), stopped(1.1), final("One, two.", words=WORDS, duration_s=1.5),
        ),
    ),
    "openai commit": Script(
        lambda: RealtimeCodec(model="base", languages=LANGUAGES, name=NAME),
        (client, client, client, final("One, two."), client, client, failed(2), client, client),
    ),
    "openai flat": Script(
        lambda: RealtimeCodec(model="base", flat=True, languages=LANGUAGES, name=NAME),
        (client, client, client, client, started(0.4), stopped(0.5), closing),
    ),
    "together detection": Script(
        lambda: TogetherCodec.from_query(
            {"model": "openai/whisper-large-v3", "input_audio_format": "pcm_s16le_16000"},
            languages=LANGUAGES,
            name=NAME,
        ),
        (
            client, client, client, started(0.4), partial("", "one too"), partial("one", "two"),
            stopped(0.6), final("One, two."),
        ),
    ),
}  # fmt: skip


def said_by_client(codec: Codec, message: dict[str, Any] | int) -> list[Command]:
    """The commands for what a client says on the page."""
    if isinstance(message, int):
        return codec.binary(bytes(message))
    if message.get("audio") == "...":
        rate_hz = 16_000 if isinstance(codec, TogetherCodec) else 24_000
        message = {**message, "audio": base64.b64encode(bytes(2 * rate_hz // 5)).decode()}
    return codec.text(json.dumps(message))


def sent(commands: list[Command]) -> Iterator[dict[str, Any] | int]:
    """Messages and close codes."""
    for command in commands:
        if isinstance(command, Send):
            yield json.loads(command.text)
        elif isinstance(command, Close):
            yield command.code


@pytest.mark.parametrize("name", SCRIPTS)
def test_exchanges_are_what_happens(name: str) -> None:
    protocol, _, about = name.partition(" ")
    (block,) = blocks("text", protocol, "exchange", about)
    script = SCRIPTS[name]
    codec = script.codec()
    on_page = list(lines(block))
    happens = list(sent(codec.opened()))
    said = [line.message for line in on_page if line.by_client]
    for step in script.steps:
        commands = said_by_client(codec, said.pop(0)) if step is client else step(codec)
        happens += sent(commands)
    assert not said, "the script ends before the client does"
    assert [line.message for line in on_page if not line.by_client] == happens


CODECS: dict[str, Callable[[], Codec]] = {
    "baseten": lambda: BasetenCodec(LANGUAGES),
    "openai": lambda: RealtimeCodec(languages=LANGUAGES),
    "together": TogetherCodec,
}


@pytest.mark.parametrize("protocol", CODECS)
def test_messages_of_clients_are_taken(protocol: str) -> None:
    examples = blocks("json", protocol, "client")
    assert examples
    for block in examples:
        for message in messages(block):
            codec = CODECS[protocol]()
            codec.opened()
            if protocol == "baseten" and "configuration" not in block.words:
                codec.text("{}")
            if message.get("type") == "input_audio_buffer.commit":
                codec.text(json.dumps({**APPEND, "audio": SILENCE}))
            answers = sent(codec.text(json.dumps(message)))
            assert "error" not in [each["type"] for each in answers if isinstance(each, dict)]


def test_every_message_of_the_servers_is_in_an_exchange() -> None:
    shown = {
        protocol: {
            str(line.message["type"])
            for block in blocks("text", protocol, "exchange")
            for line in lines(block)
            if isinstance(line.message, dict) and not line.by_client
        }
        for protocol in CODECS
    }
    assert shown["baseten"] == {"transcription", "end_audio", "health_check", "error"}
    assert shown["openai"] == KEYS.keys()
    assert shown["together"] <= KEYS.keys()
    assert all(
        kind.endswith((".added", ".done")) or f"`{kind}`" in PAGE for kind in shown["openai"]
    )


PIECE = Piece(
    0.0,
    (
        Segment(0.3, 2.1, "One, two.", WORDS, (1485, 11, 732, 13)),
        Segment(2.3, 2.9, "Three.", (Word(2.3, 2.9, "Three.", 0.97),), (6244, 13)),
    ),
    Transcript(text="One, two. Three.", avg_logprob=-0.21, compression_ratio=0.67),
)
HEARD = Heard(duration_s=3.5, language="en")


def answer(form: str) -> object:
    wish = TranscriptionWish(
        language="en",
        options=DecodeOptions(language="en"),
        form=form,
        segments=True,
        words=True,
        logprobs=form == "json",
    )
    answer = answer_for(wish)
    answer.add(PIECE)
    return json.loads(answer.finish(HEARD))


@pytest.mark.parametrize("form", ["json", "verbose_json"])
def test_answers_of_recordings_are_those_that_come(form: str) -> None:
    (block,) = blocks("json", "rest", "answer", form)
    assert list(messages(block)) == [answer(form)]


def test_events_of_recordings_are_those_that_come() -> None:
    (block,) = blocks("text", "rest", "answer", "events")
    events = Events(logprobs=False)
    assert block.content + "\n" == (events.add(PIECE) + events.finish(HEARD)).decode()
