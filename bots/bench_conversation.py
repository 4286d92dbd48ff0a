"""Scripted conversations with a bot: from a caller's last word to the bot's first sound.

A caller plays conversations of one to three turns in real time over a WebSocket on this machine,
a part of them with a pause in mid-sentence, and listens. The whole is what the caller waits: from
the true end of speech, which is known here, to the arrival of the answer's first audio. The parts
are what the bot tells of each turn. A turn that the bot holds for over before its end is cut off.

Each side runs in a process of its own and both stay, but only one is called at a time: they take
turns, conversation by conversation, so that a machine that is slow for a while is so for both.
The side `pipecat` is an assistant of stock Pipecat parts: its Whisper service, its voice activity
and turn strategies (Smart Turn), its OpenAI and Piper services, with the same models.

Callers speak with the Piper voice of the settings, or with recordings (--data). The language is
English on both sides, as Pipecat's service has it, unless the settings name another.
"""

import argparse
import asyncio
import contextlib
import dataclasses
import multiprocessing
import os
import sys
import time
from collections.abc import AsyncIterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path

from tqdm import tqdm

from talkpath.agent.audio import SAMPLE_RATE_HZ, FloatArray, pcm16_to_float
from talkpath.agent.bench.clips import english_clips, load_manifest, read_clip
from talkpath.agent.bench.conversation import SENTENCES, TurnResult, Utterance, script
from talkpath.agent.bench.conversation_report import (
    ConversationReport,
    conversation_figures,
    conversation_table,
)
from talkpath.agent.bench.figures import to_json
from talkpath.agent.bench.plot import check_plot, plot_turns
from talkpath.agent.config import Config
from talkpath.agent.errors import ConfigError, EngineError, TalkpathError
from talkpath.agent.runtime import Runtime, set_runtime
from talkpath.agent.turn_counts import TurnCounts
from talkpath.agent.turns import PROFILES
from talkpath.bots.arguments import Setting, add_settings
from talkpath.bots.bench_caller import converse
from talkpath.bots.bench_server import ServerProcess
from talkpath.bots.loader import load_bot

__all__ = ["SIDES", "add_arguments", "measure", "run"]

SIDES = ("talkpath", "pipecat")

