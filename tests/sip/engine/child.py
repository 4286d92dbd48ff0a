"""An engine in a process of its own, whose calls say back what they hear.

It takes commands by line on standard input and answers each with a line of JSON; ``die`` and
``freeze`` do to the stack's thread what no command of the stack's can.
"""

import asyncio
import json
import sys
import threading

import psutil

from talkpath.agent.sip_sections import SipConfig
from talkpath.transports.sip.baresip_engine import BaresipEngine, MediaProfile
from talkpath.transports.sip.baresip_leg import BaresipLeg
from talkpath.transports.sip.leg import CallLeg, CallQuality, Ended
from tests.sip.engine.direct import DirectExchange

_EXIT_DEAD = 70


async def _echo(leg: CallLeg) -> None:
    def say_back(pcm: bytes) -> None:
        leg.write(pcm)

    leg.listen(say_back)
    await leg.answer()


def _say(what: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


async def _main() -> int:
    exchange = DirectExchange()
    engine = BaresipEngine(exchange, SipConfig(), {"main": MediaProfile(srtp="off")})
    dead = asyncio.Event()
    engine.on_incoming(_echo)
    engine.on_dead(dead.set)
    await engine.start()
    _say({"port": engine.port, "user": engine.users["main"]})
    commands: asyncio.Queue[str] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def read() -> None:
        for line in sys.stdin:
            loop.call_soon_threadsafe(commands.put_nowait, line.strip())
        loop.call_soon_threadsafe(commands.put_nowait, "stop")

    threading.Thread(target=read, daemon=True).start()
    legs: tuple[BaresipLeg, ...] = ()
    while True:
        command = asyncio.ensure_future(commands.get())
        death = asyncio.ensure_future(dead.wait())
        await asyncio.wait({command, death}, return_when=asyncio.FIRST_COMPLETED)
        death.cancel()
        if dead.is_set():
            ended = [leg.ended for leg in legs]
            reasons = [end.reason for end in ended if isinstance(end, Ended)]
            _say({"dead": True, "reasons": reasons})
            return _EXIT_DEAD
        legs = engine.legs
        match command.result():
            case "stop":
                await engine.stop()
                return 0
            case "die":
                engine.runtime._send_stop()
            case "freeze":
                engine.runtime._push_cmd = lambda *args: 0
            case _:
                _say(_figures(engine, exchange))


def _figures(engine: BaresipEngine, exchange: DirectExchange) -> dict[str, object]:
    process = psutil.Process()
    told = (what[-1] for what in exchange.asked)
    qualities = [quality for quality in told if isinstance(quality, CallQuality)]
    exchange.asked.clear()
    times = process.cpu_times()
    return {
        "calls": len(engine.legs),
        "threads": process.num_threads(),
        "descriptors": process.num_fds(),
        "memory_kb": process.memory_info().rss >> 10,
        "cpu_s": times.user + times.system,
        "underruns_ms": [quality.underrun_ms for quality in qualities],
        "pumping": engine.pumping,
    }


if __name__ == "__main__":
    sys.exit(asyncio.run(_main()))
