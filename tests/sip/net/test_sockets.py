import asyncio
import socket
import ssl
from dataclasses import replace

import pytest

from talkpath.agent.errors import ConfigError
from talkpath.agent.sip.flow import Flow, PeerUnreachable, Target
from talkpath.agent.sip_sections import SipConfig
from talkpath.transports.sip.connections import ConnectionLimits
from talkpath.transports.sip.sockets import InsideSocket, SipSockets
from tests.certificate import Certificate
from tests.sip.net.stage import SOON_S, Side, options, soon


async def test_a_message_and_its_answer_go_by_every_transport(certificate: Certificate) -> None:
    async with Side(tls=certificate) as here, Side(tls=certificate) as there:
        assert there.sockets.ports["udp"] == there.sockets.ports["tcp"]
        for number, transport in enumerate(("udp", "tcp", "tls"), 1):
            flow = await here.sockets.connect(there.target(transport))
            assert here.sockets.send(options(5000), flow)
            data, back = (await there.hears(number))[-1]
            assert data == options(5000)
            assert (back.transport, back.remote, back.local) == (transport, flow.local, flow.remote)
            assert there.sockets.send(options(1), back)
            data, same = (await here.hears(number))[-1]
            assert (data, same) == (options(1), flow)


async def test_several_messages_in_one_segment_are_several() -> None:
    async with Side() as here, Side() as there:
        flow = await here.sockets.connect(there.target("tcp"))
        here.sockets.send(options(3) + options(0) + options(70), flow)
        assert [data for data, _ in await there.hears(3)] == [options(3), options(0), options(70)]


async def test_line_breaks_keep_ways_open_and_are_no_messages() -> None:
    async with Side() as there:
        address = ("127.0.0.1", there.sockets.ports["udp"])
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"\r\n\r\n")
        assert await reader.readexactly(2) == b"\r\n"
        writer.write(b"\r\n" + options())
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
            for data in (b"\r\n\r\n", b"\0", b"", b"\0\0\0\0", options(7)):
                peer.sendto(data, address)
        await there.hears(2)
        assert sorted(data for data, _ in there.came) == sorted([options(), options(7)])
        writer.close()
        await writer.wait_closed()


async def test_an_open_connection_is_used_again_and_a_closed_one_is_not() -> None:
    async with Side() as here, Side() as there:
        target = there.target("tcp")
        first, second = await asyncio.gather(*(here.sockets.connect(target) for _ in range(2)))
        assert first == second == await here.sockets.connect(target)
        await soon(lambda: there.sockets.connections == 1)
        here.sockets.send(options(), first)
        back = (await there.hears())[0][1]
        await there.sockets.stop()
        await soon(lambda: here.ended == [first])
        assert there.ended == [back]
        assert not here.sockets.send(options(), first)
        with pytest.raises(PeerUnreachable, match="cannot be reached"):
            await here.sockets.connect(target)


async def test_who_gives_up_a_connection_does_not_take_it_from_another() -> None:
    async with Side() as here, Side() as there:
        target = there.target("tcp")
        impatient = asyncio.create_task(here.sockets.connect(target))
        patient = asyncio.create_task(here.sockets.connect(target))
        await asyncio.sleep(0)
        impatient.cancel()
        assert (await patient).remote == target.address


async def test_a_certificate_must_be_trusted_and_be_for_the_name(certificate: Certificate) -> None:
    async with Side(tls=certificate) as there:
        async with Side() as here:  # which trusts the system's authorities only
            with pytest.raises(PeerUnreachable, match="no certificate to trust"):
                await here.sockets.connect(there.target("tls"))
        async with Side(trust=certificate) as here:
            other = replace(there.target("tls"), server_name="pbx.example.com")
            with pytest.raises(PeerUnreachable, match="no certificate to trust"):
                await here.sockets.connect(other)
            named = replace(other, server_name="127.0.0.1")
            assert (await here.sockets.connect(named)).transport == "tls"


async def test_peers_that_are_not_there_or_say_nothing_are_unreachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        address = mute.getsockname()
        async with Side(limits=ConnectionLimits(connect_s=0.3)) as here:
            with pytest.raises(PeerUnreachable, match="in time"):
                await here.sockets.connect(Target("tls", *address))
            mute.close()
            with pytest.raises(PeerUnreachable, match="refused"):
                await here.sockets.connect(Target("tcp", *address))