_SETTINGS = (
    Setting(
        "--profile",
        "turn.profile",
        "when the bot takes its turn, on the side talkpath",
        choices=("auto", *PROFILES),
    ),
    Setting(
        "--llm-url",
        "reply.url",
        "base URL of an OpenAI-compatible server",
        "URL",
        default="the language model runs in each side's process",
    ),
    Setting(
        "--llm-model",
        "reply.model",
        "language model there, or in the model store",
        "NAME",
        default="the only one there; smollm2-135m without a URL",
    ),
    Setting(
        "--voice",
        "voice.model",
        "Piper voice in the model store, or a file",
        "NAME",
        default="piper-en-us-joe",
    ),
)
_READY_S = 300.0
_END_S = 20.0
_LONGEST_CLIP_S = 8.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``talkpath bench conversation``."""
    add_settings(parser, *_SETTINGS)
    parser.add_argument(
        "--bot",
        default="assistant",
        metavar="BOT",
        help="a bot that speaks: its name, or the path of a .py file (default: assistant)",
    )
    parser.add_argument(
        "--conversations",
        type=int,
        default=12,
        metavar="N",
        help="conversations of one to three turns with each side (default: 12)",
    )
    parser.add_argument(
        "--sides",
        nargs="+",
        choices=SIDES,
        default=["talkpath"],
        metavar="SIDE",
        help="what to measure: talkpath, pipecat (stock parts), or both (default: talkpath)",
    )
    parser.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="folder with manifest.jsonl and recordings that callers speak with, those of up to "
        f"{_LONGEST_CLIP_S:g} seconds (default: the voice speaks)",
    )
    parser.add_argument(
        "--seed", type=int, default=1, metavar="N", help="of all that is drawn (default: 1)"
    )
    parser.add_argument(
        "--plot",
        type=Path,
        metavar="FILE.png",
        help="draw the parts, and how many answers came within a time (default: no)",
    )
    parser.add_argument(
        "--json",
        nargs="?",
        type=Path,
        const=Path("-"),
        metavar="FILE",
        help="print JSON instead of a table, or write it to a file besides (default: no)",
    )


def run(args: argparse.Namespace, config: Config) -> int:
    """Carry out ``talkpath bench conversation``; give the exit code.

    Raises:
        TalkpathError: a bot, a model or a package is not to be had, or an argument is wrong.
    """
    if args.conversations < 1:
        raise ConfigError("--conversations must be 1 or more")
    if args.json is not None and not args.json.parent.is_dir():
        raise ConfigError(f"cannot write {args.json}: there is no folder {args.json.parent}")
    check_plot(args.plot)
    load_bot(args.bot)  # a mistyped name is told at once
    if config.whisper.language == "auto":
        whisper = dataclasses.replace(config.whisper, language="en")
        config = dataclasses.replace(config, whisper=whisper)
    sides = list(dict.fromkeys(args.sides))
    reports = asyncio.run(
        measure(sides, args.bot, config, args.conversations, data=args.data, seed=args.seed)
    )
    figures = to_json(conversation_figures(reports))
    if args.json == Path("-"):
        sys.stdout.write(figures)
    else:
        sys.stdout.write(conversation_table(reports))
    if args.json is not None and args.json != Path("-"):
        args.json.write_text(figures, encoding="utf-8")
    if args.plot:
        plot_turns(reports, args.plot)
    return 0


async def measure(
    sides: Sequence[str],
    bot: str,
    config: Config,
    conversations: int,
    *,
    data: Path | None = None,
    seed: int = 1,
) -> list[ConversationReport]:
    """Hold the same conversations with every side.

    Args:
        sides: of ``SIDES``.
        bot: name or path of the bot of the side talkpath.
        config: the settings of both sides.
        conversations: how many.
        data: folder of recordings; None lets the voice of the settings speak.
        seed: of the script.

    Raises:
        TalkpathError: a bot, a model or a package is not to be had.
    """
    # Pipecat greets at its import, and warns of callers who hang up while it speaks.
    os.environ.setdefault("LOGURU_LEVEL", "ERROR")
    recordings, choices = await _recorded(data) if data else await _spoken(config)
    plan = script(conversations, choices, seed=seed)
    async with _servers(sides, bot, config) as servers:
        called = [_Called(side, server) for side, server in zip(sides, servers, strict=True)]
        total = len(plan) * len(sides)
        with tqdm(total=total, unit="call", file=sys.stderr, disable=None) as bar:
            for index, turns in enumerate(plan):
                # Whoever comes first finds the machine as the other one left it: by turns.
                for each in called if index % 2 == 0 else called[::-1]:
                    await each.hold(turns, recordings)
                    bar.update()
    return [each.report() for each in called]


class _Called:
    """One side, and what came of its conversations so far."""

    def __init__(self, side: str, server: ServerProcess) -> None:
        self._side = side
        self._server = server
        self._conversations = 0
        self._turns: list[TurnResult] = []
        self._counts = TurnCounts()
        self._processor_s = self._wall_s = 0.0

    async def hold(self, turns: Sequence[Utterance], recordings: Sequence[FloatArray]) -> None:
        """One more conversation."""
        processor_s, began = self._server.processor_s(), time.monotonic()
        results, counts = await converse(f"{self._server.url}/ws", turns, recordings)
        self._processor_s += self._server.processor_s() - processor_s
        self._wall_s += time.monotonic() - began
        self._conversations += 1
        self._turns += results
        self._counts += counts

    def report(self) -> ConversationReport:
        """What they add up to."""
        return ConversationReport(
            side=self._side,
            conversations=self._conversations,
            turns=tuple(self._turns),
            counts=self._counts,
            processor_s=self._processor_s,
            wall_s=self._wall_s,
        )


async def _spoken(config: Config) -> tuple[list[FloatArray], list[list[int]]]:
    """The sentences, spoken by the voice of the settings."""
    runtime = Runtime(config)
    recordings: list[FloatArray] = []
    choices = []
    try:
        voice = await runtime.voice()
        for sentence in SENTENCES:
            choices.append(list(range(len(recordings), len(recordings) + len(sentence))))
            for piece in sentence:
                said = await voice.say(piece, SAMPLE_RATE_HZ)
                recordings.append(pcm16_to_float(said.pcm))
    finally:
        await runtime.aclose()
    return recordings, choices


async def _recorded(data: Path) -> tuple[list[FloatArray], list[list[int]]]:
    """The recordings that are no longer than a turn is; each is one."""
    clips = english_clips(load_manifest(data))
    recordings = [await asyncio.to_thread(read_clip, clip) for clip in clips]
    short = [audio for audio in recordings if len(audio) <= _LONGEST_CLIP_S * SAMPLE_RATE_HZ]
    if not short:
        raise ConfigError(f"--data {data} has no recording of up to {_LONGEST_CLIP_S:g} seconds")
    return short, [[index] for index in range(len(short))]


@contextlib.asynccontextmanager
async def _servers(
    sides: Sequence[str], bot: str, config: Config
) -> AsyncIterator[list[ServerProcess]]:
    """The bot of each side in a process of its own inside the block, all of them ready."""
    # Spawned, not forked: no side inherits threads or warm caches.
    context = multiprocessing.get_context("spawn")
    server = dataclasses.replace(config.server, host="127.0.0.1", port=0, transport="websocket")
    config = dataclasses.replace(config, server=server)
    started = []
    try:
        for side in sides:
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(side, bot, config, theirs), daemon=True)
            process.start()
            theirs.close()
            started.append((process, ours))
        servers = []
        for process, ours in started:
            url = await asyncio.to_thread(_wait, ours)
            if isinstance(url, Exception):
                raise url
            assert process.pid is not None
            servers.append(ServerProcess(url.replace("http://", "ws://"), process.pid))
        yield servers
    finally:
        for process, _ in started:
            process.terminate()
        for process, _ in started:
            await asyncio.to_thread(process.join, _END_S)
            process.kill()
            await asyncio.to_thread(process.join)


def _wait(ours: Connection) -> str | Exception:
    try:
        if ours.poll(_READY_S):
            message: str | Exception = ours.recv()
            return message
    except EOFError:
        return EngineError("a side of the bench ended before it was ready")
    return EngineError(f"a side of the bench was not ready within {_READY_S:g} s")


def _serve(side: str, bot: str, config: Config, ready: Connection) -> None:
    """Serve a side until SIGTERM, in its own process; tells its URL, or what is wrong."""
    from talkpath.bots.bench_stock import prepare_stock, stock
    from talkpath.transports.server import serve

    async def serving() -> None:
        runtime = Runtime(config)
        set_runtime(runtime)
        talker, prepare = (stock, prepare_stock) if side == "pipecat" else load_bot(bot)
        try:
            await serve(talker, config, prepare=prepare, name=side, on_listening=ready.send)
        finally:
            set_runtime(None)
            await runtime.aclose()

    try:
        asyncio.run(serving())
    except TalkpathError as error:
        ready.send(error)
