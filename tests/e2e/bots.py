"""Bots as a user starts them, and what a browser makes of them."""

import asyncio
import base64
import contextlib
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from playwright.async_api import Browser, Page

from tests.browser import WAIT_MS, eventually, say, silent_microphone

__all__ = ["Call", "calling", "running"]

_START_S = 180
_END_S = 60
_SILENT_S = 1.5

# Collects what comes over the data channel, records what the bot says, and knows when it was loud.
_SPY = """
window.heard = [];
const create = RTCPeerConnection.prototype.createDataChannel;
RTCPeerConnection.prototype.createDataChannel = function (...parameters) {
  const channel = create.apply(this, parameters);
  channel.addEventListener("message", (event) => {
    const at = performance.now();
    window.heard.push({ at, ...JSON.parse(event.data) });
  });
  this.addEventListener("track", (event) => {
    if (event.track.kind !== "audio") return;
    const context = new AudioContext();
    const ear = new AnalyserNode(context, { fftSize: 16384 });
    context.createMediaStreamSource(new MediaStream([event.track])).connect(ear);
    const samples = new Float32Array(ear.fftSize);
    setInterval(() => {
      ear.getFloatTimeDomainData(samples);
      if (samples.some((sample) => Math.abs(sample) > 0.01)) window.loudAt = performance.now();
    }, 100);
    const chunks = [];
    const recorder = new MediaRecorder(new MediaStream([event.track]));
    recorder.ondataavailable = (piece) => chunks.push(piece.data);
    window.recordingFrom = performance.now();
    recorder.start(200);
    window.finishRecording = () => new Promise((resolve) => {
      recorder.onstop = async () => {
        const reader = new FileReader();
        reader.onload = () => resolve(reader.result.split(",")[1]);
        reader.readAsDataURL(new Blob(chunks));
      };
      recorder.stop();
    });
  });
  return channel;
};
"""


@contextlib.asynccontextmanager
async def running(
    bot: str, *arguments: str, environ: Mapping[str, str] | None = None
) -> AsyncIterator[str]:
    """Run ``talkpath run BOT`` on a free port; yield the page's address. It must end cleanly."""
    process = await asyncio.create_subprocess_exec(
        *(str(Path(sys.executable).with_name("talkpath")), "run", bot, "--port", "0", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=os.environ | {"PYTHONUNBUFFERED": "1"} | dict(environ or {}),
    )
    assert process.stdout is not None and process.stderr is not None
    lines: list[str] = []
    reading = [asyncio.create_task(_collect(process.stderr, lines))]
    try:
        async with asyncio.timeout(_START_S):
            said = ""
            while (found := re.search(r"listening at (http://\S+)", said)) is None:
                said = (await process.stdout.readline()).decode()
                assert said, "it ended:\n" + "".join(lines)
        reading.append(asyncio.create_task(_collect(process.stdout, lines)))
        yield found[1]
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGINT)
        try:
            await asyncio.wait_for(process.wait(), _END_S)
        except TimeoutError:
            process.kill()
            await process.wait()
            raise AssertionError(f"did not end within {_END_S} s:\n" + "".join(lines)) from None
        finally:
            await asyncio.gather(*reading)
    assert process.returncode in (0, 130), "".join(lines)
    assert "Traceback" not in "".join(lines), "".join(lines)


async def _collect(stream: asyncio.StreamReader, lines: list[str]) -> None:
    while line := await stream.readline():
        lines.append(line.decode())


@dataclass
class Call:
    """A page that is connected to a bot."""

    page: Page

    async def say(self, samples: NDArray[np.float32]) -> None:
        """Say something, 16 kHz; returns when it has been said."""
        await say(self.page, samples)

    async def messages(self, *types: str) -> list[dict[str, Any]]:
        """RTVI messages of these types so far, with ``at`` in ms of the page's clock."""
        heard: list[dict[str, Any]] = json.loads(
            await self.page.evaluate("JSON.stringify(window.heard)")
        )
        return [message for message in heard if not types or message.get("type") in types]

    async def server_messages(self, kind: str) -> list[dict[str, Any]]:
        """Contents of talkpath's own messages of a kind."""
        return [
            message["data"] | {"at": message["at"]}
            for message in await self.messages("server-message")
            if message["data"]["type"] == kind
        ]

    async def until(self, count: int, *types: str, within_s: float = 60) -> None:
        """Wait for that many messages of these types."""

        async def enough() -> bool:
            return len(await self.messages(*types)) >= count

        await eventually(enough, f"{count} of {types}", within_s)

    async def recording(self, path: Path) -> Path:
        """Write down what the bot said, as WebM, once it is silent here too."""
        silent = f"performance.now() - window.loudAt > {1000 * _SILENT_S}"
        await eventually(lambda: self.page.evaluate(silent), "the bot's voice, and its end")
        data = base64.b64decode(await self.page.evaluate("window.finishRecording()"))
        await asyncio.to_thread(path.write_bytes, data)
        return path


@contextlib.asynccontextmanager
async def calling(browser: Browser, url: str) -> AsyncIterator[Call]:
    """Open the page and connect; the caller is silent."""
    page = await browser.new_page()
    page.set_default_timeout(WAIT_MS)
    await silent_microphone(page)
    await page.add_init_script(_SPY)
    await page.goto(url)
    await page.get_by_role("button", name="Connect", exact=True).click()
    call = Call(page)
    await call.until(1, "bot-ready")
    yield call
    await page.close()
