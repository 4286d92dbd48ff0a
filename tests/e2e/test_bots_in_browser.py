"""The three bots, as a user starts them, called from a real browser with real speech.

They mostly wait for speech, so their calls are held side by side, in pages of one browser.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from talkpath.agent.media import AudioFile
from talkpath.agent.whisper import WhisperEngine
from tests.browser import chromium, eventually, expect
from tests.e2e.bots import Call, calling, running
from tests.speech import Clip, clip, silence, word_error_rate

LONG = tuple(clip(f"librivox-{number}") for number in ("0870", "0890", "0920"))
SHORT = clip("librivox-0880")
PAUSE_S = 1.2

Messages = list[dict[str, Any]]


@dataclass
class Outcome:
    """What came of a call.

    Attributes:
        said: by the caller.
        captions: talkpath's messages.
        latency: the same.
        entries: what the page shows.
        recording: what the bot said, as WebM; None where it says nothing.
        words: the words in it.
    """

    said: tuple[Clip, ...]
    captions: Messages = field(default_factory=list)
    latency: Messages = field(default_factory=list)
    entries: list[str] = field(default_factory=list)
    recording: Path | None = None
    words: str = ""

    async def look(self, call: Call) -> None:
        """Take what the page has."""
        self.captions = await call.server_messages("caption")
        self.latency = await call.server_messages("turn-latency")
        self.entries = await call.page.locator("#entries > li").all_inner_texts()

    @property
    def finals(self) -> Messages:
        """Those with words."""
        return [caption for caption in self.captions if caption["final"] and caption["stable"]]

    @property
    def word_errors(self) -> float:
        """Of the captions."""
        texts = [final["stable"] for final in self.finals]
        return word_error_rate([" ".join(one.text for one in self.said)], [" ".join(texts)])


async def captions(call: Call, folder: Path) -> Outcome:
    """Everything is said, and waited for."""
    outcome = Outcome((*LONG, SHORT))
    for one in outcome.said:
        await call.say(np.concatenate([one.samples(), silence(PAUSE_S)]))

    async def written() -> bool:
        await outcome.look(call)
        return outcome.word_errors <= 0.12

    await eventually(written, "the words")
    return outcome


async def echo(call: Call, folder: Path) -> Outcome:
    """One sentence, and what comes back."""
    outcome = Outcome((SHORT,))
    await call.say(SHORT.samples())
    await call.until(1, "bot-stopped-speaking")
    outcome.recording = await call.recording(folder / "echo.webm")
    await outcome.look(call)
    return outcome


async def assistant(call: Call, folder: Path) -> Outcome:
    """The greeting, a sentence, and the answer."""
    outcome = Outcome((SHORT,))
    await call.until(1, "bot-stopped-speaking", within_s=120)
    await call.say(SHORT.samples())
    await call.until(2, "bot-stopped-speaking", within_s=120)
    outcome.recording = await call.recording(folder / "assistant.webm")
    await expect(call.page.locator("#entries")).to_contain_text("what can I do for you")
    await outcome.look(call)
    return outcome


BOTS: dict[str, Callable[[Call, Path], Awaitable[Outcome]]] = {
    "captions": captions,
    "echo": echo,
    "assistant": assistant,
}


async def transcribe(outcomes: list[Outcome], model: Path) -> None:
    """Write down what the bots said."""
    engine = await WhisperEngine.start(model)
    try:
        for outcome in outcomes:
            if outcome.recording is not None:
                with AudioFile(outcome.recording) as file:
                    audio = np.concatenate(list(file.blocks()))
                loud = np.flatnonzero(np.abs(audio) > 0.01)  # Whisper fills long silence
                audio = audio[max(0, loud[0] - 4_800) : loud[-1] + 4_800]
                cuts = range(0, len(audio), 28 * 16_000)
                pieces = [audio[start : start + 28 * 16_000] for start in cuts]
                outcome.words = " ".join([(await engine.decode(one)).text for one in pieces])
    finally:
        engine.close()


async def call_all(program: str, model: Path, folder: Path) -> dict[str, Outcome]:
    """One call to each bot, all at once."""
    async with chromium(program) as browser:

        async def held(bot: str) -> Outcome:
            async with running(bot) as url, calling(browser, url) as call:
                return await BOTS[bot](call, folder)

        async with asyncio.TaskGroup() as group:
            calls = {bot: group.create_task(held(bot)) for bot in BOTS}
    outcomes = {bot: call.result() for bot, call in calls.items()}
    await transcribe(list(outcomes.values()), model)
    return outcomes


@pytest.fixture(scope="module")
def outcomes(
    need_tool: Callable[[str], str],
    model: Callable[[str], Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Outcome]:
    folder = tmp_path_factory.mktemp("calls")
    return asyncio.run(call_all(need_tool("chromium"), model("base"), folder))


def test_captions_has_the_words_and_shows_them_while_they_are_spoken(
    outcomes: dict[str, Outcome],
) -> None:
    outcome = outcomes["captions"]
    assert outcome.word_errors <= 0.12
    shown = " ".join(" ".join(outcome.entries).split())
    for final in outcome.finals:
        assert " ".join(final["stable"].split()) in shown
        before = [
            caption
            for caption in outcome.captions
            if caption["utterance"] == final["utterance"] and not caption["final"]
        ]
        assert all(later["stable"].startswith(it["stable"]) for it, later in pairwise(before))
        # Each long clip was read along: partials came before the final that ends it.
        assert before or len(final["stable"].split()) < 8
    assert sum(len(final["stable"].split()) >= 8 for final in outcome.finals) >= len(LONG)


def test_echo_says_the_words_that_were_spoken(outcomes: dict[str, Outcome]) -> None:
    outcome = outcomes["echo"]
    # A browser without time stretches the sound, and "ill disposed" is hard as it is.
    said = set(SHORT.text.split())
    assert len(said & set(re.findall(r"\w+", outcome.words.lower()))) >= 5
    assert outcome.latency[0]["parts"][0]["name"] == "stop"
    for turn in outcome.latency:
        assert turn["total_ms"] == sum(part["ms"] for part in turn["parts"])


def test_the_assistant_greets_answers_aloud_and_shows_what_it_says(
    outcomes: dict[str, Outcome],
) -> None:
    outcome = outcomes["assistant"]
    assert "what can i do for you" in outcome.words.lower()
    assert len(outcome.words.split()) > len("Hello, what can I do for you".split())
    assert len(outcome.entries) >= 3  # the greeting, the question, the answer
    assert [part["name"] for part in outcome.latency[-1]["parts"]] == [
        "stop",
        "final",
        "turn",
        "first-token",
        "first-audio",
        "first-packet",
    ]
