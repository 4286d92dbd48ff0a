"""The speech-to-text server's page in a real browser: opening it, speaking to it, breaking it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from playwright.async_api import Browser, Locator, Page

from tests.browser import WAIT_MS, expect, microphone_wav, watched
from tests.speech import clip, read_wav, resample, silence, word_error_rate

__all__ = [
    "Cable",
    "final_words",
    "listen",
    "note",
    "noted",
    "right",
    "speaking",
    "stop",
    "talking",
    "visiting",
    "while_speaking",
]

# Notes all that an element says, also what it says for a moment only.
_NOTE = """element => {
  (window.noted ??= {})[element.id] = [];
  new MutationObserver(() => window.noted[element.id].push(element.textContent)).observe(
    element, { childList: true, characterData: true, subtree: true });
}"""

# Gives partial words once there are so many of them: they may be final in a moment.
_WHILE_SPEAKING = """words => new Promise((resolve) => {
  const lines = document.getElementById("lines");
  const look = () => {
    const partial = lines.querySelector(".pale .text")?.textContent ?? "";
    if (partial.trim().split(" ").filter(Boolean).length < words) return;
    observer.disconnect();
    resolve(partial);
  };
  const observer = new MutationObserver(look);
  observer.observe(lines, {
    childList: true, subtree: true, attributes: true, characterData: true });
  look();
})"""


def speaking(path: Path, *names: str, lead_s: float = 0.5) -> Path:
    """Write the microphone's sound: clips, each with a pause after it."""
    pieces = [silence(lead_s)]
    for name in names:
        pieces += [read_wav(clip(name).path), silence(1.5)]
    return microphone_wav(path, resample(np.concatenate(pieces), 16_000, 48_000))


def talking(path: Path) -> Path:
    """Write the microphone's sound: half a minute of speech without a pause worth the name."""
    pieces = [silence(0.5), *[read_wav(clip("librivox-0870").path)] * 4]
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


async def while_speaking(page: Page, words: int = 1) -> str:
    """Wait until so many partial words are shown; gives them."""
    async with asyncio.timeout(WAIT_MS / 1000):
        return str(await page.evaluate(_WHILE_SPEAKING, words))


async def final_words(page: Page) -> list[str]:
    """The texts that will not change any more."""
    return await page.locator(".line:not(.pale) .text").all_inner_texts()


def right(texts: list[str], *names: str) -> bool:
    """Whether texts are what was said in clips; a browser without time tears a word or two."""
    spoken = " ".join(clip(name).text for name in names)
    return word_error_rate([spoken], [" ".join(texts)]) <= 0.4


async def note(element: Locator) -> None:
    """Begin to note what an element says; it has an id."""
    await element.evaluate(_NOTE)


async def noted(element: Locator) -> list[str]:
    """What it has said since, a change an entry."""
    texts: list[str] = await element.evaluate("element => window.noted[element.id]")
    return texts


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
