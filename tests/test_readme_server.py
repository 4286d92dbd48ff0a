"""What the README says of the speech-to-text server works."""

import asyncio
import os
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.agent.server.serving import serving
from tests.protocols_page import PAGE
from tests.speech import clip
from tests.test_readme import README

URL = "http://127.0.0.1:8000"
FILE = "meeting.mp4"
SPOKEN = clip("librivox-0880")


async def _output(*command: str, cwd: Path | None = None, **environ: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=cwd,
        env={**os.environ, **environ},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(120):
        out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return out.decode()


async def test_the_command_with_curl_answers(
    need_tool: Callable[[str], str], tmp_path: Path
) -> None:
    (command,) = re.findall(r"^curl .*$", README, re.MULTILINE)
    (tmp_path / FILE).write_bytes(SPOKEN.path.read_bytes())
    async with serving() as url:
        words = shlex.split(command.replace(URL, url))
        words[0] = need_tool("curl")
        assert re.search(r'"text":\s*".*ill.*"', await _output(*words, cwd=tmp_path))


async def test_the_example_with_the_openai_package_answers(tmp_path: Path) -> None:
    (source,) = re.findall(r"```py\n(.*?)```", README, re.DOTALL)
    (tmp_path / FILE).write_bytes(SPOKEN.path.read_bytes())
    async with serving() as url:
        program = source.replace(URL, url)
        assert program != source
        assert "ill" in await _output(sys.executable, "-c", program, cwd=tmp_path)


async def test_keys_made_as_shown_let_in(
    need_tool: Callable[[str], str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    need_tool("openssl")
    (command,) = re.findall(r"^umask .*$", README, re.MULTILINE)
    await _output("sh", "-c", command.split("   #")[0], cwd=tmp_path)
    file = tmp_path / "keys.txt"
    key, name = file.read_text().split()
    assert (len(key), name) == (48, "laptop")
    async with serving({"serve.api_keys_file": str(file)}) as url:
        curl = (need_tool("curl"), "-s", "-f", "-H", f"Authorization: Bearer {key}")
        assert "tiny.en" in await _output(*curl, f"{url}/v1/models")
    assert "can read the file of keys" not in caplog.text


_TRUSTING = """
import asyncio, sys
import websockets
from openai import OpenAI

async def greet():
    async with websockets.connect(sys.argv[1].replace("https", "wss") + "/v1/realtime") as client:
        assert "created" in await client.recv()

asyncio.run(greet())
print(OpenAI(base_url=sys.argv[1] + "/v1", api_key="none").models.list().data[0].id)
"""


async def test_a_certificate_made_as_shown_is_trusted_as_shown(
    need_tool: Callable[[str], str], tmp_path: Path
) -> None:
    need_tool("openssl")
    (command,) = re.findall(r"^openssl .*$", PAGE, re.MULTILINE)
    await _output(*shlex.split(command), cwd=tmp_path)
    files = {"serve.tls_cert": "cert.pem", "serve.tls_key": "key.pem"}
    settings = {name: str(tmp_path / file) for name, file in files.items()}
    async with serving(settings) as url:
        curl = (need_tool("curl"), "-s", "-f", "--cacert", "cert.pem")
        assert "tiny.en" in await _output(*curl, f"{url}/v1/models", cwd=tmp_path)
        program = (sys.executable, "-c", _TRUSTING, url)
        assert "tiny.en" in await _output(*program, cwd=tmp_path, SSL_CERT_FILE="cert.pem")
