"""The page for everybody: screen readers, keyboards, small screens, weak eyes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.async_api import Page

from tests.agent.server.page import listen, speaking, stop, talking, visiting, while_speaking
from tests.agent.server.serving import serving
from tests.browser import CONTRAST, chromium, expect

NOT_LET_IN = "status of 401"

# The page's own modules, with a transcription as the server sends one.
SHOW = """async ([number, final, segments]) => {
  const { Words } = await import("/words.js");
  const $ = (id) => document.getElementById(id);
  window.shown ??= new Words({
    scroller: $("words"), list: $("lines"), welcome: $("welcome"), jump: $("jump"),
    announcer: $("announcer"), onChange: () => {} });
  window.shown.add({
    is_final: final, transcription_num: number, language_code: "en", pipeline_latency: 0.2,
    segments: segments.map((segment, index) => (
      { start_time: index, end_time: index + 1, possible_hallucination: false,
        word_timestamps: [], ...segment })) });
}"""

RESAMPLE = """async ([from, to, hertz, seconds]) => {
  const { Resampler } = await import("/resampler.js");
  const input = Float32Array.from(
    { length: from * seconds }, (_, i) => Math.sin((2 * Math.PI * hertz * i) / from));
  const resampler = new Resampler(from, to);
  const output = [];
  // In pieces, as the audio thread has them, and an odd one now and then.
  for (let at = 0, size = 128; at < input.length; at += size, size = size === 128 ? 77 : 128) {
    output.push(...resampler.push(input.subarray(at, at + size)));
  }
  // Against the tone itself at the new rate, without the edges.
  const middle = output.slice(100, -100);
  let [error, power] = [0, 0];
  middle.forEach((sample, i) => {
    error += (sample - Math.sin((2 * Math.PI * hertz * (i + 100)) / to)) ** 2;
    power += sample ** 2;
  });
  return {
    length: output.length,
    error: 10 * Math.log10(error / middle.length / 0.5),
    power: 10 * Math.log10(power / middle.length / 0.5 + 1e-12),
  };
}"""


async def show(page: Page, number: int, *segments: dict[str, Any], final: bool) -> None:
    await page.evaluate(SHOW, [number, final, list(segments)])


async def test_doubtful_words_are_marked_and_made_up_ones_are_not_shown(
    need_tool: Callable[[str], str],
) -> None:
    words = [("selfish", 0.9), ("is", 0.2), ("to", 0.99), ("be,", 0.4)]
    stamps = [{"word": word, "prob": prob} for word, prob in words]
    text = "selfish is <b>to</b> be, or not"
    async with (
        serving() as url,
        chromium(need_tool("chromium")) as browser,
        visiting(browser, url) as page,
    ):
        line = page.locator(".line .text")
        await show(page, 1, {"text": "selfie"}, final=False)
        await expect(page.locator(".line.pale .text")).to_have_text("selfie")
        made_up = {"text": "Thanks for watching!", "possible_hallucination": True}
        await show(page, 1, {"text": text, "word_timestamps": stamps}, made_up, final=True)
        await expect(line).to_have_text(text)
        assert await page.locator(".line .doubtful").all_inner_texts() == ["is", "be,"]
        assert await page.locator(".line b").count() == 0
        # An utterance that was nothing else is taken back.
        await show(page, 2, {"text": "Thanks"}, final=False)
        await expect(line).to_have_count(2)
        await show(page, 2, made_up, final=True)
        await expect(line).to_have_count(1)
        await show(page, 3, {"text": "a"}, final=False)
        await show(page, 3, final=True)
        await expect(line).to_have_count(1)


async def test_the_words_follow_unless_scrolled_up_and_stay_bounded(
    need_tool: Callable[[str], str],
) -> None:
    async with (
        serving() as url,
        chromium(need_tool("chromium")) as browser,
        visiting(browser, url, height=500) as page,
    ):
        lines = page.locator(".line")

        async def say(first: int, last: int) -> None:
            for number in range(first, last):
                await show(page, number, {"text": f"Sentence {number}."}, final=True)
            await expect(lines.last).to_contain_text(f"Sentence {last - 1}.")

        await say(0, 30)
        await expect(lines.last).to_be_in_viewport()
        await page.locator("#words").evaluate("element => element.scrollTo(0, 0)")
        jump = page.get_by_role("button", name="Jump to the latest")
        await expect(jump).to_be_visible()
        await say(30, 32)
        await expect(lines.last).not_to_be_in_viewport()
        await jump.click()
        await expect(lines.last).to_be_in_viewport()
        await expect(jump).to_be_hidden()
        await say(32, 1010)
        assert await lines.count() == 1000
        assert await page.locator("#announcer > p").count() <= 8


@pytest.mark.parametrize("from_hz", [8_000, 16_000, 44_100, 48_000, 96_000])
async def test_any_microphones_rate_becomes_16_khz_without_aliases(
    from_hz: int, need_tool: Callable[[str], str]
) -> None:
    async with (
        serving() as url,
        chromium(need_tool("chromium")) as browser,
        visiting(browser, url) as page,
    ):
        for hertz in (100, 1_000, 3_200):
            heard = await page.evaluate(RESAMPLE, [from_hz, 16_000, hertz, 0.5])
            assert abs(heard["length"] - 8_000) <= 60
            assert heard["error"] < -50, heard
        if from_hz > 16_000:
            assert (await page.evaluate(RESAMPLE, [from_hz, 16_000, 6_500, 0.5]))["error"] < -40
            for hertz in (8_500, 11_000, 15_500):  # would fold back into speech
                heard = await page.evaluate(RESAMPLE, [from_hz, 16_000, hertz, 0.5])
                assert heard["power"] < -50, heard


async def test_everything_works_with_the_keyboard(
    need_tool: Callable[[str], str], tmp_path: Path
) -> None:
    mic = speaking(tmp_path / "mic.wav", "librivox-0880")
    async with (
        serving() as url,
        chromium(need_tool("chromium"), microphone=mic) as browser,
        visiting(browser, url) as page,
    ):
        await expect(page.locator("#model-line")).to_have_text("Whisper tiny.en")
        focused = "document.activeElement.id || document.activeElement.textContent.trim()"
        order = []
        for _ in range(14):
            await page.keyboard.press("Tab")
            order.append(await page.evaluate(focused))
        assert order[:4] == ["Skip to the words", "go-try", "go-code", "words"]
        assert order[-3:] == ["listen", "file", "microphone"]
        await page.locator("#listen").focus()
        await page.keyboard.press("Enter")
        await expect(page.locator("#state")).to_have_text("Listening")
        await expect(page.locator("#listen")).to_be_focused()
        await page.keyboard.press("Space")
        await expect(page.locator("#state")).to_have_text("Not listening")


async def test_everything_has_a_name_for_screen_readers(
    need_tool: Callable[[str], str], tmp_path: Path
) -> None:
    mic = speaking(tmp_path / "mic.wav", "librivox-0880")
    async with (
        serving() as url,
        chromium(need_tool("chromium"), microphone=mic) as browser,
        visiting(browser, url) as page,
    ):
        await listen(page)
        await expect(page.locator(".line:not(.pale)")).not_to_have_count(0)
        snapshot = await page.locator("body").aria_snapshot()
        for line in (
            '- heading "talkpath" [level=1]',
            "- status: Listening",
            '- navigation "Views"',
            '- region "Words"',
            '- group "Transcript"',
            '- complementary "Response times and settings"',
            '- form "Settings"',
            '- combobox "Language"',
            '- checkbox "Words while they are spoken" [checked]',
            '- spinbutton "A pause ends it after ms": "300"',
            '- button "Stop"',
            '- combobox "Microphone"',
        ):
            assert line in snapshot, snapshot
        await stop(page)
        for view in ("#try", "#code"):
            await page.evaluate("view => { location.hash = view; }", view)
            nameless = await page.evaluate(
                """() => [...document.querySelectorAll("button, select, svg, [role], input")]
                    .filter((one) => one.checkVisibility() && !one.textContent.trim()
                        && !one.ariaLabel && !one.ariaHidden && !one.labels?.length
                        && !one.closest(".unseen")).map((one) => one.outerHTML)"""
            )
            assert nameless == []
        assert await page.evaluate("document.documentElement.lang") == "en"


async def test_text_has_enough_contrast(need_tool: Callable[[str], str], tmp_path: Path) -> None:
    mic = talking(tmp_path / "mic.wav")
    async with (
        serving({"serve.api_keys": ("secret",)}) as url,
        chromium(need_tool("chromium"), microphone=mic) as browser,
        visiting(browser, url, complaints=(NOT_LET_IN,)) as page,
    ):

        async def too_pale() -> list[str]:
            texts: list[str] = []
            schemes: tuple[Literal["light", "dark"], ...] = ("light", "dark")
            for scheme in schemes:
                await page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
                texts += [f"{scheme}: {text}" for text in await page.evaluate(CONTRAST)]
            return texts

        await page.locator("#key").fill("wrong")
        await page.keyboard.press("Enter")
        await expect(page.locator("#key-form")).to_have_attribute("data-wrong", "true")
        assert await too_pale() == []
        await page.locator("#key").fill("secret")
        await page.keyboard.press("Enter")
        await expect(page.locator("#key-form")).to_be_hidden()
        assert await too_pale() == []
        await listen(page)
        await while_speaking(page)
        assert await too_pale() == []
        await stop(page)
        assert await too_pale() == []
        await page.get_by_role("link", name="Code", exact=True).click()
        await expect(page.locator("#example-code .comment").first).to_be_visible()
        assert await too_pale() == []


async def test_a_phone_shows_everything_without_scrolling_sideways(
    need_tool: Callable[[str], str],
) -> None:
    async with (
        serving() as url,
        chromium(need_tool("chromium")) as browser,
        visiting(browser, url, width=360, height=640) as page,
    ):
        wide = "document.documentElement.scrollWidth"
        assert await page.evaluate(wide) == 360
        await show(page, 1, {"text": "a" * 120 + " " + "words " * 60}, final=True)
        await expect(page.locator(".line")).to_be_visible()
        await page.evaluate("document.getElementById('tools').hidden = false")
        assert await page.evaluate(wide) == 360
        toggle = page.get_by_role("button", name="Settings")
        await toggle.click()
        await expect(toggle).to_have_attribute("aria-expanded", "true")
        await expect(page.get_by_label("Suppress noise")).to_be_visible()
        assert await page.evaluate(wide) == 360
        await page.keyboard.press("Escape")
        await expect(page.get_by_label("Suppress noise")).to_be_hidden()
        await expect(toggle).to_be_focused()
        for name in ("Listen", "Open a recording"):
            box = await page.locator("footer").get_by_text(name).bounding_box()
            assert box and box["x"] >= 0 and box["x"] + box["width"] <= 360
        await page.get_by_role("link", name="Code", exact=True).click()
        await page.get_by_role("tab", name="OpenAI Realtime").click()
        await expect(page.locator("#example-code")).to_contain_text("AsyncOpenAI")
        assert await page.evaluate(wide) == 360


async def test_motion_is_left_out_for_those_who_ask(need_tool: Callable[[str], str]) -> None:
    async with (
        serving() as url,
        chromium(need_tool("chromium")) as browser,
        visiting(browser, url, reduced_motion="reduce") as page,
    ):
        moving = await page.evaluate(
            """() => [...document.querySelectorAll("*")].filter((one) => {
                const style = getComputedStyle(one);
                return style.animationName !== "none" || style.transitionDuration !== "0s";
            }).length"""
        )
        assert moving == 0


async def test_a_multilingual_model_offers_languages_by_their_names(
    need_tool: Callable[[str], str],
) -> None:
    async with (
        serving() as url,
        chromium(need_tool("chromium")) as browser,
        visiting(browser, url) as page,
    ):
        models = json.dumps({"data": [{"id": "base"}]})
        await page.route("**/v1/models", lambda route: route.fulfill(body=models))
        await page.reload()
        await expect(page.locator("#model-line")).to_have_text("Whisper base")
        names = await page.locator("#language option").all_inner_texts()
        assert names[0] == "Detect it"
        some = ["Cantonese", "English", "German", "Hawaiian", "Japanese", "Māori", "Marathi"]
        assert [name for name in names if name in some] == some
        assert not [name for name in names if len(name) < 3]
        await page.get_by_label("Language").select_option("German")
        await page.reload()
        await expect(page.get_by_label("Language")).to_have_value("de")
