"""A peer of the Realtime codecs: it reads as the openai package does, and fuzzes them."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from hypothesis import strategies as st
from openai.types import realtime
from openai.types.beta.realtime import TranscriptionSession
from pydantic import BaseModel

from talkpath.agent.errors import DecodeFailed
from talkpath.agent.server.protocols.codec import Close, Codec, Command, Send
from talkpath.agent.server.protocols.together import TogetherVad
from talkpath.agent.whisper.results import Final, Partial, StreamFailure, Transcript

TRANSCRIPTION = "conversation.item.input_audio_transcription"

EVENTS: Mapping[str, type[BaseModel]] = {
    "error": realtime.RealtimeErrorEvent,
    "session.created": realtime.SessionCreatedEvent,
    "session.updated": realtime.SessionUpdatedEvent,
    "input_audio_buffer.speech_started": realtime.InputAudioBufferSpeechStartedEvent,
    "input_audio_buffer.speech_stopped": realtime.InputAudioBufferSpeechStoppedEvent,
    "input_audio_buffer.committed": realtime.InputAudioBufferCommittedEvent,
    "input_audio_buffer.cleared": realtime.InputAudioBufferClearedEvent,
    "conversation.item.added": realtime.ConversationItemAdded,
    "conversation.item.done": realtime.ConversationItemDone,
    "conversation.item.created": realtime.ConversationItemCreatedEvent,
    f"{TRANSCRIPTION}.delta": realtime.ConversationItemInputAudioTranscriptionDeltaEvent,
    f"{TRANSCRIPTION}.completed": realtime.ConversationItemInputAudioTranscriptionCompletedEvent,
    f"{TRANSCRIPTION}.failed": realtime.ConversationItemInputAudioTranscriptionFailedEvent,
}
"""What goes out in either dialect, as the openai package knows it."""

ANNOUNCEMENTS = ("conversation.item.added", "conversation.item.done", "conversation.item.created")
"""What says of an item that the conversation has it."""

_ITEM = {"item_id", "content_index"}
KEYS: Mapping[str, set[str]] = {
    "error": {"error"},
    "session.created": {"session"},
    "session.updated": {"session"},
    "transcription_session.created": {"session"},
    "transcription_session.updated": {"session"},
    "input_audio_buffer.speech_started": {"audio_start_ms", "item_id"},
    "input_audio_buffer.speech_stopped": {"audio_end_ms", "item_id"},
    "input_audio_buffer.committed": {"previous_item_id", "item_id"},
    "input_audio_buffer.cleared": set(),
    **{kind: {"previous_item_id", "item"} for kind in ANNOUNCEMENTS},
    f"{TRANSCRIPTION}.delta": {*_ITEM, "delta"},
    f"{TRANSCRIPTION}.completed": {*_ITEM, "transcript", "usage"},
    f"{TRANSCRIPTION}.failed": {*_ITEM, "error"},
}
"""The fields of every event, besides ``type`` and ``event_id``."""

MORE_KEYS: Mapping[str, set[str]] = {
    f"{TRANSCRIPTION}.delta": {"transcript"},
    f"{TRANSCRIPTION}.completed": {"logprobs", "languages"},
}
"""Fields that are there at times."""

CODES: Mapping[str, set[str]] = {
    "invalid_request_error": {
        "invalid_json",
        "invalid_type",
        "invalid_value",
        "missing_required_parameter",
        "unknown_parameter",
        "input_audio_buffer_commit_empty",
    },
    "server_error": {"session_closed", "transcription_failed"},
}
"""Codes of errors by their types."""

LONGEST_ERROR = 400  # letters

_FLAT_INPUT = {"input_audio_format", "input_audio_noise_reduction", "input_audio_transcription"}
_TOGETHER_VAD = {"type", *(field.name for field in fields(TogetherVad))}


def _check_flat(event: dict[str, Any]) -> None:
    """The older shape's session. The package would want a secret, and knows a few models only."""
    session = event["session"]
    more = {"object", "id", "turn_detection", "include", "client_secret"}
    assert session.keys() == _FLAT_INPUT | more
    known = {"input_audio_transcription": None, "client_secret": {"value": "x", "expires_at": 0}}
    TranscriptionSession.model_validate({**session, **known})
    assert {"model", "language", "prompt"} <= session["input_audio_transcription"].keys()


def _check_together_created(event: dict[str, Any]) -> None:
    assert event["session"].keys() == {"id", "object", "modalities", "model"}
    assert event["session"]["object"] == "realtime.session"
    assert event["session"]["modalities"] == ["audio"]


