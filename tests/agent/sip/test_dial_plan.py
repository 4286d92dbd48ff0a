"""What may be called, and the tricks with which people try to call something else."""

import pytest

from talkpath.agent.errors import ConfigError
from talkpath.agent.sip.dial_plan import DialPlan

PLAN = DialPlan(["+49*", "*67#", "sip:*@pbx.example.com", "sips:desk@[2001:db8::1]:5071"])


def test_nothing_is_permitted_by_default() -> None:
    for target in ("1", "+4930123", "sip:a@b.example", "tel:+4930123", ""):
        assert not DialPlan([]).permits(target)


@pytest.mark.parametrize(
    "target",
    [
        "+4930123",
        "+49 (30) 12-3.4",
        "tel:+49-30-123",
        "TEL:+4930123",
        "*67#",
        "sip:alice@pbx.example.com",
        "SIP:alice@PBX.Example.Com.",
        "sips:alice@pbx.example.com:5061",
        "sip:%61lice@pbx.example.com;transport=tls;user=phone",
        "sip:pbx.example.com",
        "<sip:alice@pbx.example.com>",
        '"Alice, at home" <sip:alice@pbx.example.com;ob>;x=y',
        "sip:alice@pbx.example.com?Replaces=1%40x%3Bto-tag%3D2%3Bfrom-tag%3D3",
        "<sip:alice@pbx.example.com?replaces=1%3Bto-tag%3D2&Require=replaces>",
        "sips:desk@[2001:0DB8:0::1]:5071",
    ],
)
def test_what_a_pattern_names_is_permitted_in_all_its_forms(target: str) -> None:
    assert PLAN.permits(target)


@pytest.mark.parametrize(
    "target",
    [
        "+4",
        "+1900",
        "004930123",  # what 00 means is for the switch to know
        "tel:+1900;phone-context=+49",
        "tel:123;phone-context=+49",
        "tel:+4930123;postd=1900",
        "tel:+4930123;ext=5",
        "tel: +4930123",
        "tel:",
        "+49+1900",
        "+4930123,1900",  # a pause, then more digits
        "+4930123p1900",
        "+4930123*1900",
        "tel:+4930123#1900",
        "+4930123;phone-context=x",
        "+4930123@evil.example",
        "\uff0b4930123",  # a full-width plus sign
        "+\u0664\u06659",  # digits of another script
        "+4930123\r\nRefer-To: +1900",
        "+4930123\0",
        "+49" + "1" * 100,
    ],
)
def test_numbers_do_not_get_past_in_disguise(target: str) -> None:
    assert not PLAN.permits(target)


