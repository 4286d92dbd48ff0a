"""Keys: where they come from, how they are given, and that they stay secret."""

import logging
from pathlib import Path
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from talkpath.agent.config import ServeConfig
from talkpath.agent.errors import ConfigError
from talkpath.agent.metrics import Registry
from talkpath.agent.server.admission import Client, client_of
from talkpath.agent.server.keys import Guard, KeyRing, key_ring

ANN, BOB = "sk-ann-0123456789", "sk-bob-9876543210"


def _file(folder: Path, content: str | bytes, mode: int = 0o600) -> str:
    file = folder / "keys.txt"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    file.chmod(mode)
    return str(file)


# -- where they come from --------------------------------------------------------------------


def test_a_file_has_keys_names_and_comments(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    content = f"# ours\n\n{ANN}  Ann of sales # until May\n{BOB}\n   # none here\nodd#key\tcarl\n"
    keys = key_ring(ServeConfig(api_keys=("mine",), api_keys_file=_file(tmp_path, content)))
    assert len(keys) == 4
    assert keys.find(ANN) == Client("Ann of sales")
    assert keys.find("odd#key") == Client("carl")
    assert keys.find("mine") is not None
    assert keys.find("#") is None
    assert caplog.records == []


def test_a_file_that_everybody_can_read_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    key_ring(ServeConfig(api_keys_file=_file(tmp_path, ANN, 0o644)))
    assert "every user of this machine can read the file of keys" in caplog.text
    assert ANN not in caplog.text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "there is no key in the file of keys"),
        ("# nothing\n\n", "there is no key in the file of keys"),
        (b"\xff\xfe\x00", "it is not UTF-8"),
        ("good\nschlüssel name\n", "line 2: a key is visible ASCII characters only"),
    ],
)
def test_a_file_without_usable_keys_is_refused(
    tmp_path: Path, content: str | bytes, message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        key_ring(ServeConfig(api_keys_file=_file(tmp_path, content)))
    assert "schlüssel" not in str(error.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read the file of keys .*none\.txt: No such"):
        key_ring(ServeConfig(api_keys_file=str(tmp_path / "none.txt")))


def test_a_key_that_no_header_can_carry_is_refused_and_not_repeated() -> None:
    with pytest.raises(ConfigError, match="visible ASCII characters without spaces") as error:
        key_ring(ServeConfig(api_keys=("two words",)))
    assert "two words" not in str(error.value)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.7", "::", "gpu.example"])
def test_without_keys_other_machines_are_served_only_if_that_is_said(host: str) -> None:
    with pytest.raises(ConfigError, match=r"--api-keys\s+FILE, or say --insecure-no-auth"):
        key_ring(ServeConfig(host=host))
    assert len(key_ring(ServeConfig(host=host, insecure_no_auth=True))) == 0
    assert len(key_ring(ServeConfig(host=host, api_keys=(ANN,)))) == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_this_machine_needs_no_keys(host: str) -> None:
    assert len(key_ring(ServeConfig(host=host))) == 0


def test_a_key_without_a_name_gets_one_that_tells_nothing_of_it() -> None:
    keys = KeyRing({ANN: "", BOB: "bob"})
    ann = keys.find(ANN)
    assert ann is not None and ann.name.startswith("key-")
    assert not any(ANN[start : start + 4] in ann.name for start in range(len(ANN) - 3))
    assert keys.find(BOB) == Client("bob")
    assert KeyRing({ANN: ""}).find(ANN) == ann
    assert keys.find(ANN[:-1]) is None
    assert keys.find("") is None


# -- how they are given ----------------------------------------------------------------------


class _Call:
    """A call that passes a guard, and what came of it."""

    def __init__(self, keys: KeyRing, scope: Scope) -> None:
        self.denied = Registry().counter("denied_total", "", "why")
        self.seen: Scope | None = None
        self.sent: list[Message] = []
        self._guard = Guard(self._app, keys=keys, open_paths=("/", "/healthz"), denied=self.denied)
        self._scope = scope

    async def run(self) -> "_Call":
        async def receive() -> Message:
            raise AssertionError("a guard reads nothing")

        await self._guard(self._scope, receive, self._send)
        return self

    async def _app(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.seen = scope

    async def _send(self, message: Message) -> None:
        self.sent.append(message)

    @property
    def name(self) -> str:
        assert self.seen is not None
        return client_of(self.seen).name


async def _call(
    *headers: tuple[str, str], kind: str = "http", path: str = "/v1/models", **scope: Any
) -> _Call:
    raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers]
    scope = {"type": kind, "path": path, "headers": raw, **scope}
    if kind == "http":
        scope.setdefault("method", "GET")
    else:
        offered = dict(headers).get("Sec-WebSocket-Protocol", "")
        scope["subprotocols"] = [name.strip() for name in offered.split(",") if name]
    return await _Call(KeyRing({ANN: "ann", BOB: "bob"}), scope).run()


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "Api-Key", "API-KEY"])
@pytest.mark.parametrize("kind", ["http", "websocket"])
async def test_a_header_lets_in(scheme: str, kind: str) -> None:
    call = await _call(("Authorization", f"{scheme} {BOB}"), kind=kind)
    assert call.name == "bob"
    assert call.sent == []


