"""What a leg hears of a peer whose packets are lost, or who sends none for a while."""

import asyncio
import random
import time

import numpy as np
from numpy.typing import NDArray

from talkpath.transports.sip.leg import Held, Resumed
from tests.sip.engine.support import Followed, Line, open_line
from tests.sip.hearing import tone
from tests.sip.peer import PeerCall
from tests.sip.waiting import soon

_PACKET = 160


def _end(sound: NDArray[np.int16]) -> int:
    """Where the last sound is; zeros follow."""
    return int(np.flatnonzero(np.abs(sound) > 100)[-1])


async def _lossy(line: Line) -> None:
    """A tone, a twelfth of it lost: what is heard lasts as long as what was said."""
    call, followed = await line.call()
    draw = random.Random(6)
    spoken = tone(440, 2.7)
    lost = [draw.random() < 1 / 12 for _ in range(len(spoken) // _PACKET)]
    lost[:25] = [False] * 25
    lost[-10:] = [False] * 10
    packets = iter([*lost, *[False] * 100])
    call.media.lose = lambda: next(packets)
    times = await call.media.say(spoken)
    await followed.until_heard(len(spoken))
    heard = followed.heard
    begin = int(np.flatnonzero(np.abs(heard) > 1000)[0])
    # The stack itself drops a packet or two while the call begins.
    length = _end(heard) - begin
    assert length >= len(spoken) - 3 * _PACKET
    assert length <= (times[-1] - times[0]) * 8000 + 3 * _PACKET
    assert sum(lost) > 4
    await call.request("BYE")


async def _silent(line: Line) -> None:
    """A peer that sends nothing in its pause."""
    since = time.perf_counter()
    call, followed = await line.call()
    await call.media.say(tone(300, 0.5))
    end = len(followed.heard)
    await followed.until_heard(end + 8000)  # of silence, though nothing comes
    await soon(lambda: not followed.heard[-4000:].any(), "silence")
    spent_s = time.perf_counter() - since
    assert len(followed.heard) <= (spent_s + 0.1) * 8000  # and no more of it than time
    await _held(call, followed)
    await call.request("BYE")


async def _held(call: PeerCall, followed: Followed) -> None:
    """It puts the leg on hold: nothing is heard, not even silence; then it talks again."""
    await call.hold()
    await followed.until(Held)
    before = len(followed.heard)
    await asyncio.sleep(0.3)
    assert len(followed.heard) == before
    await call.resume()
    await followed.until(Resumed)
    await call.media.say(tone(300, 0.3))
    await followed.until_heard(before + 1600)


async def test_losses_are_filled_and_pauses_heard_but_no_holds() -> None:
    async with open_line() as line:
        await asyncio.gather(_lossy(line), _silent(line))
