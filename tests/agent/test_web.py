"""What both servers have of the web: a socket that notices dead peers, URLs, origins."""

import contextlib
import socket
import sys

import pytest

from talkpath.agent import web
from talkpath.agent.errors import ConfigError


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere accepted sockets do not inherit")
def test_accepted_connections_are_watched_by_keepalive() -> None:
    with (
        contextlib.closing(web.bind("127.0.0.1", 0)) as listener,
        socket.socket() as client,
    ):
        web.listen(listener)
        client.connect(listener.getsockname())
        listener.setblocking(True)
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 20
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) == 10
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT) == 3
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 60_000


def test_a_port_that_was_taken_between_binding_and_listening_is_one_sentence() -> None:
    with contextlib.closing(web.bind("127.0.0.1", 0)) as ours:
        port = ours.getsockname()[1]
        with contextlib.closing(web.bind("127.0.0.1", port)) as theirs:
            web.listen(theirs)
            with pytest.raises(ConfigError, match=f"cannot listen at 127.0.0.1 port {port}"):
                web.listen(ours)


@pytest.mark.parametrize(
    ("host", "tls", "url"),
    [
        ("127.0.0.1", False, "http://127.0.0.1:{}"),
        ("::1", True, "https://[::1]:{}"),
        ("stt.example", True, "https://stt.example:{}"),
    ],
)
def test_a_url_names_the_port_that_the_system_chose(host: str, tls: bool, url: str) -> None:
    with contextlib.closing(web.bind("127.0.0.1", 0)) as listener:
        expected = url.format(listener.getsockname()[1])
        assert web.url_of(listener, host, tls=tls) == expected


def test_origins_are_compared_as_browsers_send_them() -> None:
    given = ("https://App.Example/", "http://localhost:3000", "*", "null", "moz-extension://0a1b")
    assert web.check_origins(given) == (
        "https://app.example",
        "http://localhost:3000",
        "*",
        "null",
        "moz-extension://0a1b",
    )
