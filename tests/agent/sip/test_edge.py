"""The edge: what a peer and a worker see of each other, and who is met with silence."""

import re
from dataclasses import replace

import pytest

from talkpath.agent.sip import edge_actions as edges
from talkpath.agent.sip.call_book import T1_S
from talkpath.agent.sip.digest import Credentials
from talkpath.agent.sip.edge import LINGER_S, UNANSWERED_S
from talkpath.agent.sip.edge_actions import EdgeError
from talkpath.agent.sip.edge_call import EdgeCall, Refusal
from talkpath.agent.sip.flow import Flow
from talkpath.agent.sip.media_description import audio_endpoint
from talkpath.agent.sip.message import Request, Response, parse_message
from talkpath.agent.sip.trunks import Trunk
from tests.agent.sip.edge_stage import (
    CONTACT,
    OFFER,
    PEER,
    PUBLIC,
    SDP,
    STRANGER,
    Stage,
    at_peer,
    at_worker,
    request,
    response,
    statuses,
    the,
)

INVITE = request("INVITE", body=OFFER.format(host="192.168.1.50", port=40000))
BODY = OFFER.format(host="127.0.0.1", port=30000)


# -- inbound calls --


def test_an_invite_is_answered_with_trying_and_asked_about() -> None:
    stage = Stage()
    done = stage.peer(INVITE)
    assert statuses(done) == [100]
    call = the(edges.Ask, done).call
    assert (call.call_id, call.outbound, stage.edge.book.active) == ("call@phone", False, 1)


def test_a_worker_gets_the_invite_under_its_own_name_and_the_edge_in_the_way() -> None:
    stage = Stage()
    _, inner = stage.ringing(INVITE)
    assert inner.uri == "sip:in-main@127.0.0.1:5001"
    ours, theirs = inner.headers.all("Via")
    assert ours.startswith("SIP/2.0/UDP 127.0.0.1:4000;branch=z9hG4bKtpe")
    assert "received=192.168.1.50" in theirs and "rport=5070" in theirs
    assert inner.headers.all("Record-Route") == ["<sip:127.0.0.1:4000;lr>"]
    assert inner.headers.get("From") == INVITE.headers.get("From")
    # The first address is the one from which baresip takes its own; the audio's is the peer's.
    first, second = re.findall(rb"c=IN IP4 (\S+)", inner.body)
    assert (first, second) == (b"127.0.0.1", b"192.168.1.50")
    assert audio_endpoint(inner.body) == ("192.168.1.50", 40000)


def test_a_peer_sees_one_party_at_the_public_address() -> None:
    stage = Stage()
    call, inner = stage.ringing(INVITE)
    done = stage.worker(response(inner, 200, "OK", CONTACT, SDP, body=BODY))
    answer = at_peer(done)
    assert isinstance(answer, Response) and answer.status == 200
    assert the(edges.ToPeer, done).flow == PEER
    assert len(answer.headers.all("Via")) == 1
    assert answer.headers.get("Record-Route") is None
    assert answer.headers.get("Server") == "talkpath"
    assert "203.0.113.1:5060" in (answer.headers.get("Contact") or "")
    assert b"127.0.0.1" not in answer.body and answer.body.count(PUBLIC.encode()) == 2
    assert the(edges.Progress, done).status == 200
    assert call.stage.name == "UP"


def test_copies_of_an_invite_change_nothing() -> None:
    stage = Stage()
    call = stage.asked(INVITE)
    assert statuses(stage.peer(INVITE)) == [100]
    first = at_worker(stage.note(stage.edge.route(call, 1, "main", stage.now_s)))
    again = at_worker(stage.peer(INVITE))
    assert bytes(first) == bytes(again)
    assert stage.edge.book.active == 1


def test_a_call_ends_with_the_callers_bye_and_its_copies_still_pass() -> None:
    stage = Stage()
    call, _ = stage.up(INVITE)
    bye = request("BYE", number=2, to_tag="bot", branch="z9hG4bKbye")
    done = stage.peer(bye)
    inner = at_worker(done)
    assert isinstance(inner, Request)
    assert the(edges.Over, done).call is call
    assert statuses(stage.worker(response(inner, 200))) == [200]
    again = stage.peer(bye)
    assert at_worker(again).headers.get("Via") == inner.headers.get("Via")
    assert not [action for action in again if isinstance(action, edges.Over)]
    stage.now_s += LINGER_S + 1
    stage.edge.tick(stage.now_s)
    assert statuses(stage.peer(bye)) == [481]


