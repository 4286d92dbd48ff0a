"""The server from its first socket to its last: start, TLS, drain, and as a process."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest
import websockets

from talkpath.agent.config import load_config
from talkpath.agent.errors import ConfigError, ModelError
from talkpath.agent.models import MODELS, ModelStore
from talkpath.agent.server.admission import Client
from talkpath.agent.server.serve import serve
from talkpath.agent.server.service import Service
from tests.agent.server.process import Process, process, started
from tests.agent.server.serving import serving, the_service
from tests.browser import eventually
from tests.certificate import Certificate
from tests.speech import clip

WAIT_S = 60
SPOKEN = clip("librivox-0880")


class _Starting:
    """A server whose models are there when the test says so."""

    def __init__(self, service: Service, url: str, listening: "asyncio.Future[str]") -> None:
        self.url = url
        self.listening = listening
        self.loaded: asyncio.Future[Service] = asyncio.get_running_loop().create_future()
        self.task: asyncio.Task[None] = asyncio.create_task(
            serve(service.config, self._load, on_listening=listening.set_result)
        )

    async def _load(self) -> Service:
        return await self.loaded


@contextlib.asynccontextmanager
async def _starting(port: int, **overrides: Any) -> AsyncIterator[tuple[_Starting, Service]]:
    async with the_service({"serve.port": port, **overrides}) as service:
        listening: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        server = _Starting(service, f"http://127.0.0.1:{port}", listening)
        try:
            yield server, service
        finally:
            server.task.cancel()
            await asyncio.wait({server.task})


async def _answers(url: str) -> bool:
    with contextlib.suppress(aiohttp.ClientError):
        async with aiohttp.ClientSession(url) as http, http.get("/healthz") as response:
            return response.status == 200
    return False


async def _nobody() -> Service:
    raise AssertionError("this takes long and was for nothing")


# -- start -----------------------------------------------------------------------------------


async def test_probes_tell_of_every_phase(free_port: int) -> None:
    async with _starting(free_port) as (server, service):
        await eventually(lambda: _answers(server.url), "a server that is up")
        async with aiohttp.ClientSession(server.url) as http:
            async with http.get("/readyz") as response:
                assert response.status == 503
                assert (await response.json())["status"] == "loading"
            for method, path in (("POST", "/v1/audio/transcriptions"), ("GET", "/")):
                async with http.request(method, path) as response:
                    assert response.status == 503
                    assert int(response.headers["Retry-After"]) > 0
                    assert "still being loaded" in (await response.json())["error"]["message"]
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await http.ws_connect("/websocket")
            assert refused.value.status == 503
            assert not server.listening.done()

            server.loaded.set_result(service)
            assert await server.listening == server.url
            async with http.get("/readyz") as response:
                assert response.status == 200
            with service.admission.upload(Client()):  # something that is under way
                server.task.cancel()

                async def draining() -> bool:
                    async with http.get("/readyz") as response:
                        return bool((await response.json())["status"] == "draining")

                await eventually(draining, "a server that wants no more work")
                async with http.get("/healthz") as response:
                    assert response.status == 200
                async with http.post("/v1/audio/transcriptions", data={"file": "x"}) as response:
                    assert response.status == 503
                assert not server.task.done()
            async with asyncio.timeout(WAIT_S):
                await asyncio.wait({server.task})
            assert not await _answers(server.url)


async def test_a_taken_port_is_one_sentence_and_nothing_is_loaded() -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        with pytest.raises(ConfigError, match=f"cannot listen at 127.0.0.1 port {port} .*--port"):
            await serve(load_config({"serve.port": port}, environ={}), _nobody)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"serve.host": "0.0.0.0"}, "--api-keys FILE"),
        ({"serve.api_keys_file": "none.txt"}, "cannot read the file of keys none.txt"),
        ({"serve.allow_origins": ("app.example",)}, "'app.example' is no origin of pages"),
        ({"serve.host": "no.such.host.invalid"}, "cannot listen at 'no.such.host.invalid'"),
        ({"serve.host": "192.0.2.1"}, r"cannot listen at 192\.0\.2\.1 .* another with --host"),
        ({"whisper.language": "klingon"}, "Whisper does not know the language 'klingon'"),
    ],
)
async def test_a_wrong_setting_is_told_before_anything_is_loaded(
    settings: dict[str, Any], message: str
) -> None:
    keys = {} if settings.get("serve.host") == "0.0.0.0" else {"serve.api_keys": ("sesame",)}
    config = load_config({"serve.port": 0, **keys, **settings}, environ={})
    with pytest.raises(ConfigError, match=message):
        await serve(config, _nobody)


async def test_a_model_that_cannot_be_loaded_ends_the_server(free_port: int) -> None:
    async def load() -> Service:
        raise ModelError("the model is broken")

    with pytest.raises(ModelError, match="the model is broken"):
        await serve(load_config({"serve.port": free_port}, environ={}), load)
    assert not await _answers(f"http://127.0.0.1:{free_port}")


async def test_a_signal_ends_a_server_that_still_loads(free_port: int) -> None:
    async with _starting(free_port) as (server, _):
        await eventually(lambda: _answers(server.url), "a server that is up")
        os.kill(os.getpid(), signal.SIGTERM)
        async with asyncio.timeout(WAIT_S):
            await server.task
        assert not server.listening.done()
        assert server.loaded.cancelled()


async def test_a_second_signal_does_not_wait_for_what_is_under_way(free_port: int) -> None:
    async with _starting(free_port, **{"serve.drain_s": 1e6}) as (server, service):
        server.loaded.set_result(service)
        await server.listening
        with service.admission.upload(Client()):
            os.kill(os.getpid(), signal.SIGTERM)
            await eventually(lambda: service.admission.draining, "a draining server")
            os.kill(os.getpid(), signal.SIGTERM)
            async with asyncio.timeout(WAIT_S):
                await server.task


async def test_what_takes_longer_than_it_may_is_given_up(
    free_port: int, caplog: pytest.LogCaptureFixture
) -> None:
    async with _starting(free_port, **{"serve.drain_s": 0.0}) as (server, service):
        server.loaded.set_result(service)
        await server.listening
        with service.admission.upload(Client()):
            os.kill(os.getpid(), signal.SIGTERM)
            async with asyncio.timeout(WAIT_S):
                await server.task
    assert "1 recording given up" in caplog.text


# -- TLS -------------------------------------------------------------------------------------


@pytest.mark.parametrize("one_file", [False, True])
async def test_a_certificate_makes_it_https_and_wss(tmp_path: Path, one_file: bool) -> None:
    mine = Certificate(tmp_path, "mine")
    files = {"serve.tls_cert": str(mine.cert), "serve.tls_key": str(mine.key)}
    if one_file:
        files = {"serve.tls_cert": str(mine.both)}
    async with serving(files) as url, aiohttp.ClientSession(url) as http:
        assert url.startswith("https://127.0.0.1:")
        async with http.get("/healthz", ssl=mine.trusted) as response:
            assert response.status == 200
        async with websockets.connect(f"wss{url[5:]}/websocket", ssl=mine.trusted) as client:
            await client.send(json.dumps({"type": "health_check"}))
            assert json.loads(await client.recv())["type"] in ("health_check", "error")
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await http.get("/healthz")


@pytest.mark.parametrize(
    ("cert", "key", "message"),
    [
        ("none.pem", "", r"cannot read .*none\.pem: No such file"),
        ("mine-cert.pem", "none.pem", r"cannot read .*none\.pem: No such file"),
        (".", "", "cannot read .*: Is a directory"),
        ("mine-cert.pem", "", r"there is no private key in PEM in .*mine-cert\.pem"),
        ("mine-cert.pem", "mine-cert.pem", r"there is no private key in PEM in .*mine-cert\.pem"),
        ("mine-key.pem", "", r"there is no certificate in PEM in .*mine-key\.pem"),
        ("garbage.pem", "mine-key.pem", r"there is no certificate in PEM in .*garbage\.pem"),
        ("mine-cert.pem", "garbage.pem", r"there is no private key in PEM in .*garbage\.pem"),
        (
            "mine-cert.pem",
            "other-key.pem",
            r"key in .*other-key\.pem does not belong to the certificate in .*mine-cert\.pem",
        ),
        ("locked-cert.pem", "locked-key.pem", r"key in .*locked-key\.pem is encrypted"),
        ("locked-both.pem", "", r"key in .*locked-both\.pem is encrypted"),
    ],
)
async def test_a_wrong_certificate_is_named_before_anything_is_loaded(
    tmp_path: Path, cert: str, key: str, message: str
) -> None:
    for name, password in (("mine", None), ("other", None), ("locked", b"secret")):
        Certificate(tmp_path, name, password)
    (tmp_path / "garbage.pem").write_bytes(b"\x00\xffgarbage")
    files = {"serve.tls_cert": str(tmp_path / cert)}
    if key:
        files["serve.tls_key"] = str(tmp_path / key)
    with pytest.raises(ConfigError, match=message):
        await serve(load_config({"serve.port": 0, **files}, environ={}), _nobody)


# -- a process -------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def whisper() -> None:
    ModelStore().pull("tiny.en")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_ends_the_process_well(number: int) -> None:
    async with process() as server:
        assert await _answers(server.url)
        if sys.platform == "linux":  # each stream is a file, and 1024 are soon used up
            files = psutil.Process(server.process.pid).rlimit(psutil.RLIMIT_NOFILE)
            assert files[0] == files[1]
        server.process.send_signal(number)
        code, log = await server.end()
    assert code == 0
    assert "Traceback" not in log
    assert "stopping: 0 streams and 0 recordings" in log


async def test_a_signal_ends_a_process_that_still_fetches_its_model(
    free_port: int, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # a hub and an index that never answer
        hub = f"http://127.0.0.1:{silent.getsockname()[1]}"
        home = {"TALKPATH_HOME": str(tmp_path), "HF_HOME": str(tmp_path), "HF_ENDPOINT": hub}
        index = {"PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": f"{hub}/simple"}
        async with started("--port", str(free_port), **home, **index) as starting:
            url = f"http://127.0.0.1:{free_port}"
            await eventually(lambda: _answers(url), "a server that is up")
            async with aiohttp.ClientSession(url) as http:
                assert await _is_not_ready(http)
            starting.send_signal(signal.SIGTERM)
            code, log = await Process(starting, url).end()
    assert code == 0
    assert "Traceback" not in log


async def test_a_model_that_is_none_of_whispers_is_refused_at_once() -> None:
    async with started("--port", "0", "--model", "nope") as starting:
        code, log = await Process(starting, "").end()
    assert code == 2
    assert "there is no Whisper model 'nope'; known are base, tiny.en, " in log
    assert not any(spec.name in log for spec in MODELS if spec.kind != "whisper")
    assert "Traceback" not in log


async def test_a_recording_under_way_is_answered_before_the_process_ends() -> None:
    sent = asyncio.Event()

    async def form(stopped: asyncio.Event) -> AsyncIterator[bytes]:
        sound = SPOKEN.path.read_bytes()
        yield sound[:1000]
        sent.set()
        await stopped.wait()
        yield sound[1000:]

    async with process() as server, aiohttp.ClientSession(server.url) as http:
        stopped = asyncio.Event()
        data = aiohttp.FormData()
        data.add_field("model", "tiny.en")
        data.add_field("file", form(stopped), filename="speech.wav", content_type="audio/wav")
        answer = asyncio.create_task(_text(http, data))
        await sent.wait()
        await eventually(lambda: _has(http, "talkpath_server_live_uploads 1"), "an upload begun")
        server.process.send_signal(signal.SIGTERM)
        await eventually(lambda: _is_not_ready(http), "a draining server")
        stopped.set()
        assert "ill" in await answer
        code, log = await server.end()
    assert code == 0
    assert "stopping: 0 streams and 1 recording have" in log
    assert "Traceback" not in log


async def _text(http: aiohttp.ClientSession, data: aiohttp.FormData) -> str:
    async with http.post("/v1/audio/transcriptions", data=data) as response:
        assert response.status == 200, await response.text()
        return str((await response.json())["text"])


async def _has(http: aiohttp.ClientSession, line: str) -> bool:
    async with http.get("/metrics") as response:
        return line in await response.text()


async def _is_not_ready(http: aiohttp.ClientSession) -> bool:
    async with http.get("/readyz") as response:
        return response.status == 503


async def test_semantic_detection_is_not_paid_for_by_those_who_do_not_use_it() -> None:
    program = (
        "import sys, talkpath.bots.cli, talkpath.bots.serve_command, talkpath.agent.server.serve\n"
        "print([name for name in ('pipecat', 'aiortc', 'fastapi') if name in sys.modules])"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    assert out.decode().strip() == "[]"
