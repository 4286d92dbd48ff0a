from collections import Counter

import pytest
import sipmessage

from talkpath.agent.sip.flow import PeerUnreachable, Target
from talkpath.transports.sip import resolver
from talkpath.transports.sip.resolver import Service, resolve, weighted
from tests.sip.net.dns_server import DnsServer

_ZONE = [
    'full.example. NAPTR 20 10 "s" "SIP+D2U" "" _sip._udp.full.example.',
    'full.example. NAPTR 10 20 "S" "SIP+D2T" "" _sip._tcp.full.example.',
    'full.example. NAPTR 10 10 "s" "SIPS+D2T" "" _sips._tcp.full.example.',
    'full.example. NAPTR 1 10 "s" "SIP+D2S" "" _sip._sctp.full.example.',
    'full.example. NAPTR 2 10 "u" "E2U+sip" "!^.*$!sip:evil@192.0.2.66!" .',
    "_sips._tcp.full.example. SRV 10 0 5071 a.full.example.",
    "_sip._tcp.full.example. SRV 10 0 5070 a.full.example.",
    "_sip._udp.full.example. SRV 20 0 5080 b.full.example.",
    "_sip._udp.full.example. SRV 10 0 5070 a.full.example.",
    "a.full.example. A 192.0.2.1",
    "a.full.example. AAAA 2001:db8::1",
    "b.full.example. A 192.0.2.2",
    "full.example. A 192.0.2.9",
    "_sip._udp.plain.example. SRV 10 0 5060 plain.example.",
    "_sips._tcp.plain.example. SRV 10 0 5061 plain.example.",
    "_sip._tcp.plain.example. SRV 10 0 5060 .",
    "plain.example. A 192.0.2.4",
    "bare.example. A 192.0.2.5",
    "_sip._udp.broken.example. SRV 10 0 5060 nowhere.example.",
]

_CASES = {
    # NAPTR says which, by order and preference; SRV where; what we do not speak is left out.
    "sip:full.example": [
        "tls:192.0.2.1:5071",
        "tls:[2001:db8::1]:5071",
        "tcp:192.0.2.1:5070",
        "tcp:[2001:db8::1]:5070",
        "udp:192.0.2.1:5070",
        "udp:[2001:db8::1]:5070",
        "udp:192.0.2.2:5080",
    ],
    "sips:full.example": ["tls:192.0.2.1:5071", "tls:[2001:db8::1]:5071"],
    "sip:u@full.example;transport=tcp": ["tcp:192.0.2.1:5070", "tcp:[2001:db8::1]:5070"],
    "sip:full.example;transport=UDP": [
        "udp:192.0.2.1:5070",
        "udp:[2001:db8::1]:5070",
        "udp:192.0.2.2:5080",
    ],
    # A port leaves nothing for SRV to say.
    "sip:full.example:5099": ["udp:192.0.2.9:5099"],
    "sip:full.example:5099;transport=tcp": ["tcp:192.0.2.9:5099"],
    "sips:full.example:5099": ["tls:192.0.2.9:5099"],
    # Without NAPTR: what SRV has, the safe one first; a dot for a host is none.
    "sip:plain.example": ["tls:192.0.2.4:5061", "udp:192.0.2.4:5060"],
    # Without SRV: the default of each.
    "sip:bare.example": ["udp:192.0.2.5:5060"],
    "sips:bare.example": ["tls:192.0.2.5:5061"],
    "sip:bare.example;transport=tcp": ["tcp:192.0.2.5:5060"],
    "sip:bare.example.;transport=tls": ["tls:192.0.2.5:5061"],
    # Numbers are not asked for.
    "sip:192.0.2.7": ["udp:192.0.2.7:5060"],
    "sip:192.0.2.7:5070;transport=tcp": ["tcp:192.0.2.7:5070"],
    "sips:[2001:db8::7]": ["tls:[2001:db8::7]:5061"],
    "sip:192.0.2.7;transport=tls": ["tls:192.0.2.7:5061"],
    "sip:192.0.2.7;maddr=192.0.2.66": ["udp:192.0.2.7:5060"],
}


async def test_an_address_leads_to_the_machines_that_rfc_3263_says() -> None:
    async with DnsServer(_ZONE) as server:
        for uri, expected in _CASES.items():
            found = await resolve(sipmessage.URI.parse(uri), resolver=server.resolver)
            assert [str(target) for target in found] == expected, uri
            host = sipmessage.URI.parse(uri).host.strip("[]").rstrip(".")
            assert {target.server_name for target in found} == {host}


async def test_who_wants_to_be_safe_gets_nothing_but_tls() -> None:
    async with DnsServer(_ZONE) as server:
        uri = sipmessage.URI.parse("sip:full.example")
        found = await resolve(uri, secure=True, resolver=server.resolver)
        assert {target.transport for target in found} == {"tls"}
        with pytest.raises(PeerUnreachable, match="udp"):
            await resolve(sipmessage.URI.parse("sips:full.example;transport=udp"))


@pytest.mark.parametrize(
    "uri", ["sip:gone.example", "sip:broken.example", "sip:a;transport=ws", "tel:+49301234"]
)
async def test_what_has_no_machine_is_unreachable(uri: str) -> None:
    async with DnsServer(_ZONE) as server:
        with pytest.raises(PeerUnreachable):
            await resolve(sipmessage.URI.parse(uri), resolver=server.resolver)


async def test_a_server_that_ignores_questions_does_not_hide_the_address(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(resolver, "_QUERY_S", 1.0)
    async with DnsServer(_ZONE, silent=["NAPTR", "SRV"]) as server:
        found = await resolve(sipmessage.URI.parse("sip:full.example"), resolver=server.resolver)
        assert found == [Target("udp", "192.0.2.9", 5060, "full.example")]
    monkeypatch.setattr(resolver, "_ALL_S", 0.3)
    async with DnsServer(_ZONE, silent=["NAPTR", "SRV", "A", "AAAA"]) as server:
        with pytest.raises(PeerUnreachable, match="in time"):
            await resolve(sipmessage.URI.parse("sip:full.example"), resolver=server.resolver)


async def test_names_of_this_machine_need_no_dns() -> None:
    found = await resolve(sipmessage.URI.parse("sip:localhost:5070"))
    assert "udp:127.0.0.1:5070" in [str(target) for target in found]


async def test_thousands_of_services_are_cut_short() -> None:
    zone = [f"_sip._udp.big.example. SRV 1 1 {port} big.example." for port in range(5000, 5025)]
    async with DnsServer([*zone, "big.example. A 192.0.2.8"]) as server:
        uri = sipmessage.URI.parse("sip:big.example;transport=udp")
        assert len(await resolve(uri, resolver=server.resolver)) == 16


def test_services_come_by_priority_and_weight() -> None:
    services = [
        Service(10, 30, 1, "heavy"),
        Service(10, 10, 1, "light"),
        Service(20, 99, 1, "spare"),
        Service(10, 0, 1, "none"),
    ]
    orders = [[one.host for one in weighted(services)] for _ in range(2000)]
    assert all(order[-1] == "spare" for order in orders)
    first = Counter(order[0] for order in orders)
    assert 0.68 < first["heavy"] / 2000 < 0.82
    assert 0.16 < first["light"] / 2000 < 0.32
    assert [one.host for one in weighted(services, lambda low, _: low)] == [
        "none",
        "light",
        "heavy",
        "spare",
    ]
