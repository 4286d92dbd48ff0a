"""The edge among broken messages: calls go on, and strangers hear nothing."""

import contextlib
import random

from talkpath.agent.sip.edge_actions import Ask, Silence, ToPeer, ToWorker
from talkpath.agent.sip.edge_call import Refusal
from talkpath.agent.sip.message import Request, Response, SipParseError, parse_message
from tests.agent.sip.edge_stage import OFFER, PEER, STRANGER, Stage, request
from tests.fuzz.seeds import named, seeds
from tests.fuzz.sip_garbage import Mutator

CALLS = 10
MESSAGES = 500
OFFERED = OFFER.format(host="192.168.1.50", port=40000)


def _of_the_call() -> list[bytes]:
    """What a peer may say within its call."""
    refer = "Refer-To: <sip:bob@pbx.example.com>"
    return [
        bytes(request("INVITE", number=2, to_tag="bot", branch="z9hG4bK2", body=OFFERED)),
        bytes(request("UPDATE", number=3, to_tag="bot", branch="z9hG4bK3", body=OFFERED)),
        bytes(request("REFER", refer, number=4, to_tag="bot", branch="z9hG4bK4")),
        bytes(request("INFO", number=5, to_tag="bot", branch="z9hG4bK5", body="Signal=1\n")),
        bytes(request("ACK", number=2, to_tag="bot", branch="z9hG4bK6")),
        bytes(request("CANCEL", branch="z9hG4bKpeer1")),
        bytes(request("BYE", number=6, to_tag="bot", branch="z9hG4bK7")),
    ]


def _take(stage: Stage, data: bytes, stranger: bool) -> list[object]:
    """What the edge does about a message; nothing where it is none."""
    with contextlib.suppress(SipParseError):
        message: Request | Response = parse_message(data)
        return list(stage.edge.from_peer(message, STRANGER if stranger else PEER, stage.now_s))
    return []


def test_a_call_goes_on_while_strangers_send_anything_and_hear_nothing() -> None:
    for seed in seeds(CALLS, share=2):
        with named(seed):
            mutator = Mutator(random.Random(seed))
            stage = Stage(requests_per_s=1e6)
            call, _ = stage.up(request("INVITE", body=OFFERED))
            for _ in range(MESSAGES):
                actions = _take(stage, mutator.message(), stranger=True)
                assert all(isinstance(action, Silence) for action in actions)
            assert list(stage.edge.book.calls.values()) == [call] and not call.is_over
            (bye,) = stage.peer(request("BYE", number=2, to_tag="bot", branch="z9hG4bK9"))[:1]
            assert isinstance(bye, ToWorker)


def test_a_broken_phone_breaks_nothing_but_its_own_call() -> None:
    passed = 0
    for seed in seeds(CALLS, share=2):
        with named(seed):
            rng = random.Random(seed)
            mutator = Mutator(rng, _of_the_call())
            stage = Stage(
                requests_per_s=1e6, accept_refer=True, dial_plan=["sip:*@pbx.example.com"]
            )
            stage.up(request("INVITE", body=OFFERED))
            for _ in range(MESSAGES):
                stage.now_s += rng.choice((0.0, 0.1, 1.0))
                for action in _take(stage, mutator.message(), stranger=False):
                    if isinstance(action, ToPeer | ToWorker):
                        parse_message(action.data)
                        passed += 1
                    elif isinstance(action, Ask):
                        stage.edge.refuse(action.call, Refusal(486), stage.now_s)
                stage.edge.tick(stage.now_s)
    assert passed > CALLS, "some of it passes"
