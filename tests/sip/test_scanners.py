"""Strangers, scanners and broken messages: they get no answer, and no call suffers."""

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path

from talkpath.agent.bench.telephone import TELEPHONE_CODECS, CallRecord, line_figures, payloads
from talkpath.agent.bench.telephone_call import call
from tests.sip.programs import find, free_udp_port, run
from tests.sip.telephone import Telephone

_TORTURE = Path(__file__).parent.parent / "agent" / "sip" / "torture"
_MUTATED = 3000
_STRANGER = "127.0.0.2"
_SECONDS = 8.0
_PCMU = TELEPHONE_CODECS["pcmu"]


class _Stranger(asyncio.DatagramProtocol):
    """A socket that counts what comes."""

    def __init__(self) -> None:
        self.answers: list[bytes] = []

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.answers.append(data)


async def _talk(line: Telephone) -> CallRecord:
    return await call("127.0.0.1", line.port, _PCMU, payloads(_PCMU, _SECONDS))


def _unharmed(record: CallRecord) -> None:
    figures = line_figures(_PCMU, _SECONDS, [record])
    assert not record.failure
    assert (figures.lost, figures.missed) == (0, 0)
    assert figures.received >= figures.sent


def _messages() -> Iterator[bytes]:
    """The torture messages of RFC 4475, and others made of them by chance."""
    torture = [file.read_bytes() for file in sorted(_TORTURE.glob("*.dat"))]
    assert len(torture) == 49
    yield from torture
    draw = random.Random(4475)
    for _ in range(_MUTATED):
        message = bytearray(draw.choice(torture)[:1400])
        for _ in range(draw.randint(1, 8)):
            at = draw.randrange(len(message))
            end = at + draw.randint(0, 20)
            message[at:end] = draw.choice(
                (b"", draw.randbytes(draw.randint(1, 9)), message[at:end] * 3, b"\r\n", b"<", b"%")
            )
        yield bytes(message)


async def test_torture_and_mutated_messages_leave_a_call_unharmed(line: Telephone) -> None:
    """From a stranger, who gets no answer, and from somebody who may call."""
    talking = asyncio.create_task(_talk(line))
    await asyncio.sleep(1)
    loop = asyncio.get_running_loop()
    ends = []
    for host in (_STRANGER, "127.0.0.1"):
        ends.append(
            await loop.create_datagram_endpoint(
                _Stranger, local_addr=(host, 0), remote_addr=("127.0.0.1", line.port)
            )
        )
    (stranger, silent), (friend, heard) = ends
    for number, message in enumerate(_messages()):
        stranger.sendto(message)
        friend.sendto(message)
        if number % 20 == 0:
            await asyncio.sleep(0.02)  # about what a socket's buffer takes
    _unharmed(await talking)
    assert not silent.answers
    assert heard.answers
    for transport, _ in ends:
        transport.close()
    assert not (await _talk_shortly(line)).failure


async def _talk_shortly(line: Telephone) -> CallRecord:
    return await call("127.0.0.1", line.port, _PCMU, payloads(_PCMU, 1.0))


async def test_scanners_find_nothing_and_disturb_nobody(line: Telephone, tmp_path: Path) -> None:
    """From an address that may not call, and from one that may: their name is enough."""
    talking = asyncio.create_task(_talk(line))
    await asyncio.sleep(0.5)
    port = str(line.port)
    scans = [
        run(
            [
                find("svmap"),
                "-b",
                host,
                "-P",
                str(free_udp_port()),
                "-p",
                port,
                "-m",
                method,
                "127.0.0.1",
            ],
            tmp_path,
            30,
        )
        for host in (_STRANGER, "127.0.0.1")
        for method in ("OPTIONS", "INVITE")
    ]
    extensions = ["-e", "100-120", "--maximumtime=5", "127.0.0.1"]
    scans.append(
        run(
            [find("svwar"), "-b", _STRANGER, "-P", str(free_udp_port()), "-p", port, *extensions],
            tmp_path,
            30,
        )
    )
    for scan in await asyncio.gather(*scans):
        found = "127.0.0.1:" in scan.text and "talkpath" in scan.text
        assert not found, scan.text
    _unharmed(await talking)
