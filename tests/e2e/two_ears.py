"""Records a call in the page: the microphone and the bot's voice, on one clock.

``python -m tests.e2e.two_ears --data FOLDER`` measures barge-ins in headless Chromium.
"""

import argparse
import asyncio
import base64
import contextlib
import dataclasses
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from playwright.async_api import Browser, Page

from talkpath.agent.bench.clips import add_clip_arguments, english_clips, load_manifest, read_clip
from talkpath.agent.config import load_config
from talkpath.agent.runtime import Runtime, set_runtime
from talkpath.bots.bench_barge_in import TEXT, BargeIn, report
from talkpath.bots.reciter import Recital, Reciter
from talkpath.processors.frames import HoldPlaybackFrame, SpeechOnsetFrame
from tests.browser import WAIT_MS, chromium, eventually, microphone_wav, silent_microphone
from tests.speech import resample, silence
from tests.transports.stage import served

__all__ = [
    "RATE_HZ",
    "BothEars",
    "Listening",
    "call_from_chromium",
    "listening",
    "silent_from",
    "spoken",
]

RATE_HZ = 48_000

_LEAD_S = 6.0  # the bot is on the line, and speaks
_CLIP_S = 2.0
_PAUSE_S = 6.0  # the turn ends, and the bot speaks again
_EARLY_S = 0.3

# The worklet hands over what both say in blocks of 85 ms: samples of the one, then of the other.
_SPY = """
const worklet = `
  registerProcessor("both", class extends AudioWorkletProcessor {
    block = [new Float32Array(4096), new Float32Array(4096)];
    filled = 0;
    process(inputs) {
      for (const [side, block] of this.block.entries()) {
        block.set(inputs[side]?.[0] ?? new Float32Array(128), this.filled);
      }
      this.filled += 128;
      if (this.filled === 4096) {
        this.port.postMessage(this.block.map((block) => block.slice()));
        this.filled = 0;
      }
      return true;
    }
  });
`;
window.blocks = [];
const context = new AudioContext({ sampleRate: 48000, latencyHint: "interactive" });
const both = context.audioWorklet
  .addModule(URL.createObjectURL(new Blob([worklet], { type: "text/javascript" })))
  .then(() => {
    const node = new AudioWorkletNode(context, "both", { numberOfInputs: 2 });
    node.port.onmessage = ({ data }) => {
      window.blocks.push(data);
      window.began = Math.min(window.began ?? Infinity, Date.now() - blocks.length * 4096 / 48);
    };
    node.connect(context.destination);
    return node;
  });
const attach = async (track, side) =>
  context.createMediaStreamSource(new MediaStream([track])).connect(await both, 0, side);
const open = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
navigator.mediaDevices.getUserMedia = async (constraints) => {
  const stream = await open(constraints);
  await attach(stream.getAudioTracks()[0], 0);
  return stream;
};
const Connection = window.RTCPeerConnection;
window.RTCPeerConnection = class extends Connection {
  constructor(...parameters) {
    super(...parameters);
    window.connection = this;
    this.addEventListener("track", ({ track }) => track.kind === "audio" && attach(track, 1));
  }
};
window.recorded = (side) => {
  const bytes = new Uint8Array(2 * 4096 * window.blocks.length);
  const samples = new Int16Array(bytes.buffer);
  window.blocks.forEach((block, at) => {
    for (let i = 0; i < 4096; i++) {
      samples[at * 4096 + i] = Math.max(-1, Math.min(1, block[side][i])) * 32767;
    }
  });
  let text = "";
  for (let at = 0; at < bytes.length; at += 32768) {
    text += String.fromCharCode(...bytes.subarray(at, at + 32768));
  }
  return btoa(text);
};
"""

_BOT_SPEAKS = """() => {
  const loud = blocks.slice(-12).map(([, bot]) => bot.some((sample) => Math.abs(sample) > 0.003));
  return loud.at(-1) && loud.filter(Boolean).length >= 9;
}"""

# Of all samples so far (W3C, webrtc-stats, jitterBufferDelay).
_JITTER_BUFFER = """async () => {
  for (const one of (await connection.getStats()).values()) {
    if (one.type === "inbound-rtp" && one.kind === "audio") {
      return 1000 * one.jitterBufferDelay / one.jitterBufferEmittedCount;
    }
  }
}"""


@dataclasses.dataclass(frozen=True, slots=True)
class BothEars:
    """What was said so far: int16 at 48 kHz, the same index is the same time.

    Attributes:
        caller: the microphone.
        bot: what came.
        began_s: when the first sample was recorded (Unix time), to about 10 ms and never too early.
        jitter_buffer_ms: how long the bot's sound waited in the page's jitter buffer, in the mean.
    """

    caller: NDArray[np.int16]
    bot: NDArray[np.int16]
    began_s: float = 0.0
    jitter_buffer_ms: float = 0.0