def test_a_worker_hangs_up_by_the_way_that_it_was_given() -> None:
    stage = Stage()
    call, inner = stage.up(INVITE)
    stage.edge.add_headers("call@phone", "BYE", {"X-Why": "done"}.items())
    bye = worker_request(inner, "BYE", 7)
    done = stage.worker(bye)
    outer = at_peer(done)
    assert isinstance(outer, Request)
    assert outer.uri == "sip:ann@192.168.1.50:5070"
    assert outer.headers.get("Route") is None
    assert outer.headers.get("X-Why") == "done"
    assert len(outer.headers.all("Via")) == 1
    answered = stage.peer(response(outer, 200))
    assert at_worker(answered).headers.all("Via") == bye.headers.all("Via")
    assert call.is_over


def worker_request(inner: Request, method: str, number: int, *more: str) -> Request:
    """A worker's request in an inbound call."""
    peers = inner.headers.get("From") or ""
    own = (inner.headers.get("To") or "") + ";tag=bot"
    made = request(method, *more, number=number, branch=f"z9hG4bKw{method}{number}")
    made.uri = "sip:ann@192.168.1.50:5070"
    made.headers.set("From", own)
    made.headers.set("To", peers)
    made.headers.set("Via", f"SIP/2.0/UDP 127.0.0.1:5001;branch=z9hG4bKw{method}{number};rport")
    made.headers.set("Route", *inner.headers.all("Record-Route"))
    made.headers.set("Contact", "<sip:in-main@127.0.0.1:5001>")
    return made


def test_a_caller_may_give_up_before_it_rings_while_it_rings_and_while_it_hears() -> None:
    stage = Stage()
    call = stage.asked(INVITE)
    done = stage.peer(request("CANCEL"))
    assert statuses(done) == [200, 487]
    assert the(edges.Withdraw, done).call is call
    assert stage.note(stage.edge.route(call, 1, "main", stage.now_s)) == []

    stage = Stage()
    _, inner = stage.ringing(INVITE)
    cancel = at_worker(stage.peer(request("CANCEL")))
    assert cancel.via == inner.via
    assert isinstance(cancel, Request) and cancel.method == "CANCEL"
    assert statuses(stage.worker(response(cancel, 200))) == [200]
    done = stage.worker(response(inner, 487))
    assert statuses(done) == [487] and the(edges.Over, done)
    assert at_worker(stage.peer(request("ACK", to_tag="bot"))).via == inner.via

    stage = Stage()
    early_media(stage)
    done = stage.peer(request("CANCEL"))
    assert statuses(done) == [200, 487]
    bye = at_worker(done)
    assert isinstance(bye, Request) and bye.method == "BYE"


def test_a_caller_hears_ringing_while_there_is_no_worker_for_it() -> None:
    stage = Stage()
    call = stage.asked(INVITE)
    ringing = at_peer(stage.note(stage.edge.ring(call)))
    assert isinstance(ringing, Response) and ringing.status == 180 and ringing.tag("To")
    assert statuses(stage.peer(INVITE)) == [180]  # its copies, too
    refused = at_peer(stage.note(stage.edge.refuse(call, Refusal(503), stage.now_s)))
    assert refused.tag("To") == ringing.tag("To")
    assert stage.edge.ring(call) == []


def test_a_call_that_is_hung_up_before_it_is_decided_is_withdrawn() -> None:
    stage = Stage()
    call = stage.asked(INVITE)
    done = stage.note(stage.edge.hang_up(call, stage.now_s))
    assert statuses(done) == [503]
    assert the(edges.Withdraw, done).call is call and the(edges.Over, done).call is call


def early_media(stage: Stage) -> tuple[Request, list[edges.Action]]:
    _, inner = stage.ringing(INVITE)
    stage.edge.early_media("call@phone")
    return inner, stage.worker(response(inner, 200, "OK", CONTACT, SDP, body=BODY))


def test_early_media_is_the_answer_kept_back() -> None:
    stage = Stage()
    inner, done = early_media(stage)
    early, ack = at_peer(done), at_worker(done)
    assert isinstance(early, Response) and early.status == 183
    assert PUBLIC.encode() in early.body
    assert isinstance(ack, Request) and ack.method == "ACK" and ack.cseq[0] == 1
    assert ack.headers.get("To") == (inner.headers.get("To") or "") + ";tag=bot"
    # A copy of the answer is acknowledged once more, and goes no further.
    copy = stage.worker(response(inner, 200, "OK", CONTACT, SDP, body=BODY))
    assert statuses(copy) == [] and at_worker(copy)

    answered = stage.note(stage.edge.answer("call@phone", {"X-Bot": "b"}.items(), stage.now_s))
    answer = at_peer(answered)
    assert isinstance(answer, Response)
    assert (answer.status, answer.body, answer.headers.get("X-Bot")) == (200, early.body, "b")
    # It is sent again until it is acknowledged (RFC 3261, 13.3.1.4).
    stage.now_s += T1_S
    assert statuses(stage.edge.tick(stage.now_s)) == [200]
    assert statuses(stage.edge.tick(stage.now_s + 0.1)) == []
    assert stage.peer(request("ACK", to_tag="bot", branch="z9hG4bKack")) == []
    stage.now_s += 20
    assert stage.edge.tick(stage.now_s) == []


