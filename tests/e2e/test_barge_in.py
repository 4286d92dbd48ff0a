"""Callers who make noises, and callers who want the bot's turn, while the bot speaks.

One bot, two callers side by side: a program over a WebSocket, and a page in Chromium. Both show
many times that they listen, then interrupt. How fast the bot falls silent is measured elsewhere:
``talkpath bench barge-in``, and for Chromium ``python -m tests.e2e.two_ears``.
"""

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pipecat.frames.frames import InterruptionFrame

from talkpath.agent.audio import pcm16_to_float
from talkpath.agent.config import load_config
from talkpath.agent.runtime import Runtime, runtime, set_runtime
from talkpath.agent.whisper import WhisperEngine
from talkpath.bots.bench_barge_in import TEXT, caller
from talkpath.bots.reciter import Recital, Reciter
from talkpath.processors.frames import HoldPlaybackFrame, ResumePlaybackFrame
from tests.browser import chromium, eventually, say
from tests.e2e.two_ears import RATE_HZ, listening, silent_from, spoken
from tests.speech import clip, resample, word_error_rate
from tests.transports.stage import served

# Such as small models know from this voice: who is misheard interrupts.
LISTENING = ["Yeah.", "Okay.", "All right.", "I see.", "Of course.", "Exactly."]
IN_PAGE = len(LISTENING)
LISTENING += ["Absolutely.", "Yes.", "Great.", "Got it."]
OUT_HZ = 24_000
WAIT_S = 90  # until a call that hangs is given up

Noises = list[NDArray[np.float32]]


@dataclass
class Heard:
    """What came of a call.

    Attributes:
        recital: the bot's side.
        sound: what the caller received until the bot fell silent, float32 at 16 kHz.
        noises: how often the caller showed that they listen.
        pcm: the same as it came, where it came without loss.
        words: the words in it, by Whisper.
    """

    recital: Recital
    sound: NDArray[np.float32]
    noises: int
    pcm: bytes = b""
    words: str = ""


async def noises() -> Noises:
    voice = (await runtime().voice()).steady()  # each noise sounds alike in every run
    return [as_loud(pcm16_to_float((await voice.say(text, 16_000)).pcm)) for text in LISTENING]


def as_loud(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """One caller, one level: who is much quieter counts as somebody in the background."""
    return samples * np.float32(0.08 / np.sqrt(np.mean(np.square(samples))))


async def by_socket(url: str, bot: Reciter, made: Noises) -> Heard:
    async with caller(url) as line:
        await line.speaks(for_s=0.5)
        recital = bot.sessions[0]
        for noise in made:
            line.say(noise)
            await line.said()
            await line.speaks(for_s=0.6)
        line.say(as_loud(clip("librivox-0880").samples()))
        await line.until(lambda: recital.count(InterruptionFrame) > 0, WAIT_S)
        pcm = bytes(line.sound)
        await line.until(lambda: bool(recital.heard), WAIT_S)
    return Heard(recital, resample(pcm16_to_float(pcm), OUT_HZ, 16_000), len(made), pcm)


async def by_page(url: str, bot: Reciter, made: Noises, program: str) -> Heard:
    async with chromium(program) as browser, listening(browser, url, on_cue=True) as call:
        for noise in made:
            await eventually(call.bot_speaks, "the bot speaks")
            await say(call.page, noise)
        await eventually(call.bot_speaks, "the bot speaks on")
        await say(call.page, as_loud(clip("librivox-0880").samples()))
        await eventually(lambda: bool(bot.sessions[1].heard), "the interruption")
        ears = await call.so_far()
    # The bot was heard for a while before each.
    start_s = spoken(ears.caller, pause_s=0.6)[-1] - 0.2
    end_s = silent_from(ears.bot, start_s) or start_s
    sound = without_holds(ears.bot[: int(end_s * RATE_HZ)]).astype(np.float32) / np.float32(32768)
    return Heard(bot.sessions[1], resample(sound, RATE_HZ, 16_000), noises=len(made))


def without_holds(samples: NDArray[np.int16]) -> NDArray[np.int16]:
    """Leave out what is silent for 0.3 s or more: Whisper takes a word in two for two words."""
    step = RATE_HZ // 100
    steps = samples[: len(samples) // step * step].reshape(-1, step)
    silent = np.abs(steps).max(axis=1) < 30
    runs = np.split(np.arange(len(steps)), np.flatnonzero(np.diff(silent)) + 1)
    return np.concatenate(
        [steps[run].ravel() for run in runs if not silent[run[0]] or len(run) < 30]
    )


async def transcribed(engine: WhisperEngine, sound: NDArray[np.float32]) -> str:
    """What is said, in pieces that are cut where it is quiet."""
    words = []
    while len(sound):
        cut = len(sound)
        if cut > 25 * 16_000:
            levels = np.abs(sound[15 * 16_000 : 25 * 16_000]).reshape(-1, 1_600).max(axis=1)
            cut = 15 * 16_000 + 1_600 * int(levels.argmin()) + 800
        words.append((await engine.decode(sound[:cut])).text)
        sound = sound[cut:]
    return " ".join(words)


async def both(program: str, model: Path) -> dict[str, Heard]:
    shared = Runtime(load_config({"whisper.model": "tiny.en"}, environ={}))
    set_runtime(shared)
    try:
        bot = Reciter(TEXT)
        await bot.prepare()
        made = await noises()
        async with served(bot) as url:
            first = asyncio.create_task(by_socket(url, bot, made))
            await eventually(lambda: len(bot.sessions) == 1, "the first session")
            second = by_page(url, bot, made[:IN_PAGE], program)
            heard = dict(zip(("socket", "page"), await asyncio.gather(first, second), strict=True))
        engine = await WhisperEngine.start(model)
        try:
            for each in heard.values():
                each.words = await transcribed(engine, each.sound)
        finally:
            engine.close()
        return heard
    finally:
        set_runtime(None)
        await shared.aclose()


@pytest.fixture(scope="module")
def calls(need_tool: Callable[[str], str], model: Callable[[str], Path]) -> dict[str, Heard]:
    return asyncio.run(both(need_tool("chromium"), model("base")))


BOTH = pytest.mark.parametrize("way", ["socket", "page"])


@BOTH
def test_who_shows_that_they_listen_does_not_stop_the_bot(
    calls: dict[str, Heard], way: str
) -> None:
    recital, noises = calls[way].recital, calls[way].noises
    interrupted_s = recital.after(0.0, InterruptionFrame)
    assert interrupted_s is not None
    before = [kind for at_s, kind in recital.moments if at_s < interrupted_s]
    # It fell silent for (nearly) each of them, and went on.
    assert before.count(HoldPlaybackFrame) >= 0.8 * noises
    assert before.count(ResumePlaybackFrame) >= 0.8 * noises


def test_after_false_alarms_no_sample_of_the_reply_is_missing(calls: dict[str, Heard]) -> None:
    heard = calls["socket"]
    assert heard.pcm
    assert heard.recital.voiced.startswith(heard.pcm)


@BOTH
def test_the_context_keeps_what_the_caller_has_heard(calls: dict[str, Heard], way: str) -> None:
    heard = calls[way]
    context = heard.recital.heard[0]
    assert TEXT.startswith(context)
    assert len(context.split()) >= 12
    # Whisper does not understand every word that was held in its middle, and guesses the last;
    # a browser without time stretches the sound.
    assert word_error_rate([context], [heard.words]) <= (0.2 if heard.pcm else 0.35)
    tail = re.findall(r"\w+", context.lower())[-4:]
    assert set(tail) & set(re.findall(r"\w+", heard.words.lower())[-6:])
