"""Who may call, and who learns that there is anything here."""

import pytest

from talkpath.agent.metrics import Registry, render_prometheus
from talkpath.agent.sip.access import Access, Admit, Challenge, Ignore, Refuse
from talkpath.agent.sip.digest_client import DigestClient
from talkpath.agent.sip.message import Headers, Request, Response
from talkpath.agent.sip.trunks import Trunk
from talkpath.agent.sip_sections import SipConfig

STRANGER = "198.51.100.9"
CARRIER = Trunk(name="carrier", addresses=("203.0.113.0/24",))
PROVEN = Trunk(
    name="proven", addresses=("192.0.2.5",), user="acct", password="s3cret", challenge=True
)
NAMED = Trunk(name="named", servers=("sip:sip.example.com", "sip:[2001:db8::5]:5070"), user="me")


def _request(method: str = "INVITE", uri: str = "sip:100@x", **headers: str) -> Request:
    named = [(name.replace("_", "-"), value) for name, value in headers.items()]
    return Request(Headers([("Call-ID", "1"), ("CSeq", f"1 {method}"), *named]), b"", method, uri)


def _access(*users: str, rate: float = 10.0) -> Access:
    allow = ("10.0.0.0/8", "fd00::/8")
    digests = ("sha-256", "md5")
    config = SipConfig(users=users, requests_per_s=rate, allow=allow, digests=digests)
    return Access(config, (CARRIER, PROVEN, NAMED))


def _answer(challenge: object, user: str, password: str, which: int = 0) -> Request:
    assert isinstance(challenge, Challenge)
    response = Response(Headers([("WWW-Authenticate", challenge.headers[which])]), b"", 401, "")
    proof = DigestClient(user, password).answer(response, _request())
    assert proof is not None
    return _request(Authorization=proof[1])


@pytest.mark.parametrize("address", ["10.1.2.3", "::ffff:10.1.2.3", "fd00::1%eth0"])
def test_allowed_networks_need_no_password(address: str) -> None:
    assert _access("a:b").judge(_request(), address, 0.0) == Admit()
    assert _access().judge(_request("OPTIONS"), address, 0.0) == Admit()


def test_trunks_are_known_by_their_addresses() -> None:
    access = _access()
    assert access.judge(_request(), "203.0.113.77", 0.0) == Admit(CARRIER)
    assert access.judge(_request(), "2001:db8::5", 0.0) == Admit(NAMED)


def test_what_a_trunks_servers_are_called_is_learned() -> None:
    access = _access()
    assert access.judge(_request(), "198.51.100.1", 0.0) == Ignore("stranger")
    access.learn("named", ["198.51.100.1", "198.51.100.2"])
    assert access.judge(_request(), "198.51.100.1", 0.0) == Admit(NAMED)
    access.learn("named", ["198.51.100.2"])
    assert access.judge(_request(), "198.51.100.1", 0.0) == Ignore("stranger")
    assert access.judge(_request(), "2001:db8::5", 0.0) == Admit(NAMED)
    with pytest.raises(KeyError):
        access.learn("nobody", [])


def test_of_two_trunks_at_one_address_the_one_called_by_its_user_counts() -> None:
    one, two = (Trunk(name=n, addresses=("192.0.2.0/24",), user=n) for n in ("one", "two"))
    access = Access(SipConfig(), (one, two))
    assert access.judge(_request(uri="sip:two@here"), "192.0.2.1", 0.0) == Admit(two)
    assert access.judge(_request(uri="sip:+4930@here"), "192.0.2.1", 0.0) == Admit(one)
    assert access.judge(_request(uri="sip:two"), "192.0.2.1", 0.0) == Admit(one)


def test_a_trunk_may_have_to_prove_its_password() -> None:
    access = _access()
    challenge = access.judge(_request(), "192.0.2.5", 0.0)
    proven = access.judge(_answer(challenge, "acct", "s3cret"), "192.0.2.5", 1.0)
    assert proven == Admit(PROVEN, "acct")


def test_strangers_hear_nothing_where_no_phone_may_call_from_anywhere() -> None:
    access = _access()
    for method in ("INVITE", "OPTIONS", "REGISTER", "SUBSCRIBE", "BYE"):
        assert access.judge(_request(method), STRANGER, 0.0) == Ignore("stranger")
    assert access.ignored.values == {"stranger": 5}


def test_a_phone_with_a_password_may_call_from_anywhere() -> None:
    access = _access("alice:s3cret", "bob:with:colon")
    assert access.judge(_request("OPTIONS"), STRANGER, 0.0) == Ignore("stranger")
    challenge = access.judge(_request(), STRANGER, 0.0)
    assert isinstance(challenge, Challenge)
    assert ["SHA-256" in header for header in challenge.headers] == [True, False]
    for which, user, password in ((0, "alice", "s3cret"), (1, "bob", "with:colon")):
        request = _answer(access.judge(_request(), STRANGER, 0.0), user, password, which)
        assert access.judge(request, STRANGER, 1.0) == Admit(None, user)


def test_names_that_exist_and_names_that_do_not_get_the_same_answer() -> None:
    access = _access("alice:s3cret")
    said = []
    for user in ("alice", "nobody"):
        first = access.judge(_request(From=f"<sip:{user}@x>"), STRANGER, 0.0)
        again = access.judge(_answer(first, user, "guess"), STRANGER, 0.0)
        assert isinstance(first, Challenge) and isinstance(again, Challenge)
        assert "stale" not in again.headers[0]
        said.append([len(header) for header in (*first.headers, *again.headers)])
    assert said[0] == said[1]


