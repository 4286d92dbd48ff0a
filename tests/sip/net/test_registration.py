import pytest

from talkpath.agent.sip.message import Headers, Response, SipParseError
from talkpath.agent.sip.registration import (
    Backoff,
    Registration,
    granted_s,
    least_s,
    moved_to,
    retry_after_s,
    seen_at,
)

_OURS = "sip:alice@192.0.2.1:5060;transport=tcp"


def _response(**headers: str) -> Response:
    items = [(name.replace("_", "-"), value) for name, value in headers.items()]
    return Response(Headers(items), b"", 200, "OK")


@pytest.mark.parametrize(("granted", "refreshed"), [(3600, 2700), (600, 450), (60, 30), (2, 1)])
def test_a_registration_is_refreshed_well_before_its_end(granted: int, refreshed: int) -> None:
    registration = Registration(2, 600)
    registration.succeeded(1000.0, granted)
    assert registration.due_s == 1000.0 + refreshed
    registration.expire(1000.0 + granted - 0.1)
    assert registration.registered
    registration.expire(1000.0 + granted)
    assert not registration.registered


def test_the_next_server_is_asked_at_once_and_all_of_them_after_a_wait() -> None:
    registration = Registration(3, 600, chance=lambda: 1.0)
    for server in (0, 1):
        assert registration.server == server
        registration.failed(50.0, "no")
        assert registration.due_s == 50.0
    registration.failed(50.0, "no")
    assert (registration.server, registration.due_s) == (0, 110.0)
    assert (registration.failures, registration.reason) == (3, "no")


def test_waits_double_up_to_half_an_hour_and_are_spread() -> None:
    backoff = Backoff()
    assert [backoff.wait_s(rounds, 1.0) for rounds in (1, 2, 3, 6, 7, 10_000)] == [
        60.0,
        120.0,
        240.0,
        1800.0,
        1800.0,
        1800.0,
    ]
    assert backoff.wait_s(1, 0.0) == 30.0
    registration = Registration(1, 600)
    registration.failed(0.0, "no")
    assert 30.0 <= registration.due_s <= 60.0


def test_success_forgets_what_failed_before_and_stays_with_its_server() -> None:
    registration = Registration(2, 600, chance=lambda: 1.0)
    registration.failed(0.0, "no")
    registration.succeeded(1.0, 600)
    assert (registration.server, registration.failures, registration.reason) == (1, 0, "")
    registration.failed(451.0, "it died")
    assert registration.registered, "it still holds while others are asked"
    assert (registration.server, registration.due_s) == (0, 451.0)
    registration.failed(451.0, "it died as well")
    assert registration.due_s == 511.0
    registration.expire(601.0)
    assert not registration.registered


def test_a_server_that_wants_to_be_left_alone_is() -> None:
    registration = Registration(1, 600, chance=lambda: 0.0)
    registration.failed(0.0, "busy", retry_after_s=300)
    assert registration.due_s == 300.0
    registration.failed(300.0, "busy", retry_after_s=10**9)
    assert registration.due_s == 2100.0, "but not for ever"


def test_a_registrar_may_want_longer_times_within_reason() -> None:
    registration = Registration(1, 60)
    assert registration.too_brief(300)
    assert registration.expires_s == 300
    assert not registration.too_brief(300), "that is what it was asked for"
    assert not registration.too_brief(10**8)
    assert not registration.too_brief(0)


def test_a_lost_connection_registers_anew_at_once_but_not_in_a_circle() -> None:
    registration = Registration(1, 600)
    registration.lost(5.0)
    assert registration.due_s == 0.0
    registration.succeeded(10.0, 600)
    registration.lost(100.0)
    assert (registration.registered, registration.due_s) == (False, 100.0)
    registration.succeeded(100.0, 600)
    registration.lost(100.1)
    assert registration.due_s == 105.0


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, 600),
        ({"Expires": "120"}, 120),
        ({"Contact": f"<{_OURS}>;expires=90", "Expires": "120"}, 90),
        ({"Contact": f'<sip:bob@192.0.2.9>;expires=5, "A" <{_OURS}>;q=1;expires=77'}, 77),
        ({"Contact": "<sip:alice@203.0.113.5:1024>;expires=33"}, 33),
        ({"Contact": "<sip:a@192.0.2.9>;expires=5, <sip:b@192.0.2.9>;expires=6"}, 600),
        ({"Contact": f"<{_OURS}>;expires=soon", "Expires": "120"}, 600),
        ({"Contact": f"<{_OURS}>;expires=0"}, 0),
    ],
)
def test_what_was_granted_is_what_the_registrar_says_of_our_contact(
    headers: dict[str, str], expected: int
) -> None:
    assert granted_s(_response(**headers), _OURS, 600) == expected


def test_headers_that_cannot_be_read_are_an_error_or_nothing() -> None:
    with pytest.raises(SipParseError, match="Contact cannot be read"):
        granted_s(_response(Contact="<what> is this"), _OURS, 600)
    assert least_s(_response()) == least_s(_response(Min_Expires="-1")) == 0
    assert least_s(_response(Min_Expires=" 1800 ")) == 1800
    assert retry_after_s(_response(Retry_After="120 (in a meeting);duration=60")) == 120
    assert retry_after_s(_response(Retry_After="later")) == 0


@pytest.mark.parametrize(
    ("parameters", "reliable", "seen"),
    [
        ("rport=1024;received=203.0.113.5", False, "203.0.113.5:1024"),
        ("rport=1024;received=203.0.113.5", True, "203.0.113.5:1024"),
        ("rport=1024", False, "10.0.0.1:1024"),
        ("rport=1024", True, ""),  # a connection's own port
        ("rport=5060;received=10.0.0.1", False, ""),
        ("received=203.0.113.5", False, ""),
        ("rport;received=203.0.113.5", False, ""),
        ("rport=1024;received=[2001:db8::5]", False, "[2001:db8::5]:1024"),
        ("rport=99999;received=203.0.113.5", False, ""),
        ("rport=1024;received=pbx.example.com", False, ""),
        ("", False, ""),
    ],
)
def test_where_we_are_seen_is_what_via_says(parameters: str, reliable: bool, seen: str) -> None:
    via = f"SIP/2.0/UDP 10.0.0.1:5060;branch=z9hG4bKa;{parameters}".rstrip(";")
    assert seen_at(_response(Via=via), "10.0.0.1:5060", reliable=reliable) == seen


def test_the_address_of_ipv6_is_the_same_however_it_is_written() -> None:
    response = _response(Via="SIP/2.0/UDP [2001:db8::1];rport=5060;received=2001:DB8:0::1")
    assert seen_at(response, "[2001:db8::1]:5060", reliable=False) == ""


@pytest.mark.parametrize(
    ("status", "contact", "location"),
    [
        (302, "<sip:one.test>;q=0.2, <sips:two.test:5071>;q=0.9", "sips:two.test:5071"),
        (301, "<mailto:a@b.test>, <sip:one.test>", "sip:one.test"),
        (300, "<sip:one.test>;q=high, <sip:two.test>", "sip:two.test"),
        (302, "<mailto:a@b.test>", "None"),
        (302, "what is this <", "None"),
        (305, "<sip:one.test>", "None"),
    ],
)
def test_a_registrar_may_send_us_to_another_one(status: int, contact: str, location: str) -> None:
    response = _response(Contact=contact)
    assert str(moved_to(Response(response.headers, b"", status, ""))) == location


def test_a_registration_without_a_server_is_none() -> None:
    with pytest.raises(ValueError, match="needs a server"):
        Registration(0, 600)
