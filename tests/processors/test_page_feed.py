"""The page feed in a real pipeline with RTVI: what goes out to the page."""

from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from pipecat.frames.frames import (
    InterimTranscriptionFrame,
    OutputTransportMessageUrgentFrame,
    TranscriptionFrame,
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.processors.filters.identity_filter import IdentityFilter
from pipecat.processors.frame_processor import FrameProcessor

from talkpath.agent.config import WhisperConfig
from talkpath.agent.timeline import TurnLatency
from talkpath.agent.turn_counts import TurnCounts
from talkpath.agent.whisper import WhisperEngine
from talkpath.processors.frames import NothingHeardFrame
from talkpath.processors.page_feed import PageFeed
from talkpath.processors.speech_detector import SpeechDetector
from talkpath.processors.streaming_whisper import StreamingWhisper
from tests.agent.whisper.helpers import engine, vad
from tests.processors.caller import Call, call
from tests.speech import clip, join, word_error_rate

Message = dict[str, Any]


@pytest.fixture
async def base() -> AsyncIterator[WhisperEngine]:
    async with engine("base", WhisperConfig(language="en")) as running:
        yield running


def messages(caller: Call, kind: str) -> list[Message]:
    """What the page gets of one kind, in order."""
    sent = [frame.message for frame in caller.frames(OutputTransportMessageUrgentFrame)]
    assert all(message["label"] == "rtvi-ai" for message in sent)
    data = [message["data"] for message in sent if message["type"] == "server-message"]
    return [item for item in data if item["type"] == kind]


def path(whisper: StreamingWhisper) -> list[FrameProcessor]:
    # Frames pass on through other processors: only the first push may count.
    return [SpeechDetector(vad()), whisper, IdentityFilter(), IdentityFilter()]


async def test_captions_grow_word_by_word_until_they_are_final(base: WhisperEngine) -> None:
    sentences = ["librivox-0870", "librivox-0930"]
    async with call(
        path(StreamingWhisper(base)), rtvi=True, observe=lambda worker: PageFeed(worker.rtvi)
    ) as caller:
        audio = join(sentences, gap_s=1.5)
        await caller.say(audio[:48_000])
        await caller.until(lambda: messages(caller, "caption"))
        await caller.say(audio[48_000:], pace_s=0.01)
    captions = messages(caller, "caption")
    keys = {"type", "utterance", "stable", "rest", "final", "language", "spoken"}
    shown: dict[int, Message] = {}
    for caption in captions:
        assert set(caption) == keys
        before = shown.get(caption["utterance"])
        if before is not None:
            assert not before["final"]
            if not caption["final"]:
                assert caption["stable"].startswith(before["stable"])
        if caption["final"]:
            assert caption["rest"] == ""
        shown[caption["utterance"]] = caption
    assert list(shown) == sorted(shown)
    assert all(caption["final"] for caption in shown.values())
    text = " ".join(caption["stable"] for caption in shown.values())
    assert word_error_rate([" ".join(clip(name).text for name in sentences)], [text]) < 0.1
    assert {caption["language"] for caption in captions if caption["stable"]} == {"en"}
    # One for each transcript, however many processors pass it on.
    transcripts = caller.frames(InterimTranscriptionFrame, TranscriptionFrame, NothingHeardFrame)
    assert len(captions) == len(transcripts)

    # And when it was said, for subtitles: half a second into it, and after the pause.
    said = messages(caller, "cues")
    assert [one["utterance"] for one in said] == list(shown)
    assert [one["language"] for one in said] == ["en"] * len(said)
    for one in said:
        joined = " ".join(segment["text"] for segment in one["segments"])
        assert joined == shown[one["utterance"]]["stable"]
        assert " ".join(line for cue in one["cues"] for line in cue["lines"]) == joined
    first, second = clip(sentences[0]).duration_s, clip(sentences[1]).duration_s
    cues = [cue for one in said for cue in one["cues"]]
    assert 0 <= cues[0]["start_ms"] <= 1000
    assert all(before["end_ms"] <= after["start_ms"] for before, after in pairwise(cues))
    assert cues[-1]["end_ms"] == pytest.approx(1000 * (first + second + 2.0), abs=600)


async def test_a_translation_is_english_and_tells_what_was_spoken() -> None:
    async with engine("base", WhisperConfig(language="de")) as running:
        async with call(
            path(StreamingWhisper(running, task="translate")),
            rtvi=True,
            observe=lambda worker: PageFeed(worker.rtvi),
        ) as caller:
            await caller.say(join(["librivox-0880"]))
            await caller.until(lambda: messages(caller, "cues"))
    caption = messages(caller, "caption")[-1]
    assert (caption["language"], caption["spoken"]) == ("en", "de")
    assert messages(caller, "cues")[0]["language"] == "en"


async def test_an_utterance_without_words_vanishes() -> None:
    noise = np.random.default_rng(1).normal(0, 0.02, 48_000).astype(np.float32)
    async with engine("base") as running:
        async with call(
            [StreamingWhisper(running)],
            rtvi=True,
            observe=lambda worker: PageFeed(worker.rtvi),
        ) as caller:
            await caller.send(VADUserStartedSpeakingFrame(start_secs=0.2))
            await caller.say(noise)
            await caller.send(VADUserStoppedSpeakingFrame(stop_secs=0.2))
            await caller.until(lambda: messages(caller, "caption"))
    assert messages(caller, "caption")[-1] == {
        "type": "caption",
        "utterance": 1,
        "stable": "",
        "rest": "",
        "final": True,
        "language": None,
        "spoken": None,
    }
    assert not messages(caller, "cues")


async def test_transcripts_of_others_are_not_shown(base: WhisperEngine) -> None:
    async with call(
        path(StreamingWhisper(base)), rtvi=True, observe=lambda worker: PageFeed(worker.rtvi)
    ) as caller:
        await caller.send(TranscriptionFrame("not mine", "", "now", finalized=True))
        await caller.until(lambda: caller.frames(TranscriptionFrame))
    assert not messages(caller, "caption")


async def test_a_turns_latency_comes_in_parts_that_add_up() -> None:
    feeds: list[PageFeed] = []

    def observe(worker: Any) -> PageFeed:
        feeds.append(PageFeed(worker.rtvi))
        return feeds[0]

    async with call([IdentityFilter()], rtvi=True, observe=observe) as caller:
        parts = (("stop", 200.04), ("final", 12.34), ("first-audio", 100.0))
        await feeds[0].turn_latency(TurnLatency(2, parts, 312.38, 1000.5, 120.0))
        await feeds[0].turn_counts(TurnCounts(eager_started=1, barge_ins=2))
        await caller.until(lambda: messages(caller, "turn-counts"))
    assert messages(caller, "turn-latency") == [
        {
            "type": "turn-latency",
            "turn": 2,
            "parts": [
                {"name": "stop", "ms": 200.0},
                {"name": "final", "ms": 12.3},
                {"name": "first-audio", "ms": 100.0},
            ],
            "total_ms": 312.3,
            "ended_at": 1000.5,
            "eager_ms": 120.0,
        }
    ]
    assert messages(caller, "turn-counts") == [
        {
            "type": "turn-counts",
            "eager_started": 1,
            "eager_used": 0,
            "eager_discarded": 0,
            "barge_ins": 2,
            "false_alarms": 0,
            "backchannels": 0,
        }
    ]
