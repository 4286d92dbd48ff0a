"""The text messages of Asterisk's ``chan_websocket``, in both of their forms.

The older one is a word and ``name:value`` after it (``DTMF_END digit:1``), or an identifier as it
is (``MEDIA_MARK_PROCESSED 7``). The newer one (``f(json)`` in the dial string, or
``control_message_format = json`` in ``chan_websocket.conf``; Asterisk 20.18, 22.8, 23.2) is a JSON
object with ``event`` or ``command``. Asterisk reads commands in the form in which it sends events.
Names and limits are those of Asterisk's ``channels/chan_websocket.c``.
"""

import enum
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from talkpath.transports.asterisk.errors import WrongMessage

__all__ = [
    "LONGEST_COMMAND_BYTES",
    "LONGEST_EVENT_CHARS",
    "Command",
    "Digit",
    "Event",
    "Failure",
    "Marker",
    "MediaStart",
    "Other",
    "Status",
    "command",
    "parse_event",
]

LONGEST_COMMAND_BYTES = 128
"""Asterisk ignores a command that is longer."""

LONGEST_EVENT_CHARS = 65_536
"""More than any event has, the variables of a channel included."""

_FORMAT = "the message is no event of chan_websocket"


class Command(enum.StrEnum):
    """What Asterisk can be told."""

    ANSWER = "ANSWER"
    HANGUP = "HANGUP"
    START_MEDIA_BUFFERING = "START_MEDIA_BUFFERING"
    STOP_MEDIA_BUFFERING = "STOP_MEDIA_BUFFERING"
    MARK_MEDIA = "MARK_MEDIA"
    FLUSH_MEDIA = "FLUSH_MEDIA"
    PAUSE_MEDIA = "PAUSE_MEDIA"
    CONTINUE_MEDIA = "CONTINUE_MEDIA"
    GET_STATUS = "GET_STATUS"
    REPORT_QUEUE_DRAINED = "REPORT_QUEUE_DRAINED"


@dataclass(frozen=True, slots=True)
class MediaStart:
    """The first event: what the channel is.

    Attributes:
        connection_id: name of the connection in ``websocket_client.conf``, or its UUID where
            Asterisk was called.
        channel: the channel's name.
        channel_id: its unique id; the first releases do not tell it.
        format: name of its audio format.
        frame_bytes: bytes of audio that Asterisk plays at once; 0 where it does not cut.
        frame_ms: how long they last.
        variables: the channel's variables, in JSON only.
        json: whether the event came as JSON, and commands must go so.
    """

    connection_id: str
    channel: str
    channel_id: str
    format: str
    frame_bytes: int
    frame_ms: int = 20
    variables: Mapping[str, str] = field(default_factory=dict)
    json: bool = False


@dataclass(frozen=True, slots=True)
class Marker:
    """``MEDIA_MARK_PROCESSED`` or ``MEDIA_BUFFERING_COMPLETED``: all before it has been played.

    Attributes:
        name: which of the two.
        correlation_id: as the command gave it.
    """

    name: str
    correlation_id: str


@dataclass(frozen=True, slots=True)
class Status:
    """The answer to ``GET_STATUS``.

    Attributes:
        queue_frames: frames that wait to be played.
        xon_frames: where ``MEDIA_XON`` comes.
        xoff_frames: where ``MEDIA_XOFF`` comes.
        full: whether ``MEDIA_XOFF`` is in force.
        buffering: whether ``START_MEDIA_BUFFERING`` is.
        paused: whether ``PAUSE_MEDIA`` is.
    """

    queue_frames: int
    xon_frames: int
    xoff_frames: int
    full: bool
    buffering: bool
    paused: bool


@dataclass(frozen=True, slots=True)
class Digit:
    """``DTMF_END``: a key of the telephone was pressed and let go.

    Attributes:
        key: one of ``0123456789*#ABCD``.
    """

    key: str


@dataclass(frozen=True, slots=True)
class Failure:
    """``ERROR``: Asterisk did not do what it was told.

    Attributes:
        text: why.
    """

    text: str


@dataclass(frozen=True, slots=True)
class Other:
    """An event that is its name and no more: ``MEDIA_XOFF``, ``MEDIA_XON``, ``QUEUE_DRAINED``.

    Attributes:
        name: that, and any of a later Asterisk.
    """

    name: str


