"""Trunks, and what their file may say."""

from pathlib import Path

import pytest

from talkpath.agent.errors import ConfigError
from talkpath.agent.sip.trunks import Trunk, read_trunks, sip_host

WHOLE = """
[[trunk]]
name = "carrier"
addresses = ["203.0.113.0/24", "2001:db8::/48"]
servers = ["sip:sip.example.com;transport=tls", "sips:[2001:db8::5]:5071"]
user = "acct"
auth_user = "acct-auth"
password_env = "CARRIER_PASSWORD"
register = true
expires_s = 300
challenge = true
codecs = ["pcma", "pcmu"]
srtp = "require"
bot = "receptionist"
caller_id = "+493012345"
domain = "voip.example.com"
dial_plan = ["+49*", "sip:*@voip.example.com"]
max_calls = 20
headers = { "X-Account" = "7", P-Preferred-Identity = "<sip:+493012345@voip.example.com>" }

[[trunk]]
name = "pbx"
addresses = ["192.0.2.5"]
"""


def _file(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "trunks.toml"
    file.write_text(text, encoding="utf-8")
    return file


def test_a_file_has_trunks(tmp_path: Path) -> None:
    carrier, pbx = read_trunks(_file(tmp_path, WHOLE), {"CARRIER_PASSWORD": "s3cret"})
    assert carrier == Trunk(
        name="carrier",
        addresses=("203.0.113.0/24", "2001:db8::/48"),
        servers=("sip:sip.example.com;transport=tls", "sips:[2001:db8::5]:5071"),
        user="acct",
        auth_user="acct-auth",
        password="s3cret",
        register=True,
        expires_s=300,
        challenge=True,
        codecs=("pcma", "pcmu"),
        srtp="require",
        bot="receptionist",
        caller_id="+493012345",
        domain="voip.example.com",
        dial_plan=("+49*", "sip:*@voip.example.com"),
        max_calls=20,
        headers={
            "X-Account": "7",
            "P-Preferred-Identity": "<sip:+493012345@voip.example.com>",
        },
    )
    assert pbx == Trunk(name="pbx", addresses=("192.0.2.5",))
    assert carrier.hosts == ("voip.example.com", "sip.example.com", "[2001:db8::5]")
    assert len({carrier, pbx}) == 2
    assert pbx.hosts == ()


def test_nobody_sees_a_password_by_accident() -> None:
    assert "s3cret" not in repr(Trunk(name="t", servers=("sip:a.b",), user="u", password="s3cret"))


def test_an_empty_file_has_no_trunks(tmp_path: Path) -> None:
    assert read_trunks(_file(tmp_path, "")) == ()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[[trunk]", "cannot read the trunks file"),
        ('name = "x"', "there is no 'name'; each trunk is a table"),
        ("[trunk]\nname = 'x'", "in double brackets"),
        ("trunk = [1]", "in double brackets"),
        ("[[trunk]]\nbot = 'x'", "a trunk has no name"),
        ("[[trunk]]\nname = 1", "a trunk has no name"),
        ("[[trunk]]\nname = 'x'\nserver = []", "trunk x: there is no setting 'server', did you"),
        ("[[trunk]]\nname = 'x'\npasword_env = ''", "did you mean 'password_env'"),
        ("[[trunk]]\nname = 'x'\nqqq = 1", "trunk x: there is no setting 'qqq'$"),
        ("[[trunk]]\nname = 'x'\nservers = 'sip:a'", "trunk x: servers must be a list of texts"),
        ("[[trunk]]\nname = 'x'\nservers = [1]", "servers must be a list of texts"),
        ("[[trunk]]\nname = 'x'\nregister = 1", "register must be true or false"),
        ("[[trunk]]\nname = 'x'\nmax_calls = true", "max_calls must be a whole number"),
        ("[[trunk]]\nname = 'x'\nbot = 1", "bot must be a text"),
        ("[[trunk]]\nname = 'x'\nheaders = { a = 1 }", "headers must be a table of texts"),
        ("[[trunk]]\nname = 'x'\npassword = 'a'\npassword_env = 'B'", "both a password and"),
        ("[[trunk]]\nname = 'x'\npassword_env = 'NOT_THERE'", "variable NOT_THERE .* is not set"),
        ("[[trunk]]\nname = 'x'", r"trunks.toml: trunk x: it needs addresses or servers"),
        ("[[trunk]]\nname = 'x'\naddresses = ['::1']\n" * 2, "there are two trunks 'x'"),
    ],
)
def test_a_mistake_in_the_file_is_named(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        read_trunks(_file(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere"):
        read_trunks(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"name": "main"}, "not main"),
        ({"name": "a b"}, "letters"),
        ({"addresses": ("192.0.2.1/24",)}, "no network"),
        ({"servers": ("sip.example.com",)}, "no address as sip:host:port"),
        ({"servers": ("tel:+49",)}, "no address"),
        ({"servers": ("sip:a.example:70000",)}, "no address"),
        ({"servers": ("sip:a.example;transport=sctp",)}, "no address"),
        ({"servers": ("sip:a.example;self=1",)}, "no address"),
        ({"user": 'a"b'}, "user must be without"),
        ({"caller_id": "a\r\nX: y"}, "caller_id must be without"),
        ({"password": "x"}, "a password needs a user"),
        ({"register": True}, "register needs a user and servers"),
        ({"challenge": True, "user": "u"}, "challenge needs a user and a password"),
        ({"expires_s": 5}, "expires_s"),
        ({"codecs": ("gsm",)}, "codecs must be some of"),
        ({"srtp": "maybe"}, "srtp is 'maybe'"),
        ({"domain": "a b"}, "domain"),
        ({"dial_plan": ("tel:x",)}, "trunk t: the dial plan's"),
        ({"max_calls": -1}, "max_calls"),
        ({"headers": {"Via": "x"}}, "cannot be set"),
        ({"headers": {"X Y": "x"}}, "cannot be set"),
        ({"headers": {"X-Y": "a\r\nVia: b"}}, "control character"),
    ],
)
def test_an_impossible_trunk_is_refused(given: dict[str, object], says: str) -> None:
    values: dict[str, object] = {"name": "t", "addresses": ("192.0.2.1",), **given}
    with pytest.raises(ConfigError, match=says):
        Trunk(**values)  # type: ignore[arg-type]


def test_a_uri_has_a_host() -> None:
    assert sip_host("sip:A.example.com:5062;transport=TCP") == "A.example.com"
    assert sip_host("sips:[::1]") == "::1"
    assert sip_host("http://example.com") == ""