def _check_together_updated(event: dict[str, Any]) -> None:
    assert event["session"].keys() == {"turn_detection"}
    turns = event["session"]["turn_detection"]
    assert turns is None or turns.keys() == _TOGETHER_VAD


Checks = Mapping[str, Callable[[dict[str, Any]], object]]
OPENAI_SESSIONS: Checks = {
    "transcription_session.created": _check_flat,
    "transcription_session.updated": _check_flat,
}
TOGETHER_SESSIONS: Checks = {
    "session.created": _check_together_created,
    "transcription_session.updated": _check_together_updated,
}
"""Checks of the events that the openai package does not know, or not as they are."""


class Peer:
    """The other end of a codec. It fails on whatever the protocol does not allow.

    Args:
        codec: the codec.
        others: checks of the events that the openai package does not know as they are.
        opened: whether somebody else opens the codec.
    """

    def __init__(self, codec: Codec, others: Checks | None = None, *, opened: bool = False) -> None:
        self.codec = codec
        self.events: list[dict[str, Any]] = []
        self.commands: list[Command] = []
        self._others = others or {}
        self._closed = False
        self._committed: list[str] = []
        self._ended: list[str] = []
        self._announced: list[tuple[str, str]] = []
        if not opened:
            self.take(codec.opened())

    def take(self, commands: list[Command]) -> list[dict[str, Any]]:
        """Carry out commands; gives the events among them.

        The conversation's announcements of an item are left out: they say again what
        ``.committed`` said, which is checked here, and ``announced`` has them.
        """
        taken = []
        for command in commands:
            assert not self._closed, "nothing comes after the end"
            self.commands.append(command)
            self._closed = isinstance(command, Close)
            if isinstance(command, Send):
                event = json.loads(command.text, parse_constant=_no_constant)
                self._check(event)
                self.events.append(event)
                if event["type"] not in ANNOUNCEMENTS:
                    taken.append(event)
        return taken

    @property
    def waiting(self) -> list[str]:
        """Items that were announced and have no end so far."""
        return [item for item in self._committed if item not in self._ended]

    def announced(self, item: str) -> list[str]:
        """What the conversation's events said of an item."""
        return [kind for kind, announced in self._announced if announced == item]

    def say(self, event: object) -> list[dict[str, Any]]:
        """Send an event."""
        return self.take(self.codec.text(json.dumps(event)))

    def start(self, at_s: float = 1.0) -> list[dict[str, Any]]:
        return self.take(self.codec.speech_started(at_s))

    def stop(self, at_s: float = 2.0) -> list[dict[str, Any]]:
        return self.take(self.codec.speech_stopped(at_s))

    def partial(self, utterance: int, stable: str, rest: str = "") -> list[dict[str, Any]]:
        partial = Partial(utterance, stable, rest, "en", 1.0)
        return self.take(self.codec.partial(partial, 0.0))

    def final(
        self, utterance: int, text: str, *, ends: bool = True, **values: Any
    ) -> list[dict[str, Any]]:
        transcript = Transcript(**{"text": text, "duration_s": 1.5, **values})
        return self.take(self.codec.final(Final(utterance, transcript, ends), 0.0, 0.1))

    def fail(
        self, utterance: int, error: Exception | None = None, *, ends: bool = True
    ) -> list[dict[str, Any]]:
        error = error or DecodeFailed("the model stumbled")
        return self.take(self.codec.failed(StreamFailure(utterance, error, ends)))

    def of(self, kind: str) -> list[dict[str, Any]]:
        """All events so far of a type that ends so."""
        return [event for event in self.events if event["type"].endswith(kind)]

    def deltas(self, item: str) -> list[str]:
        return [event["delta"] for event in self.of(".delta") if event["item_id"] == item]

    def _check(self, event: dict[str, Any]) -> None:
        kind = event["type"]
        if kind in self._others:
            self._others[kind](event)
        else:
            EVENTS[kind].model_validate(event)
        more = event.keys() - {"type", "event_id"} - KEYS[kind]
        assert KEYS[kind] <= event.keys()
        assert more <= MORE_KEYS.get(kind, set())
        if "error" in event:
            assert event["error"]["code"] in CODES[event["error"]["type"]]
            assert len(event["error"]["message"]) < LONGEST_ERROR
        if "logprobs" in event:
            assert "".join(each["token"] for each in event["logprobs"]) == event["transcript"]
            assert all(each["logprob"] <= 0 for each in event["logprobs"])
        assert event["event_id"] not in [earlier["event_id"] for earlier in self.events]
        item = event.get("item_id", "")
        if kind in ANNOUNCEMENTS:
            item, previous = event["item"]["id"], event["previous_item_id"]
            assert item == self._committed[-1], "it follows its commit"
            assert previous == (self._committed[-2] if len(self._committed) > 1 else None)
            self._announced.append((kind.removeprefix("conversation.item."), item))
        elif kind.endswith(".committed"):
            assert event["previous_item_id"] == (self._committed[-1] if self._committed else None)
            assert item not in self._committed
            self._committed.append(item)
        elif kind.endswith((".completed", ".failed")):
            assert item in self._committed, "an item is announced before its end"
            assert item not in self._ended, "an item has one end"
            self._ended.append(item)
        elif kind.endswith(".delta"):
            assert item not in self._ended
            assert self.waiting[:1] in ([], [item]), "deltas wait for the end of the item before"


