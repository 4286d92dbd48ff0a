"""Sixty callers, one after the other, leave nothing behind."""

import asyncio
import ctypes
import gc
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import psutil
from aiortc import RTCPeerConnection
from playwright.async_api import Page

from talkpath.agent.config import Config, WhisperConfig
from talkpath.agent.runtime import Runtime, set_runtime
from talkpath.bots import echo
from tests.browser import WAIT_MS, chromium, eventually, expect, microphone_wav
from tests.speech import clip, read_wav, resample
from tests.transports.stage import served

CALLS = 60
SETTLED = 10  # calls after which all that is made once has been made
LATE_THREADS = 10  # of the process, in pools: some come when first there is so much to do


async def call_once(page: Page) -> None:
    """Connect, be heard, and hang up."""
    await page.get_by_role("button", name="Connect", exact=True).click()
    await expect(page.locator("#state")).to_have_attribute("data-state", "connected")
    await page.get_by_role("button", name="Disconnect").click()
    await expect(page.get_by_role("button", name="Connect", exact=True)).to_be_enabled()


class Census:
    """What the process holds."""

    def __init__(self) -> None:
        self.process = psutil.Process()

    def connections(self) -> int:
        gc.collect()
        return sum(type(it) is RTCPeerConnection for it in gc.get_objects())

    def counts(self) -> tuple[int, int, int]:
        """Peer connections, threads, tasks."""
        return self.connections(), threading.active_count(), len(asyncio.all_tasks())

    def memory(self) -> int:
        """Bytes; without what is free and kept for later."""
        gc.collect()
        if sys.platform == "linux":
            ctypes.CDLL(None).malloc_trim(0)
        rss: int = self.process.memory_info().rss
        return rss


async def test_sixty_calls_leave_no_thread_task_connection_or_memory(
    need_tool: Callable[[str], str], tmp_path: Path
) -> None:
    speech = resample(read_wav(clip("librivox-0880").path), 16_000, 48_000)
    mic = microphone_wav(tmp_path / "mic.wav", speech)
    runtime = Runtime(Config(whisper=WhisperConfig(model="tiny.en")))
    set_runtime(runtime)
    census = Census()
    try:
        await echo.prepare()
        async with (
            served(echo.bot) as url,
            chromium(need_tool("chromium"), microphone=mic) as browser,
        ):
            page = await browser.new_page()
            page.set_default_timeout(WAIT_MS)
            await page.goto(url)
            for _ in range(SETTLED):
                await call_once(page)
            await eventually(lambda: census.connections() == 0, "all connections are gone")
            connections, threads, tasks = census.counts()
            most, memory = (connections, threads + LATE_THREADS, tasks), census.memory()
            for _ in range(CALLS - SETTLED):
                await call_once(page)
            await eventually(
                lambda: all(now <= then for now, then in zip(census.counts(), most, strict=True)),
                f"no more than {most} connections, threads, tasks",
            )
            assert census.memory() <= 1.05 * memory
            engine = await runtime.whisper()
            assert engine.streams == 0
    finally:
        set_runtime(None)
        await runtime.aclose()