def test_an_answer_that_nobody_acknowledges_ends_the_call_on_both_sides() -> None:
    stage = Stage()
    early_media(stage)
    stage.edge.answer("call@phone", (), stage.now_s)
    done: list[edges.Action] = []
    for _ in range(80):
        stage.now_s += T1_S
        done += stage.edge.tick(stage.now_s)
    assert 8 <= statuses(done).count(200) <= 12
    assert the(edges.Own, done).request.method == "BYE"
    bye = at_worker(done)
    assert isinstance(bye, Request) and bye.method == "BYE"


def test_a_bot_may_refuse_after_early_media() -> None:
    stage = Stage()
    inner, _ = early_media(stage)
    stage.edge.reject("call@phone", Refusal(404, "Nobody Here"))
    done = stage.worker(worker_request(inner, "BYE", 9))
    final = at_peer(done)
    assert isinstance(final, Response) and (final.status, final.reason) == (404, "Nobody Here")
    ended = at_worker(done)
    assert isinstance(ended, Response) and ended.status == 200
    assert statuses(stage.peer(INVITE)) == [404]


def test_a_workers_refusal_leaves_with_the_bots_status_and_headers() -> None:
    stage = Stage()
    _, inner = stage.ringing(INVITE)
    headers = (("Contact", "<sip:elsewhere@example.com>"),)
    stage.edge.reject("call@phone", Refusal(302, headers=headers))
    done = stage.worker(response(inner, 486, "Busy Here"))
    final = at_peer(done)
    assert isinstance(final, Response) and final.status == 302
    assert the(edges.Over, done)
    with pytest.raises(EdgeError):
        stage.edge.reject("call@phone", Refusal(302))


def test_an_answer_can_carry_headers() -> None:
    stage = Stage()
    _, inner = stage.ringing(INVITE)
    assert stage.edge.answer("call@phone", {"X-Bot": "b"}.items(), stage.now_s) == []
    done = stage.worker(response(inner, 200, "OK", CONTACT, body=BODY))
    assert at_peer(done).headers.get("X-Bot") == "b"


def test_a_refused_call_is_refused_again_and_its_ack_ends_here() -> None:
    stage = Stage()
    call = stage.asked(INVITE)
    done = stage.note(stage.edge.refuse(call, Refusal(404), stage.now_s))
    assert statuses(done) == [404]
    tag = at_peer(done).tag("To")
    assert tag
    assert statuses(stage.peer(INVITE)) == [404]
    assert stage.peer(request("ACK", to_tag=tag)) == []
    assert stage.edge.book.active == 0


def test_a_refusal_is_repeated_over_udp_until_it_is_acknowledged() -> None:
    stage = Stage()
    stage.note(stage.edge.refuse(stage.asked(INVITE), Refusal(603), stage.now_s))
    told = []
    for _ in range(80):
        stage.now_s += T1_S
        told += statuses(stage.edge.tick(stage.now_s))
    assert set(told) == {603} and 8 <= len(told) <= 12
    stage = Stage()
    call = stage.asked(INVITE)
    refused = at_peer(stage.note(stage.edge.refuse(call, Refusal(603), stage.now_s)))
    stage.peer(request("ACK", to_tag=refused.tag("To") or ""))
    assert stage.edge.tick(stage.now_s + T1_S) == []
    stage = Stage()
    flow = Flow("tcp", ("192.168.1.2", 5060), ("192.168.1.50", 33333), 7)
    stage.edge.refuse(stage.asked(INVITE, flow), Refusal(603), stage.now_s)
    assert stage.edge.tick(stage.now_s + T1_S) == []


def test_who_was_refused_may_try_again_in_the_same_name() -> None:
    stage = Stage()
    stage.edge.refuse(stage.asked(INVITE), Refusal(488), stage.now_s)
    again = request("INVITE", number=2, branch="z9hG4bKagain", body=INVITE.body.decode())
    assert stage.asked(again).stage.name == "ASKED"


