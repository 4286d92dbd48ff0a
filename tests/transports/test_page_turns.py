"""What the page shows of turns besides their latency, in a real browser."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from playwright.async_api import Browser

from tests.browser import chromium, expect, microphone_wav
from tests.transports.stage import StageBot, served
from tests.transports.test_page import connect, visiting


@pytest.fixture
async def browser(need_tool: Callable[[str], str], tmp_path: Path) -> AsyncIterator[Browser]:
    async with chromium(
        need_tool("chromium"), microphone=microphone_wav(tmp_path / "tone.wav")
    ) as started:
        yield started


async def test_replies_begun_early_and_interruptions_are_told_in_a_line(browser: Browser) -> None:
    async with served(bot := StageBot()) as url, visiting(browser, url) as page:
        scene = await connect(page, bot)
        counts = page.locator("#turn-counts")
        parts = [{"name": "stop", "ms": 200.0}, {"name": "first-token", "ms": 0.0}]
        turn = {"type": "turn-latency", "parts": parts, "total_ms": 200.0}
        await scene.message({**turn, "turn": 1, "eager_ms": 150.0})
        await scene.message({**turn, "turn": 2, "eager_ms": None})
        turns = page.locator("#turns li")
        await expect(turns.nth(1).locator(".turn-name")).to_have_text("Turn 1, begun early")
        await expect(turns.nth(0).locator(".turn-name")).to_have_text("Turn 2")
        await expect(turns.nth(1).locator(".unseen")).to_have_text(
            "Noticing the pause: 200 ms, First word of the reply: 0 ms, "
            "Reply begun 150 ms before the end of the turn"
        )
        await expect(counts).to_be_hidden()
        none = {"eager_used": 0, "eager_discarded": 0, "false_alarms": 0, "backchannels": 0}
        await scene.message({"type": "turn-counts", **none, "eager_used": 2, "barge_ins": 1})
        await expect(counts).to_have_text("2 replies begun early, 1 interruption")
        await scene.message(
            {
                "type": "turn-counts",
                "eager_used": 1,
                "eager_discarded": 2,
                "barge_ins": 3,
                "false_alarms": 1,
                "backchannels": 4,
            }
        )
        await expect(counts).to_have_text(
            "1 reply begun early, 2 begun in vain, 3 interruptions, 1 false alarm, 4 backchannels"
        )
