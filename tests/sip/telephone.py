"""The product as a process, as its users start it: ``talkpath run BOT --transport sip``."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

__all__ = ["Telephone", "telephone"]

_READY = re.compile(r"the telephone is listening at sip:127\.0\.0\.1:(\d+)")
_START_S = 120
_END_S = 20


@dataclass(frozen=True)
class Telephone:
    """A telephone that takes calls.

    Attributes:
        port: of SIP, UDP and TCP, on 127.0.0.1.
        process: of the listener.
        log: what it has written to standard error.
    """

    port: int
    process: psutil.Process
    log: Path

    def uri(self, user: str = "bot") -> str:
        """Where to call."""
        return f"sip:{user}@127.0.0.1:{self.port}"

    def workers(self) -> list[psutil.Process]:
        """The processes that carry calls: the largest ones below the listener's."""
        family = self.process.children(recursive=True)
        return [child for child in family if child.memory_info().rss > 100 << 20]

    def family(self) -> list[psutil.Process]:
        """All its processes."""
        return [self.process, *self.process.children(recursive=True)]


@contextlib.contextmanager
def telephone(bot: str, log: Path, **settings: object) -> Iterator[Telephone]:
    """Run a bot on a port of the system's choice.

    Args:
        bot: its name, or the path of its file.
        log: file for standard error; it is shown where the process fails.
        settings: of ``[sip]``, and ``section__key`` for others.
    """
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [
                *(str(Path(sys.executable).with_name("talkpath")), "run", bot),
                *("--transport", "sip", "--host", "127.0.0.1"),
            ],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=os.environ
            | {"PYTHONUNBUFFERED": "1"}
            | _environment({"port": 0, "server__port": 0, **settings}),
        )
        watchdog = threading.Timer(_START_S, process.kill)
        watchdog.start()
        assert process.stdout is not None
        try:
            found = None
            while found is None:
                line = process.stdout.readline()
                assert line, f"not ready:\n{log.read_text()[-4000:]}"
                found = _READY.search(line)
            watchdog.cancel()
            yield Telephone(int(found[1]), psutil.Process(process.pid), log)
            assert process.poll() is None, f"it has ended:\n{log.read_text()[-4000:]}"
        finally:
            watchdog.cancel()
            _end(process)
            process.stdout.close()
    assert process.returncode in (0, 130, -signal.SIGINT), log.read_text()[-4000:]
    assert "Traceback" not in log.read_text(), log.read_text()[-8000:]


def _environment(settings: Mapping[str, object]) -> dict[str, str]:
    variables = {}
    for name, value in settings.items():
        section, _, key = name.rpartition("__")
        text = ",".join(map(str, value)) if isinstance(value, (tuple, list)) else str(value)
        variables[f"TALKPATH_{section or 'sip'}_{key}".upper()] = text
    return variables


def _end(process: subprocess.Popen[str]) -> None:
    """Ctrl-C; whoever does not go in time is killed with all below it."""
    if process.poll() is not None:
        return
    family = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    try:
        process.wait(_END_S)
    except subprocess.TimeoutExpired:
        for member in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()
        process.kill()
        process.wait()
        raise AssertionError("the telephone did not end in time") from None
