"""What the README says of the speech-to-text server works."""

import asyncio
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.agent.server.serving import serving
from tests.speech import clip
from tests.test_readme import README

URL = "http://127.0.0.1:8000"
FILE = "meeting.mp4"
SPOKEN = clip("librivox-0880")


async def _output(*command: str, cwd: Path | None = None) -> str:
    process = await asyncio.create_subprocess_exec(
        *command, cwd=cwd, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(60):
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
