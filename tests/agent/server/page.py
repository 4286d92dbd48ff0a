"""The speech-to-text server's page in a real browser: opening it, speaking to it, breaking it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from playwright.async_api import Browser, Page

from tests.browser import WAIT_MS, expect, microphone_wav, watched
from tests.speech import clip, read_wav, resample, silence

__all__ = ["Cable", "listen", "speaking", "stop", "visiting"]


def speaking(path: Path, *names: str, lead_s: float = 0.5) -> Path:
    """Write the microphone's sound: clips, each with a pause after it."""
    pieces = [silence(lead_s)]
    for name in names:
        pieces += [read_wav(clip(name).path), silence(1.5)]
    return microphone_wav(path, resample(np.concatenate(pieces), 16_000, 48_000))


@contextlib.asynccontextmanager
async def visiting(
    browser: Browser,
    url: str,
    path: str = "/",
    *,
    width: int = 1280,
    height: int = 800,
    complaints: tuple[str, ...] = (),
    **options: Any,
) -> AsyncIterator[Page]:
    """Open the page; at the end it talked to nobody else, and nothing else is on its console.

    Args:
        browser: of ``chromium``.
        url: the server's.
        path: where on it.
        width: of the window, in pixels.
        height: of the window, in pixels.
        complaints: parts of messages that the browser itself writes about a server's answer.
        options: of the browser's context.
    """
    context = await browser.new_context(viewport={"width": width, "height": height}, **options)
    page = await context.new_page()
    page.set_default_timeout(WAIT_MS)
    watch = watched(page, url)
    await page.goto(url + path)
    yield page
    await context.close()
    assert not watch.strangers, watch.strangers
    others = [text for text in watch.complaints if not any(part in text for part in complaints)]
    assert not others, others


async def listen(page: Page) -> None:
    """Press the button, and wait until the page listens."""
    await page.get_by_role("button", name="Listen", exact=True).click()
    await expect(page.locator("#state")).to_have_text("Listening")


async def stop(page: Page) -> None:
    """Press the button, and wait for the last words."""
    await page.get_by_role("button", name="Stop").click()
    await expect(page.locator("#state")).to_have_text("Not listening")


class Cable:
    """A TCP connection in front of a server that can be pulled out.

    Attributes:
        url: what to connect to instead of the server's.
    """

    def __init__(self, url: str) -> None:
        self._target = urlsplit(url)
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self._whole = asyncio.Event()
        self._whole.set()
        self.url = ""

    async def __aenter__(self) -> "Cable":
        self._server = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self.pull()
        assert self._server is not None
        await self._server.wait_closed()

    def cut(self) -> None:
        """Let nothing through any more, without a word to either side."""
        self._whole.clear()

    def pull(self) -> None:
        """End all connections at once, and take no more."""
        assert self._server is not None
        self._whole.set()
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            behind, to_server = await asyncio.open_connection(
                self._target.hostname, self._target.port
            )
        except ConnectionError:  # the server is gone
            writer.close()
            return
        both = (writer, to_server)
        self._writers.update(both)
        try:
            await asyncio.gather(self._pump(reader, to_server), self._pump(behind, writer))
        finally:
            self._writers.difference_update(both)
            for end in both:
                end.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65_536):
                await self._whole.wait()
                writer.write(data)
                await writer.drain()
            writer.write_eof()
