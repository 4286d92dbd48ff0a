"""Audio through a relay: it goes back to where it comes from, and to nobody else."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from talkpath.agent.errors import TalkpathError
from talkpath.transports.sip import media_relay
from talkpath.transports.sip.media_relay import MediaRelays
from tests.sip.waiting import SOON_S

PORTS = (20000, 32000)


@dataclass
class Party:
    """A socket with a port of its own."""

    socket: socket.socket

    @property
    def port(self) -> int:
        return int(self.socket.getsockname()[1])

    def send(self, data: bytes, port: int) -> None:
        self.socket.sendto(data, ("127.0.0.1", port))

    async def get(self) -> bytes:
        loop = asyncio.get_running_loop()
        return await asyncio.wait_for(loop.sock_recv(self.socket, 2048), SOON_S)

    def has_nothing(self) -> bool:
        try:
            self.socket.recv(2048)
        except BlockingIOError:
            return True
        return False


@pytest.fixture
def party() -> Iterator[Callable[..., Party]]:
    """Makes parties, and closes them."""
    with contextlib.ExitStack() as stack:

        def make(host: str = "127.0.0.1") -> Party:
            made = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            made.bind((host, 0))
            made.setblocking(False)
            return Party(made)

        yield make


@asynccontextmanager
async def relays(limit: int = 4) -> AsyncIterator[MediaRelays]:
    made = MediaRelays("127.0.0.1", PORTS, limit)
    try:
        yield made
    finally:
        made.close_all()
        await asyncio.sleep(0)  # the loop closes the sockets in its next turn


async def test_both_ways_by_where_the_peer_is_seen_to_send_from(
    party: Callable[..., Party],
) -> None:
    phone, worker = party(), party()
    async with relays() as made:
        relay = await made.open("call", {"127.0.0.1"})
        assert relay is await made.open("call") and len(made) == 1
        assert relay.outside_port % 2 == 0 and PORTS[0] <= relay.outside_port < PORTS[1]
        relay.aim("127.0.0.9", 9)  # what its description says, behind NAT
        relay.answer(worker.port)
        phone.send(b"hello", relay.outside_port)
        assert await worker.get() == b"hello"
        worker.send(b"welcome", relay.inside_port)
        assert await phone.get() == b"welcome"


async def test_who_sends_while_the_peer_does_hears_nothing_and_is_not_heard(
    party: Callable[..., Party],
) -> None:
    phone, thief, worker = party(), party("127.0.0.2"), party()
    async with relays() as made:
        relay = await made.open("call", {"127.0.0.1"})
        relay.answer(worker.port)
        for _ in range(20):
            phone.send(b"phone", relay.outside_port)
            thief.send(b"thief", relay.outside_port)
            assert await worker.get() == b"phone"
        worker.send(b"secret", relay.inside_port)
        assert await phone.get() == b"secret"
        assert thief.has_nothing() and worker.has_nothing()


async def test_a_peer_that_moves_is_found_again(
    monkeypatch: pytest.MonkeyPatch, party: Callable[..., Party]
) -> None:
    monkeypatch.setattr(media_relay, "_QUIET_S", 0.05)
    phone, elsewhere, worker = party(), party("127.0.0.2"), party()
    async with relays() as made:
        relay = await made.open("call", {"127.0.0.1"})
        relay.answer(worker.port)
        phone.send(b"here", relay.outside_port)
        assert await worker.get() == b"here"
        await asyncio.sleep(0.1)
        elsewhere.send(b"there", relay.outside_port)
        assert await worker.get() == b"there"
        worker.send(b"well", relay.inside_port)
        assert await elsewhere.get() == b"well"
        # Who only used its silence must let it back at once.
        phone.send(b"back", relay.outside_port)
        assert await worker.get() == b"back"


async def test_only_the_worker_speaks_for_it(party: Callable[..., Party]) -> None:
    phone, stranger, worker = party(), party("127.0.0.2"), party()
    async with relays() as made:
        relay = await made.open("call", {"127.0.0.1"})
        relay.answer(worker.port)
        phone.send(b"x", relay.outside_port)
        await worker.get()
        stranger.send(b"lies", relay.inside_port)
        worker.send(b"truth", relay.inside_port)
        assert await phone.get() == b"truth"


async def test_relays_are_bounded_and_their_ports_come_free() -> None:
    async with relays(limit=2) as made:
        for name in ("one", "two"):
            await made.open(name)
        with pytest.raises(TalkpathError, match="all 2 relays"):
            await made.open("three")
        made.close("one")
        assert made.get("one") is None
        await made.open("three")
