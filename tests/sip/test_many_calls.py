"""Many calls, at once and one after another: all are heard, and nothing is left of them."""

import asyncio
import re
from pathlib import Path

import psutil

from talkpath.agent.bench.telephone import TELEPHONE_CODECS, line_figures, payloads
from talkpath.agent.bench.telephone_call import call
from talkpath.agent.sip.message import Request, Response
from tests.sip.peer import Address, SipPeer
from tests.sip.sipp import answered, bye, invite, sipp, talk
from tests.sip.telephone import Telephone

_PCMU = TELEPHONE_CODECS["pcmu"]
_SECONDS = 5.0


async def test_twenty_calls_at_once_hear_all_that_they_say(line: Telephone) -> None:
    packets = payloads(_PCMU, _SECONDS)

    async def later(number: int) -> None:
        await asyncio.sleep(0.05 * number)
        record = await call("127.0.0.1", line.port, _PCMU, packets)
        figures = line_figures(_PCMU, _SECONDS, [record])
        assert not record.failure
        assert (figures.sent, figures.lost) == (len(packets), 0)
        # Where this machine is late, the echo catches up by leaving a little out.
        assert figures.missed <= 2
        assert figures.received >= figures.sent

    await asyncio.gather(*(later(number) for number in range(20)))


class _Deaf(SipPeer):
    """Its ACKs are lost."""

    def send(self, message: Request | Response, to: Address) -> None:
        if not (isinstance(message, Request) and message.method == "ACK"):
            super().send(message, to)


async def _without_ack(line: Telephone) -> None:
    async with _Deaf() as phone:
        made = await phone.call(line.uri())
        async with asyncio.timeout(45):  # 64 times T1, half a second (RFC 3261, 13.3.1.4)
            await made.over.wait()
        again = [made.answers.get_nowait() for _ in range(made.answers.qsize())]
        assert {response.status for response in again} == {200}
        assert len(again) >= 5
        assert made.requests[-1].method == "BYE"


async def test_two_hundred_calls_are_all_answered_and_one_without_ack_is_hung_up(
    line: Telephone, tmp_path: Path
) -> None:
    before = len(line.log.read_text())
    result, _ = await asyncio.gather(
        sipp(
            tmp_path,
            line.port,
            *(invite(), answered(), talk(1500), bye()),
            calls=200,
            per_s=5,
            within_s=70,
        ),
        _without_ack(line),
    )
    assert (result.successful, result.failed) == (200, 0), result.log
    # What the product says of the sound that it heard: none of them was one-way.
    ends = re.findall("the call ended by peer.*", line.log.read_text()[before:])
    assert len(ends) >= 200
    assert not [end for end in ends if "MOS 0.00" in end]


async def test_five_hundred_calls_leave_nothing_behind(line: Telephone, tmp_path: Path) -> None:
    steps = (invite(), answered(), talk(100), bye())
    result = await sipp(tmp_path / "1", line.port, *steps, calls=100, per_s=16, within_s=30)
    assert (result.successful, result.failed) == (100, 0), result.log
    await asyncio.sleep(1)
    before = _use(line)
    result = await sipp(tmp_path / "2", line.port, *steps, calls=400, per_s=16, within_s=60)
    assert (result.successful, result.failed) == (400, 0), result.log
    await asyncio.sleep(1)
    after = _use(line)
    assert after.keys() == before.keys(), "no process was replaced"
    for pid, (memory, files, threads) in after.items():
        assert memory - before[pid][0] < 25 << 20
        assert files <= before[pid][1] + 2
        assert threads <= before[pid][2] + 1


def _use(line: Telephone) -> dict[int, tuple[int, int, int]]:
    """Memory, descriptors and threads of each process."""

    def of(process: psutil.Process) -> tuple[int, int, int]:
        return process.memory_info().rss, process.num_fds(), process.num_threads()

    return {process.pid: of(process) for process in line.family()}
