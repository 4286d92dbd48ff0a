"""The page, in a real browser, with a real bot behind it."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from pipecat.frames.frames import (
    ErrorFrame,
    InterimTranscriptionFrame,
    TranscriptionFrame,
    UserStartedSpeakingFrame,
    UserStoppedSpeakingFrame,
)
from playwright.async_api import Browser, Locator, Page

from tests.browser import (
    CONTRAST,
    WAIT_MS,
    chromium,
    eventually,
    expect,
    microphone_wav,
    watched,
)
from tests.transports.stage import Ears, Scene, StageBot, served

SERVER = """
import asyncio
import sys
from functools import partial
from pathlib import Path
sys.path.insert(0, {root!r})
from talkpath.agent.config import Config, ServerConfig
from talkpath.transports.server import serve
from tests.transports.stage import StageBot
asyncio.run(serve(StageBot(), Config(server=ServerConfig(port={port}))))
"""


# Nothing comes in any more, as far as the page can see, and time flies: seven seconds a look.
DEAF = """() => {
    const getStats = RTCPeerConnection.prototype.getStats;
    const now = performance.now.bind(performance);
    let ahead = 0;
    performance.now = () => now() + ahead;
    RTCPeerConnection.prototype.getStats = async () => {
        ahead += 7000;
        return new Map();
    };
    window.hearAgain = () => { RTCPeerConnection.prototype.getStats = getStats; };
}"""


# One browser for all: what a visit leaves behind is gone with its context.
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser(
    need_tool: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Browser]:
    tone = microphone_wav(tmp_path_factory.mktemp("microphone") / "tone.wav")
    async with chromium(need_tool("chromium"), microphone=tone) as started:
        yield started


@contextlib.asynccontextmanager
async def visiting(
    browser: Browser, url: str, *, width: int = 1280, height: int = 800, **options: Any
) -> AsyncIterator[Page]:
    """Open the page; at the end there was no stranger and no complaint."""
    context = await browser.new_context(viewport={"width": width, "height": height}, **options)
    page = await context.new_page()
    page.set_default_timeout(WAIT_MS)
    watch = watched(page, url)
    await page.goto(url)
    yield page
    await context.close()
    assert watch.strangers == []
    assert watch.complaints == []


async def connect(page: Page, bot: StageBot) -> Scene:
    await page.get_by_role("button", name="Connect", exact=True).click()
    scene = await bot.scene()
    await expect(page.get_by_role("status")).to_have_text("Connected")
    return scene


def hears(ears: Ears) -> bool:
    return ears.loudest > 0.1


async def loud(page: Page, who: str) -> bool:
    meter = page.locator(f"#meter-{who}")
    level = await meter.evaluate("meter => meter.style.getPropertyValue('--level')")
    return float(level or 0) > 0.5


def texts(page: Page, who: str, kind: str) -> Locator:
    return page.locator(f".entry.{who} .{kind}")


async def test_a_call_from_connect_to_disconnect_and_again(browser: Browser) -> None:
    bot = StageBot()
    async with served(bot) as url, visiting(browser, url) as page:
        await expect(page.get_by_role("status")).to_have_text("Not connected")
        await expect(page.get_by_role("button", name="Mute")).to_be_disabled()
        for _ in range(2):
            scene = await connect(page, bot)
            await eventually(partial(hears, scene.ears), "sound at the bot")
            await scene.speak(60)
            for who in ("you", "bot"):
                await eventually(partial(loud, page, who), f"the level of {who}")
            await expect(page.locator("#note-bot")).to_have_text("speaking")
            await scene.interrupt()
            await expect(page.locator("#note-bot")).to_have_text("silent")
            await page.get_by_role("button", name="Disconnect").click()
            await expect(page.get_by_role("status")).to_have_text("Not connected")
            # The server knows at once, not only when nothing has come for a while.
            await eventually(lambda: bot.open == 0, "the end of the session")


async def test_the_browser_is_asked_to_clean_the_sound(browser: Browser) -> None:
    async with served(bot := StageBot()) as url, visiting(browser, url) as page:
        await page.evaluate(
            """() => {
                const media = navigator.mediaDevices;
                const original = media.getUserMedia.bind(media);
                media.getUserMedia = (wanted) => original(window.wanted = wanted);
            }"""
        )
        await connect(page, bot)
        assert await page.evaluate("window.wanted") == {
            "audio": {"echoCancellation": True, "noiseSuppression": True, "autoGainControl": True}
        }


async def test_captions_are_solid_where_they_stand_and_pale_where_they_may_change(
    browser: Browser,
) -> None:
    async with served(bot := StageBot()) as url, visiting(browser, url) as page:
        scene = await connect(page, bot)
        firm, pale = texts(page, "you", "firm"), texts(page, "you", "pale")
        announced = page.get_by_role("log", name="Final captions")

        await scene.caption(1, "", "the quack brown")
        await expect(pale).to_have_text("the quack brown")
        await expect(page.locator("#note-you")).to_have_text("speaking")
        await scene.caption(1, "the quick", " brown fax")
        await expect(firm).to_have_text("the quick")
        await expect(pale).to_have_text(" brown fax")
        await expect(announced).to_be_empty()
        colours = [
            await part.evaluate("element => getComputedStyle(element).color")
            for part in (firm, pale)
        ]
        assert colours[0] != colours[1]

        await scene.caption(1, "The quick brown fox.", final=True)
        await expect(firm).to_have_text("The quick brown fox.")
        await expect(pale).to_be_empty()
        await expect(announced).to_have_text("You: The quick brown fox.")
        await expect(page.locator("#note-you")).to_have_text("silent")

        await scene.caption(2, "noise", "")
        await scene.caption(2, "", final=True)  # there were no words after all
        await scene.caption(3, "It jumps.", final=True)
        await expect(page.locator(".entry.you .text")).to_have_text(
            "The quick brown fox. It jumps."
        )
        await expect(page.locator(".entry.you .firm").first).to_have_attribute("class", "firm")
        assert await page.locator(".part").first.get_attribute("lang") == "en"


async def test_captions_are_saved_as_files_during_the_call_and_after_it(browser: Browser) -> None:
    async def saved(page: Page, format: str) -> str:
        await page.get_by_label("Format of the captions").select_option(format)
        async with page.expect_download() as download:
            await page.get_by_role("button", name="Save captions").click()
        file = await download.value
        assert file.suggested_filename.endswith(f".{format}")
        return await asyncio.to_thread(Path(await file.path()).read_text, "utf-8")

    async def said(scene: Scene, utterance: int, start_ms: int, *lines: str) -> None:
        cue = {"start_ms": start_ms, "end_ms": start_ms + 1500, "lines": lines}
        segment = {"start_s": start_ms / 1000, "end_s": start_ms / 1000 + 1.5, "words": []}
        segment["text"] = " ".join(lines)
        await scene.caption(utterance, " ".join(lines), final=True)
        await scene.message(
            {
                "type": "cues",
                "utterance": utterance,
                "language": "en",
                "segments": [segment],
                "cues": [cue],
            }
        )

    async with (
        served(bot := StageBot()) as url,
        visiting(browser, url, width=360, height=640) as page,
    ):
        scene = await connect(page, bot)
        save = page.get_by_role("button", name="Save captions")
        await expect(save).to_be_hidden()
        await said(scene, 1, 0, "Salt & pepper,", "if a < b.")
        await said(scene, 2, 3_661_020, "Please.")
        await expect(save).to_be_visible()
        assert await page.evaluate("document.documentElement.scrollWidth") == 360
        assert await saved(page, "txt") == "Salt & pepper, if a < b. Please.\n"
        await scene.frames(UserStartedSpeakingFrame(), UserStoppedSpeakingFrame())
        await expect(page.locator("#note-you")).to_have_text("silent")
        await said(scene, 3, 3_700_000, "Thank you.")
        await expect(page.locator(".entry.you").last).to_contain_text("Thank you.")
        await page.get_by_role("button", name="Disconnect").click()
        await expect(page.get_by_role("status")).to_have_text("Not connected")

        assert await saved(page, "txt") == "Salt & pepper, if a < b. Please.\nThank you.\n"
        assert await saved(page, "srt") == (
            "1\n00:00:00,000 --> 00:00:01,500\nSalt & pepper,\nif a < b.\n\n"
            "2\n01:01:01,020 --> 01:01:02,520\nPlease.\n\n"
            "3\n01:01:40,000 --> 01:01:41,500\nThank you.\n"
        )
        assert (await saved(page, "vtt")).startswith(
            "WEBVTT\n\n00:00:00.000 --> 00:00:01.500\nSalt &amp; pepper,\nif a &lt; b.\n\n"
        )
        segments = json.loads(await saved(page, "json"))["segments"]
        assert [(one["turn"], one["text"]) for one in segments] == [
            (1, "Salt & pepper, if a < b."),
            (1, "Please."),
            (2, "Thank you."),
        ]
        await connect(page, bot)  # the next call has captions of its own
        await expect(save).to_be_hidden()


async def test_a_translation_says_which_language_it_was(browser: Browser) -> None:
    async with served(bot := StageBot()) as url, visiting(browser, url) as page:
        scene = await connect(page, bot)
        caption = {"type": "caption", "utterance": 1, "rest": "", "final": True, "language": "en"}
        await scene.message({**caption, "stable": "Good morning.", "spoken": "de"})
        await expect(page.locator(".entry.you .who")).to_contain_text("German")
        assert await page.locator(".part").first.get_attribute("lang") == "en"


async def test_without_captions_transcripts_are_shown_and_with_them_not_twice(
    browser: Browser,
) -> None:
    async with served(bot := StageBot()) as url, visiting(browser, url) as page:
        scene = await connect(page, bot)
        line = page.locator(".entry.you .text")
        await scene.frames(InterimTranscriptionFrame("hello wor", "", "0"))
        await expect(texts(page, "you", "pale")).to_have_text("hello wor")
        await scene.frames(TranscriptionFrame("Hello world.", "", "0"))
        await expect(texts(page, "you", "firm")).to_have_text("Hello world.")
        await scene.caption(1, "Hello world.", final=True)
        await scene.frames(TranscriptionFrame("Hello again.", "", "0"))
        await scene.caption(2, "Hello again.", final=True)
        await expect(line).to_have_text("Hello world. Hello again.")
        await scene.frames(UserStoppedSpeakingFrame())
        await scene.caption(3, "Another turn.", final=True)
        await expect(line.nth(1)).to_have_text("Another turn.")


async def test_the_bots_words_turn_solid_as_it_speaks_and_stop_when_it_is_interrupted(
    browser: Browser,
) -> None:
    async with served(bot := StageBot()) as url, visiting(browser, url) as page:
        scene = await connect(page, bot)
        announced = page.get_by_role("log", name="Final captions")
        first = await scene.sentence("All is well.")
        await scene.speak(4)
        await expect(texts(page, "bot", "pale")).to_have_text("All is well.")
        await scene.spoken(first, "All is", " well.")
        await expect(texts(page, "bot", "firm")).to_have_text("All is")
        await scene.spoken(first, "All is well.")
        await expect(texts(page, "bot", "firm")).to_have_text("All is well.")
        await expect(announced).to_have_text("Bot: All is well.")

        await scene.frames(UserStartedSpeakingFrame())
        await expect(page.locator("#note-you")).to_have_text("speaking")
        await scene.caption(1, "Tell me more.", final=True)
        await scene.frames(UserStoppedSpeakingFrame())
        await expect(page.locator("#note-you")).to_have_text("silent")

        second = await scene.sentence("There once was a very long story.")
        await scene.speak(20)
        await expect(texts(page, "bot", "pale").nth(1)).to_have_text(
            "There once was a very long story."
        )
        await scene.spoken(second, "There once", " was a very long story.")
        await expect(texts(page, "bot", "firm").nth(1)).to_have_text("There once")
        await scene.interrupt()
        entry = page.locator(".entry.bot").nth(1)
        await expect(entry.locator("s")).to_have_text("was a very long story.")
        await expect(entry.locator(".note")).to_have_text("interrupted")
        await expect(announced).to_contain_text("Bot, interrupted: There once")
        await expect(page.locator("#note-bot")).to_have_text("silent")
        # What was said before stays as it is.
        await expect(page.locator(".entry.bot").first.locator("s")).to_have_count(0)


async def test_the_rest_of_a_broken_off_reply_goes_when_the_next_is_spoken(
    browser: Browser,
) -> None:
    async with served(bot := StageBot()) as url, visiting(browser, url) as page:
        scene = await connect(page, bot)
        await scene.sentence("I am glad I")
        following = await scene.sentence("You are welcome.")
        await scene.speak(20)
        await expect(texts(page, "bot", "pale")).to_have_text(["I am glad I", "You are welcome."])
        await scene.spoken(following, "You are", " welcome.")
        await expect(page.locator(".entry.bot .text")).to_have_text("You are welcome.")


async def test_every_turns_latency_is_a_bar_of_its_parts_and_readable(browser: Browser) -> None:
    async with served(bot := StageBot()) as url, visiting(browser, url) as page:
        scene = await connect(page, bot)
        await scene.latency(1, stop=200, final=100, turn=50, first_token=250)
        await scene.latency(2, stop=200, final=50, something_new=50)
        turns = page.locator("#turns li")
        await expect(turns).to_have_count(2)
        await expect(turns.first).to_contain_text("Turn 2")
        await expect(turns.first).to_contain_text("300 ms")
        await expect(turns.first.locator(".unseen")).to_have_text(
            "Noticing the pause: 200 ms, Transcript: 50 ms, something-new: 50 ms"
        )
        await expect(page.locator(".latest")).to_have_text("300 ms")
        await expect(page.locator("#latest-note")).to_have_text(
            "latest turn; 450 ms is the median of 2"
        )
        await expect(page.locator("#legend")).to_contain_text("Transcript50 ms")
        widths = [
            await turns.nth(number).locator(".bar").evaluate("bar => bar.style.width")
            for number in range(2)
        ]
        assert widths == ["50%", "100%"]
        parts = turns.nth(1).locator(".piece")
        boxes = [await part.bounding_box() for part in await parts.all()]
        assert len(boxes) == 4
        assert boxes[0] and boxes[1] and boxes[3]
        assert boxes[3]["width"] > boxes[0]["width"] > boxes[1]["width"]


async def test_mute_by_key_and_button_silences_the_microphone(browser: Browser) -> None:
    async with served(bot := StageBot()) as url, visiting(browser, url) as page:
        scene = await connect(page, bot)
        await eventually(lambda: scene.ears.loudest > 0.1, "sound at the bot")
        await page.keyboard.press("m")
        button = page.get_by_role("button", name="Unmute")
        await expect(button).to_have_attribute("aria-pressed", "true")
        await expect(page.locator("#note-you")).to_have_text("muted")

        async def quiet() -> bool:
            scene.ears.loudest, before_s = 0.0, scene.ears.heard_s
            await eventually(lambda: scene.ears.heard_s > before_s + 0.3, "more of it")
            return scene.ears.loudest < 0.001

        await eventually(quiet, "silence at the bot")
        await button.click()
        await eventually(lambda: scene.ears.loudest > 0.1, "sound again")


async def test_keys_of_the_page_and_of_the_keyboard_reach_the_bot(browser: Browser) -> None:
    async with served(bot := StageBot()) as url, visiting(browser, url) as page:
        toggle, pad = page.get_by_role("button", name="Keys"), page.get_by_label("Telephone keys")
        await expect(toggle).to_be_disabled()
        scene = await connect(page, bot)
        await toggle.click()
        for key in ("4", "0", "Star", "Hash"):
            await pad.get_by_role("button", name=key, exact=True).click()
        await page.keyboard.type("12#")
        await expect(pad.get_by_role("status")).to_have_text("40*#12#")
        await eventually(lambda: scene.ears.keys == "40*#12#", "the keys at the bot")
        await page.keyboard.press("Escape")
        await expect(pad).to_be_hidden()
        await expect(toggle).to_be_focused()
        await toggle.click()
        await page.get_by_role("button", name="Disconnect").click()
        await expect(pad).to_be_hidden()


async def test_the_call_works_with_the_keyboard_alone(browser: Browser) -> None:
    async with served(bot := StageBot()) as url, visiting(browser, url) as page:
        order = []
        for _ in range(4):
            await page.keyboard.press("Tab")
            order.append(await page.evaluate("document.activeElement.id || 'skip'"))
            outline = await page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
            assert outline == "solid", order
        assert order == ["skip", "conversation", "connect", "microphone"]
        await page.keyboard.press("Shift+Tab")
        await page.keyboard.press("Enter")
        await bot.scene()
        await expect(page.get_by_role("status")).to_have_text("Connected")
        await page.keyboard.press("Tab")
        assert await page.evaluate("document.activeElement.id") == "mute"
        await page.keyboard.press("Space")
        await expect(page.get_by_role("button", name="Unmute")).to_be_focused()
        await page.keyboard.press("Shift+Tab")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("status")).to_have_text("Not connected")


async def test_everything_has_a_name_for_screen_readers(browser: Browser) -> None:
    async with served(bot := StageBot()) as url, visiting(browser, url) as page:
        await connect(page, bot)
        snapshot = await page.locator("body").aria_snapshot()
        for line in (
            '- heading "talkpath" [level=1]',
            "- status: Connected",
            '- region "Conversation"',
            '- complementary "Response times"',
            '- button "Disconnect"',
            '- button "Mute"',
            '- combobox "Microphone"',
        ):
            assert line in snapshot, snapshot
        nameless = await page.evaluate(
            """() => [...document.querySelectorAll("button, select, svg, [role]")]
                .filter((one) => one.checkVisibility() && !one.textContent.trim()
                    && !one.ariaLabel && !one.ariaHidden).map((one) => one.outerHTML)"""
        )
        assert nameless == []
        assert await page.evaluate("document.documentElement.lang") == "en"


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_text_has_enough_contrast(browser: Browser, scheme: Any) -> None:
    async with served(bot := StageBot()) as url:
        async with visiting(browser, url, color_scheme=scheme) as page:
            scene = await connect(page, bot)
            await scene.caption(1, "settled", " and not", final=False)
            await scene.latency(1, stop=200, final=100)
            segment = await scene.sentence("spoken and not yet")
            await scene.speak(20)
            await scene.spoken(segment, "spoken", " and not yet")
            await scene.frames(ErrorFrame("Something is wrong."))
            await expect(page.get_by_role("alert")).to_be_visible()
            await expect(texts(page, "bot", "firm")).to_have_text("spoken")
            await expect(page.locator("#latest")).to_have_text("300")
            poor = await page.evaluate(CONTRAST)
            assert poor == []


async def test_a_phone_shows_everything_without_scrolling_sideways(browser: Browser) -> None:
    async with served(bot := StageBot()) as url:
        async with visiting(browser, url, width=360, height=640) as page:
            wide = "document.documentElement.scrollWidth"
            assert await page.evaluate(wide) == 360
            scene = await connect(page, bot)
            await scene.caption(1, "a" * 120 + " " + "words " * 60, final=True)
            await scene.latency(1, stop=200, final=100, turn=20, first_token=90, first_audio=80)
            await expect(page.locator(".entry.you")).to_be_visible()
            assert await page.evaluate(wide) == 360
            toggle = page.get_by_role("button", name="Response times")
            await toggle.click()
            await expect(toggle).to_have_attribute("aria-expanded", "true")
            await expect(page.locator("#turns")).to_be_visible()
            assert await page.evaluate(wide) == 360
            for name in ("Disconnect", "Mute"):
                box = await page.get_by_role("button", name=name).bounding_box()
                assert box and box["x"] >= 0 and box["x"] + box["width"] <= 360
                assert box["height"] >= 44


async def test_motion_is_left_out_for_those_who_ask(browser: Browser) -> None:
    async with served(StageBot()) as url:
        async with visiting(browser, url, reduced_motion="reduce") as page:
            moving = await page.evaluate(
                """() => [...document.querySelectorAll("*")].filter((one) => {
                    const style = getComputedStyle(one);
                    return style.animationName !== "none" || style.transitionDuration !== "0s";
                }).length"""
            )
            assert moving == 0


async def test_the_conversation_follows_unless_scrolled_up_and_stays_bounded(
    browser: Browser,
) -> None:
    async with served(bot := StageBot()) as url, visiting(browser, url, height=500) as page:
        scene = await connect(page, bot)
        entries = page.locator(".entry")

        async def say(first: int, last: int) -> None:
            for number in range(first, last):
                await scene.caption(number, f"Sentence {number}.", final=True)
                await scene.frames(UserStoppedSpeakingFrame())
            await expect(entries.last).to_contain_text(f"Sentence {last - 1}.")

        await say(0, 30)
        await expect(entries.last).to_be_in_viewport()
        await page.locator("#conversation").evaluate("element => element.scrollTo(0, 0)")
        jump = page.get_by_role("button", name="Jump to the latest")
        await expect(jump).to_be_visible()
        await say(30, 32)
        await expect(entries.last).not_to_be_in_viewport()
        await jump.click()
        await expect(entries.last).to_be_in_viewport()
        await expect(jump).to_be_hidden()
        for start in range(32, 512, 40):
            await say(start, start + 40)
        assert await entries.count() == 500
        assert await page.locator("#announcer > p").count() <= 8


async def test_a_refused_microphone_is_a_sentence_and_a_way_back(
    need_tool: Callable[[str], str], tmp_path: Path
) -> None:
    bot = StageBot()
    tone = microphone_wav(tmp_path / "tone.wav")
    async with (
        chromium(need_tool("chromium"), microphone=tone, allow=False) as browser,
        served(bot) as url,
        visiting(browser, url) as page,
    ):
        await page.get_by_role("button", name="Connect", exact=True).click()
        await expect(page.get_by_role("alert")).to_contain_text("The microphone is blocked.")
        await expect(page.get_by_role("status")).to_have_text("Not connected")
        assert bot.open == 0
        await page.context.grant_permissions(["microphone"], origin=url)
        await page.get_by_role("button", name="Try again").click()
        await bot.scene()
        await expect(page.get_by_role("status")).to_have_text("Connected")
        await expect(page.get_by_role("alert")).to_be_hidden()


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("NotFoundError", "No microphone was found."),
        ("NotReadableError", "another program may be using it"),
    ],
)
async def test_a_microphone_that_does_not_open_is_a_sentence(
    browser: Browser, name: str, sentence: str
) -> None:
    async with served(StageBot()) as url, visiting(browser, url) as page:
        # No flag of Chromium's makes its fake device fail.
        await page.evaluate(
            "name => navigator.mediaDevices.getUserMedia = async () => {"
            " throw new DOMException('', name); }",
            name,
        )
        await page.get_by_role("button", name="Connect", exact=True).click()
        await expect(page.get_by_role("alert")).to_contain_text(sentence)


async def test_another_microphone_can_be_chosen_in_the_call_and_is_remembered(
    browser: Browser,
) -> None:
    async with served(bot := StageBot()) as url, visiting(browser, url) as page:
        await connect(page, bot)
        choice = page.get_by_role("combobox", name="Microphone")
        names = await choice.locator("option").all_inner_texts()
        assert names[0] == "Default microphone"
        assert len(names) > 1
        await choice.select_option(index=1)
        await expect(page.get_by_role("status")).to_have_text("Connected")
        chosen = await choice.input_value()
        assert chosen
        await page.get_by_role("button", name="Disconnect").click()
        await page.reload()
        await expect(choice).to_have_value(chosen)


async def test_a_full_server_is_a_sentence_and_a_way_back(browser: Browser) -> None:
    bot = StageBot()
    async with served(bot, max_sessions=1) as url, visiting(browser, url) as first:
        await connect(first, bot)
        context = await browser.new_context()
        second = await context.new_page()
        await second.goto(url)
        await second.get_by_role("button", name="Connect", exact=True).click()
        await expect(second.get_by_role("alert")).to_contain_text("places on this server are taken")
        await first.get_by_role("button", name="Disconnect").click()
        await eventually(lambda: bot.open == 0, "the end of the first session")
        await second.get_by_role("button", name="Try again").click()
        await expect(second.get_by_role("status")).to_have_text("Connected")
        await context.close()


async def test_what_the_bot_reports_is_shown(browser: Browser) -> None:
    async with served(bot := StageBot()) as url, visiting(browser, url) as page:
        scene = await connect(page, bot)
        await scene.frames(ErrorFrame("The model is slow today."))
        await expect(page.get_by_role("alert")).to_contain_text("The model is slow today.")
        await page.get_by_role("button", name="Dismiss").click()
        await expect(page.get_by_role("alert")).to_be_hidden()
        await expect(page.get_by_role("status")).to_have_text("Connected")


async def test_a_bot_that_fails_and_one_that_hangs_up_say_so(browser: Browser) -> None:
    fails = asyncio.Event()
    stage = StageBot()

    async def bot(arguments: Any) -> None:
        if not fails.is_set():
            raise RuntimeError("a secret")
        await stage(arguments)

    async with served(bot) as url, visiting(browser, url) as page:
        await page.get_by_role("button", name="Connect", exact=True).click()
        alert = page.get_by_role("alert")
        await expect(alert).to_contain_text("The bot stopped because of an error.")
        await expect(page.get_by_role("status")).to_have_text("Not connected")
        fails.set()
        await page.get_by_role("button", name="Connect again").click()
        scene = await stage.scene()
        await expect(page.get_by_role("status")).to_have_text("Connected")
        await scene.message({"type": "transfer", "target": "billing"})
        await scene.worker.cancel()
        await expect(alert).to_contain_text("The bot ended the call: ")
        await expect(alert).to_contain_text("billing")
        await expect(alert.get_by_role("button")).to_have_count(0)  # nothing is wrong


async def test_a_killed_server_is_noticed_and_the_call_comes_back_with_it(
    need_tool: Callable[[str], str], tmp_path: Path, free_port: int
) -> None:
    script = tmp_path / "server.py"
    root = str(Path(__file__).parents[2])
    script.write_text(SERVER.format(root=root, port=free_port))

    async def start() -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(script),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=os.environ | {"PYTHONWARNINGS": ""},
        )
        assert process.stdout is not None
        async with asyncio.timeout(60):
            await process.stdout.readline()
        return process

    async def stop(process: asyncio.subprocess.Process) -> None:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGKILL)
        await process.communicate()

    server = await start()
    try:
        async with chromium(
            need_tool("chromium"), microphone=microphone_wav(tmp_path / "tone.wav")
        ) as browser:
            page = await browser.new_page()
            await page.goto(f"http://127.0.0.1:{free_port}")
            await page.get_by_role("button", name="Connect", exact=True).click()
            status = page.get_by_role("status")
            await expect(status).to_have_text("Connected")
            await stop(server)
            await expect(status).to_have_text("Connection lost", timeout=2 * WAIT_MS)
            await expect(page.get_by_role("alert")).to_contain_text(
                "The connection was lost. The server does not answer."
            )
            again = page.get_by_role("alert").get_by_role("button", name="Connect again")
            await again.click()
            await expect(page.get_by_role("alert")).to_contain_text("The server does not answer.")
            server = await start()
            await page.get_by_role("alert").get_by_role("button", name="Try again").click()
            await expect(status).to_have_text("Connected")
    finally:
        await stop(server)


async def test_a_connection_that_breaks_is_restarted_in_the_same_session(
    browser: Browser,
) -> None:
    bot = StageBot()
    async with served(bot) as url, visiting(browser, url) as page:
        scene = await connect(page, bot)
        await scene.caption(1, "Before.", final=True)
        scene.connected.clear()
        await page.evaluate(DEAF)
        await expect(page.get_by_role("status")).to_have_text("Reconnecting")
        await page.evaluate("hearAgain()")
        await expect(page.locator("#state")).to_have_text("Connected")
        await scene.connected.wait()
        await scene.caption(2, "After.", final=True)
        await expect(page.locator(".entry.you .text").last).to_contain_text("After.")
        assert bot.open == 1
