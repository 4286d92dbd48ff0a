"""What the dialects of the Realtime protocol share: events about audio, and items.

An *item* is what was said between two commits, whoever made them: the voice activity detection
or the client. It is announced by ``input_audio_buffer.committed``, in OpenAI's protocol as an
item of the conversation too, and has exactly one end, a ``.completed`` or a ``.failed``. The
engine cuts long speech into pieces; they are one item, except where a dialect says otherwise.

The words of an item go out as they settle. Deltas of two items never mingle: an item's first one
goes out after the end of the item before it.
"""

import base64
import binascii
import json
import math
import secrets
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from typing import Any

from talkpath.agent.errors import TalkpathError
from talkpath.agent.server.protocols.codec import (
    Audio,
    Clear,
    Close,
    Command,
    Commit,
    Encoding,
    Send,
    SessionSettings,
    TurnDetection,
)
from talkpath.agent.server.protocols.fields import Fields, Refused, parse_object
from talkpath.agent.whisper.agreement import join_texts
from talkpath.agent.whisper.results import Final, Partial, StreamFailure, Transcript

__all__ = ["BUFFER_EVENTS", "Dialect", "Event", "Items"]

BUFFER_EVENTS = (
    "input_audio_buffer.append",
    "input_audio_buffer.commit",
    "input_audio_buffer.clear",
)
"""Types of a client's events that every dialect has."""

_LONGEST_REASON = 123  # bytes that a close frame has room for (RFC 6455, 5.5)
_LONGEST_EVENT_ID = 512
_SHORTEST_COMMIT_S = 0.1
_LEAST_PROBABILITY = 1e-10  # the logarithm of 0 is not a number of JSON
_BYTES_PER_SAMPLE = {Encoding.PCM_S16LE: 2, Encoding.MULAW: 1, Encoding.ALAW: 1}
_TRANSCRIPTION = "conversation.item.input_audio_transcription"


@dataclass(frozen=True, slots=True)
class Event:
    """An event of the client's.

    Attributes:
        kind: its ``type``.
        fields: all of it.
    """

    kind: str
    fields: Fields


def _event_id(fields: Fields) -> str | None:
    event_id = fields.text("event_id")
    if event_id is not None and len(event_id) > _LONGEST_EVENT_ID:
        why = f"event_id has more than {_LONGEST_EVENT_ID} letters"
        raise Refused("invalid_value", why, "event_id")
    return event_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """In what the dialects differ, as far as items are concerned.

    Attributes:
        whole_deltas: a delta has all words of the item so far, the unsettled ones included, and
            replaces the one before it; else it has what comes behind the ones before it.
        pieces_apart: where the server finds the utterances, each piece of long speech is an item.
    """

    whole_deltas: bool = False
    pieces_apart: bool = False


@dataclass(slots=True)
class _Item:
    """What was said between two commits.

    ``text`` is what its pieces said so far. ``base`` is what stands before the words of the piece
    that is under way, and ``sent`` all that went out in deltas.
    """

    id: str
    committed: bool = False
    speaking: bool = False
    text: str = ""
    languages: list[str] = field(default_factory=list)
    logprobs: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0
    base: str = ""
    sent: str = ""
    failure: Exception | None = None


