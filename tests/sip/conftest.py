"""What several tests of the telephone share."""

from collections.abc import Iterator

import pytest

from tests.sip.programs import free_port
from tests.sip.telephone import Telephone, telephone


@pytest.fixture(scope="session")
def friend_port() -> int:
    """Where a call may be sent on to: the only place in the dial plan."""
    return free_port()


@pytest.fixture(scope="session")
def line(tmp_path_factory: pytest.TempPathFactory, friend_port: int) -> Iterator[Telephone]:
    """A telephone whose bot says back what it hears, for callers from 127.0.0.1 only.

    One for all tests: it takes seconds to start, and is to outlive whatever is done to it.
    """
    with telephone(
        "loopback",
        tmp_path_factory.mktemp("line") / "log",
        allow=("127.0.0.1/32",),
        accept_refer="true",
        dial_plan=(f"sip:friend@127.0.0.1:{friend_port}",),
        requests_per_s=1000,
        max_calls=60,
    ) as running:
        yield running
