"""Files that bots follow: edited while calls come in, and tried before the first one."""

from pathlib import Path

import pytest

from talkpath.agent.config import load_config
from talkpath.agent.departments import load_directory
from talkpath.agent.errors import ConfigError, TalkpathError
from talkpath.agent.runtime import Runtime, set_runtime
from talkpath.bots import notes, receptionist, survey
from talkpath.bots.plans import read_plan
from tests.bots.receptionist_brain import decent_model
from tests.bots.typed_calls import typed_call, without_sound
from tests.llm_server import llm_server

DIRECTORY = """
greeting = "{}"
[[department]]
name = "sales"
words = ["buy"]
target = "sales"
key = "1"
[[department]]
name = "the office"
words = ["other"]
target = "office"
key = "2"
fallback = true
"""


async def test_a_call_follows_the_last_version_that_was_right(tmp_path: Path) -> None:
    file = tmp_path / "departments.toml"
    with pytest.raises(ConfigError):
        await read_plan(load_directory, str(file))
    file.write_text(DIRECTORY.format("Hello."))
    assert (await read_plan(load_directory, str(file))).greeting == "Hello."
    file.write_text("[[department]\nna")
    assert (await read_plan(load_directory, str(file))).greeting == "Hello."
    file.write_text(DIRECTORY.format("Good day."))
    assert (await read_plan(load_directory, str(file))).greeting == "Good day."


async def test_what_cannot_be_written_ends_the_command_not_the_calls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "taken").write_text("a file, not a folder")
    try:
        for prepare, name in (
            (survey.prepare, "survey.results"),
            (notes.prepare, "notes.folder"),
            (notes.prepare, "notes.database"),
        ):
            set_runtime(Runtime(load_config({name: "~/taken/rows"}, environ={})))
            with pytest.raises(TalkpathError, match=f"{tmp_path}/taken/rows"):
                await prepare()
    finally:
        set_runtime(None)


async def test_callers_are_answered_while_the_appointments_are_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_sound(receptionist, monkeypatch)
    database = tmp_path / "appointments.db"
    async with llm_server(decent_model) as server:
        settings = {
            "reply.url": server.url,
            "reply.model": "any",
            "receptionist.database": str(database),
        }
        async with typed_call(receptionist, settings) as caller:
            await caller.hears("cancel an appointment?")
            await caller.hangs_up()
        database.rename(tmp_path / "away.db")
        async with typed_call(receptionist, settings) as caller:
            await caller.hears("cancel an appointment?")
            await caller.says("Please cancel my appointment. My number is 5 5 5 0 2 0 2.")
            await caller.hears("I cannot open the appointments now.", within_s=20)
            await caller.hangs_up()
    assert not database.exists()