class Items:
    """The items of one session, and the events about them."""

    def __init__(self, dialect: Dialect, name: str | None = None) -> None:
        self._dialect = dialect
        self._name = name or secrets.token_hex(8)
        self._events = 0
        self._made = 0
        self._items: deque[_Item] = deque()  # without an end so far; only the last may be open
        self._previous: str | None = None
        self._settings = SessionSettings()
        self._received = 0.0  # seconds of audio
        self._committed = 0.0  # how much of it
        self._due = 1  # the next utterance of which a final comes
        self._skips = False  # and whether that is only a lower bound
        self._logprobs = False
        self._announced: Collection[str] = ()
        self.closed = False

    @property
    def session_id(self) -> str:
        """The session's name."""
        return f"sess_{self._name}"

    def configure(
        self,
        settings: SessionSettings,
        *,
        logprobs: bool = False,
        announced: Collection[str] = (),
    ) -> None:
        """Go by these settings from here on.

        Args:
            settings: what the client asked for.
            logprobs: whether ends come with log probabilities.
            announced: what the conversation's events say of a committed item: ``added``, ...
        """
        self._settings = settings
        self._logprobs = logprobs
        self._announced = announced
        # Whoever carries it out may begin to count anew.
        self._skips = self._due > 1

    def send(self, kind: str, **fields: object) -> Send:
        """An event to the client."""
        self._events += 1
        event = {"type": kind, "event_id": f"event_{self._name}_{self._events}", **fields}
        return Send(json.dumps(event, allow_nan=False))

    def text(self, frame: str, handle: Callable[[Event], list[Command]]) -> list[Command]:
        """A text frame came: an event about the audio is dealt with here.

        Args:
            frame: the frame.
            handle: does what any other event asks for; may raise ``Refused``.
        """
        if self.closed:
            return []
        event_id = None
        try:
            fields = parse_object(frame)
            event_id = _event_id(fields)
            fields.required("type")
            event = Event(fields.text("type") or "", fields)
            return self._take(event) if event.kind in BUFFER_EVENTS else handle(event)
        except Refused as refused:
            return [self._error(refused, event_id)]

    def binary(self) -> list[Command]:
        """A binary frame came: the protocol has none."""
        if self.closed:
            return []
        why = "binary frames have no meaning here: send audio in input_audio_buffer.append"
        return [self._error(Refused("invalid_value", why))]

    def _error(self, refused: Refused, event_id: str | None = None) -> Send:
        error = _error("invalid_request_error", refused.code, refused.message, refused.param)
        return self.send("error", error={**error, "event_id": event_id})

    def _take(self, event: Event) -> list[Command]:
        event.fields.only("type", "event_id", *(["audio"] if event.kind.endswith("append") else []))
        match event.kind:
            case "input_audio_buffer.append":
                return self._append(event.fields)
            case "input_audio_buffer.commit":
                return self._commit_now()
            case _:
                return self._clear()

    def speech_started(self, at_s: float) -> list[Command]:
        """Speech began there; the words before it that are decoded with it count as well."""
        item = self._open
        if self.closed or self._by_client or (item and item.speaking):
            return []
        item = item or self._new()
        item.speaking = True
        start_s = max(at_s - self._settings.activity.pad_s, 0.0)
        return [
            self.send(
                "input_audio_buffer.speech_started",
                audio_start_ms=round(start_s * 1000),
                item_id=item.id,
            )
        ]

    def speech_stopped(self, at_s: float) -> list[Command]:
        """Speech ended there; the silence by which that was noticed counts as well."""
        item = next((item for item in reversed(self._items) if item.speaking), None)
        if self._by_client or item is None:
            return []
        item.speaking = False
        end_s = min(at_s + self._settings.activity.min_silence_s, max(at_s, self._received))
        stopped = self.send(
            "input_audio_buffer.speech_stopped",
            audio_end_ms=round(end_s * 1000),
            item_id=item.id,
        )
        return [stopped, *self._commit(item)]

    def partial(self, partial: Partial) -> list[Command]:
        """An utterance says so much by now."""
        if self.closed or not self._may_say(partial.utterance):
            return []
        item = self._open or self._new()
        if self._dialect.whole_deltas:
            return self._replace(item, partial.text)
        return self._append_words(item, partial.stable)

    def final(self, final: Final) -> list[Command]:
        """An utterance said so."""
        if self.closed:
            return []
        item = self._items[0] if self._items else self._new()
        self._due = final.utterance + 1
        transcript = final.transcript
        if transcript.possible_hallucination:
            # The protocol has no flag for it, and a loop of the model's is nobody's words.
            transcript = replace(transcript, text="", segments=())
        commands: list[Command] = []
        if not self._dialect.whole_deltas:
            commands += self._append_words(item, transcript.text)
        self._keep(item, transcript)
        return commands + self._end_piece(item, final.ends_speech)

    def failed(self, failure: StreamFailure) -> list[Command]:
        """The final of an utterance could not be decoded."""
        if self.closed:
            return []
        item = self._items[0] if self._items else self._new()
        self._due = failure.utterance + 1
        item.failure = item.failure or failure.error
        self._settle(item)
        return self._end_piece(item, failure.ends_speech)

    def closing(self, reason: str, code: int) -> list[Command]:
        """End what waits for its words, say why, and close."""
        if self.closed:
            return []
        commands: list[Command] = []
        for item in self._items:
            if item.committed:
                why = "the connection ends before the transcript"
                commands.append(self._failed(item, "session_closed", why))
        self._items.clear()
        error = _error("server_error", "session_closed", reason)
        commands.append(self.send("error", error={**error, "event_id": None}))
        self.closed = True
        short = reason.encode("utf-8", "replace")[:_LONGEST_REASON].decode("utf-8", "ignore")
        return [*commands, Close(code, short)]

    @property
    def _by_client(self) -> bool:
        return self._settings.turns is TurnDetection.CLIENT

    @property
    def _open(self) -> _Item | None:
        """The item that is not committed yet."""
        last = self._items[-1] if self._items else None
        return None if last is None or last.committed else last

    def _new(self) -> _Item:
        self._made += 1
        item = _Item(f"item_{self._name}_{self._made}")
        self._items.append(item)
        return item

    def _append(self, fields: Fields) -> list[Command]:
        fields.required("audio")
        try:
            data = base64.b64decode(fields.text("audio") or "", validate=True)
        except (binascii.Error, ValueError):
            raise Refused("invalid_value", "audio must be base64", "audio") from None
        if not data:
            return []
        settings = self._settings
        rate = settings.sample_rate_hz * _BYTES_PER_SAMPLE[settings.encoding]
        self._received += len(data) / rate
        return [Audio(data)]

    def _commit_now(self) -> list[Command]:
        """The client says that the utterance ends here."""
        waiting_s = self._received - self._committed
        # Half a sample's worth of room for the sum of many small numbers.
        if waiting_s < _SHORTEST_COMMIT_S - 1e-5:
            raise Refused(
                "input_audio_buffer_commit_empty",
                f"there must be {_SHORTEST_COMMIT_S * 1000:.0f} ms of audio to commit, "
                f"and there are {waiting_s * 1000:.0f}",
            )
        # The announcement goes out before anything that the commit brings.
        return [*self._commit(self._open or self._new()), Commit()]

    def _commit(self, item: _Item) -> list[Command]:
        """Announce an item, unless that is done already."""
        if item.committed:
            return []
        item.committed = True
        self._committed = self._received
        previous, self._previous = self._previous, item.id
        message = {
            "id": item.id,
            "object": "realtime.item",
            "type": "message",
            "status": "completed",
            "role": "user",
            "content": [{"type": "input_audio", "transcript": None}],
        }
        return [
            self.send("input_audio_buffer.committed", previous_item_id=previous, item_id=item.id),
            *(
                self.send(f"conversation.item.{kind}", previous_item_id=previous, item=message)
                for kind in self._announced
            ),
        ]

    def _clear(self) -> list[Command]:
        if self._open:
            self._items.pop()
        self._committed = self._received
        self._skips = True
        return [Clear(), self.send("input_audio_buffer.cleared")]

    def _may_say(self, utterance: int) -> bool:
        """Whether an utterance's words may go out already.

        Not while finals that come before them are still to come, of earlier items or of the same.
        """
        if len(self._items) > (1 if self._open else 0):
            return False
        if self._skips:
            self._due, self._skips = utterance, False
        return utterance == self._due

    def _append_words(self, item: _Item, text: str) -> list[Command]:
        """Say what is new in the words of the piece under way.

        Words that went out are never taken back: where the piece now says something else, there
        is no delta, and the transcript at its end holds.
        """
        words = join_texts([item.base, text])
        new = words[len(item.sent) :]
        if not new or not words.startswith(item.sent):
            return []
        item.sent = words
        return [self._delta(item, delta=new)]

    def _replace(self, item: _Item, text: str) -> list[Command]:
        """Say all words of the item so far."""
        words = join_texts([item.base, text])
        if words in ("", item.sent):
            return []
        item.sent = words
        return [self._delta(item, delta=words, transcript=words)]

    def _delta(self, item: _Item, **words: str) -> Send:
        return self.send(f"{_TRANSCRIPTION}.delta", item_id=item.id, content_index=0, **words)

    def _keep(self, item: _Item, transcript: Transcript) -> None:
        """Keep what a piece says until the item ends."""
        whole = join_texts([item.text, transcript.text])
        before = whole[len(item.text) : len(whole) - len(transcript.text)]
        item.text = whole
        item.logprobs += _logprobs(transcript, before)
        item.seconds += transcript.duration_s
        self._settle(item)
        if transcript.text and transcript.language not in item.languages:
            item.languages.append(transcript.language)

    def _settle(self, item: _Item) -> None:
        """Nothing changes any more in the words before the next piece."""
        item.base = item.text if self._dialect.whole_deltas else item.sent

    def _end_piece(self, item: _Item, ends_speech: bool) -> list[Command]:
        apart = self._dialect.pieces_apart and not self._by_client
        if not ends_speech and not apart:
            return []
        was_committed = item.committed
        commands = [*self._commit(item), self._end(item)]
        self._items.popleft()
        if not ends_speech:
            commands += self._go_on(item, was_committed)
        return commands

    def _go_on(self, item: _Item, committed: bool) -> list[Command]:
        """The next piece of the same speech is the next item, before all later ones."""
        following = self._new()
        self._items.rotate(1)
        following.speaking = item.speaking
        return self._commit(following) if committed else []

    def _end(self, item: _Item) -> Send:
        if item.failure is not None:
            known = isinstance(item.failure, TalkpathError)
            why = str(item.failure) if known else "the audio could not be decoded"
            return self._failed(item, "transcription_failed", why)
        fields: dict[str, object] = {"logprobs": item.logprobs} if self._logprobs else {}
        if item.languages:
            fields["languages"] = [{"code": code} for code in item.languages]
        return self.send(
            f"{_TRANSCRIPTION}.completed",
            item_id=item.id,
            content_index=0,
            transcript=item.text,
            usage={"type": "duration", "seconds": round(item.seconds, 3)},
            **fields,
        )

    def _failed(self, item: _Item, code: str, message: str) -> Send:
        return self.send(
            f"{_TRANSCRIPTION}.failed",
            item_id=item.id,
            content_index=0,
            error=_error("server_error", code, message),
        )


