"""Strangers, scanners and broken messages: they get no answer, and no call suffers."""

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path

from tests.sip.hearing import talk, whole
from tests.sip.programs import find, free_port, run
from tests.sip.telephone import Telephone
from tests.sip.waiting import soon

_TORTURE = Path(__file__).parent.parent / "agent" / "sip" / "torture"
_MUTATED = 3000
_STRANGER = "127.0.0.2"
_SECONDS = 8.0


class _Stranger(asyncio.DatagramProtocol):
    """A socket that counts what comes."""

    def __init__(self) -> None:
        self.answers: list[bytes] = []

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.answers.append(data)


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


async def test_strangers_scanners_and_broken_messages_leave_a_call_unharmed(
    line: Telephone, tmp_path: Path
) -> None:
    talking = asyncio.create_task(talk(line.port, _SECONDS))
    await asyncio.sleep(0.5)  # most of the attack falls into the call then
    await asyncio.gather(_broken(line), _scanners(line, tmp_path))
    whole(await talking, _SECONDS)
    whole(await talk(line.port, 1.0), 1.0)


async def _broken(line: Telephone) -> None:
    """From a stranger, who gets no answer, and from somebody who may call."""
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
    await soon(lambda: heard.answers, "answers")
    assert not silent.answers
    for transport, _ in ends:
        transport.close()


async def _scanners(line: Telephone, folder: Path) -> None:
    """From an address that may not call, and from one that may: their name is enough."""
    port = str(line.port)
    scans = []
    for host in (_STRANGER, "127.0.0.1"):
        for method in ("OPTIONS", "INVITE"):
            own = ["-b", host, "-P", str(free_port()), "-p", port]
            scans.append(run([find("svmap"), *own, "-m", method, "127.0.0.1"], folder, 90))
    own = ["-b", _STRANGER, "-P", str(free_port()), "-p", port]
    extensions = ["-e", "100-120", "--maximumtime=5", "127.0.0.1"]
    scans.append(run([find("svwar"), *own, *extensions], folder, 90))
    for scan in await asyncio.gather(*scans):
        found = "127.0.0.1:" in scan.text and "talkpath" in scan.text
        assert not found, scan.text
