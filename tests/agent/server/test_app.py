"""The application over real sockets: who may come in, probes, metrics, and errors."""

import asyncio
import json
import logging
import re
from typing import Any

import aiohttp
import pytest
import websockets
from websockets.asyncio.client import connect

from talkpath.agent.errors import ConfigError
from talkpath.agent.server.app import create_app
from talkpath.agent.server.sockets import LiveStreams
from tests.agent.server.serving import serving, the_service

KEY = "sesame-open-0123"
BEARER = {"Authorization": f"Bearer {KEY}"}
KEYS = {"serve.api_keys": (KEY,)}
SOCKETS = ("/websocket", "/environments/production/websocket", "/v1/realtime?intent=transcription")


def _is_error(answer: Any) -> bool:
    """Whether it has OpenAI's shape."""
    return set(answer["error"]) == {"message", "type", "param", "code"}


def _server_log(caplog: pytest.LogCaptureFixture) -> str:
    """What was logged at this end of the sockets; the client's own library logs its headers."""
    mine = [record for record in caplog.records if record.name != "websockets.client"]
    return "\n".join(record.getMessage() for record in mine)


async def _refused(url: str, **headers: str) -> tuple[int, Any]:
    """Status and body of a WebSocket that is refused."""
    with pytest.raises(websockets.InvalidStatus) as refused:
        await connect(url, additional_headers=headers)
    response = refused.value.response
    return response.status_code, json.loads(response.body or b"null")


# -- keys ------------------------------------------------------------------------------------


async def test_with_keys_only_page_and_probes_are_open(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with serving(KEYS) as url, aiohttp.ClientSession(url) as http:
        for path in ("/", "/favicon.svg", "/healthz", "/readyz"):
            async with http.get(path) as response:
                assert response.status == 200, path
        for path in ("/metrics", "/v1/models", "/no-such-thing"):
            async with http.get(path) as response:
                assert response.status == 401, path
                assert response.headers["WWW-Authenticate"].startswith("Bearer")
                assert _is_error(await response.json())
            async with http.get(path, headers=BEARER) as response:
                assert response.status == (404 if path == "/no-such-thing" else 200), path
    assert KEY not in _server_log(caplog)


@pytest.mark.parametrize("path", SOCKETS)
async def test_a_socket_needs_a_key_before_it_is_one(
    path: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with serving(KEYS) as url:
        socket = f"ws{url[4:]}{path}"
        for headers in ({}, {"Authorization": "Api-Key wrong"}):
            status, body = await _refused(socket, **headers)
            assert status == 401
            assert _is_error(body)
        for scheme in ("Bearer", "Api-Key"):
            headers = {"Authorization": f"{scheme} {KEY}"}
            async with connect(socket, additional_headers=headers):
                pass
        offered = [websockets.Subprotocol("realtime"), f"openai-insecure-api-key.{KEY}"]
        async with connect(socket, subprotocols=offered) as client:  # type: ignore[arg-type]
            assert client.subprotocol == "realtime"
    assert KEY not in _server_log(caplog)


# -- pages of others -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        (None, True),
        ("http://localhost:3000", True),
        ("https://app.example", True),
        ("http://app.example", False),
        ("https://app.example:8443", False),
        ("https://app.example.evil.example", False),
        ("https://evil.example", False),
        ("http://[", False),
        ("://", False),
        ("null", False),
    ],
)
async def test_pages_of_the_list_may_call_and_others_not(origin: str | None, allowed: bool) -> None:
    headers = {} if origin is None else {"Origin": origin}
    async with (
        serving({"serve.allow_origins": ("https://App.example/",)}) as url,
        aiohttp.ClientSession(url, headers=headers) as http,
    ):
        async with http.post("/v1/audio/transcriptions") as response:
            assert (response.status != 403) is allowed
            assert _is_error(await response.json())
            if allowed and origin is not None:
                assert response.headers["Access-Control-Allow-Origin"] == origin
        if allowed:
            await (await http.ws_connect("/websocket")).close()
        else:
            status, body = await _refused(f"ws{url[4:]}/websocket", **headers)
            assert status == 403
            assert body["error"]["message"] == "pages of another site may not call here"


@pytest.mark.parametrize(("origin", "allowed"), [("https://a.example", True), ("https://b", False)])
async def test_a_preflight_is_answered_without_a_key(origin: str, allowed: bool) -> None:
    headers = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type",
    }
    async with (
        serving({**KEYS, "serve.allow_origins": ("https://a.example",)}) as url,
        aiohttp.ClientSession(url) as http,
    ):
        async with http.options("/v1/audio/transcriptions", headers=headers) as response:
            assert response.status == (200 if allowed else 400)
            assert response.headers.get("Access-Control-Allow-Origin") == (
                origin if allowed else None
            )
            if allowed:
                assert "authorization" in response.headers["Access-Control-Allow-Headers"]
        # Also an error is for the page to read.
        async with http.get("/v1/models", headers={"Origin": origin}) as response:
            assert response.status == 401
            assert response.headers.get("Access-Control-Allow-Origin") == (
                origin if allowed else None
            )


async def test_a_star_allows_every_page() -> None:
    async with (
        serving({"serve.allow_origins": ("*",)}) as url,
        aiohttp.ClientSession(url, headers={"Origin": "https://anybody.example"}) as http,
    ):
        await (await http.ws_connect("/websocket")).close()
        async with http.get("/v1/models") as response:
            assert response.headers["Access-Control-Allow-Origin"] == "*"


