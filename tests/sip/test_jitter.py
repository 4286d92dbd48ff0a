"""A path that delays for a while delays a call no longer than that."""

import asyncio

import numpy as np

from talkpath.agent.bench.telephone import TELEPHONE_CODECS, delays_ms, line_figures, payloads
from talkpath.agent.bench.telephone_call import call
from tests.sip.lossy_path import lossy_path
from tests.sip.telephone import Telephone

_PCMU = TELEPHONE_CODECS["pcmu"]
_SECONDS = 20.0
_JITTER_S = 0.04


async def test_the_delay_comes_back_down_once_the_path_is_calm(line: Telephone) -> None:
    """Five seconds calm, five with 40 ms of jitter and a lost packet in twenty, ten calm."""
    async with lossy_path(line.port) as path:
        task = asyncio.create_task(call("127.0.0.1", path.port, _PCMU, payloads(_PCMU, _SECONDS)))
        await asyncio.sleep(5)
        path.settle(0.05, _JITTER_S)
        await asyncio.sleep(5)
        path.settle(0.0, 0.0)
        record = await task
        assert path.dropped > 0
    assert not record.failure
    found = delays_ms(_PCMU, _SECONDS, record)
    before, after = np.nanmedian(found[:10]), np.nanmedian(found[-10:])
    assert after <= before + 30  # a packet, and the phase of the clocks of both ends
    assert line_figures(_PCMU, _SECONDS, [record]).missed <= 3
