"""Two thousand streams, fifty at a time, leave nothing behind."""

import asyncio
import gc
import threading
from itertools import pairwise

import psutil

from talkpath.agent.audio import float_to_pcm16
from talkpath.agent.whisper import WhisperEngine
from tests.agent.whisper.helpers import Parrot, Results, backend, engine
from tests.speech import clip

STREAMS = 2_000
AT_ONCE = 50
STRETCH = 400
MOST_A_STREAM = 4 << 10  # bytes; the audio of one alone is 256 KiB


async def speak(running: WhisperEngine, speech: bytes, number: int) -> None:
    """A stream's life: something short is said, and now and then it ends in the middle."""
    results = Results()
    stream = running.open_stream(results)
    stream.speech_started(0.0)
    for at in range(0, len(speech), 3_200):
        stream.feed(speech[at : at + 3_200])
        await asyncio.sleep(0)
    stream.early_pause()
    if number % 3 == 0:
        stream.speech_resumed()
        stream.feed(speech[:3_200])
    if number % 5:
        stream.speech_stopped(0.0)
        await stream.drain()
        assert len(results.finals) == 1
    stream.close()


async def test_two_thousand_streams_leave_no_memory_thread_or_task() -> None:
    # What the libraries below allocate for a batch comes and goes by tens of megabytes with its
    # size; it would hide what the engine keeps.
    model = Parrot(backend("tiny.en"))
    sentence = clip("librivox-0930").samples()
    speech = float_to_pcm16(sentence)
    process = psutil.Process()
    async with engine(model) as running:

        async def crowd(numbers: range) -> None:
            for start in numbers[::AT_ONCE]:
                group = range(start, start + AT_ONCE)
                await asyncio.gather(*(speak(running, speech, number) for number in group))

        await running.decode(sentence)
        threads, tasks = set(threading.enumerate()), asyncio.all_tasks()
        memory = []
        for start in range(0, STREAMS, STRETCH):
            await crowd(range(start, start + STRETCH))
            gc.collect()
            memory.append(process.memory_info().rss)
        # What grows with the streams grows in every stretch; what others in this process take, or
        # is made once, in one.
        growth = sorted(after - before for before, after in pairwise(memory))
        assert growth[len(growth) // 2] < STRETCH * MOST_A_STREAM
        assert set(threading.enumerate()) <= threads
        assert asyncio.all_tasks() == tasks
        assert running.streams == 0
        assert running.statistics.opened == STREAMS
        assert running.statistics.failed == 0
