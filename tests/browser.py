"""Chromium for tests: a real browser with a microphone that plays a file."""

import asyncio
import base64
import contextlib
import wave
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from playwright.async_api import Browser, Page, async_playwright, expect

__all__ = [
    "CONTRAST",
    "WAIT_MS",
    "chromium",
    "eventually",
    "expect",
    "microphone_wav",
    "say",
    "silent_microphone",
    "watched",
]

# Machines under test are small and shared: conditions are waited for, long enough for these.
WAIT_MS = 60_000

expect.set_options(timeout=WAIT_MS)

# Sound of the page's own, at the pace at which the page works.
_MICROPHONE = """{
  const context = new AudioContext({ sampleRate: 48000 });
  const microphone = context.createMediaStreamDestination();
  navigator.mediaDevices.getUserMedia = async () => {
    await context.resume();
    return new MediaStream(microphone.stream.getAudioTracks().map((track) => track.clone()));
  };
  window.say = ([pcm, rate]) => new Promise((resolve) => {
    const samples = new Int16Array(
      Uint8Array.from(atob(pcm), (character) => character.charCodeAt(0)).buffer);
    const buffer = context.createBuffer(1, samples.length, rate);
    buffer.getChannelData(0).set(Float32Array.from(samples, (sample) => sample / 32768));
    const source = context.createBufferSource();
    source.buffer = buffer;
    source.onended = () => resolve();
    source.connect(microphone);
    source.start();
  });
}"""

# Gives the texts of a page that are too pale.
# Contrast by WCAG 2.2, 1.4.3: at least 4.5 to 1 for text of every size.
CONTRAST = """() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const over = (colour, below) => {
    canvas.fillStyle = `rgb(${below.join(" ")})`;
    canvas.fillRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const light = (colour) => {
    const [r, g, b] = colour.map((byte) => byte / 255)
      .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (element) => {
    const below = element.parentElement ? ground(element.parentElement) : [255, 255, 255];
    return over(getComputedStyle(element).backgroundColor, below);
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const poor = [];
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const element = node.parentElement;
    if (!node.textContent.trim() || element.closest(".unseen, noscript, :disabled")) continue;
    if (!element.checkVisibility()) continue;
    const back = ground(element);
    const lights = [light(over(getComputedStyle(element).color, back)), light(back)];
    const ratio = (Math.max(...lights) + 0.05) / (Math.min(...lights) + 0.05);
    if (ratio < 4.5) poor.push(`${node.textContent.trim()}: ${ratio.toFixed(2)}`);
  }
  return poor;
}"""


def _flags(microphone: Path | None, allow: bool) -> list[str]:
    flags = [
        "--no-sandbox",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--no-first-run",
        "--use-fake-device-for-media-stream",
        "--autoplay-policy=no-user-gesture-required",
        "--allow-loopback-in-peer-connection",
    ]
    if allow:
        flags.append("--use-fake-ui-for-media-stream")
    if microphone is not None:
        flags.append(f"--use-file-for-fake-audio-capture={microphone.resolve()}%noloop")
    return flags


@contextlib.asynccontextmanager
async def chromium(
    program: str, *, microphone: Path | None = None, allow: bool = True
) -> AsyncIterator[Browser]:
    """Start Chromium without a window and end it with the block.

    Args:
        program: path of Chromium.
        microphone: WAV file that the microphone plays once; beeps without one.
        allow: whether pages get the microphone without a question; otherwise the question
            is never answered unless the test's context grants or denies it.
    """
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=program, args=_flags(microphone, allow)
        )
        try:
            yield browser
        finally:
            await browser.close()


class watched:
    """What a page did that it should not: collects while the block runs.

    Attributes:
        origin: the only origin the page may talk to.
        strangers: URLs of requests to anywhere else.
        complaints: errors and warnings on the page's console, and uncaught exceptions.
    """

    def __init__(self, page: Page, origin: str) -> None:
        self.origin = origin
        self.strangers: list[str] = []
        self.complaints: list[str] = []
        page.on("request", lambda request: self._request(request.url))
        page.on("websocket", lambda socket: self._request(socket.url))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on(
            "console",
            lambda message: (
                self.complaints.append(message.text)
                if message.type in ("error", "warning")
                else None
            ),
        )

    def _request(self, url: str) -> None:
        own = (f"{self.origin}/", f"{self.origin.replace('http', 'ws', 1)}/", "data:", "blob:")
        if not url.startswith(own):
            self.strangers.append(url)


async def eventually(
    condition: Callable[[], bool | Awaitable[bool]], what: str, within_s: float = WAIT_MS / 1000
) -> None:
    """Wait until a condition holds; fail with ``what`` when it never does."""
    try:
        async with asyncio.timeout(within_s):
            while True:
                result = condition()
                if await result if isinstance(result, Awaitable) else result:
                    return
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"did not happen within {within_s:.0f} s: {what}") from None


async def silent_microphone(page: Page) -> None:
    """Give a page, before it is opened, a microphone that is silent but for what ``say`` says.

    So nothing is lost before a call is up, however long that takes, and nothing waits for it.
    """
    await page.add_init_script(_MICROPHONE)


async def say(page: Page, samples: NDArray[np.float32], rate_hz: int = 16_000) -> None:
    """Speak into the microphone of ``silent_microphone``; returns when all is said."""
    pcm = base64.b64encode((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes()).decode()
    await page.evaluate("sound => window.say(sound)", [pcm, rate_hz])


def microphone_wav(
    path: Path, samples: NDArray[np.float32] | None = None, rate_hz: int = 48_000
) -> Path:
    """Write a mono WAV for the microphone: the samples, or 20 s of a loud 440 Hz tone."""
    if samples is None:
        time_s = np.arange(20 * rate_hz) / rate_hz
        samples = (0.5 * np.sin(2 * np.pi * 440 * time_s)).astype(np.float32)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
    return path
