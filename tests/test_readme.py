"""What the README says works."""

import asyncio
import re
import shlex
import subprocess
import sys
import time
import tomllib
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
import websockets

from talkpath.agent.audio import Resampler, float_to_pcm16, pcm16_to_float
from talkpath.agent.config import Config, load_config
from talkpath.agent.runtime import Runtime, runtime, set_runtime
from talkpath.bots.loader import load_bot
from tests.browser import eventually
from tests.speech import clip, read_wav, silence
from tests.transports.socket_caller import READY, Ear, audio
from tests.transports.stage import served

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


@pytest.fixture
async def shared() -> AsyncIterator[Runtime]:
    set_runtime(Runtime(Config()))
    yield runtime()
    await runtime().aclose()
    set_runtime(None)


def test_nothing_is_left_to_fill_in() -> None:
    assert "@@" not in README


def test_every_linked_file_exists() -> None:
    links = re.findall(r"\]\((?!http)([^)#]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_every_setting_exists(tmp_path: Path) -> None:
    (settings,) = blocks("toml")
    file = tmp_path / "talkpath.toml"
    file.write_text(settings, encoding="utf-8")
    config = load_config({}, environ={}, file=file)
    assert config.whisper.model == tomllib.loads(settings)["whisper"]["model"]


def test_every_command_has_the_flags_shown() -> None:
    lines = [line for block in blocks("sh") for line in block.splitlines() if "talkpath " in line]
    commands = {line[line.index("talkpath ") :].split(" #")[0] for line in lines}
    assert commands
    for command in commands:
        words = shlex.split(command)[1:]
        subcommand = words[:2] if words[0] == "models" else words[:1]
        program = str(Path(sys.executable).with_name("talkpath"))
        shown = subprocess.run(
            [program, *subcommand, "--help"], capture_output=True, text=True, check=True
        )
        flags = [word for word in words if word.startswith("--")]
        assert [flag for flag in flags if flag not in shown.stdout] == []


async def test_the_bot_of_twenty_lines_answers(shared: Runtime, tmp_path: Path) -> None:
    (source,) = blocks("python")
    file = tmp_path / "count_bot.py"
    file.write_text(source, encoding="utf-8")
    bot, _ = load_bot(str(file))
    engine = await shared.whisper()
    said = clip("librivox-0880")
    sound = float_to_pcm16(np.concatenate([read_wav(said.path), silence(1.0)]))
    frames = [sound[start : start + 640] for start in range(0, len(sound), 640)]
    async with served(bot) as url, websockets.connect(f"ws{url[4:]}/ws") as socket:
        ear = Ear(socket)
        await socket.send(READY)
        started = time.monotonic()
        for index, frame in enumerate(frames):
            await asyncio.sleep(max(0.0, started + index * 0.02 - time.monotonic()))
            await socket.send(audio(frame))
        await eventually(lambda: ear.got("bot-stopped-speaking"), "the bot has answered", 60)
        heard = Resampler(24_000).process(pcm16_to_float(bytes(ear.sound)))
        await ear.close()
    answer = (await engine.decode(heard)).text
    assert re.search(r"(seven|eight|nine|[789]) words", answer)  # ill-disposed is one or two