Event = MediaStart | Marker | Status | Digit | Failure | Other


def command(what: Command, *, as_json: bool, correlation_id: str = "") -> str:
    """Give a command's text.

    Args:
        what: the command.
        as_json: in which form.
        correlation_id: what the event that follows shall repeat (``MARK_MEDIA`` and
            ``STOP_MEDIA_BUFFERING``).

    Raises:
        ValueError: the identifier is too long.
    """
    if as_json:
        content = {"command": what.value}
        if correlation_id:
            content["correlation_id"] = correlation_id
        text = json.dumps(content, separators=(",", ":"))
    else:
        text = f"{what.value} {correlation_id}".rstrip()
    if len(text.encode()) > LONGEST_COMMAND_BYTES:
        raise ValueError(f"a command of {len(text)} characters; Asterisk takes 128")
    return text


def parse_event(text: str) -> Event:
    """Read an event in either form.

    Raises:
        WrongMessage: it is none.
    """
    if not text or len(text) > LONGEST_EVENT_CHARS:
        raise WrongMessage(f"an event of {len(text)} characters")
    if text.startswith("{"):
        return _event(_from_json(text), as_json=True)
    return _event(_from_words(text), as_json=False)


def _from_json(text: str) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise WrongMessage(_FORMAT) from error
    if not isinstance(content, dict) or not isinstance(content.get("event"), str):
        raise WrongMessage(_FORMAT)
    return content


def _from_words(text: str) -> dict[str, Any]:
    name, _, rest = text.strip().partition(" ")
    if not name.isascii() or not name.replace("_", "").isalnum():
        raise WrongMessage(_FORMAT)
    content: dict[str, Any] = {"event": name}
    if name.startswith("MEDIA_") and name != "MEDIA_START":
        return content | {"correlation_id": rest}
    rest, found, failure = rest.partition("error_text:")
    if found:  # it has spaces of its own
        content["error_text"] = failure
    for word in rest.split():
        key, colon, value = word.partition(":")
        if colon:
            content[key] = value
    return content


def _event(content: dict[str, Any], *, as_json: bool) -> Event:
    name = content["event"]
    match name:
        case "MEDIA_START":
            return _media_start(content, as_json)
        case "MEDIA_MARK_PROCESSED" | "MEDIA_BUFFERING_COMPLETED":
            return Marker(name, _text(content, "correlation_id"))
        case "STATUS":
            return Status(
                queue_frames=_number(content, "queue_length"),
                xon_frames=_number(content, "xon_level"),
                xoff_frames=_number(content, "xoff_level"),
                full=_truth(content, "queue_full"),
                buffering=_truth(content, "bulk_media"),
                paused=_truth(content, "media_paused"),
            )
        case "DTMF_END":
            key = _text(content, "digit").upper()
            if len(key) != 1 or key not in "0123456789*#ABCD":
                raise WrongMessage(f"{key[:8]!r} is no key of a telephone")
            return Digit(key)
        case "ERROR":
            return Failure(_text(content, "error_text").strip())
        case _:
            return Other(name)


def _media_start(content: dict[str, Any], as_json: bool) -> MediaStart:
    frame_ms = _number(content, "ptime", 20)
    if not 1 <= frame_ms <= 1000:
        raise WrongMessage(f"frames of {frame_ms} ms")
    variables = content.get("channel_variables")
    variables = variables if isinstance(variables, dict) else {}
    return MediaStart(
        connection_id=_text(content, "connection_id"),
        channel=_text(content, "channel"),
        channel_id=_text(content, "channel_id"),
        format=_text(content, "format"),
        frame_bytes=_number(content, "optimal_frame_size"),
        frame_ms=frame_ms,
        variables={key: value for key, value in variables.items() if isinstance(value, str)},
        json=as_json,
    )


def _text(content: dict[str, Any], key: str) -> str:
    value = content.get(key, "")
    if not isinstance(value, str):
        raise WrongMessage(f"{key} is no text")
    return value


def _number(content: dict[str, Any], key: str, default: int = 0) -> int:
    value = content.get(key, default)
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 10:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 10**9:
        raise WrongMessage(f"{key} is no number")
    return value


def _truth(content: dict[str, Any], key: str) -> bool:
    value = content.get(key, False)
    return value if isinstance(value, bool) else value == "true"
