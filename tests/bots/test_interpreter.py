"""The interpreter, called by people who speak five languages, with Whisper's ``base``.

The clips are those of https://github.com/Picovoice/cheetah, resources/audio_samples, which no
package brings: as ``pv-de.flac`` and so on they lie in ``TALKPATH_TEST_SPEECH``, by default in
``shared/speech`` beside the repository. How well ``base`` translates is not the bot's doing: of
these five sentences it knows the French and the Portuguese one, and says something of its own for
the others. What the bot does with each is tested: it knows the language, and speaks English, the
words on the page and no others.
"""

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from talkpath.agent.errors import ConfigError
from talkpath.agent.whisper import WhisperEngine
from talkpath.bots import interpreter
from talkpath.bots.testing import call
from tests.agent.whisper.helpers import engine
from tests.local_models import voice_model
from tests.speech import word_error_rate

CLIPS = Path(
    os.environ.get("TALKPATH_TEST_SPEECH", Path(__file__).parents[3] / "shared" / "speech")
)
LANGUAGES = ("de", "es", "fr", "it", "pt")
MEANT = {"fr": {"two", "others", "located"}, "pt": {"group", "children", "river"}}


@dataclass(frozen=True)
class Spoken:
    """What a caller heard, and what the page showed."""

    text: str
    audio: Any
    captions: list[dict[str, Any]]


async def interpreted(language: str) -> Spoken:
    # What is shown on the way is not of interest here.
    settings: dict[str, Any] = {"whisper.partial_interval_s": 5.0}
    if language == "es":  # a hoarse whisper, which could be anything
        settings["whisper.language"] = language
    async with call(interpreter, settings=settings) as caller:
        await caller.plays(CLIPS / f"pv-{language}.flac")
        await caller.hears_turn()
        shown = [
            message["data"] for message in caller.messages if message["type"] == "server-message"
        ]
        return Spoken(
            " ".join(item.text for item in caller.transcript if item.who == "bot"),
            caller.bot_audio,
            [data for data in shown if data["type"] == "caption"],
        )


def words(text: str) -> set[str]:
    return {word.strip(".,!?") for word in text.lower().split()}


async def understood(engine: WhisperEngine, audio: Any) -> str:
    return (await engine.decode(audio[-28 * 16_000 :])).text


@pytest.mark.skipif(not (CLIPS / "pv-de.flac").is_file(), reason=f"no foreign speech in {CLIPS}")
async def test_five_languages_become_english_speech_and_the_page_says_which_they_were() -> None:
    voice_model()
    spoken_to = await asyncio.gather(*map(interpreted, LANGUAGES))
    heard = dict(zip(LANGUAGES, spoken_to, strict=True))
    for language, spoken in heard.items():
        finals = [caption["stable"] for caption in spoken.captions if caption["final"]]
        assert spoken.text == " ".join(filter(None, finals)), language
        assert spoken.text.isascii(), language
        told = {caption["spoken"] for caption in spoken.captions if caption["stable"]}
        assert told <= {language}, language
        assert {caption["language"] for caption in spoken.captions} <= {"en", None}
        assert spoken.text or language == "es"
    async with engine("tiny.en") as ears:
        for language, meant in MEANT.items():
            spoken = heard[language]
            assert meant <= words(spoken.text), language
            assert word_error_rate([spoken.text], [await understood(ears, spoken.audio)]) < 0.3


async def test_a_model_that_knows_english_alone_is_refused_at_the_start() -> None:
    with pytest.raises(ConfigError, match=r"cannot translate with tiny\.en"):
        async with call(interpreter, settings={"whisper.model": "tiny.en"}):
            pass