async def test_what_cannot_be_sent_harms_nothing() -> None:
    async with Side() as here, Side() as there:
        good = await here.sockets.connect(there.target())
        assert not here.sockets.send(options(), replace(good, remote=("127.0.0.1", 70_000)))
        assert not here.sockets.send(options(), replace(good, remote=("pbx.example.com", 5060)))
        here.sockets.send(options(), replace(good, remote=("::1", 5060)))
        here.sockets.send(b"x" * 70_000, good)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as closed:
            closed.bind(("127.0.0.1", 0))
            nobody = closed.getsockname()
        here.sockets.send(options(), replace(good, remote=nobody))
        assert not here.sockets.send(options(), Flow("tcp", good.local, good.remote, 99))
        assert here.sockets.send(options(), good)
        assert (await there.hears())[0][0] == options()
        await soon(lambda: here.sockets.udp_errors >= 4)


async def test_peers_are_told_the_address_by_which_they_reach_us() -> None:
    async with Side(host="0.0.0.0", public_address="203.0.113.9") as here, Side() as there:
        assert here.sockets.local_address_towards("127.0.0.1") == "127.0.0.1"
        assert here.sockets.local_address_towards("198.51.100.1") == "203.0.113.9"
        flow = await here.sockets.connect(there.target())
        port = here.sockets.ports["udp"]
        assert flow.local == ("127.0.0.1", port)
        assert here.sockets.advertised(flow) == f"127.0.0.1:{port}"
        far = replace(flow, remote=("198.51.100.1", 5060))
        assert here.sockets.advertised(far) == f"203.0.113.9:{port}"
        client = replace(far, transport="tls", local=("10.0.0.1", 4711))
        assert here.sockets.advertised(client) == "203.0.113.9:4711"


async def test_a_name_can_be_bound_to() -> None:
    async with Side(host="localhost") as here, Side(host="localhost") as there:
        host = there.sockets.local_address_towards("127.0.0.1")
        assert host in ("127.0.0.1", "::1")
        flow = await here.sockets.connect(Target("tcp", host, there.sockets.ports["tcp"]))
        here.sockets.send(options(), flow)
        assert (await there.hears())[0][1].local[0] == host
    with pytest.raises(ConfigError, match=r"cannot listen for SIP on no\.such\.name\.invalid"):
        async with Side(host="no.such.name.invalid"):
            pass


async def test_ipv6_works_where_the_machine_has_it() -> None:
    async with Side(host="::1") as here, Side(host="::1") as there:
        for number, transport in enumerate(("udp", "tcp"), 1):
            port = there.sockets.ports[transport]
            flow = await here.sockets.connect(Target(transport, "::1", port))
            here.sockets.send(options(), flow)
            back = (await there.hears(number))[-1][1]
            assert back.remote == flow.local
            assert there.sockets.advertised(back) == f"[::1]:{port}"


async def test_a_port_or_a_certificate_that_cannot_be_used_is_one_clear_sentence(
    certificate: Certificate,
) -> None:
    async with Side() as taken:
        port = taken.sockets.ports["udp"]
        second = SipSockets("127.0.0.1", SipConfig(port=port), _ignore, _ignore)
        with pytest.raises(ConfigError, match=f"cannot listen for SIP on 127.0.0.1, port {port}: "):
            await second.start()
    for key in ("/nowhere", str(certificate.cert)):
        config = SipConfig(port=0, tls_cert=str(certificate.cert), tls_key=key)
        with pytest.raises(ConfigError, match=r"sip\.tls_cert or sip\.tls_key cannot be used"):
            await SipSockets("127.0.0.1", config, _ignore, _ignore).start()


async def test_nothing_older_than_tls_1_2_is_spoken(certificate: Certificate) -> None:
    old = certificate.trusted
    with pytest.warns(DeprecationWarning):
        old.minimum_version = ssl.TLSVersion.TLSv1_1
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    old.set_ciphers("ALL:@SECLEVEL=0")
    async with Side(tls=certificate) as there:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.open_connection("127.0.0.1", there.sockets.ports["tls"], ssl=old)


async def test_workers_have_a_socket_of_their_own() -> None:
    came: list[tuple[bytes, tuple[str, int]]] = []
    inside = InsideSocket(lambda data, address: came.append((data, address)))
    await inside.start()
    assert inside.address[0] == "127.0.0.1"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as worker:
        worker.bind(("127.0.0.1", 0))
        worker.settimeout(SOON_S)
        worker.sendto(b"hello", inside.address)
        await soon(lambda: came)
        assert came == [(b"hello", worker.getsockname())]
        assert inside.send(b"welcome", came[0][1])
        assert worker.recv(100) == b"welcome"
    await inside.stop()
    assert not inside.send(b"late", inside.address)


def _ignore(*_: object) -> None:
    raise AssertionError("nothing comes here")
