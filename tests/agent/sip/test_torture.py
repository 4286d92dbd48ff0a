"""RFC 4475: messages made to break parsers."""

from pathlib import Path

import pytest

from talkpath.agent.sip.access import Access, Ignore
from talkpath.agent.sip.message import Message, Request, SipParseError, parse_message
from talkpath.agent.sip_sections import SipConfig
from tests.agent.sip.torture_messages import TORTURE, Torture, torture_bytes

PROPERTIES = ("call_id", "cseq", "from_", "to", "via", "target", "contact")


def _unreadable(message: Message) -> set[str]:
    names = set()
    for name in PROPERTIES:
        if name == "target" and not isinstance(message, Request):
            continue
        if name == "contact" and "Contact" not in message.headers:
            continue
        try:
            getattr(message, name)
        except SipParseError:
            names.add(name)
    return names


def test_all_49_messages_are_there() -> None:
    files = {file.stem for file in Path(__file__).with_name("torture").glob("*.dat")}
    assert files == {torture.name for torture in TORTURE}
    assert len(TORTURE) == len(files) == 49


@pytest.mark.parametrize("torture", TORTURE, ids=lambda torture: torture.name)
def test_each_message_is_taken_or_refused_as_the_table_says(torture: Torture) -> None:
    data = torture_bytes(torture.name)
    if torture.refused:
        with pytest.raises(SipParseError, match=torture.refused):
            parse_message(data)
        return
    message = parse_message(data)
    assert _unreadable(message) == torture.unreadable, torture.why
    again = parse_message(bytes(message))
    assert list(again.headers) == list(message.headers)
    assert again.body == message.body
    if isinstance(message, Request):
        access = Access(SipConfig(), ())
        assert access.judge(message, "198.51.100.1", 0.0) == Ignore("stranger")


def test_what_is_valid_reads_as_it_is_meant() -> None:
    message = parse_message(torture_bytes("wsinv"))
    assert message.tag("From") == "98asjd8" and message.tag("To") == "1918181833n"
    assert message.cseq == (9, "INVITE") and message.via.host == "192.0.2.2"
    assert len(message.headers.all("Via")) == 3
    assert parse_message(torture_bytes("unreason")).body.startswith(b"v=0")
    escaped = parse_message(torture_bytes("esc01"))
    assert isinstance(escaped, Request)
    assert escaped.target.user == "sips:user@example.com"
    first = parse_message(torture_bytes("dblreq"))
    assert isinstance(first, Request)
    assert (first.method, first.body) == ("REGISTER", b"")


def test_a_name_with_a_comma_needs_quotes() -> None:
    message = parse_message(torture_bytes("baddn") + b"\r\n")
    assert _unreadable(message) == {"from_", "to"}
