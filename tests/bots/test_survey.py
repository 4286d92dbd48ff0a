"""The survey with its ears and its voice: callers who answer aloud, by keys, or not at all."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from talkpath.bots.testing import call
from tests.local_models import voice_model

QUESTIONS = """
greeting = "Hello."
farewell = "Thank you, goodbye."
[[question]]
id = "visited"
kind = "yes_no"
text = "Have you been here before?"
[[question]]
id = "times"
kind = "number"
text = "How many cups did you drink?"
min = 1
max = 50
confirm = true
[[question]]
id = "mood"
kind = "choice"
text = "Was it good, fair or poor?"
choices = ["good", "fair", "poor"]
"""


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, Any]:
    voice_model()
    (tmp_path / "questions.toml").write_text(QUESTIONS)
    return {
        "whisper.model": "tiny.en",
        "turn.profile": "snappy",
        "idle.after_s": 4.0,
        "survey.questions": str(tmp_path / "questions.toml"),
        "survey.results": str(tmp_path / "results.jsonl"),
    }


async def test_each_call_is_one_row_however_it_went(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    async def aloud() -> None:
        async with call("survey", settings=settings) as caller:
            await caller.hears("Have you been here before?")
            await caller.says("Yeah, sure.")
            await caller.hears("How many cups")
            await caller.says("About twenty.")
            await caller.hears("You said 20. Is that right?")
            await caller.says("That is wrong.")
            await caller.hears("Then once more")
            await caller.says("I think it was thirty.")
            await caller.hears("You said 30.")
            await caller.says("Yes.")
            await caller.hears("good, fair or poor")
            await caller.says("The second one.")
            await caller.hears("goodbye")
            await caller.is_hung_up_on()

    async def by_keys_then_gone() -> None:
        async with call("survey", settings=settings) as caller:
            await caller.hears("Hello")
            await caller.presses("2")  # in the middle of the question
            await caller.hears("How many cups")
            await caller.presses("7#")
            await caller.hears("You said 7.")
            assert caller.interruptions
            await caller.hangs_up()

    async def silent() -> None:
        async with call("survey", settings=settings) as caller:
            await caller.hears("Have you been here before?")
            for _ in range(2):
                await caller.hears("I did not hear anything. Have you been here before?")
            await caller.hears("I will hang up now. Goodbye.")
            await caller.is_hung_up_on()

    await asyncio.gather(aloud(), by_keys_then_gone(), silent())
    rows = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert len({row["call"] for row in rows}) == 3
    answers = sorted(((row["complete"], row["answers"]) for row in rows), key=str)
    assert answers == [
        (False, {"visited": False}),
        (False, {}),
        (True, {"visited": True, "times": 30.0, "mood": "fair"}),
    ]
