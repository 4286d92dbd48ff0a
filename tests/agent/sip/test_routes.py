"""Which bot takes a call."""

import pytest

from talkpath.agent.errors import ConfigError
from talkpath.agent.sip.message import Headers
from talkpath.agent.sip.patterns import matches
from talkpath.agent.sip.routes import Routes
from talkpath.agent.sip.trunks import Trunk

HEADERS = Headers(
    [("X-Queue", "Sales, Support"), ("X-Queue", "vip"), ("Subject", "a=b"), ("t", "<sip:x@y>")]
)
TRUNK = Trunk(name="t", addresses=("192.0.2.1",), bot="trunks")


@pytest.mark.parametrize(
    ("routes", "number", "bot"),
    [
        (["+4930*=berlin", "+49*=germany"], "+4930123", "berlin"),
        (["+4930*=berlin", "+49*=germany"], "+4989123", "germany"),
        (["+49-30-*=berlin"], "%2B49(30)1.2", "berlin"),
        (["support=help"], "Support", "help"),
        (["*=all"], "", "all"),
        (["X-Queue:sales*=sales", "*=all"], "1", "sales"),
        (["x-queue: VIP =vip"], "1", "vip"),
        (["X-Queue:support=support"], "1", "support"),
        (["To:*x@y*=to"], "1", "to"),
        (["Subject:a=b=sum"], "1", "sum"),
        (["X-None:*=none"], "1", "default"),
        (["12=twelve"], "123", "default"),
        ([], "1", "default"),
    ],
)
def test_the_first_route_that_fits_counts(routes: list[str], number: str, bot: str) -> None:
    assert Routes(routes, "default").bot_for(number, HEADERS, None) == bot


def test_a_trunks_bot_comes_after_the_routes_and_before_the_default() -> None:
    routes = Routes(["1=one"], "default")
    assert routes.bot_for("1", HEADERS, TRUNK) == "one"
    assert routes.bot_for("2", HEADERS, TRUNK) == "trunks"
    assert routes.bot_for("2", HEADERS, Trunk(name="u", addresses=("::1",))) == "default"
    assert Routes([], "").bot_for("2", HEADERS, None) is None


@pytest.mark.parametrize("route", ["", "x", "=x", "x=", "Header:=x", "x= "])
def test_what_is_no_route_is_refused(route: str) -> None:
    with pytest.raises(ConfigError, match="PATTERN=BOT"):
        Routes([route], "")


@pytest.mark.parametrize(
    ("pattern", "text", "fits"),
    [
        ("", "", True),
        ("*", "", True),
        ("a*a", "a", False),
        ("a*a", "aa", True),
        ("*b*c*", "abcd", True),
        ("*c*b*", "abcd", False),
        ("a**b", "ab", True),
        ("a*bc*c", "abc", False),
        ("a.c", "abc", False),
        ("ab", "a*", False),
    ],
)
def test_a_star_stands_for_anything(pattern: str, text: str, fits: bool) -> None:
    assert matches(pattern, text) is fits


def test_no_pattern_takes_long() -> None:
    assert not matches("*a" * 200 + "*b", "a" * 5000)  # with a regular expression: for ever
