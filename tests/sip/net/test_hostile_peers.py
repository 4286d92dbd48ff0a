"""Peers that take what they can: connections, time, memory."""

import asyncio
import contextlib
import socket
import time
from collections.abc import Iterator

import pytest

from talkpath.agent.sip.flow import PeerUnreachable, Target
from talkpath.transports.sip.connections import ConnectionLimits
from tests.certificate import Certificate
from tests.sip.net.stage import SOON_S, Side, options, soon


@contextlib.contextmanager
def _crowd(port: int, count: int) -> Iterator[list[socket.socket]]:
    with contextlib.ExitStack() as stack:
        crowd = [
            stack.enter_context(socket.create_connection(("127.0.0.1", port), SOON_S))
            for _ in range(count)
        ]
        for one in crowd:
            one.setblocking(False)
        yield crowd


def _closed(one: socket.socket) -> bool:
    try:
        return one.recv(4096) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


async def test_one_byte_at_a_time_holds_nobody_up() -> None:
    async with Side() as quick, Side() as there:
        flow = await quick.sockets.connect(there.target("tcp"))
        _, slow = await asyncio.open_connection(*there.target("tcp").address)
        sent = options(20)
        for i in range(len(sent)):
            slow.write(sent[i : i + 1])
            await slow.drain()
            if i % 50 == 0:
                before = len(there.came)
                quick.sockets.send(options(), flow)
                await there.hears(before + 1)
        await soon(lambda: (sent, slow.get_extra_info("sockname")) in _from(there))
        slow.close()
        await slow.wait_closed()


async def test_a_message_that_takes_too_long_ends_its_connection() -> None:
    async with Side(limits=ConnectionLimits(message_s=0.3)) as there:
        with _crowd(there.sockets.ports["tcp"], 2) as (slow, silent):
            begun = time.monotonic()
            while not _closed(slow):
                assert time.monotonic() - begun < SOON_S
                with contextlib.suppress(ConnectionError):
                    slow.send(b"A")
                await asyncio.sleep(0.02)
            assert there.sockets.connections == 1
            assert not _closed(silent)
        assert not there.came


async def test_idle_connections_end() -> None:
    async with Side(limits=ConnectionLimits(idle_s=0.2)) as there:
        with _crowd(there.sockets.ports["tcp"], 3) as crowd:
            crowd[0].send(options())
            await soon(lambda: len(there.ended) == 3)
            await soon(lambda: all(_closed(one) for one in crowd))


async def test_a_connection_of_a_call_outlives_its_silence() -> None:
    # Longer than a busy machine may stand still: in that time nobody keeps anything.
    async with Side(limits=ConnectionLimits(idle_s=1.5)) as there:
        with _crowd(there.sockets.ports["tcp"], 2) as (calls, idles):
            calls.send(options())
            flow = (await there.hears())[0][1]
            while not _closed(idles):
                there.sockets.keep(flow)
                await asyncio.sleep(0.02)
            assert not _closed(calls)


async def test_who_never_reads_is_cut_off() -> None:
    async with Side(limits=ConnectionLimits(unsent_bytes=100_000)) as there, Side() as other:
        with _crowd(there.sockets.ports["tcp"], 1) as (peer,):
            peer.send(options())
            flow = (await there.hears())[0][1]
            sent = 0
            while there.sockets.send(options(60_000), flow):
                sent += 60_000
                assert sent < 50_000_000
                await asyncio.sleep(0)
            await soon(lambda: there.ended == [flow])
        flow = await there.sockets.connect(other.target("tcp"))
        assert there.sockets.send(options(), flow)
        await other.hears()


async def test_one_address_gets_32_connections_and_places_come_back() -> None:
    async with Side() as there:
        port = there.sockets.ports["tcp"]
        with _crowd(port, 100) as crowd:
            await soon(lambda: sum(_closed(one) for one in crowd) == 68)
            assert there.sockets.connections == 32
            assert there.sockets.refused == 68
        await soon(lambda: there.sockets.connections == 0)
        with _crowd(port, 1) as (late,):
            late.send(options())
            await there.hears()


async def test_all_addresses_together_get_as_many_as_there_may_be() -> None:
    async with Side(limits=ConnectionLimits(connections=5)) as there:
        with _crowd(there.sockets.ports["tcp"], 8) as crowd:
            await soon(lambda: sum(_closed(one) for one in crowd) == 3)


async def test_silence_before_tls_takes_places_for_a_while_only(certificate: Certificate) -> None:
    limits = ConnectionLimits(handshake_s=1.0)
    async with Side(limits=limits, tls=certificate) as there, Side(tls=certificate) as good:
        with _crowd(there.sockets.ports["tls"], 100) as crowd:
            await soon(lambda: sum(_closed(one) for one in crowd) >= 68)
            await soon(lambda: all(_closed(one) for one in crowd))
            assert there.sockets.refused == 68
        with _crowd(there.sockets.ports["tls"], 1) as (plain,):
            plain.send(options())
            await soon(lambda: _closed(plain))
        flow = await good.sockets.connect(there.target("tls"))
        good.sockets.send(options(), flow)
        await there.hears()


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        options().replace(b"Content-Length: 0", b"Content-Length: 99999999"),
        b"\x16\x03\x01\x02\x00" * 10_000,
    ],
)
async def test_what_is_no_sip_ends_its_connection(data: bytes) -> None:
    async with Side() as there:
        with _crowd(there.sockets.ports["tcp"], 1) as (peer,):
            peer.send(data)
            await soon(lambda: _closed(peer))
        assert not there.came


async def test_the_end_comes_with_everything_under_way(certificate: Certificate) -> None:
    mute = socket.create_server(("127.0.0.1", 0))
    async with Side(tls=certificate) as there, Side(tls=certificate) as good:
        flow = await good.sockets.connect(there.target("tls"))
        good.sockets.send(options(), flow)
        await there.hears()
        with _crowd(there.sockets.ports["tls"], 5) as silent:
            with _crowd(there.sockets.ports["tcp"], 5) as crowd:
                crowd[0].send(options()[:20])
                waiting = asyncio.create_task(_connect_to(there, mute))
                await soon(lambda: there.sockets.connections == 6)
                await there.sockets.stop()
                with pytest.raises(PeerUnreachable, match="switched off"):
                    await waiting
                await soon(lambda: all(_closed(one) for one in [*silent, *crowd]))
        await soon(lambda: good.ended == [flow])
    mute.close()


async def _connect_to(side: Side, server: socket.socket) -> None:
    await side.sockets.connect(Target("tls", *server.getsockname()))


def _from(side: Side) -> list[tuple[bytes, tuple[str, int]]]:
    return [(data, flow.remote) for data, flow in side.came]
