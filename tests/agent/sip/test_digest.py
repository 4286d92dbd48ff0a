"""Digest, against the examples of the standards, and both of our sides against each other."""

import itertools

import pytest

from talkpath.agent.sip.digest import Credentials, parse_auth
from talkpath.agent.sip.digest_client import DigestClient
from talkpath.agent.sip.digest_server import NONCE_S, Checked, DigestServer, Outcome
from talkpath.agent.sip.message import Headers, Request, Response, SipParseError

USERS = {"alice": "s3cret", "bob": "other"}
HOME = "192.0.2.7"


def _invite(*headers: tuple[str, str], number: int = 1) -> Request:
    all_headers = [("Call-ID", "c1"), ("CSeq", f"{number} INVITE"), *headers]
    return Request(Headers(all_headers), b"v=0", "INVITE", "sip:bot@talk.example.com")


def _refused(*challenges: str, status: int = 401) -> Response:
    name = "WWW-Authenticate" if status == 401 else "Proxy-Authenticate"
    return Response(Headers([(name, value) for value in challenges]), b"", status, "no")


def _client(password: str = "s3cret") -> DigestClient:
    numbers = itertools.count(1)
    return DigestClient("alice", password, lambda: f"c{next(numbers)}")


def test_the_proof_is_that_of_rfc_2617_section_3_5() -> None:
    credentials = Credentials(
        username="Mufasa",
        realm="testrealm@host.com",
        nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093",
        uri="/dir/index.html",
        cnonce="0a4f113b",
    )
    assert credentials.proof("Circle Of Life", "GET") == "6629fae49393a05397450978507c4ef1"


@pytest.mark.parametrize(
    ("algorithm", "proof"),
    [
        ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
        ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
    ],
)
def test_the_proof_is_that_of_rfc_7616_section_3_9_1(algorithm: str, proof: str) -> None:
    credentials = Credentials(
        username="Mufasa",
        realm="http-auth@example.org",
        nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v",
        uri="/dir/index.html",
        algorithm=algorithm,
        cnonce="f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ",
    )
    assert credentials.proof("Circle of Life", "GET") == proof


@pytest.mark.parametrize(
    ("algorithm", "qop", "proof"),
    [  # computed with sha256sum and md5sum from the formulas of RFC 7616, 3.4.1 to 3.4.3
        ("MD5-sess", "auth", "350b1f37a92238b6c4d336edf69c1f4b"),
        (
            "SHA-256-sess",
            "auth",
            "8b1e3bd581b62ded4f035b255e61b53ae6b8cc7524cbfd63a29d20af252c7ba7",
        ),
        ("MD5", "auth-int", "a78da2ab7e9410d1bdb93ee596cfdca2"),
        ("MD5", "", "f1360bea1a4221b5ee937bec4052dd1b"),
    ],
)
def test_sessions_bodies_and_old_servers_have_proofs_of_their_own(
    algorithm: str, qop: str, proof: str
) -> None:
    credentials = Credentials("u", "r", "n", "sip:x", algorithm, qop, cnonce="c")
    assert credentials.proof("p", "REGISTER", b"body") == proof


def test_the_strongest_challenge_is_answered() -> None:
    name_and_value = _client().answer(
        _refused(
            'Basic realm="r"',
            'Digest realm="r", nonce="md5", algorithm=MD5, qop="auth"',
            'Digest realm="r", nonce="sha", algorithm=sha-256, qop="auth-int,auth", opaque="o,"',
            'Digest realm="r", nonce="new", algorithm=SHA-512-256, qop="auth"',
            'Digest realm="r", algorithm=SHA-256',
            'Digest realm="r", nonce="odd", qop="auth-conf"',
            "rubbish",
            'Digest realm="r',
        ),
        _invite(),
    )
    assert name_and_value is not None
    name, value = name_and_value
    _, given = parse_auth(value)
    assert name == "Authorization"
    assert given.pop("response") == (
        Credentials(
            *("alice", "r", "sha", "sip:bot@talk.example.com", "SHA-256", "auth", "c1")
        ).proof("s3cret", "INVITE")
    )
    assert given == {
        "username": "alice",
        "realm": "r",
        "nonce": "sha",
        "uri": "sip:bot@talk.example.com",
        "algorithm": "SHA-256",
        "cnonce": "c1",
        "qop": "auth",
        "nc": "00000001",
        "opaque": "o,",
    }


