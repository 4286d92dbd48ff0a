"""Pipecat's own browser client calls our server, and our bots under Pipecat's own runner."""

import asyncio
import contextlib
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientConnectorError, ClientSession, web
from pipecat.frames.frames import TranscriptionFrame, UserStartedSpeakingFrame
from playwright.async_api import Browser, Page

from tests.browser import (
    WAIT_MS,
    chromium,
    eventually,
    microphone_wav,
    say,
    silent_microphone,
    watched,
)
from tests.speech import clip
from tests.transports.stage import StageBot, served

FOLDER = Path(__file__).parent
HTML = (
    "<!doctype html><html lang=en><meta charset=utf-8><title>official client</title>"
    "<link rel=icon href=data:,><audio autoplay></audio>"
    "<script type=module src=client.js></script></html>"
)


@pytest.fixture(scope="module")
def bundle(need_tool: Callable[[str], str], lacking: Callable[[str], None]) -> str:
    """The client's JavaScript in one piece; its packages are installed at first use."""
    need_tool("node")
    bundler = FOLDER / "node_modules" / "esbuild" / "bin" / "esbuild"
    if not bundler.exists():
        command = [need_tool("npm"), "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
        done = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, timeout=250)
        if done.returncode:
            lacking(f"the npm packages of tests/web ({done.stderr.strip()[-300:]})")
    command = ["node", str(bundler), "client.js", "--bundle", "--format=esm"]
    return subprocess.run(
        command, cwd=FOLDER, capture_output=True, text=True, check=True, timeout=120
    ).stdout


@pytest.fixture
async def elsewhere(bundle: str) -> AsyncIterator[str]:
    """The client's page on an origin of its own."""

    async def page(_: web.Request) -> web.Response:
        return web.Response(text=HTML, content_type="text/html")

    async def script(_: web.Request) -> web.Response:
        return web.Response(text=bundle, content_type="text/javascript")

    app = web.Application()
    app.add_routes([web.get("/", page), web.get("/client.js", script)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    yield f"http://{host}:{port}"
    await runner.cleanup()


async def events(page: Page) -> list[list[Any]]:
    found: list[list[Any]] = await page.evaluate("window.events")
    return found


async def test_the_official_client_talks_with_us(
    elsewhere: str, need_tool: Callable[[str], str], tmp_path: Path
) -> None:
    bot = StageBot()
    async with (
        chromium(
            need_tool("chromium"), microphone=microphone_wav(tmp_path / "tone.wav")
        ) as browser,
        served(bot) as url,
    ):
        page = await browser.new_page()
        page.set_default_timeout(WAIT_MS)
        watch = watched(page, elsewhere)
        await page.goto(elsewhere)

        async def happened(*wanted: Any) -> bool:
            return list(wanted) in await events(page)

        connecting = asyncio.create_task(page.evaluate("url => window.start(url)", url))
        scene = await bot.scene()
        ready = await connecting
        assert ready["version"].startswith("2.")
        assert scene.arguments.body == {"from": "npm"}
        await eventually(lambda: happened("bot-ready", ready["version"]), "bot-ready")

        await eventually(lambda: scene.ears.loudest > 0.1, "the client's sound at the bot")
        await scene.frames(UserStartedSpeakingFrame())
        await scene.frames(TranscriptionFrame("Good morning.", "", "0"))
        await scene.message({"type": "caption", "stable": "Good"})
        await eventually(lambda: happened("user speaks"), "the user's start")
        await eventually(lambda: happened("transcript", "Good morning.", True), "the transcript")
        await eventually(
            lambda: happened("message", {"type": "caption", "stable": "Good"}), "the caption"
        )
        await scene.sentence("Good morning to you.")
        await scene.speak(8)
        await eventually(lambda: happened("bot speaks"), "the bot's start")
        await eventually(lambda: happened("output", "Good morning to you."), "the bot's words")

        async def heard() -> bool:
            return float(await page.evaluate("window.loudness()")) > 0.1

        await eventually(heard, "the bot's sound at the client")
        await page.evaluate("window.stop()")
        await eventually(lambda: bot.open == 0, "the end of the session")
        assert [url_ for url_ in watch.strangers if not url_.startswith(url)] == []


async def test_our_bots_run_under_pipecats_runner(
    elsewhere: str, need_tool: Callable[[str], str], tmp_path: Path
) -> None:
    async def runs(name: str, browser: Browser) -> None:
        with held_port() as port:
            async with under_the_runner(name, port, tmp_path) as url:
                page = await browser.new_page()
                page.set_default_timeout(WAIT_MS)
                await silent_microphone(page)
                await page.goto(elsewhere)
                await page.evaluate("url => window.start(url)", url)
                await say(page, clip("librivox-0880").samples())

                async def heard() -> bool:
                    finals = [it[1] for it in await events(page) if it[0] == "transcript" and it[2]]
                    return any("young man" in final for final in finals)

                await eventually(heard, f"the transcript of {name}", 90)
                if name != "captions":

                    async def spoke() -> bool:
                        return ["bot speaks"] in await events(page)

                    await eventually(spoke, f"the answer of {name}", 90)
                await page.evaluate("window.stop()")

    # They mostly wait for models and for speech: side by side they take as long as one.
    async with chromium(need_tool("chromium")) as browser, asyncio.TaskGroup() as group:
        for name in ("captions", "echo", "assistant"):
            group.create_task(runs(name, browser))


@contextlib.contextmanager
def held_port() -> Iterator[int]:
    """A TCP port on 127.0.0.1 that nobody else is given; a server may listen there."""
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


@contextlib.asynccontextmanager
async def under_the_runner(name: str, port: int, folder: Path) -> AsyncIterator[str]:
    """Run a bot as its file is started; gives the URL."""
    command = [sys.executable, "-m", f"talkpath.bots.{name}", "-t", "webrtc"]
    process = await asyncio.create_subprocess_exec(
        *command, "--host", "127.0.0.1", "--port", str(port), cwd=folder
    )
    try:
        url = f"http://127.0.0.1:{port}"
        await eventually(lambda: listens(process, f"{url}/status"), f"the runner of {name}", 180)
        yield url
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def listens(process: asyncio.subprocess.Process, url: str) -> bool:
    assert process.returncode is None, "the runner ended"
    async with ClientSession() as session:
        try:
            async with session.get(url) as response:
                return response.status == 200
        except ClientConnectorError:
            return False
