"""Fixtures for all tests. Keep this small: what only one folder needs belongs there."""

import os
import shutil
import socket
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from talkpath.agent.models import ModelStore

# Set by .ci/run: there, a test that cannot run for want of a tool is a failure.
_STRICT = os.environ.get("TALKPATH_REQUIRE_TOOLS", "") not in ("", "0")

# Tests of browsers, of speed and of words that were said in real time want the machine for
# themselves; all others may run in several processes at once (`make test TEST_PROCESSES=2`): they
# wait for what happens, however long it takes.
_ALONE = (
    "agent/bench",
    "bots/test_bench.py",
    "bots/test_bench_conversation.py",
    "e2e/test_barge_in.py",
    "e2e/test_bots_in_browser.py",
    "e2e/test_many_calls.py",
    "sip/test_speech.py",
    "transports/asterisk/test_with_bots.py",
    "transports/test_page.py",
    "transports/test_page_turns.py",
    "transports/test_server.py",
    "transports/test_signalling.py",
)

# The same examples in every run, however slow the machine: what fails here fails anywhere. To look
# further, run a test with `--hypothesis-profile=default`.
settings.register_profile(
    "steady",
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("steady")

# Fixtures that cannot be had on this machine call this.
Lacking = Callable[[str], None]


def _lacking(what: str) -> None:
    pytest.skip(f"{what} is not installed")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that run by themselves."""
    places = [Path(__file__).parent / place for place in _ALONE]
    for item in items:
        if any(item.path.is_relative_to(place) for place in places):
            item.add_marker(pytest.mark.alone)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where CI demands everything, a skip is a failure, unless a mark on the test states it."""
    report = yield
    skipped = call.excinfo is not None and isinstance(call.excinfo.value, pytest.skip.Exception)
    marked = any(item.get_closest_marker(mark) for mark in ("skip", "skipif"))
    if _STRICT and skipped and not marked:
        report.outcome = "failed"
        report.longrepr = f"skipped where nothing may be: {call.excinfo and call.excinfo.value}"
    return report


@pytest.fixture(scope="session")
def lacking() -> Lacking:
    """Skip the test for want of something, or fail it where CI demands everything."""
    return _lacking


@pytest.fixture(scope="session")
def need_tool() -> Callable[[str], str]:
    """Return a program's path: ``need_tool("chromium")``; skip the test where there is none."""

    def find(name: str) -> str:
        path = shutil.which(name)
        if path is None:
            _lacking(name)
        assert path is not None
        return path

    return find


@pytest.fixture(scope="session")
def model() -> Callable[[str], Path]:
    """Return a model's path: ``model("base")``; it is fetched into this machine's own store."""

    def find(name: str) -> Path:
        return ModelStore().pull(name)

    return find


@pytest.fixture
def free_port() -> Iterator[int]:
    """Give a TCP port on 127.0.0.1 that nothing listens on, and nobody else is given meanwhile.

    Held by a socket that does not listen: who sets SO_REUSEADDR, as servers do, may listen there.
    """
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]
