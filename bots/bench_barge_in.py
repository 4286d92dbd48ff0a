"""How fast a bot falls silent when somebody speaks to it: real speech over a real WebSocket.

A bot recites a text; a caller lets it speak for a while, says a clip over it, and listens on.
Both run in this process, on one clock. Counted is from the first sample of the clip that is
speech (the first 10 ms within 15 dB of the loudest: breath and rumble are below) to the end of
what the caller had received of the bot's voice, played as it came; of that, until the bot had a
first sign of speech, and until its output was held.
"""

import argparse
import asyncio
import contextlib
import dataclasses
import functools
import random
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pipecat.frames.frames import InterruptionFrame
from pipecat.frames.protobufs import frames_pb2 as protobufs
from websockets.asyncio.client import ClientConnection, connect

from talkpath.agent.audio import SAMPLE_RATE_HZ, FloatArray, float_to_pcm16
from talkpath.agent.bench.clips import add_clip_arguments, english_clips, load_manifest, read_clip
from talkpath.agent.bench.figures import spread, table, to_json
from talkpath.agent.config import Config
from talkpath.agent.errors import ConfigError
from talkpath.agent.runtime import Runtime, set_runtime
from talkpath.bots.reciter import Recital, Reciter
from talkpath.processors.frames import HoldPlaybackFrame, SpeechOnsetFrame
from talkpath.transports.server import serve

__all__ = [
    "TEXT",
    "BargeIn",
    "Line",
    "add_arguments",
    "caller",
    "measure",
    "report",
    "run",
    "speech_start",
]

TEXT = (
    "The sea covers most of the world and we know less of its floor than of the moon. "
    "Rivers bring sand and salt down to it and winds carry its water back over the land. "
    "Long before there were maps sailors found their way by stars and birds and currents. "
    "They knew the smell of land and the colour of shallow water and the sound of a coming storm. "
    "Today ships find their way by satellites and yet every captain still looks at the sky. "
) * 3

_BLOCK_S = 0.02
_BLOCK = round(_BLOCK_S * SAMPLE_RATE_HZ)
_SPEECH_DB = -15.0
_CLIP_S = 3.0  # of each clip
_LISTENS_S = (1.5, 3.0)  # how long the caller lets the bot speak
_HITCH_S = 0.1  # a busy machine's: no pause
_SILENT_S = 0.3  # nothing came for so long: the bot is silent
_PATIENCE_S = 30.0