def test_calls_whose_branches_say_nothing_are_told_apart() -> None:
    stage = Stage()
    branches = set()
    for name in ("one@phone", "two@phone"):
        call = stage.asked(request("INVITE", branch="z9hG4bK", call_id=name))
        inner = at_worker(stage.note(stage.edge.route(call, 1, "main", stage.now_s)))
        branches.add(inner.via.parameters.get("branch"))
    assert len(branches) == 2


def test_a_trunks_limit_holds_before_anybody_was_asked() -> None:
    pbx = Trunk(name="pbx", addresses=("192.168.1.50/32",), max_calls=1)
    stage = Stage(trunks=[pbx])
    stage.asked(INVITE)
    assert statuses(stage.peer(request("INVITE", call_id="two@phone"))) == [503]
    assert not stage.edge.book.has_line(pbx) and stage.edge.book.has_line(None)


def test_nobody_takes_over_a_call_of_ours() -> None:
    stage = Stage()
    done = stage.peer(request("INVITE", "Require: replaces", "Replaces: x;to-tag=1;from-tag=2"))
    assert statuses(done) == [420] and at_peer(done).headers.get("Unsupported") == "replaces"


def test_requests_over_a_connection_are_answered_on_it() -> None:
    stage = Stage()
    flow = Flow("tcp", ("192.168.1.2", 5060), ("192.168.1.50", 33333), 7)
    _, inner = stage.ringing(request("INVITE", via="SIP/2.0/TCP 192.168.1.50:5070"), flow)
    done = stage.worker(response(inner, 200, "OK", CONTACT, body=BODY))
    assert the(edges.ToPeer, done).flow == flow
    assert "transport=tcp" in (at_peer(done).headers.get("Contact") or "")
    bye = stage.worker(worker_request(inner, "BYE", 3))
    assert the(edges.ToPeer, bye).flow == flow


def test_answers_over_udp_go_where_the_peer_says_that_it_listens() -> None:
    stage = Stage()
    plain = request("OPTIONS")
    plain.headers.set("Via", "SIP/2.0/UDP 192.168.1.50:5071;branch=z9hG4bKx")
    assert the(edges.ToPeer, stage.peer(plain)).flow.remote == ("192.168.1.50", 5071)
    assert the(edges.ToPeer, stage.peer(request("OPTIONS"))).flow == PEER


def test_behind_nat_requests_go_back_to_where_the_peer_sends_from() -> None:
    stage = Stage(allow=("198.51.100.0/24",))
    flow = Flow("udp", ("192.168.1.2", 5060), ("198.51.100.9", 61000))
    _, inner = stage.up(INVITE, flow)
    bye = stage.worker(worker_request(inner, "BYE", 3))
    assert the(edges.ToPeer, bye).flow.remote == ("198.51.100.9", 61000)


def test_requests_go_by_the_proxies_that_want_to_see_them() -> None:
    stage = Stage()
    route = "Record-Route: <sip:192.168.1.9;lr>"
    call, inner = stage.ringing(request("INVITE", route))
    assert inner.headers.all("Record-Route") == ["<sip:127.0.0.1:4000;lr>", "<sip:192.168.1.9;lr>"]
    stage.worker(response(inner, 200, "OK", CONTACT, body=BODY))
    done = stage.worker(worker_request(inner, "BYE", 3))
    assert the(edges.ToPeer, done).flow.remote == ("192.168.1.9", 5060)
    assert at_peer(done).headers.all("Route") == ["<sip:192.168.1.9;lr>"]
    assert call.is_over


# -- who may --


@pytest.mark.parametrize("method", ["INVITE", "OPTIONS", "REGISTER", "BYE", "MESSAGE", "ACK"])
def test_strangers_get_no_answer(method: str) -> None:
    done = Stage().peer(request(method), STRANGER)
    assert all(isinstance(action, edges.Silence) for action in done)
    assert len(done) == (method == "INVITE")


def test_scanners_get_no_answer_from_anywhere() -> None:
    stage = Stage()
    assert stage.peer(request("OPTIONS", agent="friendly-scanner")) == []


def test_phones_with_a_password_are_challenged_in_every_way_that_there_is() -> None:
    stage = Stage(users=("ann:secret",), digests=("sha-256", "md5"))
    challenge = at_peer(stage.peer(INVITE, STRANGER))
    assert isinstance(challenge, Response) and challenge.status == 401
    lines = challenge.headers.all("WWW-Authenticate")
    assert any("SHA-256" in line for line in lines) and any("MD5" in line for line in lines)
    assert stage.edge.book.calls == {}
    assert stage.peer(request("ACK", to_tag=challenge.tag("To") or ""), STRANGER) == []


