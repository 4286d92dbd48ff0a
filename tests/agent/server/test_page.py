"""The page to try the server: real speech into a real browser, a real server behind it."""

import base64
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page

from tests.agent.server.page import (
    final_words,
    listen,
    note,
    noted,
    right,
    speaking,
    stop,
    talking,
    visiting,
    while_speaking,
)
from tests.agent.server.serving import serving
from tests.browser import chromium, eventually, expect
from tests.speech import clip, word_error_rate

KEYS = {"serve.api_keys": ("secret", "another")}

# Notes how the first line changes: what it says, and whether that may still change.
HISTORY = """() => {
  window.said = [];
  new MutationObserver(() => {
    const line = document.querySelector(".line");
    if (!line) return;
    const now = [line.classList.contains("pale"), line.querySelector(".text").textContent];
    if (JSON.stringify(window.said.at(-1)) !== JSON.stringify(now)) window.said.push(now);
  }).observe(document.getElementById("lines"), {
    childList: true, subtree: true, attributes: true, characterData: true });
}"""


async def test_speech_shows_as_partials_then_as_finals_with_its_times(
    need_tool: Callable[[str], str], tmp_path: Path
) -> None:
    names = ("librivox-0870", "librivox-0880")
    mic = speaking(tmp_path / "mic.wav", *names)
    async with (
        serving() as url,
        chromium(need_tool("chromium"), microphone=mic) as browser,
        visiting(browser, url) as page,
    ):
        await page.evaluate(HISTORY)
        voice = page.locator("#voice-note")
        await note(voice)
        await listen(page)

        async def all_said() -> bool:
            words = await final_words(page)
            return right(words, *names) and "man" in words_in(words[-1])  # the last one said

        await eventually(all_said, "the words")
        await expect(voice).to_have_text("silent")
        assert "speaking" in await noted(voice)
        said: list[tuple[bool, str]] = await page.evaluate("window.said")
        assert [pale for pale, _ in said] == sorted((pale for pale, _ in said), reverse=True)
        partials = [text for pale, text in said if pale]
        words = await final_words(page)
        # A machine without time has few; the first is of the sentence's beginning alone.
        assert partials and partials[0] != words[0]

        times = await page.locator(".line .when").all_inner_texts()
        assert all(re.fullmatch(r"0:\d\d", time) for time in times)
        assert len(times) >= len(names) and times == sorted(times) and times[0] < times[-1]
        took = await page.locator(".line .took").all_inner_texts()
        assert all(re.fullmatch(r"\d+ ms", text) for text in took)
        await expect(page.locator("#latest")).to_have_text(took[-1].removesuffix(" ms"))
        await expect(page.locator("#count")).to_have_text(str(len(words)))
        ordered = sorted(int(text.removesuffix(" ms")) for text in took)
        for name in ("median", "p95"):
            figure = await page.locator(f"#{name}").inner_text()
            assert ordered[0] <= int(figure.removesuffix(" ms")) <= ordered[-1]
        announced = page.get_by_role("log", name="Final words").locator("p")
        assert await announced.all_text_contents() == words
        await stop(page)


async def test_stopping_brings_the_last_words_and_listening_again_goes_on(
    need_tool: Callable[[str], str], tmp_path: Path
) -> None:
    mic = talking(tmp_path / "mic.wav")
    async with (
        serving() as url,
        chromium(need_tool("chromium"), microphone=mic) as browser,
        visiting(browser, url) as page,
    ):
        lines = 0
        for _ in range(2):
            await listen(page)
            # In the middle of the sentence: its words so far are final by the end.
            partial = await while_speaking(page, words=4)
            await stop(page)
            await expect(page.locator(".line.pale")).to_have_count(0)
            await expect(page.locator("#meter")).to_have_attribute("style", "--level: 0;")
            final = " ".join((await final_words(page))[lines:])
            assert len(words_in(partial) & words_in(final)) >= 2
            lines = await page.locator(".line").count()
        # The second stream's times go on where the first one's ended.
        transcript = await saved(page, "Save as subtitles")
        starts = re.findall(r"(\d\d:\d\d:\d\d,\d{3}) -->", transcript)
        assert len(starts) == lines and starts == sorted(set(starts))


def words_in(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))


async def saved(page: Page, button: str) -> str:
    async with page.expect_download() as download:
        await page.get_by_role("button", name=button).click()
    path = await (await download.value).path()
    return path.read_text("utf-8")


async def test_the_transcript_can_be_copied_saved_and_cleared(
    need_tool: Callable[[str], str], tmp_path: Path
) -> None:
    mic = speaking(tmp_path / "mic.wav", "librivox-0880")
    async with (
        serving() as url,
        chromium(need_tool("chromium"), microphone=mic) as browser,
        visiting(browser, url, permissions=["microphone", "clipboard-read"]) as page,
    ):
        tools = page.get_by_role("group", name="Transcript")
        await expect(tools).to_be_hidden()
        await listen(page)
        await expect(page.locator(".line:not(.pale)")).not_to_have_count(0)
        await stop(page)
        lines = await final_words(page)
        text = "".join(f"{line}\n" for line in lines)
        button = page.locator("#copy")
        await note(button)
        await button.click()

        async def told() -> bool:
            return await noted(button) == ["Copied", "Copy"]

        await eventually(told, "the button says what it has done, and goes back")
        assert await page.evaluate("navigator.clipboard.readText()") == text
        assert await saved(page, "Save as text") == text
        blocks = [
            rf"{number}\n00:00:\d\d,\d{{3}} --> 00:00:\d\d,\d{{3}}\n{re.escape(line)}\n"
            for number, line in enumerate(lines, 1)
        ]
        assert re.fullmatch("\n".join(blocks), await saved(page, "Save as subtitles"))
        await page.get_by_role("button", name="Clear").click()
        await expect(page.locator(".line")).to_have_count(0)
        await expect(page.get_by_text("Say something.")).to_be_visible()
        await expect(tools).to_be_hidden()