@dataclass(frozen=True, slots=True)
class BargeIn:
    """One barge-in; seconds since the caller began to speak, None for what never came.

    Attributes:
        onset_s: until the first sign of speech.
        held_s: until the output was held.
        silent_s: until the caller heard nothing any more.
    """

    onset_s: float | None
    held_s: float | None
    silent_s: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``talkpath bench barge-in``."""
    add_clip_arguments(parser)
    parser.add_argument(
        "--times", type=int, default=20, metavar="N", help="barge-ins to measure (default: 20)"
    )


def run(args: argparse.Namespace, config: Config) -> int:
    """Carry out ``talkpath bench barge-in``; give the exit code.

    Raises:
        TalkpathError: clips or a model are not to be had, or an argument is wrong.
    """
    if args.times < 1:
        raise ConfigError("--times must be 1 or more")
    clips = english_clips(load_manifest(args.data), args.clips)
    recordings = [read_clip(clip) for clip in clips]
    found = asyncio.run(measure(config, recordings, args.times))
    if args.json:
        sys.stdout.write(to_json({"barge_ins": [dataclasses.asdict(each) for each in found]}))
    else:
        sys.stdout.write(report(found, "silence at the caller"))
    return 0


def report(found: Sequence[BargeIn], silence: str) -> str:
    """A table of barge-ins, the last line named so."""
    rows = [["since the caller began to speak", "times", "p50", "p95", "most"]]
    for name, field in (
        ("first sign of speech", "onset_s"),
        ("output held", "held_s"),
        (silence, "silent_s"),
    ):
        values = [value for each in found if (value := getattr(each, field)) is not None]
        figures = spread([1000 * value for value in values])
        times = (f"{value:.0f} ms" for value in (figures.p50, figures.p95, figures.most))
        rows.append([name, str(figures.count), *times])
    return table(rows)


def speech_start(audio: FloatArray) -> int:
    """First sample of a recording (float32 ``[n]``, 16 kHz) that is speech, to 10 ms."""
    step = SAMPLE_RATE_HZ // 100
    steps = audio[: len(audio) // step * step].reshape(-1, step)
    levels = np.sqrt(np.mean(np.square(steps), axis=1))
    heard = np.flatnonzero(levels > levels.max(initial=0.0) * 10 ** (_SPEECH_DB / 20))
    return int(heard[0]) * step if len(heard) else 0


async def measure(config: Config, recordings: Sequence[FloatArray], times: int) -> list[BargeIn]:
    """Interrupt a bot that many times in one call.

    Args:
        config: the settings; the port is any free one.
        recordings: what is said, float32 at 16 kHz, in turn.
        times: barge-ins.
    """
    shared = Runtime(config)
    set_runtime(shared)
    bot = Reciter(TEXT)
    url: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    local = dataclasses.replace(config.server, host="127.0.0.1", port=0)
    server = asyncio.create_task(
        serve(
            bot,
            dataclasses.replace(config, server=local),
            prepare=bot.prepare,
            on_listening=url.set_result,
        )
    )
    try:
        either: set[asyncio.Future[Any]] = {server, url}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if server.done():
            await server
        async with caller(url.result()) as line:
            return await _interrupt(line, bot, recordings, times)
    finally:
        server.cancel()
        await asyncio.wait({server})
        set_runtime(None)
        await shared.aclose()


async def _interrupt(
    line: "Line", bot: Reciter, recordings: Sequence[FloatArray], times: int
) -> list[BargeIn]:
    draw = random.Random(1)
    found = []
    for number in range(times):
        await line.speaks(for_s=draw.uniform(*_LISTENS_S))
        audio = recordings[number % len(recordings)][: round(_CLIP_S * SAMPLE_RATE_HZ)]
        said_s = line.say(audio)
        speech_s = said_s + speech_start(audio) / SAMPLE_RATE_HZ
        silent_s = await line.silence(after_s=speech_s)
        recital = bot.sessions[0]
        onset_s = recital.after(said_s, SpeechOnsetFrame)
        held_s = recital.after(said_s, HoldPlaybackFrame)
        found.append(
            BargeIn(
                None if onset_s is None else onset_s - speech_s,
                None if held_s is None else held_s - speech_s,
                silent_s - speech_s,
            )
        )
        await line.said()
        with contextlib.suppress(TimeoutError):  # a clip that was no interruption, too
            await line.until(functools.partial(_interrupted, recital, said_s))
    return found


def _interrupted(recital: Recital, since_s: float) -> bool:
    return recital.after(since_s, InterruptionFrame) is not None


class Line:
    """A caller's end: 20 ms go out every 20 ms; what comes in is played as it comes.

    Args:
        socket: the connection.

    Attributes:
        sound: all samples that came in, 16-bit PCM, 24 kHz.
        playing_until_s: when the last of them has been played (monotonic clock).
    """

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._left: FloatArray = np.zeros(0, np.float32)
        self._recorded_s = 0.0  # up to when the blocks sent so far were recorded
        self._sent = asyncio.Event()
        self.sound = bytearray()
        self.playing_until_s = 0.0

    async def send(self) -> None:
        """Send what is to be said, else silence, each block when it has been spoken."""
        self._recorded_s = time.monotonic()
        while True:
            due_s = self._recorded_s + _BLOCK_S
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))
            block, self._left = self._left[:_BLOCK], self._left[_BLOCK:]
            self._recorded_s = due_s
            frame = protobufs.Frame()  # type: ignore[attr-defined]
            frame.audio.audio = float_to_pcm16(np.pad(block, (0, _BLOCK - len(block))))
            frame.audio.sample_rate = SAMPLE_RATE_HZ
            frame.audio.num_channels = 1
            await self._socket.send(frame.SerializeToString())
            self._sent.set()

    async def receive(self) -> None:
        """Play what comes in."""
        async for data in self._socket:
            frame = protobufs.Frame.FromString(data)  # type: ignore[attr-defined]
            if frame.WhichOneof("frame") == "audio":
                self.sound += frame.audio.audio
                duration_s = len(frame.audio.audio) / 2 / frame.audio.sample_rate
                self.playing_until_s = max(self.playing_until_s, time.monotonic()) + duration_s

    def say(self, audio: FloatArray) -> float:
        """Say this from the next block on; gives the time at which its first sample is spoken."""
        self._left = audio
        return self._recorded_s

    async def until(self, condition: Callable[[], bool], within_s: float = _PATIENCE_S) -> None:
        """Wait for something to come true; it is looked at with every block that goes out.

        Raises:
            TimeoutError: it does not come true in time.
        """
        async with asyncio.timeout(within_s):
            while not condition():
                self._sent.clear()
                await self._sent.wait()

    async def said(self) -> None:
        """Wait until all is said."""
        await self.until(lambda: not len(self._left))

    async def speaks(self, for_s: float) -> None:
        """Wait until the bot has spoken without a pause for so long.

        Raises:
            TimeoutError: it does not.
        """
        since_s: float | None = None

        def long_enough() -> bool:
            nonlocal since_s
            now_s = time.monotonic()
            pause = self.playing_until_s < now_s - _HITCH_S
            since_s = None if pause else since_s or now_s
            return since_s is not None and now_s - since_s >= for_s

        await self.until(long_enough, _PATIENCE_S + for_s)

    async def silence(self, after_s: float) -> float:
        """Wait until the bot is silent; gives the end of what was played of it.

        Raises:
            TimeoutError: it speaks on.
        """
        await self.until(lambda: time.monotonic() >= max(after_s, self.playing_until_s) + _SILENT_S)
        return self.playing_until_s


@contextlib.asynccontextmanager
async def caller(url: str) -> AsyncIterator[Line]:
    """Call a bot's server over a WebSocket.

    Args:
        url: the server's, with ``http://``.
    """
    async with connect(f"ws{url.removeprefix('http')}/ws", proxy=None) as socket:
        line = Line(socket)
        work = [asyncio.create_task(line.send()), asyncio.create_task(line.receive())]
        try:
            yield line
        finally:
            for task in work:
                task.cancel()
            await asyncio.gather(*work, return_exceptions=True)
