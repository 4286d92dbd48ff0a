"""Every piece of code in docs/custom-agents.md does what the page says."""

import importlib.util
import inspect
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from pipecat.evals.scenario import EvalScenarioFile

from tests.llm_server import Answer, Call, LlmServer, Request, Say, llm_server, tool_results
from tests.local_models import voice_model

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/custom-agents.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The page's files, by the names that they begin with."""
    voice_model()
    for source in blocks("python"):
        match = re.match(r'"""(\w+\.py): ', source)
        assert match, f"a piece of code without a file name: {source[:60]}"
        (tmp_path / match[1]).write_text(source, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def found_in(file: Path) -> list[Callable[[], Awaitable[None]]]:
    spec = importlib.util.spec_from_file_location(f"of_the_page_{file.stem}", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found = [
        function
        for name, function in vars(module).items()
        if name.startswith("test_") and inspect.iscoroutinefunction(function)
    ]
    assert found
    return found


def librarian(request: Request) -> Answer:
    results = tool_results(request)
    return Say(f"It is on {results[-1]}.") if results else Call("find_book", {"title": "Dracula"})


@pytest.fixture
async def llm(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[LlmServer]:
    async with llm_server(librarian) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        yield server


def test_the_first_bot_passes_the_pages_tests_by_the_pages_command(folder: Path) -> None:
    (command,) = re.findall(r"^pytest (-.+)$", PAGE, re.MULTILINE)
    run = subprocess.run(
        [sys.executable, "-m", "pytest", *command.split()],
        capture_output=True,
        text=True,
        cwd=folder,
        timeout=280,
        check=False,
    )
    assert run.returncode == 0, run.stdout
    assert "2 passed" in run.stdout


async def test_the_bot_of_the_telephone_passes_the_pages_test(folder: Path) -> None:
    for test in found_in(folder / "test_desk_bot.py"):
        await test()


async def test_the_bot_with_a_tool_passes_the_pages_test(folder: Path, llm: LlmServer) -> None:
    for test in found_in(folder / "test_library_bot.py"):
        await test()
    assert not llm.refusals
    (recording,) = (folder / "calls").glob("*/audio.wav")
    transcript = (recording.parent / "transcript.jsonl").read_text(encoding="utf-8")
    assert "Dracula" in transcript and "library" in transcript


def test_no_file_is_named_that_is_not_there(folder: Path) -> None:
    named = set(re.findall(r"\b\w+_bot\.py\b", PAGE))
    assert named == {file.name for file in folder.glob("*_bot.py")}
    links = re.findall(r"\]\((?!http)([^)#]+)\)", PAGE)
    assert [link for link in links if not (ROOT / "docs" / link).exists()] == []


def test_the_scenario_can_be_read(tmp_path: Path) -> None:
    (source,) = blocks("yaml")
    file = tmp_path / "survey.yaml"
    file.write_text(source, encoding="utf-8")
    assert [scenario.name for scenario in EvalScenarioFile.load(file)]
