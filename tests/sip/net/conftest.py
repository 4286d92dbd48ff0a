"""Nothing may be left of a test: no task, no socket, no timer that keeps something alive."""

import asyncio
import importlib
import importlib.util
from collections.abc import AsyncIterator, Callable, Mapping

import psutil
import pytest

from tests.certificate import Certificate
from tests.sip.waiting import soon

_BY_BOTH_LOOPS = ("test_sockets.py", "test_tls.py", "test_hostile_peers.py")
"""Where it matters what the loop makes of sockets: the telephone runs on uvloop if it is there."""


def pytest_asyncio_loop_factories(
    item: pytest.Item,
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    loops = {"asyncio": asyncio.new_event_loop}
    if item.path.name in _BY_BOTH_LOOPS and importlib.util.find_spec("uvloop"):
        loops["uvloop"] = importlib.import_module("uvloop").new_event_loop
    return loops


@pytest.fixture(autouse=True)
async def nothing_left() -> AsyncIterator[None]:
    before = _sockets()
    yield
    left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    assert not left, left
    # Aborted transports close their sockets in the loop's next rounds.
    await soon(lambda: not _sockets() - before, "the end of every socket")


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """One for 127.0.0.1."""
    return Certificate(tmp_path_factory.mktemp("tls"), "server")


def _sockets() -> set[object]:
    return {(one.fd, one.laddr) for one in psutil.Process().net_connections("inet")}
