"""Telephone calls to an echo without speech processing: mouth to ear, underruns, cost.

``talkpath run loopback --transport sip`` runs in a process of its own, with the settings of
``[sip]``; this process calls it, by the hand-made caller that has no jitter buffer.

Mouth to ear is the time from a sample at the caller's microphone to the same sample in a packet
that has come back. It holds the caller's packetization (20 ms), the codec both ways, the
network, and all of the product; not the jitter buffer behind a telephone's ear.
"""

import argparse
import asyncio
import dataclasses
import os
import re
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from talkpath.agent.bench.figures import show, table, to_json
from talkpath.agent.bench.telephone import (
    TELEPHONE_CODECS,
    CallRecord,
    Line,
    TelephoneCodec,
    line_figures,
    payloads,
)
from talkpath.agent.config import Config
from talkpath.agent.errors import ConfigError, EngineError
from talkpath.bots.bench_process import end_process, settings_as_environment

__all__ = ["TelephoneReport", "add_arguments", "processor_s", "run"]

_COMMAND = "from talkpath.bots.cli import main; raise SystemExit(main())"
_LISTENING = re.compile(r"the telephone is listening at sip:([0-9.]+):(\d+)")
_READY_S = 120.0
_STAGGER_S = 0.05  # so that not all packets leave at once
_WARM_S = 1.0


@dataclass(frozen=True, slots=True)
class TelephoneReport:
    """What was measured.

    Attributes:
        codec: its name.
        calls: that were up at once.
        seconds: of each call.
        line: delays, losses and underruns of all calls.
        core: share of a processor core that a call took, over all processes of the product.
        failures: what became of calls that did not go well.
    """

    codec: str
    calls: int
    seconds: float
    line: Line
    core: float
    failures: tuple[str, ...]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``talkpath bench telephone``."""
    parser.add_argument(
        "--calls", type=int, default=20, metavar="N", help="calls at once (default: 20)"
    )
    parser.add_argument(
        "--seconds", type=float, default=20.0, metavar="S", help="length of a call (default: 20)"
    )
    parser.add_argument(
        "--codec", choices=tuple(TELEPHONE_CODECS), default="pcmu", help="codec (default: pcmu)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON (default: a table)")


def run(args: argparse.Namespace, config: Config) -> int:
    """Carry out ``talkpath bench telephone``; give the exit code: 1 where a call failed.

    Raises:
        TalkpathError: an argument is wrong, or the telephone does not start.
    """
    if args.calls < 1 or args.seconds < 2:
        raise ConfigError("--calls must be 1 or more, --seconds 2 or more")
    report = asyncio.run(_measure(config, args.codec, args.calls, args.seconds))
    if args.json:
        sys.stdout.write(to_json(dataclasses.asdict(report)))
    else:
        sys.stdout.write(_table(report))
    return 1 if report.failures else 0


def _table(report: TelephoneReport) -> str:
    line, delay = report.line, report.line.delay_ms
    rows = [
        [f"{report.codec}, {report.seconds:g} s", f"{report.calls} calls"],
        ["mouth to ear p50, ms", show(delay.p50, ".1f")],
        ["  p95", show(delay.p95, ".1f")],
        ["  most", show(delay.most, ".1f")],
        ["  of that the caller's packet", "20.0"],
        ["longest underrun, ms", show(line.underrun_ms, ".0f")],
        ["longest gap between packets, ms", show(line.gap_ms, ".1f")],
        ["  between the caller's own", show(line.own_gap_ms, ".1f")],
        ["a call's share of a core", show(report.core, ".2%")],
        ["packets sent", str(line.sent)],
        ["  that came back", str(line.received)],
        ["  lost on the way back", str(line.lost)],
        ["chirps not found again", f"{line.missed} of {line.missed + delay.count}"],
        ["calls that failed", str(len(report.failures))],
    ]
    return table(rows) + "".join(f"{failure}\n" for failure in sorted(set(report.failures)))


async def _measure(config: Config, codec: str, calls: int, seconds: float) -> TelephoneReport:
    kind = TELEPHONE_CODECS[codec]
    async with _telephone(config, calls) as (host, port, pid):
        await _call(host, port, kind, _WARM_S)
        began_s, used_s = time.monotonic(), processor_s(pid)
        packets = payloads(kind, seconds)
        records = await asyncio.gather(
            *(
                _call(host, port, kind, seconds, packets, number * _STAGGER_S)
                for number in range(calls)
            )
        )
        lasted_s, used_s = time.monotonic() - began_s, processor_s(pid) - used_s
    return TelephoneReport(
        codec=codec,
        calls=calls,
        seconds=seconds,
        line=line_figures(kind, seconds, records),
        core=used_s / lasted_s / calls,
        failures=tuple(record.failure for record in records if record.failure),
    )


async def _call(
    host: str,
    port: int,
    kind: TelephoneCodec,
    seconds: float,
    packets: Sequence[bytes] | None = None,
    after_s: float = 0.0,
) -> CallRecord:
    # Here, so that the other benches do without the telephone's extra.
    from talkpath.agent.bench.telephone_call import call

    await asyncio.sleep(after_s)
    return await call(host, port, kind, payloads(kind, seconds) if packets is None else packets)


def processor_s(pid: int) -> float:
    """Processor seconds that a process and all below it have used; 0 where nobody says so."""
    used_s, parents = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        # Of proc(5): the parent is the 4th field, user and system time the 14th and 15th.
        parents[int(folder.name)] = int(fields[1])
        used_s[int(folder.name)] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    family, more = {pid}, {pid}
    while more:
        more = {child for child, parent in parents.items() if parent in more} - family
        family |= more
    return sum(used_s.get(member, 0.0) for member in family)


@asynccontextmanager
async def _telephone(config: Config, calls: int) -> AsyncIterator[tuple[str, int, int]]:
    """Run the product inside the block; gives host, port, and the process's number.

    Raises:
        EngineError: it ended before it was ready.
        TimeoutError: it was not ready within two minutes.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        _COMMAND,
        *("run", "loopback", "--transport", "sip", "--host", "127.0.0.1"),
        env=os.environ | _environment(config, calls),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,  # a line for each call
    )
    try:
        assert process.stdout is not None
        found = None
        async with asyncio.timeout(_READY_S):
            while found is None:
                line = (await process.stdout.readline()).decode()
                if not line:
                    raise EngineError(
                        "the telephone of the bench did not start; "
                        "`talkpath run loopback --transport sip` shows why"
                    )
                found = _LISTENING.search(line)
        yield found[1], int(found[2]), process.pid
    finally:
        await end_process(process)


def _environment(config: Config, calls: int) -> dict[str, str]:
    """The telephone's settings as environment variables, with limits that are no hindrance."""
    settings = dataclasses.replace(
        config.sip,
        port=0,
        max_calls=max(calls + 1, config.sip.max_calls),
        requests_per_s=max(1000.0, config.sip.requests_per_s),
    )
    variables = settings_as_environment("sip", dataclasses.asdict(settings))
    return {**variables, "TALKPATH_SERVER_PORT": "0"}
