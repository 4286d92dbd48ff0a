"""Calls of Asterisk's with real speech and a real bot, and the command that serves them."""

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from talkpath.agent.config import Config, load_config
from talkpath.agent.runtime import Runtime, set_runtime
from talkpath.bots import echo
from talkpath.transports.asterisk.audiosocket import serve_audiosocket
from talkpath.transports.server import serve
from tests.browser import eventually
from tests.speech import clip, resample
from tests.transports.asterisk import audiosocket_peer, websocket_peer

Samples = NDArray[np.float32]


@pytest.fixture
async def config() -> AsyncIterator[Config]:
    settings = {"whisper.model": "tiny.en", "server.host": "127.0.0.1", "server.port": 0}
    config = load_config(settings, environ={})
    runtime = Runtime(config)
    set_runtime(runtime)
    await echo.prepare()
    yield config
    set_runtime(None)
    await runtime.aclose()


def contained(heard: Samples, part: Samples) -> float:
    """How alike the part is to the piece of what was heard that is most like it, 0 to 1."""
    if len(heard) < len(part):
        return 0.0
    size = 1 << (len(heard) + len(part)).bit_length()
    product = np.fft.irfft(np.fft.rfft(heard, size) * np.conj(np.fft.rfft(part, size)), size)
    product = product[: len(heard) - len(part) + 1]
    energy = np.convolve(heard.astype(np.float64) ** 2, np.ones(len(part)), "valid")
    norms = np.sqrt(np.maximum(energy, 1e-3)) * np.linalg.norm(part)
    return float((np.abs(product) / norms).max())


def loudest(samples: Samples, length: int, count: int = 4) -> list[Samples]:
    """The pieces that have most of the sound: a busy machine tears some, but not all."""
    pieces = samples[: len(samples) // length * length].reshape(-1, length)
    return list(pieces[np.argsort((pieces.astype(np.float64) ** 2).sum(axis=1))[-count:]])


async def converse(
    peer: websocket_peer.Peer | audiosocket_peer.Peer, silent: Callable[[], bool]
) -> None:
    """Say something, hear it again, and interrupt."""
    rate_hz = peer.format.rate_hz
    first = resample(clip("librivox-0890").samples(), 16_000, rate_hz)  # 5 s
    second = resample(clip("cards-003").samples(), 16_000, rate_hz)  # 2 s
    peer.say(first)
    await eventually(lambda: len(peer.sound) > rate_hz, "the echo begins", 60)
    peer.say(second)
    await eventually(silent, "the bot gives way", 60)
    assert max(contained(first, part) for part in loudest(peer.sound, rate_hz // 4)) > 0.9
    again = loudest(second, rate_hz // 4)
    heard = len(peer.sound)
    assert heard < len(first)
    await eventually(
        lambda: any(contained(peer.sound[heard:], part) > 0.9 for part in again),
        "the echo of what interrupted it",
        60,
    )


async def test_the_echo_bot_says_real_speech_again_and_gives_way(config: Config) -> None:
    urls = [asyncio.get_running_loop().create_future() for _ in range(2)]
    servers = [
        asyncio.create_task(serve(echo.bot, config, on_listening=urls[0].set_result)),
        asyncio.create_task(serve_audiosocket(echo.bot, config, on_listening=urls[1].set_result)),
    ]
    try:
        async with (
            websocket_peer.called(await urls[0], "slin16") as first,
            audiosocket_peer.called(await urls[1]) as second,
        ):
            await asyncio.gather(
                converse(first, lambda: not any(data for _, data in first.heard[-25:])),
                converse(second, lambda: not any(any(data) for _, data in second.heard[-25:])),
            )
            assert "FLUSH_MEDIA" in first.commands
            assert not second.errors
    finally:
        for server in servers:
            server.cancel()
        await asyncio.wait(servers)


async def test_the_command_serves_audiosocket_until_it_is_interrupted() -> None:
    process = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).with_name("talkpath")),
        *("run", "loopback", "--transport", "audiosocket", "--host", "127.0.0.1", "--port", "0"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(120):
            line = (await process.stdout.readline()).decode()
        found = re.search(r"loopback is listening at (tcp://127\.0\.0\.1:\d+)", line)
        assert found, line
        async with audiosocket_peer.called(found[1], "slin16") as peer:
            spoken = websocket_peer.speech_like(0.5, 16_000)
            await eventually(lambda: len(peer.heard) > 0, "the answer")
            peer.say(spoken)
            await eventually(lambda: contained(peer.sound, spoken) > 0.98, "the echo")
            process.send_signal(signal.SIGINT)
            await eventually(peer.hung_up.is_set, "the hangup")
        assert await process.wait() in (0, 130)
    finally:
        if process.returncode is None:
            process.kill()
        _, errors = await process.communicate()
    assert b"Traceback" not in errors, errors.decode()
