"""What several tests of the telephone share."""

from collections.abc import Iterator

import pytest

from tests.sip.programs import free_udp_port
from tests.sip.telephone import Telephone, telephone


@pytest.fixture(scope="session")
def friend_port() -> int:
    """Where a call may be sent on to: the only place in the dial plan."""
    return free_udp_port()


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory, friend_port: int) -> Iterator[Telephone]:
    """A telephone whose bot says back what it hears, for callers from 127.0.0.1 only."""
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
