"""What docs/protocols.md says of a whole server, asked of a real one."""

import asyncio
import json
import re
import sys
from pathlib import Path

import aiohttp

from talkpath.agent.server.protocols.fields import Refused
from talkpath.agent.server.recordings.form import read_form
from talkpath.agent.whisper.requests import DecodeOptions
from tests.agent.server.serving import serving, the_service
from tests.protocols_page import PAGE, blocks, messages, tables
from tests.speech import clip

SOCKETS = ("/websocket", "/environments/production/websocket", "/v1/realtime")


async def test_the_whole_client_writes_down_a_recording(tmp_path: Path) -> None:
    (source,) = [block.content for block in blocks("python")]
    said = clip("librivox-0880")
    (tmp_path / "speech.wav").write_bytes(said.path.read_bytes())
    async with serving() as url:
        here = source.replace("ws://127.0.0.1:8000", f"ws{url[4:]}")
        assert here != source
        client = await asyncio.create_subprocess_exec(
            sys.executable, "-c", here, cwd=tmp_path, stdout=asyncio.subprocess.PIPE
        )
        output, _ = await client.communicate()
    assert client.returncode == 0
    lines = output.decode().splitlines()
    assert any(line.startswith("partial") for line in lines)
    final = " ".join(line for line in lines if line.startswith("final"))
    assert re.search(r"not an (ill|old).*young man", final)


async def test_probes_figures_and_refusals_are_as_described() -> None:
    (refusal,) = (each for block in blocks("json", "http", "error") for each in messages(block))
    async with serving({"serve.api_keys": ("secret",)}) as url, aiohttp.ClientSession(url) as http:
        for path in ("/healthz", "/readyz"):
            async with http.get(path) as response:
                assert f"{response.status} and `{json.dumps(await response.json())}`" in PAGE
        async with http.get("/metrics", headers={"Authorization": "Bearer wrong"}) as response:
            assert response.status == 401
            assert await response.json() == refusal
        async with http.get("/metrics", headers={"Authorization": "api-key secret"}) as response:
            figures = await response.text()
    on_page = {row[0].strip("`"): row[1] for row in tables("Operations") if "_" in row[0]}
    assert on_page == dict(re.findall(r"^# TYPE (\S+) (\S+)$", figures, re.MULTILINE))


async def test_every_path_is_there() -> None:
    named = set(re.findall(r"`(/[\w/]*)`", PAGE[: PAGE.index("## Connecting")]))
    async with serving() as url, aiohttp.ClientSession(url) as http:
        for path in named:
            async with http.get(path) as response:
                # Sockets want an upgrade and forms want a POST: what is not there is a 404.
                socket = response.status == 404 and path in SOCKETS
                assert socket or response.status != 404, path
        async with http.get("/v2/realtime") as response:
            assert response.status == 404


async def test_every_field_of_a_form_is_taken_within_its_limits() -> None:
    on_page = {row[0].strip("`"): row[2] for row in tables("The form")}
    assert on_page.pop("file") == "one file"
    # The model of the tests knows one language only.
    assert "`auto`" in on_page.pop("language") and on_page.pop("languages[]")
    async with the_service() as service:

        def refusal(name: str, value: str) -> str | None:
            """The field for which a form with this one is refused."""
            needed = [("response_format", "verbose_json")] if "granularities" in name else []
            try:
                read_form([(name, value), *needed], service.engine, DecodeOptions())
            except Refused as refused:
                return refused.param
            return None

        for name, must_be in on_page.items():
            for value in re.findall(r"`([^`\[]+)`", must_be):
                if value != "server_vad":  # which has fields
                    assert refusal(name, value) is None, (name, value)
            if "text" not in must_be:
                assert refusal(name, "wrong") == name.removesuffix("[]")
        assert refusal("chunking_strategy[type]", "server_vad") is None
        for name in ("known_speaker_names[]", "min_speakers", "temprature"):
            assert refusal(name, "2") == name.removesuffix("[]")
        assert refusal("response_format", "diarized_json") == "response_format"
        assert refusal("diarize", "true") == "diarize"
