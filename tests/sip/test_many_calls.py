"""Many calls, at once and one after another: all are heard, and nothing is left of them."""

import asyncio
import re
from pathlib import Path

import numpy as np
import psutil

from talkpath.agent.sip.message import Request, Response
from tests.sip.hearing import delays, talk, whole
from tests.sip.lossy_path import lossy_path
from tests.sip.peer import Address, SipPeer
from tests.sip.sipp import answered, bye, invite, sipp
from tests.sip.sipp import talk as talks
from tests.sip.telephone import Telephone
from tests.sip.waiting import SOON_S, soon

_JITTER_S = 0.04


async def test_two_hundred_calls_and_others_beside_them_are_all_heard(
    line: Telephone, tmp_path: Path
) -> None:
    """Side by side, for each takes long and little of the machine."""
    await asyncio.gather(
        _two_hundred(line, tmp_path), _twenty_at_once(line), _without_ack(line), _jittery(line)
    )


async def _two_hundred(line: Telephone, folder: Path) -> None:
    """Five new ones a second."""
    before = len(line.log.read_text())
    steps = (invite(), answered(), talks(1500), bye())
    result = await sipp(folder, line.port, *steps, calls=200, per_s=5, within_s=200)
    assert (result.successful, result.failed) == (200, 0), result.log

    def ends() -> list[str]:
        return re.findall("the call ended by peer.*", line.log.read_text()[before:])

    await soon(lambda: len(ends()) >= 200, "the end of every call")
    # What the product says of the sound that it heard: none of them was one-way.
    assert not [end for end in ends() if "MOS 0.00" in end]


async def _twenty_at_once(line: Telephone) -> None:
    async def later(number: int) -> None:
        await asyncio.sleep(0.05 * number)
        whole(await talk(line.port, 5.0), 5.0)

    await asyncio.gather(*(later(number) for number in range(20)))


class _Deaf(SipPeer):
    """Its ACKs are lost."""

    def send(self, message: Request | Response, to: Address) -> None:
        if not (isinstance(message, Request) and message.method == "ACK"):
            super().send(message, to)


async def _without_ack(line: Telephone) -> None:
    """A call whose ACK never comes is hung up."""
    async with _Deaf() as phone:
        made = await phone.call(line.uri())
        async with asyncio.timeout(SOON_S):  # 64 times T1, half a second (RFC 3261, 13.3.1.4)
            await made.over.wait()
        again = [made.answers.get_nowait() for _ in range(made.answers.qsize())]
        assert {response.status for response in again} == {200}
        assert len(again) >= 5
        assert made.requests[-1].method == "BYE"


async def _jittery(line: Telephone) -> None:
    """A path that delays for a while delays a call no longer than that.

    Five seconds calm, five with 40 ms of jitter and a lost packet in twenty, thirty calm. Of
    these, the quickest chirp counts: a busy machine delays others anew, some of the time.
    """
    seconds = 40.0
    async with lossy_path(line.port) as path:
        calling = asyncio.create_task(talk(path.port, seconds))
        await asyncio.sleep(5)
        path.settle(0.05, _JITTER_S)
        await asyncio.sleep(5)
        path.settle(0.0, 0.0)
        record = await calling
        assert path.dropped > 0
    assert not record.failure
    found = delays(record, seconds)
    # A packet, and the phase of the clocks of both ends.
    assert np.nanmin(found[30:]) <= np.nanmedian(found[:10]) + 30


async def test_five_hundred_calls_leave_nothing_behind(line: Telephone, tmp_path: Path) -> None:
    steps = (invite(), answered(), talks(100), bye())
    result = await sipp(tmp_path / "1", line.port, *steps, calls=100, per_s=25)
    assert (result.successful, result.failed) == (100, 0), result.log
    await asyncio.sleep(1)
    before = _use(line)
    result = await sipp(tmp_path / "2", line.port, *steps, calls=400, per_s=25, within_s=200)
    assert (result.successful, result.failed) == (400, 0), result.log
    assert _use(line).keys() == before.keys(), "no process was replaced"

    def grown() -> list[tuple[int, int, int]]:
        """Where there is more than before, and how much."""
        more = [np.subtract(use, before[pid]) for pid, use in _use(line).items()]
        return [
            (memory, files, threads)
            for memory, files, threads in more
            if memory >= 25 << 20 or files > 2 or threads > 1
        ]

    await soon(lambda: not grown(), "the end of all that the calls took")


def _use(line: Telephone) -> dict[int, tuple[int, int, int]]:
    """Memory, descriptors and threads of each process."""

    def of(process: psutil.Process) -> tuple[int, int, int]:
        return process.memory_info().rss, process.num_fds(), process.num_threads()

    return {process.pid: of(process) for process in line.family()}
