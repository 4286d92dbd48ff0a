"""What the page says when something is wrong, and the way back from there."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.async_api import Page

from tests.agent.server.page import Cable, listen, speaking, stop, talking, visiting, while_speaking
from tests.agent.server.serving import serving, the_service
from tests.browser import chromium, eventually, expect, microphone_wav

KEYS = {"serve.api_keys": ("secret", "another")}
NOT_LET_IN = "status of 401"  # Chromium's own line about such an answer
NO_SOCKET = "WebSocket connection to"  # and about a socket that does not open


async def use_key(page: Page, key: str) -> None:
    await page.locator("#key").fill(key)
    await page.get_by_role("button", name="Use it").click()


async def test_a_key_that_is_missing_or_wrong_is_told_and_a_right_one_lasts_with_the_tab(
    need_tool: Callable[[str], str], tmp_path: Path
) -> None:
    mic = speaking(tmp_path / "mic.wav", "librivox-0880")
    async with (
        serving(KEYS) as url,
        chromium(need_tool("chromium"), microphone=mic) as browser,
        visiting(browser, url, complaints=(NOT_LET_IN,)) as page,
    ):
        label = page.locator("#key-label")
        await expect(label).to_have_text("This server wants a key.")
        await expect(page.locator("#key")).to_be_focused()
        await use_key(page, "wrong")
        await expect(label).to_have_text("The server does not know this key.")
        # Nor does it get to the microphone with it.
        await page.get_by_role("button", name="Listen", exact=True).click()
        await expect(label).to_have_text("The server does not know this key.")
        await expect(page.locator("#state")).to_have_text("Not listening")
        # With the right one it goes on where it stopped.
        await use_key(page, "secret")
        await expect(page.locator("#state")).to_have_text("Listening")
        await expect(page.locator("#key-form")).to_be_hidden()
        await expect(page.locator(".line:not(.pale)")).not_to_have_count(0)
        await stop(page)

        await page.reload()
        change = page.get_by_role("button", name="Change the key")
        await change.click()
        await expect(page.get_by_label("Another key")).to_be_focused()
        await change.click()
        await expect(page.locator("#key-form")).to_be_hidden()
        assert "secret" not in await page.evaluate("location.href + JSON.stringify(localStorage)")
        other = await page.context.new_page()
        await other.goto(url)
        await expect(other.locator("#key-label")).to_have_text("This server wants a key.")


async def test_a_key_that_cannot_be_sent_is_told(
    need_tool: Callable[[str], str], tmp_path: Path
) -> None:
    mic = speaking(tmp_path / "mic.wav", "librivox-0880")
    async with (
        serving({"serve.api_keys": ("a,b",)}) as url,
        chromium(need_tool("chromium"), microphone=mic) as browser,
        visiting(browser, url, complaints=(NOT_LET_IN,)) as page,
    ):
        await use_key(page, "Schlüssel \N{KEY}")
        await expect(page.locator("#key-label")).to_have_text("The server does not know this key.")
        # It may be right, and yet no browser sends it with a WebSocket.
        await use_key(page, "a,b")
        await page.get_by_role("button", name="Listen", exact=True).click()
        await expect(page.get_by_role("alert")).to_contain_text("with such characters")


async def test_a_full_server_is_told_and_there_is_a_way_back(
    need_tool: Callable[[str], str], tmp_path: Path
) -> None:
    mic = speaking(tmp_path / "mic.wav", "librivox-0880")
    async with (
        the_service({"whisper.max_streams": 1}) as service,
        serving(service) as url,
        chromium(need_tool("chromium"), microphone=mic) as browser,
        visiting(browser, url) as first,
        visiting(browser, url) as second,
    ):
        await listen(first)
        await second.get_by_role("button", name="Listen", exact=True).click()
        alert = second.get_by_role("alert")
        await expect(alert).to_contain_text("1 streams of this server are in use; try later.")
        await expect(second.locator("#state")).to_have_text("Not listening")
        await stop(first)
        await eventually(lambda: service.admission.streams == 0, "a place")
        await alert.get_by_role("button", name="Listen again").click()
        await expect(second.locator("#state")).to_have_text("Listening")
        await expect(alert).to_be_hidden()
        await stop(second)


async def test_a_setting_that_the_server_refuses_is_told_in_its_words(
    need_tool: Callable[[str], str], tmp_path: Path
) -> None:
    mic = speaking(tmp_path / "mic.wav", "librivox-0880")
    async with (
        serving() as url,
        chromium(need_tool("chromium"), microphone=mic) as browser,
        visiting(browser, url) as page,
    ):
        await expect(page.locator("#language")).to_have_value("en")
        await page.evaluate("document.getElementById('language').append(new Option('xx', 'xx'))")
        # The page asks for the model again and would put this right.
        await page.route("**/v1/models", lambda route: route.fulfill(json={}))
        await page.evaluate(
            """() => {
                const select = document.getElementById("language");
                select.replaceChildren = () => {};
                select.value = "xx";
            }"""
        )
        await page.get_by_role("button", name="Listen", exact=True).click()
        await expect(page.get_by_role("alert")).to_contain_text(
            "audio_language is 'xx'; the model does not know that language."
        )


async def test_a_refused_microphone_is_a_sentence_and_a_way_back(
    need_tool: Callable[[str], str], tmp_path: Path
) -> None:
    tone = microphone_wav(tmp_path / "tone.wav")
    async with (
        serving() as url,
        chromium(need_tool("chromium"), microphone=tone, allow=False) as browser,
        visiting(browser, url) as page,
    ):
        await page.get_by_role("button", name="Listen", exact=True).click()
        await expect(page.get_by_role("alert")).to_contain_text("The microphone is blocked.")
        await expect(page.locator("#state")).to_have_text("Not listening")
        await page.context.grant_permissions(["microphone"], origin=url)
        await page.get_by_role("button", name="Try again").click()
        await expect(page.locator("#state")).to_have_text("Listening")
        await expect(page.get_by_role("alert")).to_be_hidden()
        await stop(page)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("NotFoundError", "No microphone was found."),
        ("NotReadableError", "another program may be using it"),
    ],
)
async def test_a_microphone_that_does_not_open_is_a_sentence(
    need_tool: Callable[[str], str], name: str, sentence: str
) -> None:
    async with (
        serving() as url,
        chromium(need_tool("chromium")) as browser,
        visiting(browser, url) as page,
    ):
        # No flag of Chromium's makes its fake device fail.
        await page.evaluate(
            "name => { navigator.mediaDevices.getUserMedia = async () => {"
            " throw new DOMException('', name); }; }",
            name,
        )
        await page.get_by_role("button", name="Listen", exact=True).click()
        await expect(page.get_by_role("alert")).to_contain_text(sentence)


async def test_an_unplugged_microphone_is_told_and_what_it_heard_is_kept(
    need_tool: Callable[[str], str], tmp_path: Path
) -> None:
    mic = talking(tmp_path / "mic.wav")
    async with (
        serving() as url,
        chromium(need_tool("chromium"), microphone=mic) as browser,
        visiting(browser, url) as page,
    ):
        await page.evaluate(
            """() => {
                const media = navigator.mediaDevices;
                const original = media.getUserMedia.bind(media);
                media.getUserMedia = async (wanted) => {
                    const stream = await original(wanted);
                    window.track = stream.getAudioTracks()[0];
                    return stream;
                };
            }"""
        )
        await listen(page)
        await while_speaking(page)
        # What the browser does when a device goes; Chromium's fake one never does.
        await page.evaluate("window.track.stop(); window.track.dispatchEvent(new Event('ended'))")
        await expect(page.get_by_role("alert")).to_contain_text("The microphone was unplugged.")
        await expect(page.locator("#state")).to_have_text("Not listening")
        await expect(page.locator(".line:not(.pale)")).not_to_have_count(0)
        await page.get_by_role("button", name="Use another one").click()
        await expect(page.locator("#state")).to_have_text("Listening")
        await stop(page)


async def test_a_page_without_https_says_why_there_is_no_microphone(
    need_tool: Callable[[str], str],
) -> None:
    everywhere = {"serve.host": "0.0.0.0", "serve.insecure_no_auth": True}
    async with (
        serving(everywhere) as url,
        chromium(need_tool("chromium")) as browser,
        visiting(browser, url) as page,
    ):
        assert not await page.evaluate("isSecureContext")
        await page.get_by_role("button", name="Listen", exact=True).click()
        await expect(page.get_by_role("alert")).to_contain_text("only to secure pages")
        await expect(page.locator("#state")).to_have_text("Not listening")


async def test_a_lost_connection_is_told_and_the_words_stay(
    need_tool: Callable[[str], str], tmp_path: Path
) -> None:
    mic = talking(tmp_path / "mic.wav")
    async with (
        serving() as url,
        Cable(url) as cable,
        chromium(need_tool("chromium"), microphone=mic) as browser,
        visiting(browser, cable.url, complaints=("ERR_CONNECTION_REFUSED",)) as page,
    ):
        await listen(page)
        await while_speaking(page)
        cable.pull()
        await expect(page.locator("#state")).to_have_text("Connection lost")
        alert = page.get_by_role("alert")
        await expect(alert).to_contain_text("The connection was lost. The server does not answer.")
        await expect(page.locator(".line")).not_to_have_count(0)
        await alert.get_by_role("button", name="Listen again").click()
        await expect(alert).to_have_text(re.compile("^\\s*The server does not answer."))
        await expect(page.locator("#state")).to_have_text("Not listening")
        await page.get_by_role("link", name="Code", exact=True).click()
        await page.get_by_role("tab", name="Together").click()
        await expect(alert).to_contain_text("The server does not answer.")


async def test_a_connection_that_broke_without_a_word_is_found_out(
    need_tool: Callable[[str], str], tmp_path: Path
) -> None:
    mic = speaking(tmp_path / "mic.wav", "librivox-0880")
    async with (
        serving() as url,
        Cable(url) as cable,
        chromium(need_tool("chromium"), microphone=mic) as browser,
        visiting(browser, cable.url) as page,
    ):
        answers: list[str | bytes] = []
        page.on(
            "websocket",
            lambda socket: socket.on("framereceived", lambda data: answers.append(data)),
        )
        await page.clock.install()
        await page.reload()
        await listen(page)
        await expect(page.locator(".line:not(.pale)")).not_to_have_count(0)
        # Silence alone is no loss: the server answers when it is asked.
        for _ in range(5):
            before = len(answers)
            await page.clock.fast_forward(6_000)
            await eventually(lambda: len(answers) > before, "an answer")  # noqa: B023
        await expect(page.locator("#state")).to_have_text("Listening")
        cable.cut()
        await page.clock.fast_forward(21_000)
        await expect(page.get_by_role("alert")).to_contain_text("does not answer any more")
        await expect(page.locator("#state")).to_have_text("Connection lost")


async def test_sound_that_the_network_does_not_take_is_not_piled_up(
    need_tool: Callable[[str], str], tmp_path: Path
) -> None:
    mic = speaking(tmp_path / "mic.wav", "librivox-0880")
    async with (
        serving() as url,
        chromium(need_tool("chromium"), microphone=mic) as browser,
        visiting(browser, url) as page,
    ):
        await listen(page)
        # No network between two programs of one machine is slow enough.
        await page.evaluate(
            "Object.defineProperty(WebSocket.prototype, 'bufferedAmount', { value: 1e6 })"
        )
        await expect(page.get_by_role("alert")).to_contain_text("too slow for live speech")
        await expect(page.locator("#state")).to_have_text("Not listening")


async def test_a_server_that_is_about_to_stop_says_so_and_brings_the_last_words(
    need_tool: Callable[[str], str], tmp_path: Path
) -> None:
    mic = talking(tmp_path / "mic.wav")
    async with (
        chromium(need_tool("chromium"), microphone=mic) as browser,
        the_service({"serve.drain_s": 0.0}) as service,
    ):
        async with serving(service) as url:
            visit = visiting(browser, url)
            page = await visit.__aenter__()
            await listen(page)
            await while_speaking(page)
        await expect(page.get_by_role("alert")).to_contain_text("stop")
        await expect(page.locator(".line:not(.pale)")).not_to_have_count(0)
        await expect(page.locator("#state")).to_have_text("Not listening")
        await visit.__aexit__(None, None, None)