def _error(kind: str, code: str, message: str, param: str | None = None) -> dict[str, str | None]:
    return {"type": kind, "code": code, "message": message, "param": param}


def _logprobs(transcript: Transcript, before: str) -> list[dict[str, Any]]:
    """Log probabilities, a word each.

    Whisper's tokens are not those of the clients' models, and what is known is the mean
    probability of a word's tokens. So a word counts as a token, with what stands before it: put
    together they are the text. Where there are no words the text is one, with the mean log
    probability of its tokens.

    Args:
        transcript: of a piece of the item.
        before: what stands before it in the item's text.
    """
    text = before + transcript.text
    pairs: list[tuple[str, float]] = []
    at = 0
    for word in transcript.words:
        found = text.find(word.text, at)
        if found < 0:
            continue
        end = found + len(word.text)
        probability = _within(word.probability, _LEAST_PROBABILITY, 1.0)
        pairs.append((text[at:end], math.log(probability)))
        at = end
    if pairs:
        last, logprob = pairs[-1]
        pairs[-1] = (last + text[at:], logprob)
    elif transcript.text:
        mean = _within(transcript.avg_logprob, math.log(_LEAST_PROBABILITY), 0.0)
        pairs = [(text, mean)]
    return [
        {"token": token, "bytes": list(token.encode("utf-8", "replace")), "logprob": logprob}
        for token, logprob in pairs
    ]


def _within(value: float, low: float, high: float) -> float:
    """The number within limits that is nearest; the lower one for what is no number."""
    return low if math.isnan(value) else min(max(value, low), high)
