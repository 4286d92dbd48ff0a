"""Conversations as strict chat templates take them."""

from typing import Any

import pytest

from talkpath.agent.plain_dialogue import OPENING, plain_dialogue
from tests.llm_server import refusal

Message = dict[str, Any]


def system(text: str) -> Message:
    return {"role": "system", "content": text}


def user(content: Any) -> Message:
    return {"role": "user", "content": content}


def bot(text: str) -> Message:
    return {"role": "assistant", "content": text}


def calls(*ids: str) -> Message:
    function = {"name": "clock", "arguments": "{}"}
    made = [{"id": each, "type": "function", "function": function} for each in ids]
    return {"role": "assistant", "tool_calls": made}


def result(of: str) -> Message:
    return {"role": "tool", "tool_call_id": of, "content": "noon"}


PICTURE = {"type": "image_url", "image_url": {"url": "http://one/x.png"}}


@pytest.mark.parametrize(
    ("messages", "plain"),
    [
        ([], []),
        ([system("S"), user("a"), bot("b"), user("c")],) * 2,
        ([bot("Hello."), user("a")], [user(OPENING), bot("Hello."), user("a")]),
        (
            [system("S"), bot("Hello."), bot("Still there?"), user("a"), user("b")],
            [system("S"), user(OPENING), bot("Hello.\nStill there?"), user("a\nb")],
        ),
        (
            [system("S"), system("T"), user("a"), bot("b")],
            [system("S\nT"), user("a"), bot("b")],
        ),
        (
            [user("a"), bot("One moment."), calls("1"), result("1"), bot("b"), bot("c")],
            [
                user("a"),
                {**calls("1"), "content": "One moment."},
                result("1"),
                bot("b\nc"),
            ],
        ),
        ([user("a"), calls("1", "2"), result("1"), result("2"), calls("3"), result("3")],) * 2,
        ([user("a"), user([PICTURE])], [user([{"type": "text", "text": "a"}, PICTURE])]),
    ],
)
def test_user_and_assistant_take_turns_and_nothing_is_lost(
    messages: list[Message], plain: list[Message]
) -> None:
    before = [dict(message) for message in messages]
    assert plain_dialogue(messages) == plain
    assert messages == before
    assert refusal(plain) is None
    if messages != plain:
        assert refusal(messages) is not None


def test_what_was_plain_stays_as_the_conversation_goes_on() -> None:
    # So that a server need not read it again.
    messages = [system("S"), bot("Hello."), user("a"), bot("b"), bot("c"), user("d")]
    whole = plain_dialogue(messages)
    for count in range(2, len(messages)):
        *kept, last = plain_dialogue(messages[:count])
        assert kept == whole[: len(kept)]
        assert whole[len(kept)]["content"].startswith(last["content"])