@pytest.mark.parametrize(
    ("message", "status"),
    [
        (request("OPTIONS"), 200),
        (request("REGISTER"), 405),
        (request("SUBSCRIBE"), 405),
        (request("BYE", to_tag="x"), 481),
        (request("CANCEL"), 481),
        (request("INVITE", to_tag="x"), 481),
        (request("REFER", to_tag="x"), 481),
        (request("INVITE", uri="mailto:x"), 400),
    ],
)
def test_what_belongs_to_no_call_is_answered_here(message: Request, status: int) -> None:
    stage = Stage()
    assert statuses(stage.peer(message)) == [status]
    assert stage.edge.book.calls == {}


def test_a_request_without_hops_left_goes_nowhere() -> None:
    spent = request("INVITE")
    spent.headers.set("Max-Forwards", "0")
    assert statuses(Stage().peer(spent)) == [483]


def test_a_copy_that_took_another_way_is_a_loop() -> None:
    stage = Stage()
    stage.asked(INVITE)
    assert statuses(stage.peer(request("INVITE", branch="z9hG4bKother"))) == [482]


@pytest.mark.parametrize("status", [486, 503])
def test_beyond_the_limit_calls_are_refused(status: int) -> None:
    stage = Stage(max_calls=1, busy_status=status)
    stage.asked(INVITE)
    refused = stage.peer(request("INVITE", call_id="another@phone"))
    assert statuses(refused) == [status]
    assert at_peer(refused).headers.get("Retry-After")
    assert statuses(stage.peer(request("OPTIONS"))) == [status]


def test_while_the_calls_run_out_no_new_one_is_taken() -> None:
    stage = Stage()
    stage.edge.book.draining = True
    assert statuses(stage.peer(INVITE)) == [503]


def test_nobody_without_the_tags_reaches_a_call() -> None:
    stage = Stage()
    call, _ = stage.up(INVITE)
    guess = request("BYE", number=2, to_tag="guessed")
    assert stage.peer(guess, STRANGER) == []
    assert statuses(stage.peer(guess)) == [481]
    assert not call.is_over


def test_transfers_by_the_peer_are_denied_unless_allowed_and_within_the_dial_plan() -> None:
    refer = request("REFER", "Refer-To: <sip:42@pbx.example.com>", number=2, to_tag="bot")
    for accepted, plan in ((False, ["sip:*@pbx.example.com"]), (True, [])):
        stage = Stage(dial_plan=plan, accept_refer=accepted)
        stage.up(INVITE)
        assert statuses(stage.peer(refer)) == [403]
    stage = Stage(dial_plan=["sip:*@pbx.example.com"], accept_refer=True)
    stage.up(INVITE)
    passed = at_worker(stage.peer(refer))
    assert isinstance(passed, Request) and passed.method == "REFER"
    stand_in = (passed.headers.get("Refer-To") or "").strip("<>")
    assert stand_in.endswith("@127.0.0.1:4000")
    made = outbound(uri=stand_in)
    assert the(edges.Locate, stage.worker(made)).uri == "sip:42@pbx.example.com"


def test_a_call_is_sent_to_the_callee_not_to_what_stands_for_it() -> None:
    stage = Stage()
    _, inner = stage.up(INVITE)
    call, outer = dialled(stage)
    stage.peer(response(outer, 200, "OK", "Contact: <sip:42@192.0.2.30>", body=BODY), TARGET)
    refer = f"Refer-To: <{call.stand_in}?Replaces=out%40worker%3Bto-tag%3Dbot%3Bfrom-tag%3Dann>"
    done = at_peer(stage.worker(worker_request(inner, "REFER", 9, refer)))
    assert done.headers.get("Refer-To") == refer[10:].replace(call.stand_in, CALLEE)


# -- outbound calls --

CALLEE = "sip:42@pbx.example.com"
TARGET = Flow("udp", ("192.168.1.2", 5060), ("192.0.2.30", 5060))


def outbound(
    *more: str,
    number: int = 1,
    branch: str = "z9hG4bKout",
    method: str = "INVITE",
    tag: str = "",
    uri: str = CALLEE,
) -> Request:
    made = request(
        method,
        *more,
        number=number,
        branch=branch,
        call_id="out@worker",
        to_tag=tag,
        uri=uri,
        via="SIP/2.0/UDP 127.0.0.1:5001",
        body=BODY if method == "INVITE" else "",
    )
    made.headers.set("To", f"<{uri}>" + (f";tag={tag}" if tag else ""))
    made.headers.set("Route", "<sip:127.0.0.1:4000;lr>")
    made.headers.set("Contact", "<sip:in-main@127.0.0.1:5001>")
    return made


