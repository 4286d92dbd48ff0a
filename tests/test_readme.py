"""What the README says works."""

import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from talkpath.agent.config import load_config
from tests.local_models import voice_model

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PLACEHOLDER = r"@@|^[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+$"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_nothing_is_left_to_fill_in(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert re.findall(PLACEHOLDER, text, re.MULTILINE) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_linked_file_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!\w+:)([^)#]+)(?:#[^)]*)?\)", text)
    assert links or page.name != "README.md"
    assert [link for link in links if not (page.parent / link).exists()] == []


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


async def test_the_bot_of_twenty_lines_passes_its_own_test(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    voice_model()
    bot, test = blocks("python")
    (tmp_path / "count_bot.py").write_text(bot, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(test, "README.md", "exec"), names)
    await names["test_it_counts"]()
