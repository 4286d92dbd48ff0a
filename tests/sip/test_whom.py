"""Whom a call goes to, from what people and programs say."""

import pytest

from talkpath.agent.sip.trunks import Trunk
from talkpath.agent.sip_sections import SipConfig
from talkpath.transports.sip.leg import LegError
from talkpath.transports.sip.whom import Whom


def whom(*names: str) -> Whom:
    trunks = {name: Trunk(name=name, servers=(f"sip:{name}.example.org",)) for name in names}
    return Whom(SipConfig(), trunks)


def test_a_number_is_called_by_its_trunk_or_the_only_one_and_else_one_has_to_say_which() -> None:
    one, two = whom("carrier"), whom("carrier", "pbx")
    assert one.trunk_for("+49 30 1234", "") == "carrier"
    assert one.trunk_for("sip:someone@elsewhere.example.org", "") == ""
    assert two.trunk_for("+49301234", "pbx") == "pbx"
    assert two.uri("+49 30 1234", "pbx") == "sip:+49301234@pbx.example.org"
    assert two.trunk_for("+49301234", "") == ""
    for nobody, wrong in ((two, "There are carrier, pbx"), (whom(), "there is no trunk")):
        with pytest.raises(LegError, match=wrong):
            nobody.uri("+49301234")
    with pytest.raises(LegError, match="neither a SIP address nor a number"):
        one.uri("the office, please", "carrier")