def test_only_what_is_offered_is_taken() -> None:
    """Phones of the year 2020 give up where SHA-256 is offered, so it is the owner's choice."""
    old = Access(SipConfig(users=("alice:s3cret",)), ())
    new = Access(SipConfig(users=("alice:s3cret",), digests=("sha-256",)), ())
    offered = old.judge(_request(), STRANGER, 0.0)
    assert isinstance(offered, Challenge)
    assert ["algorithm=MD5" in header for header in offered.headers] == [True]
    challenge = new.judge(_request(), STRANGER, 0.0)
    assert isinstance(challenge, Challenge)
    weaker = Challenge((challenge.headers[0].replace("SHA-256", "MD5"),))
    request = _answer(weaker, "alice", "s3cret")
    assert isinstance(new.judge(request, STRANGER, 1.0), Challenge)
    request = _answer(challenge, "alice", "s3cret")
    assert new.judge(request, STRANGER, 1.0) == Admit(None, "alice")


def test_a_nonce_that_is_too_old_is_called_stale() -> None:
    access = _access("alice:s3cret")
    request = _answer(access.judge(_request(), STRANGER, 0.0), "alice", "s3cret")
    again = access.judge(request, STRANGER, 1000.0)
    assert isinstance(again, Challenge) and "stale=true" in again.headers[0]
    proven = access.judge(_answer(again, "alice", "s3cret"), STRANGER, 1001.0)
    assert proven == Admit(None, "alice")


@pytest.mark.parametrize(
    "headers",
    [
        {"User_Agent": "friendly-scanner"},
        {"User_Agent": "sipcli/v1.8"},
        {"user_agent": "VaxSIPUserAgent/3.1"},
        {"User_Agent": "Sundayddr"},
        {"From": '"sipvicious"<sip:100@1.1.1.1>;tag=1'},
        {"t": '"sipvicious"<sip:100@1.1.1.1>'},
        {"Contact": "<sip:pplsip@192.0.2.1>"},
        {"From": "<sip:nm@nm>;tag=root"},
    ],
)
def test_scanners_meet_silence_even_from_allowed_addresses(headers: dict[str, str]) -> None:
    access = _access("alice:s3cret")
    for address in (STRANGER, "10.1.2.3", "203.0.113.1"):
        assert access.judge(_request(**headers), address, 0.0) == Ignore("scanner")


def test_people_whose_names_resemble_scanners_may_call() -> None:
    request = _request(From='"Tiwari" <sip:team@nmusic.example>', User_Agent="Acrosip-cli")
    assert _access().judge(request, "10.1.2.3", 0.0) == Admit()


def test_who_asks_too_often_is_told_to_wait_or_ignored() -> None:
    access = _access("alice:s3cret", rate=2.0)
    for _ in range(6):
        assert access.judge(_request(), "10.1.2.3", 0.0) == Admit()
        assert isinstance(access.judge(_request(), STRANGER, 0.0), Challenge)
    verdict = access.judge(_request(), "10.1.2.3", 0.0)
    assert isinstance(verdict, Refuse)
    assert (verdict.status, dict(verdict.headers)) == (503, {"Retry-After": "5"})
    assert access.judge(_request(), STRANGER, 0.0) == Ignore("rate")
    assert access.judge(_request(), "10.1.2.4", 0.0) == Admit()
    assert access.judge(_request(), "10.1.2.3", 0.5) == Admit()


def test_ipv6_strangers_are_counted_by_network() -> None:
    access = _access("alice:s3cret", rate=1.0)
    for number in range(3):
        assert isinstance(access.judge(_request(), f"2001:db8:1::{number}", 0.0), Challenge)
    assert access.judge(_request(), "2001:db8:1::ffff", 0.0) == Ignore("rate")
    assert isinstance(access.judge(_request(), "2001:db8:1:1::1", 0.0), Challenge)


def test_who_guesses_passwords_is_locked_out() -> None:
    access = _access("alice:s3cret", rate=100.0)
    for guess in range(10):
        request = _answer(access.judge(_request(), STRANGER, guess), "alice", f"guess {guess}")
        assert isinstance(access.judge(request, STRANGER, guess), Challenge)
    assert access.judge(_request(), STRANGER, 10.0) == Ignore("locked")
    assert isinstance(access.judge(_request(), "198.51.100.10", 10.0), Challenge)
    assert isinstance(access.judge(_request(), STRANGER, 610.0), Challenge)


def test_nobody_can_lock_out_another_by_forging_an_address() -> None:
    access = _access("alice:s3cret", rate=100.0)
    forged = _answer(access.judge(_request(), STRANGER, 0.0), "alice", "wrong")
    for _ in range(50):
        assert isinstance(access.judge(forged, "198.51.100.10", 1.0), Challenge)
    assert isinstance(access.judge(_request(), "198.51.100.10", 1.0), Challenge)


def test_what_is_ignored_is_counted_by_reason() -> None:
    registry = Registry()
    access = Access(SipConfig(), (), registry)
    access.judge(_request(), "not an address", 0.0)
    access.judge(_request(), STRANGER, 0.0)
    text = render_prometheus(registry)
    assert 'talkpath_sip_ignored_total{reason="address"} 1\n' in text
    assert 'talkpath_sip_ignored_total{reason="stranger"} 1\n' in text