def dialled(stage: Stage) -> tuple[EdgeCall, Request]:
    done = stage.worker(outbound(uri=stage.edge.book.expect_dial(CALLEE, "why")))
    locate = the(edges.Locate, done)
    assert (locate.uri, locate.call.info) == ("sip:42@pbx.example.com", "why")
    outer = at_peer(stage.note(stage.edge.located(locate.call, TARGET, stage.now_s)))
    assert isinstance(outer, Request)
    return locate.call, outer


def test_an_outbound_call_shows_the_public_address_and_comes_back_by_the_edge() -> None:
    stage = Stage()
    call, outer = dialled(stage)
    assert (outer.uri, outer.headers.get("To")) == (CALLEE, f"<{CALLEE}>")
    assert outer.headers.get("Route") is None
    assert len(outer.headers.all("Via")) == 1 and outer.via.host == PUBLIC
    assert b"127.0.0.1" not in bytes(outer)
    ringing = stage.peer(response(outer, 180, "Ringing", "Contact: <sip:42@192.0.2.30>"), TARGET)
    assert the(edges.Progress, ringing).status == 180
    answer = response(outer, 200, "OK", "Contact: <sip:42@192.0.2.30:5062>", body=BODY)
    inner = at_worker(stage.peer(answer, TARGET))
    assert inner.headers.all("Record-Route") == ["<sip:127.0.0.1:4000;lr>"]
    assert inner.via.host == "127.0.0.1"
    assert call.stage.name == "UP"
    ack = outbound(method="ACK", branch="z9hG4bKack", tag="bot")
    ack.uri = "sip:42@192.0.2.30:5062"
    acknowledged = stage.worker(ack)
    assert the(edges.ToPeer, acknowledged).flow.remote == ("192.0.2.30", 5062)
    bye = request("BYE", number=5, call_id="out@worker", to_tag="ann", uri="sip:x@203.0.113.1")
    bye.headers.set("From", f"{outer.headers.get('To')};tag=bot")
    bye.headers.set("To", outer.headers.get("From") or "")
    done = stage.peer(bye, TARGET)
    ended = at_worker(done)
    assert isinstance(ended, Request) and ended.uri == "sip:in-main@127.0.0.1:5001"
    assert the(edges.Over, done)


def test_a_trunk_that_wants_a_password_gets_a_second_invite() -> None:
    stage = Stage()
    call, outer = dialled(stage)
    challenge = response(outer, 407, "Proxy Authentication Required")
    done = stage.peer(challenge, TARGET)
    assert not [action for action in done if isinstance(action, edges.Over)]
    again = outbound(
        "Proxy-Authorization: Digest x", number=2, branch="z9hG4bK2", uri=call.stand_in
    )
    second = stage.worker(again)
    repeated = at_peer(second)
    assert isinstance(repeated, Request) and repeated.uri == CALLEE
    assert repeated.headers.get("To") == f"<{CALLEE}>"
    stage.peer(response(repeated, 200, "OK", "Contact: <sip:42@192.0.2.30>", body=BODY), TARGET)
    assert call.stage.name == "UP"


def test_an_invite_that_nobody_answers_is_repeated_over_udp_alone() -> None:
    stage = Stage()
    call, outer = dialled(stage)
    again = at_peer(stage.worker(outbound(uri=call.stand_in)))
    assert bytes(again) == bytes(outer)
    stage = Stage()
    connection = Flow("tcp", ("192.168.1.2", 40000), ("192.0.2.30", 5060), 3)
    done = stage.worker(outbound(uri=stage.edge.book.expect_dial(CALLEE)))
    call = the(edges.Locate, done).call
    stage.edge.located(call, connection, stage.now_s)
    assert stage.worker(outbound(uri=call.stand_in)) == []


def test_a_digest_is_for_the_callee_not_for_what_stands_for_it() -> None:
    stage = Stage(password="secret")
    call, outer = dialled(stage)
    stage.peer(response(outer, 401, "Unauthorized"), TARGET)
    made = Credentials("ann", "pbx", "nonce", call.stand_in, cnonce="c", opaque="o")
    header = f"Authorization: {made.header('secret', 'INVITE')}"
    second = outbound(header, number=2, branch="z9hG4bK2", uri=call.stand_in)
    sent = at_peer(stage.worker(second)).headers.get("Authorization")
    assert sent == replace(made, uri=CALLEE).header("secret", "INVITE")
    # Servers that know nothing of qop (RFC 2069).
    plain = replace(made, qop="", cnonce="", opaque=None)
    header = f"Authorization: {plain.header('secret', 'INVITE')}"
    third = outbound(header, number=3, branch="z9hG4bK3", uri=call.stand_in)
    sent = at_peer(stage.worker(third)).headers.get("Authorization")
    assert sent == replace(plain, uri=CALLEE).header("secret", "INVITE")