@dataclasses.dataclass
class Listening:
    """A page in a call."""

    page: Page

    async def so_far(self) -> BothEars:
        """Everything up to now."""
        sides = [
            np.frombuffer(base64.b64decode(await self.page.evaluate(f"recorded({side})")), "<i2")
            for side in (0, 1)
        ]
        length = min(len(side) for side in sides)
        return BothEars(
            sides[0][:length],
            sides[1][:length],
            await self.began_s(),
            await self.jitter_buffer_ms(),
        )

    async def seconds(self) -> float:
        """Seconds so far."""
        blocks: int = await self.page.evaluate("blocks.length")
        return blocks * 4096 / RATE_HZ

    async def bot_speaks(self) -> bool:
        """Whether the bot is heard, and has been for most of the last second."""
        return bool(await self.page.evaluate(_BOT_SPEAKS))

    async def began_s(self) -> float:
        """When the first sample was recorded (Unix time), to about 10 ms and never too early."""
        return float(await self.page.evaluate("began")) / 1000

    async def jitter_buffer_ms(self) -> float:
        """How long the bot's sound waited in the page's jitter buffer, in the mean."""
        return float(await self.page.evaluate(_JITTER_BUFFER))


@contextlib.asynccontextmanager
async def listening(
    browser: Browser, url: str, *, on_cue: bool = False
) -> AsyncIterator[Listening]:
    """Open the page, connect, and record from there on.

    Args:
        browser: of ``chromium``.
        url: the bot's page.
        on_cue: whether the microphone is the one of ``silent_microphone``, not the browser's.
    """
    page = await browser.new_page(bypass_csp=True)
    page.set_default_timeout(WAIT_MS)
    if on_cue:
        await silent_microphone(page)
    await page.add_init_script(_SPY)
    await page.goto(url)
    await page.get_by_role("button", name="Connect", exact=True).click()
    call = Listening(page)
    yield call
    await page.close()


def _levels(samples: NDArray[np.int16], step_s: float) -> NDArray[np.float64]:
    step = round(step_s * RATE_HZ)
    steps = samples[: len(samples) // step * step].reshape(-1, step).astype(np.float64)
    levels: NDArray[np.float64] = np.sqrt(np.mean(np.square(steps), axis=1))
    return levels


def spoken(caller: NDArray[np.int16], pause_s: float = 1.5) -> list[float]:
    """When the caller began to speak, each time after a pause: to 10 ms, as in the bench."""
    levels = _levels(caller, 0.01)
    loud = np.flatnonzero(levels > 30)
    pieces = np.split(loud, np.flatnonzero(np.diff(loud) > 100 * pause_s) + 1)
    found = []
    for piece in pieces:
        part = levels[piece[0] : piece[-1] + 1]
        found.append(0.01 * (piece[0] + int(np.argmax(part > part.max() * 10 ** (-15 / 20)))))
    return found


def silent_from(bot: NDArray[np.int16], after_s: float, for_s: float = 0.4) -> float | None:
    """When the bot fell silent; None if it spoke on, or was silent already.

    Shorter silences are its own pauses.
    """
    loud = _levels(bot, 0.005) > 8  # -72 dB: the voice is, packets of silence are not
    start, quiet = round(after_s / 0.005), round(for_s / 0.005)
    for at in range(start, len(loud) - quiet):
        if not loud[at : at + quiet].any():
            return at * 0.005 if at > start else None
    return None


async def call_from_chromium(
    program: str,
    url: str,
    said: NDArray[np.float32],
    folder: Path,
    until: Callable[[], bool] = lambda: True,
) -> BothEars:
    """Call a bot and say something; all that was said in the call.

    Args:
        program: path of Chromium.
        url: the bot's page.
        said: the microphone, from the click on Connect on, 16 kHz.
        folder: where its file is put.
        until: what must have come true before it hangs up, when all is said.
    """
    mic = microphone_wav(folder / "mic.wav", resample(said, 16_000, RATE_HZ))
    async with chromium(program, microphone=mic) as browser, listening(browser, url) as call:

        async def over() -> bool:
            return await call.seconds() > len(said) / 16_000

        await eventually(over, "all is said", len(said) / 16_000 + 30)
        await eventually(until, "what is waited for")
        return await call.so_far()


async def _measure(args: argparse.Namespace) -> None:
    shared = Runtime(load_config())
    set_runtime(shared)
    bot = Reciter(TEXT)
    await bot.prepare()
    said = [silence(_LEAD_S)]
    for one in english_clips(load_manifest(args.data), args.clips):
        said += [read_clip(one)[: round(16_000 * _CLIP_S)], silence(_PAUSE_S)]
    program = shutil.which("chromium")
    assert program is not None, "chromium is not installed"
    with tempfile.TemporaryDirectory() as folder:
        async with served(bot) as url:
            ears = await call_from_chromium(program, url, np.concatenate(said), Path(folder))
    sys.stdout.write(report(_barge_ins(ears, bot.sessions[0]), "silence in the page"))
    sys.stdout.write(f"in Chromium's jitter buffer {ears.jitter_buffer_ms:.0f} ms (mean)\n")
    await shared.aclose()


def _barge_ins(ears: BothEars, recital: Recital) -> list[BargeIn]:
    began_s = ears.began_s + time.monotonic() - time.time()
    found = []
    for at_s in spoken(ears.caller):
        # A breath before the first word may have been enough.
        silent_s = silent_from(ears.bot, at_s - _EARLY_S)
        if silent_s is None:
            continue
        signs = [
            recital.after(began_s + at_s - _EARLY_S, kind)
            for kind in (SpeechOnsetFrame, HoldPlaybackFrame)
        ]
        onset_s, held_s = (None if sign is None else sign - began_s - at_s for sign in signs)
        found.append(BargeIn(onset_s, held_s, silent_s - at_s))
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    add_clip_arguments(parser)
    asyncio.run(_measure(parser.parse_args()))
