"""The text messages of chan_websocket, as its documentation and its source have them."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from talkpath.transports.asterisk.errors import WrongMessage
from talkpath.transports.asterisk.websocket_messages import (
    LONGEST_EVENT_CHARS,
    Command,
    command,
    parse_event,
)

CAPTURE = json.loads((Path(__file__).parent / "captures/websocket_events.json").read_text())
NAMES = ["MEDIA_START", "STATUS", "DTMF_END", "ERROR", "MEDIA_MARK_PROCESSED", "MEDIA_XON"]
KEYS = ["event", "format", "optimal_frame_size", "ptime", "digit", "queue_length", "queue_full"]


@pytest.mark.parametrize("entry", CAPTURE["events"], ids=lambda entry: entry["text"][:40])
def test_events_are_read_in_both_forms(entry: dict[str, Any]) -> None:
    event = parse_event(entry["text"])
    assert type(event).__name__ == entry["kind"]
    assert {name: getattr(event, name) for name in entry["fields"]} == entry["fields"]


@pytest.mark.parametrize("what", list(Command))
def test_commands_are_written_in_both_forms(what: Command) -> None:
    forms = CAPTURE["commands"][what.value]
    assert [command(what, as_json=False), command(what, as_json=True)] == forms


def test_a_mark_carries_its_identifier_and_asterisks_limit_is_kept() -> None:
    assert command(Command.MARK_MEDIA, as_json=False, correlation_id="7") == "MARK_MEDIA 7"
    text = command(Command.STOP_MEDIA_BUFFERING, as_json=True, correlation_id="7")
    assert json.loads(text) == {"command": "STOP_MEDIA_BUFFERING", "correlation_id": "7"}
    with pytest.raises(ValueError, match="Asterisk takes 128"):
        command(Command.MARK_MEDIA, as_json=False, correlation_id="x" * 128)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "{}",
        "[1]",
        '{"event":7}',
        "<xml/>",
        "[" * 100_000,
        '{"event":' + "[" * 60_000,
        "x" * (LONGEST_EVENT_CHARS + 1),
        "DTMF_END digit:",
        "DTMF_END digit:12",
        '{"event":"DTMF_END","digit":1}',
        "MEDIA_START format:ulaw optimal_frame_size:-1",
        "MEDIA_START format:ulaw ptime:0",
        '{"event":"MEDIA_START","optimal_frame_size":1e9}',
        "STATUS queue_length:many",
    ],
)
def test_what_is_no_event_is_refused(text: str) -> None:
    with pytest.raises(WrongMessage):
        parse_event(text)


@settings(max_examples=300, deadline=None)
@given(
    some.one_of(
        some.text(max_size=200),
        some.builds(
            " ".join,
            some.lists(
                some.one_of(
                    some.sampled_from(NAMES),
                    some.builds("{}:{}".format, some.sampled_from(KEYS), some.text(max_size=12)),
                ),
                max_size=6,
            ),
        ),
        some.builds(
            json.dumps,
            some.dictionaries(
                some.sampled_from(KEYS),
                some.one_of(some.sampled_from(NAMES), some.integers(), some.none(), some.text()),
            ),
        ),
    )
)
def test_nothing_but_the_documented_error_escapes(text: str) -> None:
    try:
        parse_event(text)
    except WrongMessage as error:
        assert str(error)
