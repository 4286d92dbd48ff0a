"""Carriers' first messages, tickets and settings."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from talkpath.agent.carrier_access import Facts, Tickets, shows_token, twilio_signed
from talkpath.agent.carriers import CARRIERS, CarrierCall, Handshake, HandshakeError
from talkpath.agent.config import load_config
from talkpath.agent.errors import ConfigError
from tests.transports.carrier_peer import CARRIERS as PEERS
from tests.transports.carrier_peer import EXOTEL_START, PLIVO_START, TELNYX_START, VONAGE_START


def announced(carrier: str, *messages: dict[str, Any]) -> CarrierCall:
    handshake = Handshake(carrier)
    calls = [handshake.receive(json.dumps(message)) for message in messages]
    assert calls[:-1] == [None] * (len(calls) - 1)
    assert calls[-1] is not None
    return calls[-1]


def start(message: dict[str, Any], **changed: Any) -> dict[str, Any]:
    return {**message, "start": {**message["start"], **changed}}


@pytest.mark.parametrize("carrier", CARRIERS)
def test_each_carrier_announces_a_call_with_its_parameters(carrier: str) -> None:
    call = announced(carrier, *PEERS[carrier].opening)
    assert call.carrier == carrier
    assert dict(call.parameters) == {"campaign": "7"}
    assert call.rate_hz == PEERS[carrier].rate_hz
    assert (call.encoding == "pcm16") is PEERS[carrier].linear
    assert not call.probe


def test_rates_and_codecs_are_taken_as_the_carrier_says() -> None:
    alaw = start(TELNYX_START, media_format={"encoding": "PCMA", "sample_rate": 8000})
    assert announced("telnyx", alaw).encoding == "alaw"
    wide = start(EXOTEL_START, media_format={"encoding": "base64", "sample_rate": "24000"})
    assert announced("exotel", wide).rate_hz == 24_000
    narrow = {**VONAGE_START, "content-type": "audio/l16;rate=8000"}
    assert announced("vonage", narrow).rate_hz == 8_000


@pytest.mark.parametrize("text", ["a=1;b=2", "a=1,b=2", '{"a": "1", "b": 2}'])
def test_parameters_may_come_as_one_text(text: str) -> None:
    call = announced("plivo", {**PLIVO_START, "extra_headers": text})
    assert dict(call.parameters) == {"a": "1", "b": "2"}


@pytest.mark.parametrize(
    ("carrier", "message"),
    [
        ("telnyx", start(TELNYX_START, media_format={"encoding": "OPUS", "sample_rate": 8000})),
        ("telnyx", start(TELNYX_START, media_format={"encoding": "PCMU", "sample_rate": True})),
        ("exotel", start(EXOTEL_START, media_format={"sample_rate": "44100"})),
        ("exotel", start(EXOTEL_START, media_format=[])),
        ("plivo", start(PLIVO_START, mediaFormat={"encoding": "audio/x-l16"})),
        ("plivo", {**PLIVO_START, "extra_headers": "{"}),
        ("plivo", {**PLIVO_START, "extra_headers": {"a": "x" * 2_000}}),
        ("plivo", {**PLIVO_START, "extra_headers": {str(number): "" for number in range(65)}}),
        ("vonage", {**VONAGE_START, "content-type": "audio/l16;rate=44100"}),
        ("vonage", {"event": "websocket:connected"}),
        ("genesys", {**PEERS["genesys"].opening[0], "version": "1"}),
        ("genesys", {**PEERS["genesys"].opening[0], "parameters": {"media": [{}, 1, None]}}),
        ("plivo", {"event": "connected"}),
        ("twilio", {"event": "stop"}),
    ],
)
def test_a_call_that_we_could_not_serve_is_refused(carrier: str, message: dict[str, Any]) -> None:
    with pytest.raises(HandshakeError):
        Handshake(carrier).receive(json.dumps(message))


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner),
    max_leaves=12,
)


@given(st.sampled_from(CARRIERS), st.data())
@settings(max_examples=300, deadline=None)
def test_whatever_is_said_first_nothing_but_the_documented_error_escapes(
    carrier: str, data: st.DataObject
) -> None:
    # A real opening in which one value, at any depth, is another.
    message = json.loads(json.dumps(PEERS[carrier].opening[-1]))
    place: Any = message
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = data.draw(st.sampled_from(keys))
        if isinstance(place[key], (dict, list)) and place[key] and data.draw(st.booleans()):
            place = place[key]
            continue
        place[key] = data.draw(_JSON)
        break
    try:
        call = Handshake(carrier).receive(json.dumps(message))
    except HandshakeError:
        return
    if call is not None:
        json.dumps(call.body())
        assert call.rate_hz in (8_000, 16_000, 24_000)


def test_a_ticket_is_good_once_soon_and_for_its_carrier() -> None:
    now = 100.0
    tickets = Tickets(lambda: now, most=2, life_s=60)
    facts = Facts("twilio", "CA1", "", "", {})
    first = tickets.issue(facts)
    assert tickets.redeem("plivo", first) is None
    assert tickets.redeem("twilio", first) is facts
    assert tickets.redeem("twilio", first) is None
    late = tickets.issue(facts)
    now += 61
    assert tickets.redeem("twilio", late) is None
    crowd = [tickets.issue(facts) for _ in range(3)]
    assert len(tickets) == 2
    assert [tickets.redeem("twilio", ticket) for ticket in crowd] == [None, facts, facts]


def test_no_token_opens_nothing_and_odd_ones_do_no_harm() -> None:
    assert not shows_token("", {"x-api-key": ""}, "token=")
    assert not shows_token("secret", {"authorization": "Basic /w==", "x-api-key": "é"}, "token=ü")
    assert not twilio_signed("", "AAAA", ["https://a.example/twilio"])
    assert not twilio_signed("12345", "é", ["https://a.example/twilio"])


def test_twilios_own_example_has_the_signature_that_its_documentation_gives() -> None:
    form = {
        "CallSid": "CA1234567890ABCDE",
        "Caller": "+12349013030",
        "Digits": "1234",
        "From": "+12349013030",
        "To": "+18005551212",
    }
    url = "https://mycompany.com/myapp.php?foo=1&bar=2"
    given = "0/KCTR6DLpKmkAf8muzZqo1nDgQ="
    assert twilio_signed("12345", given, [url], form.items())
    assert twilio_signed("12345", given, [url.replace(".com/", ".com:443/")], form.items())
    assert not twilio_signed("12346", given, [url], form.items())


@pytest.mark.parametrize(
    ("name", "value"),
    [("token", "short"), ("token", "with spaces in its middle"), ("url", "bot.example.org")],
)
def test_settings_that_cannot_work_are_refused(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=f"carriers.{name}") as refusal:
        load_config(environ={f"TALKPATH_CARRIERS_{name.upper()}": value})
    if name == "token":
        assert value not in str(refusal.value)
