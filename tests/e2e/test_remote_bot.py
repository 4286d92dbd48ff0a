"""A bot whose ears are at a speech-to-text server elsewhere."""

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path

from websockets.asyncio.client import connect

from talkpath.agent.audio import float_to_pcm16
from tests.agent.server.process import WAIT_S
from tests.agent.server.serving import serving
from tests.browser import chromium, eventually, expect
from tests.e2e.bots import calling, running
from tests.speech import clip, silence, word_error_rate
from tests.transports.socket_caller import RATE_HZ, READY, Ear, audio

NAME = "librivox-0930"
BLOCK = RATE_HZ // 50 * 2


async def test_a_bot_hears_through_a_server_and_needs_no_model_of_its_own() -> None:
    async with serving({"serve.api_keys": ("sesame",)}) as server:
        settings = ("--whisper-server", f"ws{server[4:]}", "--model", "/no/such/model")
        environ = {"TALKPATH_WHISPER_API_KEY": "sesame"}
        async with (
            running("captions", "--transport", "websocket", *settings, environ=environ) as url,
            connect(f"ws{url[4:]}/ws") as socket,
        ):
            ear = Ear(socket)
            await socket.send(READY)
            pcm = float_to_pcm16(clip(NAME).samples()) + float_to_pcm16(silence(1.0))

            def said() -> str:
                return " ".join(
                    message["data"]["text"]
                    for message in ear.messages
                    if message["type"] == "user-transcription" and message["data"]["final"]
                )

            def read_along() -> bool:
                captions = [
                    message["data"]
                    for message in ear.messages
                    if message["type"] == "server-message" and message["data"]["type"] == "caption"
                ]
                return any(caption["stable"] and not caption["final"] for caption in captions)

            times = 0
            for pace_s in (0.01, 0.03, 0.1):  # a machine without time leaves out partials
                for start in range(0, len(pcm), BLOCK):
                    await socket.send(audio(pcm[start : start + BLOCK]))
                    await asyncio.sleep(pace_s)
                times += 1
                words = " ".join([clip(NAME).text] * times)
                await eventually(
                    lambda: word_error_rate([words], [said()]) <= 0.3,  # noqa: B023
                    "the words",
                )
                if read_along():
                    break
            assert read_along()
            await ear.close()


async def test_a_wrong_key_ends_the_bot_before_it_takes_a_caller() -> None:
    async with serving({"serve.api_keys": ("sesame",)}) as server:
        process = await asyncio.create_subprocess_exec(
            *(str(Path(sys.executable).with_name("talkpath")), "run", "captions", "--port", "0"),
            *("--whisper-server", f"ws{server[4:]}"),
            env=os.environ | {"TALKPATH_WHISPER_API_KEY": "rhubarb"},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(WAIT_S):
            out, log = await process.communicate()
    assert process.returncode == 1
    *_, last = log.decode().splitlines()
    assert last.startswith("talkpath: no speech-to-text server takes this client") and "401" in last
    assert b"listening" not in out + log and b"Traceback" not in log


async def test_the_page_says_that_no_server_is_there_and_shows_the_words_once_one_is(
    need_tool: Callable[[str], str], free_port: int
) -> None:
    server = f"127.0.0.1:{free_port}"
    async with (
        running("captions", "--whisper-server", f"ws://{server}") as url,
        chromium(need_tool("chromium")) as browser,
        calling(browser, url) as call,
    ):
        await call.until(1, "error")
        problem = call.page.locator("#problem")
        await expect(problem).to_contain_text("no speech-to-text server is available")
        await expect(problem).to_contain_text(server)
        await problem.get_by_role("button", name="Dismiss").click()
        await expect(problem).to_be_hidden()
        await call.say(clip(NAME).samples())
        async with serving({"serve.port": free_port}):
            await expect(call.page.locator("#entries")).to_contain_text(clip(NAME).text.split()[-1])
        assert await call.messages("user-transcription")
        assert len(await call.messages("error")) == 1