async def test_the_settings_are_what_the_server_is_asked_for_and_are_remembered(
    need_tool: Callable[[str], str], tmp_path: Path
) -> None:
    mic = speaking(tmp_path / "mic.wav", "librivox-0880")
    async with (
        serving() as url,
        chromium(need_tool("chromium"), microphone=mic) as browser,
        visiting(browser, url) as page,
    ):
        frames: list[str | bytes] = []
        page.on(
            "websocket",
            lambda socket: socket.on("framesent", lambda data: frames.append(data)),
        )
        # An English model offers nothing else.
        assert await page.locator("#language option").all_inner_texts() == ["English"]
        await page.get_by_label("Words while they are spoken").uncheck()
        await page.get_by_label("Look again after").fill("900")  # more than there is
        await page.get_by_label("A pause ends it after").fill("450")
        await page.get_by_label("Mark doubtful words").uncheck()
        await page.get_by_label("Suppress noise").uncheck()
        await page.reload()
        await expect(page.get_by_label("Look again after")).to_have_value("5")
        await page.evaluate(HISTORY)
        await listen(page)
        await expect(page.locator(".line:not(.pale)")).not_to_have_count(0)
        await page.get_by_label("Mark doubtful words").check()
        await expect(page.locator("#settings-note")).to_be_visible()
        await stop(page)
        assert not any(pale for pale, _ in (await page.evaluate("window.said"))[1:])
    configuration: dict[str, Any] = json.loads(frames[0])
    assert configuration == {
        "whisper_params": {"audio_language": "en", "show_word_timestamps": False},
        "streaming_params": {
            "encoding": "pcm_s16le",
            "sample_rate": 16_000,
            "enable_partial_transcripts": False,
            "partial_transcript_interval_s": 5,
            "include_pipeline_latency_metric": True,
        },
        "streaming_vad_config": {"min_silence_duration_ms": 450, "speech_pad_ms": 30},
    }
    sound = [frame for frame in frames if isinstance(frame, bytes)]
    assert {len(frame) for frame in sound[:-1]} == {2 * 512}
    assert len(sound[-1]) <= 2 * 512


# -- recordings ------------------------------------------------------------------------------

# What a browser does when a file is dropped on the page.
DROP = """async ([name, data]) => {
  const bytes = Uint8Array.from(atob(data), (character) => character.charCodeAt(0));
  const dataTransfer = new DataTransfer();
  dataTransfer.items.add(new File([bytes], name));
  for (const kind of ["dragenter", "dragover", "drop"]) {
    document.body.dispatchEvent(
      new DragEvent(kind, { dataTransfer, bubbles: true, cancelable: true }));
    if (kind === "dragenter") window.inviting = !document.getElementById("drop").hidden;
  }
}"""


@pytest.mark.parametrize("how", ["chosen", "dropped"])
async def test_a_recording_is_written_down(how: str, need_tool: Callable[[str], str]) -> None:
    said = clip("librivox-0870")
    async with (
        serving(KEYS) as url,
        chromium(need_tool("chromium")) as browser,
        visiting(browser, url, complaints=("401",)) as page,
    ):
        await page.get_by_label("This server wants a key.").fill("secret")
        await page.keyboard.press("Enter")
        await expect(page.locator("#key-form")).to_be_hidden()
        if how == "chosen":
            await page.locator("#file").set_input_files(said.path)
        else:
            data = base64.b64encode(said.path.read_bytes()).decode()
            await page.evaluate(DROP, [said.path.name, data])
            assert await page.evaluate("window.inviting")
        await expect(page.locator(".line:not(.pale)")).to_have_count(1)
        await expect(page.locator("#state")).to_have_text("Not listening")
        await expect(page.locator("#drop")).to_be_hidden()
        assert word_error_rate([said.text], await final_words(page)) <= 0.25
        await expect(page.locator(".line .took")).to_have_text(said.path.name)
        await expect(page.get_by_role("button", name="Save as text")).to_be_visible()
        await expect(page.get_by_role("button", name="Save as subtitles")).to_be_hidden()


async def test_a_file_without_sound_is_told(
    need_tool: Callable[[str], str], tmp_path: Path
) -> None:
    letter = tmp_path / "letter.txt"
    letter.write_text("Dear server, this is a letter.")
    async with (
        serving() as url,
        chromium(need_tool("chromium")) as browser,
        visiting(browser, url, complaints=("the server responded with a status of 4",)) as page,
    ):
        await page.locator("#file").set_input_files(letter)
        await expect(page.get_by_role("alert")).to_contain_text("letter.txt")
        await expect(page.locator("#state")).to_have_text("Not listening")
        await expect(page.locator(".line")).to_have_count(0)