@pytest.mark.parametrize(
    "target",
    [
        "sip:alice@evil.example",
        "sip:alice@evil.example@pbx.example.com",
        "sip:alice@pbx.example.com@evil.example",
        "sip:alice%40pbx.example.com@evil.example",
        "sip:alice@evil.example;x=@pbx.example.com",
        "sip:alice@evil.example?x=@pbx.example.com",
        "sip:alice@pbx.example.com.evil.example",
        "sip:alice@evil.example/pbx.example.com",
        "sip:alice@evil.example#pbx.example.com",
        "sip:alice@evil.example%00pbx.example.com",
        "sip:alice@%70bx.example.com",
        "sip:alice@pbx.example.com;maddr=192.0.2.1",
        "sip:alice@pbx.example.com;MADDR=192.0.2.1",
        "sip:alice@pbx.example.com;m%61ddr=192.0.2.1",
        "sip:alice@pbx.example.com;method=BYE",
        "sip:alice@pbx.example.com;x=<y>",
        "sip:alice@pbx.example.com;",
        "sip:alice;phone-context=+1@pbx.example.com",
        "sip:alice%3Bphone-context=+1@pbx.example.com",
        "sip:alice:password@pbx.example.com",
        "sip:alice%253A@pbx.example.com",
        "sip:al%0d%0aice@pbx.example.com",
        "sip:al%ice@pbx.example.com",
        "sip:al%C3%A9@pbx.example.com",
        "sip:al ice@pbx.example.com",
        "sip:" + "a" * 200 + "@pbx.example.com",
        "sip:alice@pbx.example.com:5099",
        "sip:alice@pbx.example.com:0",
        "sip:alice@pbx.example.com:99999",
        "sip:alice@pbx.example.com:5060:5060",
        "sip:alice@pbx.example.com:\u0665060",
        "sip:@",
        "sip:",
        "sip:alice@[::1",
        "sip:alice@[not:an:address]",
        "sip:alice@pbx..example.com\n",
        "sips:other@[2001:db8::1]:5071",
        "sips:desk@[2001:db8::1]",
        "sip:desk@[2001:db8::1]:5071",  # not encrypted
        "http://pbx.example.com",
        "data:alice@pbx.example.com",
        "alice@pbx.example.com",
        "sip:alice@pbx.example.com?Route=%3Csip:evil.example%3E",
        "sip:alice@pbx.example.com?Replaces=1&Route=%3Csip:evil.example%3E",
        "sip:alice@pbx.example.com?Replaces=1&Replaces=2",
        "sip:alice@pbx.example.com?Replaces=1%0d%0aX:y",
        "sip:alice@pbx.example.com?Replaces=1&Require=100rel",
        "sip:alice@pbx.example.com?Require=replaces",
        "sip:alice@pbx.example.com?Repl%61ces=1",
        "sip:alice@pbx.example.com?Replaces=",
        "sip:alice@pbx.example.com?Replaces",
        "sip:alice@pbx.example.com?",
        "sip:alice@pbx.example.com?body=x",
        "<sip:alice@pbx.example.com><sip:alice@evil.example>",
        "<sip:alice@pbx.example.com>, <sip:alice@evil.example>",
        '"<sip:alice@pbx.example.com>" <sip:alice@evil.example>',
        "<sip:alice@pbx.example.com",
        "<>",
        "sip:alice@pbx.example.com;" + "x" * 2100,
    ],
)
def test_addresses_do_not_get_past_in_disguise(target: str) -> None:
    assert not PLAN.permits(target)


def test_patterns_of_numbers_hold_at_the_hosts_that_numbers_are_dialled_through() -> None:
    plan = DialPlan(["+49*"], ["Sip.Carrier.example", "[2001:db8::5]", ""])
    assert plan.permits("sip:+49-30-123@sip.carrier.example")
    assert plan.permits("sip:+4930123@[2001:DB8::5]:5060;user=phone")
    assert not plan.permits("sip:+4930123@evil.example")
    assert not plan.permits("sip:+4930123@sip.carrier.example:6000")
    assert not plan.permits("sip:alice@sip.carrier.example")
    assert not plan.permits("sip:+1900@sip.carrier.example")
    assert plan.permits("+4930123")


def test_stars_stand_for_all_numbers_or_all_addresses() -> None:
    assert DialPlan(["*"]).permits("123") and not DialPlan(["*"]).permits("sip:123@b.example")
    everywhere = DialPlan(["sip:*@*"])
    assert everywhere.permits("sips:a@b.example") and not everywhere.permits("123")
    inside = DialPlan(["sip:*@*.example.com", "sip:hub.example.org:5070"])
    assert inside.permits("sip:a@b.example.com") and inside.permits("sip:hub.example.org:5070")
    assert not inside.permits("sip:a@example.com") and not inside.permits("sip:a@b.example.comx")


@pytest.mark.parametrize(
    "pattern",
    ["", "abc", "tel:", "tel:abc", "sip:", "sip:a@", "http://x", "sip:a b@c", "sip:a@b:c", "+49|1"],
)
def test_what_is_no_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(ConfigError, match="the dial plan's"):
        DialPlan([pattern])
