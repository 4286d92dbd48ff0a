"""What of a long conversation goes to a language model with little room."""

from typing import Any

from talkpath.agent.recent_turns import RecentTurns

SYSTEM = {"role": "system", "content": "Be brief."}
WORDS = "I went down to the harbour and looked at the ships for an hour."


def conversation(turns: int) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = [SYSTEM, {"role": "assistant", "content": "Hello!"}]
    for number in range(turns):
        messages.append({"role": "user", "content": f"{number}. {WORDS}"})
        messages.append({"role": "assistant", "content": f"That is nice. {WORDS}"})
    return [*messages, {"role": "user", "content": "What is the capital of France?"}]


def test_whole_turns_are_left_out_and_seldom() -> None:
    recent = RecentTurns(1928)
    assert recent.of(conversation(5)) == conversation(5)
    firsts = []
    for turns in range(100):
        messages = conversation(turns)
        system, *kept = recent.of(messages)
        assert system == SYSTEM
        assert kept == messages[-len(kept) :]
        is_whole = len(kept) == len(messages) - 1
        assert kept[0]["role"] == ("assistant" if is_whole else "user")
        firsts.append(len(messages) - len(kept))
    assert firsts == sorted(firsts)
    assert 2 <= len(set(firsts)) < 15


def test_a_tools_result_goes_with_its_call_and_the_newest_message_stays() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "clock", "arguments": "{}"}}
    turn = [
        {"role": "user", "content": "What time is it? " * 40},
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": "noon"},
    ]
    newest = {"role": "user", "content": "And now? " * 1000}
    recent = RecentTurns(500)
    assert recent.of([SYSTEM, *turn, *turn, *turn]) == [SYSTEM, *turn]
    assert recent.of([SYSTEM, *turn, newest]) == [SYSTEM, newest]


def test_what_goes_beside_the_messages_takes_their_room() -> None:
    messages = conversation(20)
    kept = [len(RecentTurns(1928).of(messages, beside=beside)) for beside in (0, 1000)]
    assert kept[0] == len(messages) > kept[1] > 2


def test_a_server_with_room_gets_everything() -> None:
    assert RecentTurns(None).of(conversation(100)) == conversation(100)