@pytest.mark.parametrize(
    ("settings", "answered"),
    [({}, False), (KEYS, True), ({"serve.insecure_no_auth": True}, True)],
)
async def test_a_foreign_name_for_this_machine_is_answered_only_where_that_is_no_danger(
    settings: dict[str, Any], answered: bool
) -> None:
    """A page whose name was made to resolve to 127.0.0.1 has no key to show."""
    headers = {"Host": "stt.example", "Origin": "http://stt.example", **BEARER}
    async with serving(settings) as url, aiohttp.ClientSession(url, headers=headers) as http:
        for path in ("/", "/v1/models"):
            async with http.get(path) as response:
                assert response.status == (200 if answered else 403)
        if not answered:
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await http.ws_connect("/websocket")
            assert refused.value.status == 403


async def test_an_origin_that_no_browser_sends_is_refused_at_the_start() -> None:
    for origin in ("app.example", "https://app.example/path", "https://*.example", "", "https://"):
        async with the_service({"serve.allow_origins": (origin,)}) as service:
            with pytest.raises(ConfigError, match="is no origin of pages"):
                create_app(service, LiveStreams())


# -- probes, metrics, errors -----------------------------------------------------------------


async def test_metrics_of_engine_and_server_parse() -> None:
    async with serving() as url, aiohttp.ClientSession(url) as http:
        async with http.ws_connect("/websocket"), http.get("/metrics") as response:
            assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
            lines = (await response.text()).splitlines()
    sample = re.compile(r'[a-z_]+(\{[a-z_]+="[^"]*"(,le="[^"]+")?\})? -?[0-9.e+-]+(nf)?')
    samples = [line for line in lines if not line.startswith("# ")]
    assert [line for line in samples if not sample.fullmatch(line)] == []
    types = [line.split()[2] for line in lines if line.startswith("# TYPE ")]
    assert len(types) == len(set(types))
    assert {
        "talkpath_whisper_requests_total",
        "talkpath_server_denied_total",
        "talkpath_server_live_streams",
        "talkpath_server_live_uploads",
    } <= set(types)
    assert "talkpath_server_live_streams 1" in samples
    assert 'talkpath_server_streams_total{protocol="baseten"} 1' in samples


async def test_callers_without_a_key_are_counted_and_told_of_in_one_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with the_service(KEYS) as service, serving(service) as url:
        await _refused(f"ws{url[4:]}/websocket")
        async with aiohttp.ClientSession(url) as http, http.get("/v1/models"):
            pass
        assert service.metrics.denied.values == {"key": 2}
    (warning,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert warning.getMessage() == (
        "refused 1 call without a key that is known here, the last from 127.0.0.1"
    )


async def test_unknown_paths_and_methods_are_told_in_the_usual_shape() -> None:
    async with serving() as url, aiohttp.ClientSession(url) as http:
        for method, path, status in (
            ("GET", "/no-such-thing", 404),
            ("GET", "/no-such-file.js", 404),
            ("GET", "/%2e%2e/app.py", 404),
            ("POST", "/v1/nothing", 404),
            ("GET", "/docs", 404),
            ("POST", "/healthz", 405),
            ("DELETE", "/v1/models", 405),
            ("GET", "/v1/audio/transcriptions", 405),
        ):
            async with http.request(method, path) as response:
                assert response.status == status, path
                assert _is_error(await response.json())
                assert ("Allow" in response.headers) is (status == 405)
        status, body = await _refused(f"ws{url[4:]}/v1/speak")
        assert status == 404
        assert body["error"]["message"] == "there is no WebSocket at /v1/speak"


@pytest.mark.parametrize(
    "path",
    ["/websocket", "/environments/production/websocket", "/v1/realtime?intent=transcription"],
)
async def test_a_get_where_a_websocket_is_says_so(path: str) -> None:
    async with serving() as url, aiohttp.ClientSession(url) as http, http.get(path) as response:
        assert response.status == 426
        assert response.headers["Upgrade"] == "websocket"
        body = await response.json()
        assert _is_error(body)
        assert "is a WebSocket: connect to it with ws://" in body["error"]["message"]


async def test_a_defect_is_a_short_answer_and_a_long_log(caplog: pytest.LogCaptureFixture) -> None:
    async with the_service() as service, serving(service) as url:

        def spoiled() -> float:
            raise ZeroDivisionError("somewhere inside")

        service.metrics.registry.gauge("spoiled", "Never read.", spoiled)
        async with aiohttp.ClientSession(url) as http, http.get("/metrics") as response:
            assert response.status == 500
            text = await response.text()
    assert _is_error(json.loads(text))
    assert "Zero" not in text and "Traceback" not in text
    assert "ZeroDivisionError: somewhere inside" in caplog.text


async def test_garbage_is_no_defect(caplog: pytest.LogCaptureFixture) -> None:
    async with serving() as url:
        host, port = url.removeprefix("http://").split(":")
        for garbage in (
            b"\x16\x03\x01\x02\x00\x01",
            b"GET / HTTP/1.1\r\n\r\n" * 3,
            b"\0" * 100_000,
        ):
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(garbage)
            writer.write_eof()
            async with asyncio.timeout(60):
                await reader.read()
            writer.close()
        async with aiohttp.ClientSession(url) as http, http.get("/healthz") as response:
            assert response.status == 200
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []
