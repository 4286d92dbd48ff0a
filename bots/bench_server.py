"""The speech-to-text server of a bench: ``talkpath serve`` in a process of its own."""

import asyncio
import dataclasses
import os
import sys
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from talkpath.agent.config import Config
from talkpath.agent.errors import EngineError
from talkpath.bots.bench_process import end_process, settings_as_environment

__all__ = ["ServerProcess", "server_process"]

_COMMAND = "from talkpath.bots.cli import main; raise SystemExit(main())"
_LISTENING = " is listening at "
_READY_S = 300.0  # a large model takes its time
_ENGINE = "talkpath_whisper_"


@dataclasses.dataclass(frozen=True, slots=True)
class ServerProcess:
    """A server that is ready.

    Attributes:
        url: without a path.
        pid: of its process.
    """

    url: str
    pid: int

    def processor_s(self) -> float:
        """Processor seconds that it has used; 0.0 where the system does not say."""
        try:
            fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return 0.0
        # Of proc(5): user and system time are the 14th and 15th field, the name the 2nd.
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def counters(self) -> dict[str, float]:
        """What its engine has counted."""
        with urllib.request.urlopen(f"{self.url}/metrics") as answer:
            lines = answer.read().decode().splitlines()
        counted: dict[str, float] = {}
        for line in lines:
            name, _, value = line.rpartition(" ")
            plain, _, labels = name.removeprefix(_ENGINE).partition("{")
            if name.startswith(_ENGINE) and plain.endswith("_total"):
                label = labels.partition('"')[2].partition('"')[0]
                counted[f"{plain.removesuffix('_total')} {label}".strip()] = float(value)
        return counted


@asynccontextmanager
async def server_process(config: Config) -> AsyncIterator[ServerProcess]:
    """Run a server with these settings inside the block, on a port of this machine.

    Raises:
        EngineError: it ended before it was ready.
        TimeoutError: it was not ready within five minutes.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        _COMMAND,
        *("serve", "--host", "127.0.0.1", "--port", "0"),
        env=os.environ | _environment(config),
        stdout=asyncio.subprocess.PIPE,  # one line, once it is ready
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(_READY_S):
            line = (await process.stdout.readline()).decode()
        if _LISTENING not in line:
            raise EngineError("the speech-to-text server of the bench did not start")
        server = ServerProcess(line.partition(_LISTENING)[2].strip(), process.pid)
        yield server
    finally:
        await end_process(process)


def _environment(config: Config) -> dict[str, str]:
    """The settings that matter here, as environment variables."""
    variables: dict[str, str] = {}
    for name in ("whisper", "speech"):
        settings = dataclasses.asdict(getattr(config, name))
        variables |= settings_as_environment(name, settings)
    return variables
