"""The code that the page shows: it is taken from there as a visitor would, and works."""

import asyncio
import contextlib
import os
import re
import sys
import wave
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import numpy as np
from pipecat.frames.frames import ErrorFrame, TranscriptionFrame
from playwright.async_api import Page

from tests.agent.server.page import note, noted, visiting
from tests.agent.server.serving import serving
from tests.browser import chromium, eventually, expect
from tests.processors.caller import call
from tests.speech import Clip, clip, resample, silence, word_error_rate, write_wav

KEYS = {"serve.api_keys": ("secret",)}
SAID = "librivox-0870"
NAMES = (
    "curl",
    "OpenAI package",
    "OpenAI Realtime",
    "WebSocket (Baseten)",
    "Together",
    "talkpath",
    "Pipecat",
)
WAIT_S = 120


@contextlib.asynccontextmanager
async def reading(chromium_path: str, url: str) -> AsyncIterator[Page]:
    """Open the page with the key, and go to the code."""
    async with (
        chromium(chromium_path) as browser,
        visiting(
            browser, url, complaints=("status of 401",), permissions=["clipboard-read"]
        ) as page,
    ):
        await page.locator("#key").fill("secret")
        await page.get_by_role("button", name="Use it").click()
        await expect(page.locator("#key-form")).to_be_hidden()
        await page.get_by_role("link", name="Code", exact=True).click()
        yield page


async def shown(page: Page, name: str) -> str:
    """The code of a tab, as the button copies it."""
    await page.get_by_role("tab", name=name).click()
    tab = await page.get_by_role("tab", name=name).get_attribute("id")
    assert tab is not None
    await expect(page.locator("#example-code")).to_have_attribute(
        "data-example", tab.removeprefix("tab-")
    )
    code = await page.locator("#example-code").text_content()
    assert code is not None
    await page.locator("#copy-code").click()

    async def copied() -> bool:
        return bool(await page.evaluate("navigator.clipboard.readText()") == code)

    await eventually(copied, f"the code for {name} on the clipboard")
    return code


