"""Telephone messages of strangers: whatever they send, only what is documented comes out."""

import contextlib
import random
import time
import typing

from talkpath.agent.sip.access import Access, Verdict
from talkpath.agent.sip.dial_plan import DialPlan
from talkpath.agent.sip.digest import parse_auth
from talkpath.agent.sip.digest_client import DigestClient
from talkpath.agent.sip.framing import Framed, MessageFramer
from talkpath.agent.sip.message import Headers, Request, Response, SipParseError, parse_message
from talkpath.agent.sip.routes import Routes
from talkpath.agent.sip.trunks import Trunk
from talkpath.agent.sip_sections import SipConfig
from tests.fuzz.seeds import named, seeds
from tests.fuzz.sip_garbage import Mutator

BATCHES = 100
MESSAGES = 1000
LONGEST_S = 2.0
"""Seconds of the processor for one message: usual is a thousandth; what explodes takes hours."""

TRUNK = Trunk(name="t", addresses=("203.0.113.1",), user="alice", password="s3cret", challenge=True)
PLAN = DialPlan(["+49*", "sip:*@pbx.example.com"])
ROUTES = Routes(["X:*=x", "+4*=y"], "")
ADDRESSES = ("127.0.0.1", "203.0.113.1", "198.51.100.7", "2001:db8::1")


def test_a_hundred_thousand_broken_messages_break_nothing() -> None:
    taken = 0
    for seed in seeds(BATCHES, share=2):
        with named(seed):
            rng = random.Random(seed)
            mutator = Mutator(rng)
            config = SipConfig(users=("alice:s3cret",), requests_per_s=1e6)
            access = Access(config, (TRUNK,))
            for number in range(MESSAGES):
                data = mutator.message()
                began_s = time.process_time()
                taken += _try(data, access, rng.choice(ADDRESSES), number / 10)
                assert time.process_time() - began_s < LONGEST_S, data
    assert taken > BATCHES, "hardly any is refused at once: the rest of the code is tried too"


def test_broken_streams_are_cut_into_messages_or_given_up() -> None:
    for seed in seeds(BATCHES, share=2):
        with named(seed):
            rng = random.Random(seed)
            mutator = Mutator(rng)
            for _ in range(MESSAGES // 50):
                _feed(MessageFramer(), b"".join(mutator.message() for _ in range(3)), rng)


def _feed(framer: MessageFramer, stream: bytes, rng: random.Random) -> None:
    pieces, at = [], 0
    while at < len(stream):
        size = rng.choice((1, 10, 100, 1000))
        pieces.append(stream[at : at + size])
        at += size
    began_s = time.process_time()
    with contextlib.suppress(SipParseError):
        for piece in pieces:
            for framed in framer.feed(piece):
                assert isinstance(framed, typing.get_args(Framed))
    assert time.process_time() - began_s < LONGEST_S, stream


def _try(data: bytes, access: Access, address: str, now_s: float) -> bool:
    """Do with a message all that the listener does; say whether it was one."""
    try:
        message = parse_message(data)
    except SipParseError:
        return False
    for name in ("call_id", "cseq", "from_", "to", "contact", "via", "target"):
        with contextlib.suppress(SipParseError):
            getattr(message, name, None)
    for name in ("From", "To"):
        with contextlib.suppress(SipParseError):
            message.tag(name)
    for name in ("Record-Route", "Route", "Contact"):
        message.headers.all(name)
    for name, value in message.headers:
        if "auth" in name.lower():
            with contextlib.suppress(SipParseError):
                parse_auth(value)
    again = parse_message(bytes(message))
    assert (list(again.headers), again.body) == (list(message.headers), message.body)
    if isinstance(message, Request):
        assert isinstance(access.judge(message, address, now_s), typing.get_args(Verdict))
        _find(message, message.headers)
    else:
        _answer(message)
    return True


def _find(request: Request, headers: Headers) -> None:
    ROUTES.bot_for(request.uri, headers, TRUNK)
    for target in (request.uri, headers.get("Refer-To") or ""):
        if PLAN.permits(target):
            assert "\n" not in target and "maddr" not in target.lower()


def _answer(response: Response) -> None:
    client = DigestClient("alice", "s3cret")
    request = Request(Headers(), b"", "REGISTER", "sip:x")
    answered = client.answer(response, request)
    if answered is not None:
        request.headers.set(*answered)
        bytes(request)
        client.answer(response, request)