async def test_a_subprotocol_lets_in_from_browsers() -> None:
    offered = f"realtime, openai-insecure-api-key.{ANN}, openai-beta.realtime-v1"
    call = await _call(("Sec-WebSocket-Protocol", offered), kind="websocket")
    assert call.name == "ann"
    assert call.seen is not None
    assert call.seen["subprotocols"] == ["realtime", "openai-beta.realtime-v1"]


@pytest.mark.parametrize(
    "header",
    [
        None,
        ("Authorization", ""),
        ("Authorization", "Bearer"),
        ("Authorization", "Bearer "),
        ("Authorization", ANN),
        ("Authorization", f"Basic {ANN}"),
        ("Sec-WebSocket-Protocol", "realtime"),
    ],
)
@pytest.mark.parametrize("kind", ["http", "websocket"])
async def test_without_a_key_one_is_asked_for(header: tuple[str, str] | None, kind: str) -> None:
    call = await _call(*([header] if header else []), kind=kind)
    assert call.seen is None
    start, body = call.sent
    prefix = "websocket." if kind == "websocket" else ""
    assert start["type"] == f"{prefix}http.response.start"
    assert start["status"] == 401
    assert dict(start["headers"])[b"www-authenticate"] == b'Bearer realm="talkpath"'
    assert b"an API key is needed" in body["body"]
    assert call.denied.values == {"key": 1}


@pytest.mark.parametrize("wrong", [ANN[:-1], ANN + "x", ANN.upper(), "*", "\xfc\xff", "a b"])
async def test_a_wrong_key_is_refused_and_not_repeated(wrong: str) -> None:
    for header in (
        ("Authorization", f"Bearer {wrong}"),
        ("Sec-WebSocket-Protocol", f"openai-insecure-api-key.{wrong}"),
    ):
        call = await _call(header, kind="websocket")
        assert call.seen is None
        start, body = call.sent
        assert start["status"] == 401
        assert b'error="invalid_token"' in dict(start["headers"])[b"www-authenticate"]
        assert b'"code":"invalid_api_key"' in body["body"]
        assert len(wrong) < 4 or wrong.encode() not in repr(call.sent).encode()


async def test_a_wrong_header_is_not_helped_by_a_right_subprotocol() -> None:
    protocol = ("Sec-WebSocket-Protocol", f"openai-insecure-api-key.{ANN}")
    call = await _call(("Authorization", "Bearer wrong"), protocol, kind="websocket")
    assert call.seen is None


async def test_nothing_behind_the_guard_sees_the_key() -> None:
    headers = (
        ("Authorization", f"Bearer {ANN}"),
        ("Sec-WebSocket-Protocol", f"openai-insecure-api-key.{ANN}, realtime"),
        ("X-Other", "stays"),
    )
    call = await _call(*headers, kind="websocket")
    assert ANN not in repr(call.seen)
    assert call.seen is not None
    assert (b"x-other", b"stays") in call.seen["headers"]
    assert (b"sec-websocket-protocol", b"realtime") in call.seen["headers"]


async def test_open_paths_are_read_without_a_key_and_only_read() -> None:
    for method in ("GET", "HEAD"):
        assert (await _call(path="/healthz", method=method)).name == ""
    assert (await _call(("Authorization", "Bearer wrong"), path="/")).name == ""
    for call in (
        await _call(path="/healthz", method="POST"),
        await _call(path="/", kind="websocket"),
        await _call(path="/healthz/"),
        await _call(path="//"),
    ):
        assert call.seen is None


async def test_without_keys_everybody_is_let_in_without_a_name() -> None:
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/",
        "headers": [(b"authorization", f"Bearer {ANN}".encode())],
    }
    call = await _Call(KeyRing({}), scope).run()
    assert call.name == ""


async def test_keys_are_in_no_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    await _call(("Authorization", f"Bearer {ANN}"))
    await _call(("Authorization", f"Bearer {BOB}x"))
    assert "sk-" not in caplog.text