async def output_of(*command: str, folder: Path) -> str:
    """What a program writes; it has to succeed."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=folder,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(WAIT_S):
            out, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, errors.decode()
    return out.decode()


def recording(folder: Path, said: Clip, rate_hz: int) -> None:
    """Write the ``speech.wav`` that the examples speak of."""
    write_wav(folder / "speech.wav", resample(said.samples(), 16_000, rate_hz), rate_hz)
    with wave.open(str(folder / "speech.wav"), "rb") as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (rate_hz, 1, 2)


def is_what_was_said(text: str) -> bool:
    return word_error_rate([clip(SAID).text], [text]) <= 0.25


async def test_every_protocol_has_its_code_with_the_pages_own_address_and_the_keys_place(
    need_tool: Callable[[str], str],
) -> None:
    async with serving(KEYS) as url, reading(need_tool("chromium"), url) as page:
        button = page.locator("#copy-code")
        await note(button)
        assert await page.get_by_role("tab").all_inner_texts() == list(NAMES)
        for name in NAMES:
            text = await shown(page, name)
            assert "{{" not in text
            assert "YOUR_KEY" in text and "secret" not in text
            addresses = set(re.findall(r"(?:http|ws)://[\w.:]+", text))
            assert addresses and addresses <= {url, url.replace("http", "ws", 1)}
        await expect(button).to_have_text("Copy the code")
        assert (await noted(button)).count("Copied") == len(NAMES)


async def test_the_tabs_are_walked_with_the_arrow_keys_and_the_view_has_an_address(
    need_tool: Callable[[str], str],
) -> None:
    async with (
        serving() as url,
        chromium(need_tool("chromium")) as browser,
        visiting(browser, url, "/#code") as page,
    ):
        first = page.get_by_role("tab", name="curl")
        await first.focus()
        for key, name in (
            ("ArrowDown", "OpenAI package"),
            ("ArrowLeft", "curl"),
            ("ArrowUp", "Pipecat"),
            ("ArrowRight", "curl"),
            ("End", "Pipecat"),
            ("Home", "curl"),
        ):
            await page.keyboard.press(key)
            tab = page.get_by_role("tab", name=name)
            await expect(tab).to_be_focused()
            await expect(tab).to_have_attribute("aria-selected", "true")
            await expect(page.get_by_role("tab", selected=True)).to_have_count(1)
            await expect(page.get_by_role("tabpanel", name=name)).to_be_visible()
        await page.get_by_role("link", name="Try it").click()
        await expect(page.get_by_text("Say something.")).to_be_visible()
        await page.go_back()
        await expect(first).to_be_visible()


async def test_the_commands_for_curl_work(need_tool: Callable[[str], str], tmp_path: Path) -> None:
    recording(tmp_path, clip(SAID), 16_000)
    need_tool("curl")
    async with serving(KEYS) as url, reading(need_tool("chromium"), url) as page:
        script = (await shown(page, "curl")).replace("YOUR_KEY", "secret")
        out = await output_of("sh", "-c", script, folder=tmp_path)
    whole, subtitles, events = re.fullmatch(
        r"(\{.*?\}\n?)(1\n.*?\n\n?)(data: .*)", out, re.DOTALL
    ).groups()  # type: ignore[union-attr]
    assert is_what_was_said(re.search(r'"text": ?"([^"]*)"', whole)[1])  # type: ignore[index]
    assert "-->" in subtitles
    assert "transcript.text.delta" in events and "transcript.text.done" in events


async def test_the_programs_for_live_speech_print_partials_and_finals(
    need_tool: Callable[[str], str], tmp_path: Path
) -> None:
    async def runs(page: Page, name: str, rate_hz: int, pattern: str) -> Coroutine[Any, Any, None]:
        program = (await shown(page, name)).replace("YOUR_KEY", "secret")
        folder = tmp_path / name
        folder.mkdir()
        recording(folder, clip(SAID), rate_hz)

        async def run() -> None:
            out = await output_of(sys.executable, "-W", "error", "-c", program, folder=folder)
            finals = re.findall(pattern, out, re.MULTILINE)
            assert is_what_was_said(" ".join(finals)), (name, out)
            before, _, _ = out.partition("Final:")
            assert "dashwood" in before.lower(), (name, out)

        return run()

    # They speak at the pace of a microphone, so all do at once.
    async with serving(KEYS) as url, reading(need_tool("chromium"), url) as page:
        programs = [
            await runs(page, "OpenAI Realtime", 24_000, r"^Final: (.*)$"),
            await runs(page, "WebSocket (Baseten)", 16_000, r"^Final:  (.*)$"),
            await runs(page, "Together", 16_000, r"^Final:   (.*)$"),
            await runs(page, "talkpath", 48_000, r"^Final:   (.*)$"),
        ]
        await asyncio.gather(*programs)


async def test_the_program_for_openais_package_prints_words_and_their_times(
    need_tool: Callable[[str], str], tmp_path: Path
) -> None:
    recording(tmp_path, clip(SAID), 16_000)
    async with serving(KEYS) as url, reading(need_tool("chromium"), url) as page:
        program = (await shown(page, "OpenAI package")).replace("YOUR_KEY", "secret")
        out = await output_of(sys.executable, "-c", program, folder=tmp_path)
    first, *timed, streamed = out.splitlines()
    assert is_what_was_said(first)
    assert is_what_was_said(streamed)
    words = [re.fullmatch(r" *(\d+\.\d\d) s  (\S+)", line) for line in timed]
    assert is_what_was_said(" ".join(word[2] for word in words if word))
    times = [float(word[1]) for word in words if word]
    assert times == sorted(times) and len(times) == len(timed)


async def test_the_services_for_pipecat_work_in_a_pipeline(
    need_tool: Callable[[str], str],
) -> None:
    async with serving(KEYS) as url:
        async with reading(need_tool("chromium"), url) as page:
            program = (await shown(page, "Pipecat")).replace("YOUR_KEY", "secret")

        async def works(service: str) -> None:
            parts: dict[str, Any] = {}
            exec(program, parts)
            async with call([parts["detector"], parts[service]]) as line:
                await line.say(np.concatenate([clip(SAID).samples(), silence(1.0)]), pace_s=0.01)

                def heard() -> bool:
                    frames = line.frames(TranscriptionFrame)
                    return is_what_was_said(" ".join(frame.text for frame in frames))

                await line.until(lambda: heard() or line.frames(ErrorFrame))
                assert not [frame.error for frame in line.frames(ErrorFrame)], service
            # Pipecat leaves this to the garbage collector, which may come when there is no loop.
            await parts["openai_whole"]._client.close()

        await asyncio.gather(*map(works, ("whisper", "openai_live", "openai_whole", "together")))