def test_an_old_server_gets_an_old_answer() -> None:
    name_and_value = _client().answer(_refused('Digest realm="r",nonce="n"', status=407), _invite())
    assert name_and_value is not None
    assert name_and_value[0] == "Proxy-Authorization"
    assert list(parse_auth(name_and_value[1])[1]) == [
        *("username", "realm", "nonce", "uri", "response")
    ]


def test_a_wrong_password_is_tried_once() -> None:
    client = _client()
    assert client.reuse("REGISTER", "sip:x") is None
    assert client.answer(Response(status=403), _invite()) is None
    assert client.answer(_refused("Basic realm=x"), _invite()) is None
    first = client.answer(_refused('Digest realm="r", nonce="1", qop="auth"'), _invite())
    assert first is not None
    second = _refused('Digest realm="r", nonce="2", qop="auth"')
    assert client.answer(second, _invite(first)) is None
    assert client.answer(second, _invite()) is not None


def test_a_nonce_is_used_again_until_the_server_wants_another() -> None:
    client = _client()
    assert client.answer(_refused('Digest realm="r", nonce="1", qop="auth"'), _invite())
    again = client.reuse("REGISTER", "sip:x")
    assert again is not None
    assert parse_auth(again[1])[1]["nc"] == "00000002"
    # Many servers just challenge anew, without "stale": that is no wrong password.
    renewed = client.answer(_refused('Digest realm="r", nonce="2", qop="auth"'), _invite(again))
    assert renewed is not None
    stale = _refused('Digest realm="r", nonce="3", qop="auth", stale=TRUE')
    assert client.answer(stale, _invite(renewed)) is not None


@pytest.mark.parametrize("which", [0, 1])
def test_who_knows_the_password_passes_with_every_algorithm(which: int) -> None:
    server, client = DigestServer('the "house"'), _client()
    assert server.check(_invite(), USERS, HOME, 5.0) == Checked(Outcome.MISSING)
    challenge = server.challenge(HOME, 5.0)[which]
    proof = client.answer(_refused(challenge), _invite())
    assert proof is not None
    server = DigestServer('the \\"house\\"', secret=server._secret)
    assert server.check(_invite(proof), USERS, HOME, 6.0) == Checked(Outcome.RIGHT, "alice")


def _proof(server: DigestServer, password: str = "s3cret", address: str = HOME) -> tuple[str, str]:
    proof = _client(password).answer(_refused(*server.challenge(address, 5.0)), _invite())
    assert proof is not None
    return proof


def test_a_wrong_name_or_password_is_seen() -> None:
    server = DigestServer("r")
    assert server.check(_invite(_proof(server, "x")), USERS, HOME, 6.0).outcome is Outcome.WRONG
    proof = _proof(server)
    assert server.check(_invite(proof), {"bob": "s3cret"}, HOME, 6.0).outcome is Outcome.WRONG
    elsewhere = _invite(proof)
    elsewhere.uri = "sip:another@talk.example.com"
    assert server.check(elsewhere, USERS, HOME, 6.0).outcome is Outcome.WRONG
    forwarded = _invite(proof)
    forwarded.uri = "sip:bot@192.0.2.9:5060;transport=tcp"
    assert server.check(forwarded, USERS, HOME, 6.0).outcome is Outcome.RIGHT