def test_headers_for_a_request_stay_with_its_copies_and_no_others() -> None:
    stage = Stage()
    _, inner = stage.up(INVITE)
    stage.edge.add_headers("call@phone", "REFER", {"X-Why": "done"}.items())
    refer = worker_request(inner, "REFER", 7, "Refer-To: <sip:x@y>")
    for _ in range(2):
        assert at_peer(stage.worker(refer)).headers.get("X-Why") == "done"
    later = worker_request(inner, "REFER", 8, "Refer-To: <sip:x@y>")
    assert at_peer(stage.worker(later)).headers.get("X-Why") is None


def test_a_worker_may_call_nobody_that_it_was_not_told_to() -> None:
    stage = Stage()
    refused = at_worker(stage.worker(outbound()))
    assert isinstance(refused, Response) and refused.status == 403
    stand_in = stage.edge.book.expect_dial(CALLEE)
    stage.worker(outbound(uri=stand_in))
    copy = outbound(uri=stand_in)
    copy.headers.set("Call-ID", "second@worker")
    refused = at_worker(stage.worker(copy))
    assert isinstance(refused, Response) and refused.status == 403
    planned = Stage(dial_plan=["sip:*@pbx.example.com"])
    assert the(edges.Locate, planned.worker(outbound()))


def test_a_call_that_is_refused_or_cannot_be_made_is_over() -> None:
    stage = Stage()
    call, outer = dialled(stage)
    done = stage.peer(response(outer, 486, "Busy Here"), TARGET)
    assert the(edges.Progress, done).status == 486 and the(edges.Over, done).call is call
    ack = stage.worker(outbound(method="ACK", tag="bot", uri=call.stand_in))
    assert at_peer(ack).via == outer.via
    assert the(edges.ToPeer, ack).flow == TARGET

    stage = Stage()
    stand_in = stage.edge.book.expect_dial(CALLEE)
    sought = the(edges.Locate, stage.worker(outbound(uri=stand_in))).call
    refused = at_worker(stage.edge.refuse(sought, Refusal(503), stage.now_s))
    assert isinstance(refused, Response) and refused.status == 503
    assert stage.worker(outbound(method="ACK", tag="x")) == []


def test_a_worker_may_give_up_while_the_peer_is_sought() -> None:
    stage = Stage()
    stand_in = stage.edge.book.expect_dial(CALLEE)
    stage.worker(outbound(uri=stand_in))
    assert stage.worker(outbound(uri=stand_in)) == []  # a copy
    done = stage.worker(outbound(method="CANCEL", uri=stand_in))
    told = [action for action in done if isinstance(action, edges.ToWorker)]
    assert len(told) == 2 and the(edges.Withdraw, done)


def test_answers_to_what_was_never_asked_are_dropped() -> None:
    stage = Stage()
    _, outer = dialled(stage)
    forged = response(outer, 200, "OK", "Contact: <sip:evil@192.0.2.66>", body=BODY)
    forged.headers.set("Via", "SIP/2.0/UDP 203.0.113.1:5060;branch=z9hG4bKguessed")
    assert stage.peer(forged, STRANGER) == []


# -- workers that die --


def test_the_calls_of_a_dead_worker_end_with_a_bye_in_its_name() -> None:
    stage = Stage()
    call, inner = stage.up(request("INVITE", "Record-Route: <sip:192.168.1.9;lr>"))
    stage.worker(worker_request(inner, "INFO", 40))
    own = the(edges.Own, stage.edge.hang_up(call, stage.now_s))
    bye = own.request
    assert (bye.method, bye.uri, bye.cseq[0]) == ("BYE", "sip:ann@192.168.1.50:5070", 41)
    assert bye.tag("From") == "bot" and bye.tag("To") == "ann"
    assert bye.headers.all("Route") == ["<sip:192.168.1.9;lr>"]
    assert own.flow.remote == ("192.168.1.9", 5060)
    assert stage.edge.hang_up(call, stage.now_s) == []


def test_the_bye_of_a_call_out_goes_on_counting() -> None:
    stage = Stage()
    call, outer = dialled(stage)
    stage.peer(response(outer, 200, "OK", "Contact: <sip:42@192.0.2.30>", body=BODY), TARGET)
    bye = the(edges.Own, stage.edge.hang_up(call, stage.now_s)).request
    assert bye.cseq == (outer.cseq[0] + 1, "BYE")


