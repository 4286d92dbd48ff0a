"""The three bots, as a user starts them, called from a real browser with real speech."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np

from talkpath.agent.media import AudioFile
from talkpath.agent.whisper import WhisperEngine
from tests.browser import chromium, eventually, expect, microphone_wav
from tests.e2e.bots import calling, running
from tests.speech import clip, clips, read_wav, resample, silence, word_error_rate

LEAD_IN_S = 8.0  # the microphone starts before the call is up, and what is said then is lost
LONG_CLIP_S = 3.0


def microphone(path: Path, *pieces: np.ndarray) -> Path:
    return microphone_wav(path, resample(np.concatenate(pieces), 16_000, 48_000))


async def transcribed(recording: Path, model: Path) -> str:
    with AudioFile(recording) as file:
        audio = np.concatenate(list(file.blocks()))
    engine = await WhisperEngine.start(model)
    try:
        pieces = [audio[start : start + 28 * 16_000] for start in range(0, len(audio), 28 * 16_000)]
        return " ".join([(await engine.decode(piece)).text for piece in pieces])
    finally:
        engine.close()


async def test_captions_has_the_words_and_shows_them_while_they_are_spoken(
    need_tool: Callable[[str], str], tmp_path: Path
) -> None:
    said = clips()
    pieces = [silence(LEAD_IN_S)]
    for one in said:
        pieces += [read_wav(one.path), silence(1.5)]
    mic = microphone(tmp_path / "mic.wav", *pieces)
    async with (
        running("captions") as url,
        chromium(need_tool("chromium"), microphone=mic) as browser,
        calling(browser, url) as call,
    ):
        played_s = sum(len(piece) for piece in pieces) / 16_000
        await eventually(
            lambda: call.page.evaluate(f"performance.now() > {1000 * (played_s + 3)}"),
            "all is said",
            played_s + 30,
        )
        captions = await call.server_messages("caption")
        shown = await call.page.locator("#entries").inner_text()

    finals = [caption for caption in captions if caption["final"] and caption["stable"]]
    words = [final["stable"] for final in finals]
    assert word_error_rate([" ".join(one.text for one in said)], [" ".join(words)]) <= 0.12
    for final in finals:
        assert " ".join(final["stable"].split()) in " ".join(shown.split())
        before = [
            caption
            for caption in captions
            if caption["utterance"] == final["utterance"] and not caption["final"]
        ]
        assert all(later["stable"].startswith(it["stable"]) for it, later in pairwise(before))
    # Each long clip was read along: a partial came before the final that ends it.
    partials = [caption["at"] for caption in captions if not caption["final"]]
    for previous, final in pairwise([{"at": 0.0, "stable": ""}, *finals]):
        if len(final["stable"].split()) >= 8:  # as long as a clip of 3 s
            assert any(previous["at"] < at < final["at"] for at in partials)
    assert sum(one.duration_s > LONG_CLIP_S for one in said) >= 3


async def test_echo_says_the_words_that_were_spoken(
    need_tool: Callable[[str], str], model: Callable[[str], Path], tmp_path: Path
) -> None:
    said = clip("librivox-0880")
    mic = microphone(tmp_path / "mic.wav", silence(LEAD_IN_S), read_wav(said.path), silence(1.0))
    async with (
        running("echo") as url,
        chromium(need_tool("chromium"), microphone=mic) as browser,
        calling(browser, url) as call,
    ):
        await call.until(1, "bot-stopped-speaking")
        recording = await call.recording(tmp_path / "echo.webm")
        latency = await call.server_messages("turn-latency")
    assert word_error_rate([said.text], [await transcribed(recording, model("base"))]) <= 0.25
    assert latency[0]["parts"][0]["name"] == "stop"
    assert latency[0]["total_ms"] == sum(part["ms"] for part in latency[0]["parts"])


async def test_the_assistant_greets_answers_aloud_and_shows_what_it_says(
    need_tool: Callable[[str], str], model: Callable[[str], Path], tmp_path: Path
) -> None:
    mic = microphone(
        tmp_path / "mic.wav", silence(LEAD_IN_S), read_wav(clip("librivox-0880").path), silence(1.0)
    )
    async with (
        running("assistant") as url,
        chromium(need_tool("chromium"), microphone=mic) as browser,
        calling(browser, url) as call,
    ):
        await call.until(2, "bot-stopped-speaking", within_s=120)
        recording = await call.recording(tmp_path / "assistant.webm")
        shown = call.page.locator("#entries")
        await expect(shown).to_contain_text("what can I do for you")
        entries = await shown.locator("> li").all_inner_texts()
        latency = await call.server_messages("turn-latency")
    heard = await transcribed(recording, model("base"))
    assert "what can i do for you" in heard.lower()
    assert len(heard.split()) > len("Hello, what can I do for you".split())
    assert len(entries) >= 3  # the greeting, the question, the answer
    assert [part["name"] for part in latency[-1]["parts"]] == [
        "stop",
        "final",
        "turn",
        "first-token",
        "first-audio",
        "first-packet",
    ]