def test_some_phones_say_only_the_host() -> None:
    server, client = DigestServer("r"), _client()
    bare = Request(Headers(), b"", "INVITE", "sip:talk.example.com:5060")
    proof = client.answer(_refused(*server.challenge(HOME, 5.0)), bare)
    assert proof is not None
    assert server.check(_invite(proof), USERS, HOME, 6.0).outcome is Outcome.RIGHT


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("qop=auth", "qop=auth-int"),
        ("nc=00000001", "nc=1"),
        ("algorithm=SHA-256", "algorithm=MD5-sess"),
        ('cnonce="c1"', 'cnonce=""'),
        ("uri=", "url="),
        ("username=", "name="),
        ("response=", "proof="),
    ],
)
def test_an_answer_to_another_question_is_wrong(old: str, new: str) -> None:
    server = DigestServer("r")
    name, value = _proof(server)
    assert old in value
    request = _invite((name, value.replace(old, new)))
    assert server.check(request, USERS, HOME, 6.0).outcome is Outcome.WRONG


def test_nonces_count_for_one_address_and_a_while() -> None:
    server = DigestServer("r")
    proof = _proof(server)
    assert server.check(_invite(proof), USERS, "192.0.2.8", 6.0).outcome is Outcome.STALE
    assert server.check(_invite(proof), USERS, HOME, 6.0 + NONCE_S).outcome is Outcome.STALE
    forged = _invite((proof[0], proof[1].replace('nonce="5-', 'nonce="6-')))
    assert server.check(forged, USERS, HOME, 6.0).outcome is Outcome.STALE
    assert all("stale=true" in one for one in server.challenge(HOME, 5.0, stale=True))
    assert server.challenge(HOME, 5.0) != server.challenge(HOME, 5.0)


def test_what_is_no_text_is_no_nonce() -> None:
    request = _invite(("Authorization", 'Digest realm="r", nonce="1-\udcff-\udcfe"'))
    assert DigestServer("r").check(request, USERS, HOME, 5.0).outcome is Outcome.STALE


def test_a_recorded_request_is_of_no_use() -> None:
    server = DigestServer("r")
    request = _invite(_proof(server))
    assert server.check(request, USERS, HOME, 6.0).outcome is Outcome.RIGHT
    assert server.check(request, USERS, HOME, 6.0).outcome is Outcome.RIGHT, "the same, sent again"
    later = _invite(*list(request.headers)[2:], number=2)
    assert server.check(later, USERS, HOME, 6.0).outcome is Outcome.STALE
    nameless = Request(Headers([_proof(server)]), b"", "INVITE", request.uri)
    assert server.check(nameless, USERS, HOME, 6.0).outcome is Outcome.STALE


def test_a_nonce_may_be_used_for_several_requests() -> None:
    server, client = DigestServer("r"), _client()
    assert client.answer(_refused(*server.challenge(HOME, 5.0)), _invite())
    for number in (2, 3):
        proof = client.reuse("INVITE", "sip:bot@talk.example.com")
        assert proof is not None
        checked = server.check(_invite(proof, number=number), USERS, HOME, 6.0)
        assert checked.outcome is Outcome.RIGHT


def test_only_so_many_nonces_are_remembered() -> None:
    server = DigestServer("r", capacity=3)
    for _ in range(5):
        assert server.check(_invite(_proof(server)), USERS, HOME, 6.0).outcome is Outcome.RIGHT
    assert len(server._used) == 3


@pytest.mark.parametrize(
    "value",
    [
        "rubbish",
        'Digest realm="another", nonce="n"',
        'Digest realm="r"',
        "Basic YTpi",
        'Basic realm="r", nonce="n"',
    ],
)
def test_credentials_for_somebody_else_are_none(value: str) -> None:
    request = _invite(("Authorization", value))
    assert DigestServer("r").check(request, USERS, HOME, 5.0).outcome is Outcome.MISSING


@pytest.mark.parametrize(
    "value", ["", "Digest", "Digest a", "Digest a=b c", 'Digest a="b', "D a=1,A=2"]
)
def test_headers_that_cannot_be_read_are_refused(value: str) -> None:
    with pytest.raises(SipParseError):
        parse_auth(value)


def test_quotes_and_commas_inside_quotes_are_text() -> None:
    assert parse_auth(r'Digest a="x, \"y\"" , B = z,, c="",') == (
        "digest",
        {"a": r"x, \"y\"", "b": "z", "c": ""},
    )