def test_a_call_out_goes_nowhere_else_than_it_was_told() -> None:
    stage = Stage()
    call, outer = dialled(stage)
    elsewhere = outbound(number=2, branch="z9hG4bK2", uri="sip:+9001@192.0.2.99")
    refused = at_worker(stage.worker(elsewhere))
    assert isinstance(refused, Response) and refused.status == 403
    stage.peer(response(outer, 302, "Moved", "Contact: <sip:+9001@192.0.2.99>"), TARGET)
    assert call.is_over
    refused = at_worker(stage.worker(elsewhere))
    assert isinstance(refused, Response) and refused.status == 403


def test_calls_that_ring_in_a_dead_worker_are_refused() -> None:
    stage = Stage()
    call, _ = stage.ringing(INVITE)
    done = stage.edge.hang_up(call, stage.now_s)
    cancel = at_worker(done)
    assert isinstance(cancel, Request) and cancel.method == "CANCEL"
    assert statuses(done) == [500]
    stage = Stage()
    early_media(stage)
    done = stage.edge.hang_up(stage.edge.book.calls["call@phone"], stage.now_s)
    bye = at_worker(done)
    assert isinstance(bye, Request) and bye.method == "BYE"
    assert statuses(done) == [500]


def test_a_worker_that_answers_too_late_is_hung_up_on() -> None:
    stage = Stage()
    call, inner = stage.ringing(INVITE)
    stage.edge.hang_up(call, stage.now_s, Refusal(408))
    done = stage.worker(response(inner, 200, "OK", CONTACT, SDP, body=BODY))
    told = [parse_message(item.data) for item in done if isinstance(item, edges.ToWorker)]
    assert [message.method for message in told if isinstance(message, Request)] == ["ACK", "BYE"]
    assert statuses(done) == []


def test_calls_that_were_made_by_a_dead_worker_are_taken_back() -> None:
    stage = Stage()
    call, outer = dialled(stage)
    cancel = at_peer(stage.edge.hang_up(call, stage.now_s))
    assert isinstance(cancel, Request) and cancel.method == "CANCEL"
    assert cancel.via.parameters.get("branch") == outer.via.parameters.get("branch")
    assert (cancel.cseq[0], cancel.uri) == (1, outer.uri)


def test_a_call_that_nobody_answers_is_forgotten() -> None:
    stage = Stage()
    stage.ringing(INVITE)
    stage.now_s += UNANSWERED_S + 1
    assert statuses(stage.edge.tick(stage.now_s)) == [408]


# -- audio --


class Relay:
    outside_port = 20000
    inside_port = 45000

    def __init__(self) -> None:
        self.aimed: list[tuple[str, int]] = []
        self.answered: list[int] = []

    def aim(self, host: str, port: int) -> None:
        self.aimed.append((host, port))

    def answer(self, port: int) -> None:
        self.answered.append(port)


OUTSIDE = STRANGER


def test_a_relay_stands_between_both_descriptions() -> None:
    relay = Relay()
    stage = Stage(relays=lambda call_id: relay)
    _, inner = stage.ringing(INVITE)
    assert b"m=audio 45000 " in inner.body and b"127.0.0.1" in inner.body
    answer = at_peer(stage.worker(response(inner, 200, "OK", CONTACT, body=BODY)))
    assert b"m=audio 20000 " in answer.body and b"127.0.0.1" not in answer.body
    assert (relay.aimed, relay.answered) == ([("192.168.1.50", 40000)], [30000])


@pytest.mark.parametrize(
    ("mode", "flow", "wanted"),
    [
        ("auto", PEER, False),
        ("auto", OUTSIDE, True),
        ("always", PEER, True),
        ("off", OUTSIDE, False),
    ],
)
def test_who_needs_a_relay(mode: str, flow: Flow, wanted: bool) -> None:
    stage = Stage(symmetric_rtp=mode, allow=("0.0.0.0/0",))
    assert stage.passage.wants_relay(stage.asked(INVITE, flow), flow) is wanted


def test_of_a_callee_nothing_is_known_before_it_answers() -> None:
    for mode in ("auto", "always"):
        stage = Stage(symmetric_rtp=mode)
        call, _ = dialled(stage)
        assert stage.passage.wants_relay(call, TARGET) is (mode == "always")


def test_keys_that_were_not_offered_are_not_answered() -> None:
    stage = Stage()
    _, inner = stage.ringing(INVITE)
    keys = BODY + "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:abc\n"
    answer = at_peer(stage.worker(response(inner, 200, "OK", CONTACT, body=keys)))
    assert b"crypto" not in answer.body