def _no_constant(name: str) -> None:
    raise AssertionError(f"{name} is not JSON")


def kinds(events: list[dict[str, Any]]) -> list[str]:
    """The types of events, without what they have in common."""
    return [event["type"].removeprefix("input_audio_buffer.").split(".")[-1] for event in events]


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(), max_size=20)
    | st.sampled_from(["server_vad", "semantic_vad", "auto", "audio/pcmu", "transcription"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner),
    max_leaves=5,
)


def paths(value: object, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """The paths of all fields of an event."""
    if not isinstance(value, dict):
        return []
    here = [(*path, name) for name in value]
    return here + [found for name in value for found in paths(value[name], (*path, name))]


@st.composite
def mutated(draw: st.DrawFn, valid: list[dict[str, Any]]) -> str:
    """A frame of a valid event, of which one field may be changed, left out or doubled."""
    event = json.loads(json.dumps(draw(st.sampled_from(valid))))
    if draw(st.booleans()):
        *path, name = draw(st.sampled_from(paths(event)))
        holder = event
        for step in path:
            holder = holder[step]
        match draw(st.sampled_from(["change", "drop", "double"])):
            case "change":
                holder[name] = draw(JSON)
            case "drop":
                del holder[name]
            case _:
                holder[f"{name}{draw(st.text(max_size=5))}"] = holder[name]
    text = json.dumps(event)
    return text[: draw(st.integers(0, len(text)))] if draw(st.integers(0, 9)) == 0 else text


def operations(valid: list[dict[str, Any]]) -> st.SearchStrategy[list[Callable[[Peer], object]]]:
    """Anything that may happen to a codec, in any order."""
    seconds = st.floats(0, 1e6)
    numbers = st.integers(1, 5)
    words = st.text(max_size=12) | st.sampled_from(["one", "one two", "one two three"])

    def operation(made: Any) -> Callable[[Peer], object]:
        kind, *given = made
        match kind:
            case "text":
                return lambda peer: peer.take(peer.codec.text(given[0]))
            case "binary":
                return lambda peer: peer.take(peer.codec.binary(given[0]))
            case "close":
                return lambda peer: peer.take(peer.codec.closing(given[0]))
            case "finished":
                return lambda peer: peer.take(peer.codec.finished())
            case "final":
                return lambda peer: peer.final(given[0], given[1], ends=given[2])
            case "fail":
                return lambda peer: peer.fail(given[0], ValueError(given[1]), ends=given[2])
            case _:
                return lambda peer: getattr(peer, kind)(*given)

    one = st.one_of(
        st.tuples(st.just("text"), st.text(max_size=30)),
        st.tuples(st.just("text"), mutated(valid)),
        st.tuples(st.just("text"), mutated(valid)),
        st.tuples(st.just("binary"), st.binary(max_size=8)),
        st.tuples(st.just("start"), seconds),
        st.tuples(st.just("stop"), seconds),
        st.tuples(st.just("partial"), numbers, words, words),
        st.tuples(st.just("final"), numbers, words, st.booleans()),
        st.tuples(st.just("fail"), numbers, words, st.booleans()),
        st.tuples(st.just("finished")),
    )
    end = st.lists(st.tuples(st.just("close"), st.text(max_size=80)), max_size=1)
    some = st.lists(one, max_size=30)
    return st.tuples(some, end, some).map(
        lambda parts: [operation(made) for part in parts for made in part]
    )


@dataclass(frozen=True)
class Speech:
    """What somebody says before a pause: pieces of words, and how late the pieces' finals are."""

    pieces: list[list[str]]
    lateness: list[int]


SPEECHES = st.lists(
    st.builds(
        Speech,
        st.lists(st.lists(st.sampled_from(["ab", "c", "de", "会", "f."]), max_size=4), min_size=1)
        .filter(lambda pieces: len(pieces) < 4)
        .map(list),
        st.lists(st.integers(0, 4), min_size=4, max_size=4),
    ),
    max_size=5,
)
