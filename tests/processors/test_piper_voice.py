"""The voice in a real pipeline: Pipecat's output transport plays, its aggregator listens."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pipecat.frames.frames import (
    BotStartedSpeakingFrame,
    BotStoppedSpeakingFrame,
    EndFrame,
    ErrorFrame,
    Frame,
    InterruptionFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMTextFrame,
    MetricsFrame,
    TTSAudioRawFrame,
    TTSSpeakFrame,
    TTSTextFrame,
)
from pipecat.metrics.metrics import TTFBMetricsData, TTSUsageMetricsData
from pipecat.observers.base_observer import BaseObserver, FramePushed
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import LLMContextAggregatorPair
from pipecat.processors.frame_processor import FrameDirection
from pipecat.workers.runner import WorkerRunner

from talkpath.agent.voice import SpokenSentence, Voice
from talkpath.bots.testing.clock import virtual_time
from talkpath.processors.piper_voice import PiperVoice, phrases
from tests import loudspeaker
from tests.local_models import voice_model
from tests.loudspeaker import Loudspeaker

LONG = (
    "One morning the old captain walked down to the harbour and looked at the water. "
    "Nobody had seen a ship for many weeks, and the children had stopped asking him about it. "
    "He sat down on a barrel, lit his pipe and waited."
)


@pytest.fixture(scope="module")
def voice() -> Iterator[Voice]:
    voice = asyncio.run(Voice.load(voice_model())).steady()
    yield voice
    voice.close()


Wanted = Callable[[Frame], bool]


class Listener(BaseObserver):
    """Notes each frame where it comes from, and when it leaves the loudspeaker."""

    def __init__(self) -> None:
        super().__init__()
        self.made: list[Frame] = []
        self.played: list[Frame] = []
        self._seen: set[int] = set()
        self._waiting: list[tuple[Wanted, asyncio.Event, bool]] = []

    async def on_push_frame(self, data: FramePushed) -> None:
        if isinstance(data.source, Loudspeaker) and data.direction is FrameDirection.DOWNSTREAM:
            self.played.append(data.frame)
            self._tell(data.frame, played=True)
        if data.frame.id not in self._seen:
            self._seen.add(data.frame.id)
            self.made.append(data.frame)
            self._tell(data.frame, played=False)

    def _tell(self, frame: Frame, *, played: bool) -> None:
        for wanted, event, when_played in self._waiting:
            if when_played == played and wanted(frame):
                event.set()

    def expect(self, wanted: Wanted, *, played: bool = False) -> Awaitable[None]:
        """Wait for a frame from now on."""
        event = asyncio.Event()
        self._waiting.append((wanted, event, played))

        async def happened() -> None:
            await asyncio.wait_for(event.wait(), timeout=60)

        return happened()

    def of(self, kind: type[Frame]) -> list[Frame]:
        return [frame for frame in self.made if isinstance(frame, kind)]


def a(kind: type[Frame]) -> Wanted:
    return lambda frame: isinstance(frame, kind)


def enough(kind: type[Frame], wanted: float, amount: Callable[[Frame], float]) -> Wanted:
    """Whether the frames of a kind so far add up to so much."""
    total = 0.0

    def reached(frame: Frame) -> bool:
        nonlocal total
        if isinstance(frame, kind):
            total += amount(frame)
        return total >= wanted

    return reached


def seconds(frame: Frame) -> float:
    assert isinstance(frame, TTSAudioRawFrame)
    return len(frame.audio) / 2 / frame.sample_rate


class Session:
    """One voice, one loudspeaker, and the context that Pipecat's aggregator writes.

    Time is virtual, the loudspeaker's and this file's, unless it is to be measured.
    """

    def __init__(self, voice: Voice, speed: float, *, virtual: bool = True) -> None:
        self._virtual = [loudspeaker.__name__, __name__] if virtual else []
        self.context = LLMContext()
        self.loudspeaker = Loudspeaker(speed=speed)
        self.listener = Listener()
        assistant = LLMContextAggregatorPair(self.context).assistant()
        self.worker = PipelineWorker(
            Pipeline([PiperVoice(voice), self.loudspeaker, assistant]),
            params=PipelineParams(enable_metrics=True, enable_usage_metrics=True),
            observers=[self.listener],
            enable_rtvi=False,
        )

    async def run(self, act: Callable[["Session"], Awaitable[None]]) -> None:
        async def play() -> None:
            started = asyncio.Event()
            self.worker.add_event_handler("on_pipeline_started", lambda *_: started.set())
            await started.wait()
            await act(self)
            await self.worker.queue_frame(EndFrame())

        runner = WorkerRunner(handle_sigint=False)
        await runner.add_workers(self.worker)
        with contextlib.ExitStack() as stack:
            for module in self._virtual:
                stack.enter_context(virtual_time().used(lambda: False, lambda: None, module))
            await asyncio.gather(runner.run(), play())

    @property
    def said(self) -> list[str]:
        return [
            str(message.get("content"))
            for message in self.context.get_messages()
            if isinstance(message, dict) and message["role"] == "assistant"
        ]


async def speak(session: Session, texts: Sequence[str]) -> None:
    stopped = session.listener.expect(a(BotStoppedSpeakingFrame))
    await session.worker.queue_frames(
        [LLMFullResponseStartFrame(), *map(LLMTextFrame, texts), LLMFullResponseEndFrame()]
    )
    await stopped


async def test_a_reply_is_heard_and_kept_as_a_whole(voice: Voice) -> None:
    session = Session(voice, speed=20)
    reply = "The 42 hens, because of the fox, hid. **None** of them - not one - was seen!"
    await session.run(lambda s: speak(s, [f"{word} " for word in reply.split()]))
    assert session.said == [reply]
    assert 3 < session.loudspeaker.seconds() < 9
    words = [
        frame.text for frame in session.listener.of(TTSTextFrame) if isinstance(frame, TTSTextFrame)
    ]
    assert len(words) >= 14
    assert not session.listener.of(ErrorFrame)


async def test_what_is_spoken_without_a_model_is_kept_too(voice: Voice) -> None:
    session = Session(voice, speed=20)
    greeting = "Hello, what can I do for you?"

    async def greet(s: Session) -> None:
        stopped = s.listener.expect(a(BotStoppedSpeakingFrame))
        await s.worker.queue_frame(TTSSpeakFrame(greeting, append_to_context=True))
        await stopped

    await session.run(greet)
    assert session.said == [greeting]


async def test_an_interruption_keeps_only_the_words_that_were_played(voice: Voice) -> None:
    session = Session(voice, speed=1)
    interrupted_at = 0.0

    async def interrupt(s: Session) -> None:
        nonlocal interrupted_at
        fifth = s.listener.expect(enough(TTSTextFrame, 5, lambda _: 1), played=True)
        await s.worker.queue_frame(TTSSpeakFrame(LONG, append_to_context=True))
        await fifth
        interrupted_at = time.monotonic()
        await s.worker.queue_frame(InterruptionFrame())
        # Longer than the whole first sentence: what still comes would be heard.
        await asyncio.sleep(3)

    await session.run(interrupt)
    assert session.loudspeaker.last_sound() - interrupted_at < 0.2
    assert len(session.said) == 1
    kept = session.said[0]
    assert LONG.startswith(kept)
    # The same voice says how long these words last; the difference is less than a word.
    first = next(iter(phrases(LONG)))
    spoken = await voice.say(first)
    played = session.loudspeaker.seconds() * spoken.sample_rate_hz
    heard = sum(word.end <= played for word in spoken.words)
    assert abs(len(kept.split()) - heard) <= 1


async def test_speech_that_waits_behind_other_speech_is_not_counted_as_heard(voice: Voice) -> None:
    session = Session(voice, speed=1)
    first, second = "This is the first thing that I want to say.", "And that is the second thing."

    async def interrupt_the_first(s: Session) -> None:
        started = s.listener.expect(a(BotStartedSpeakingFrame))
        both_made = s.listener.expect(enough(TTSAudioRawFrame, 3, seconds))
        await s.worker.queue_frames(
            [TTSSpeakFrame(text, append_to_context=True) for text in (first, second)]
        )
        await started
        await both_made
        await s.worker.queue_frame(InterruptionFrame())
        await asyncio.sleep(0.3)

    await session.run(interrupt_the_first)
    assert len(session.said) <= 1
    assert first.startswith("".join(session.said))
    assert len("".join(session.said)) < len(first)


async def test_no_phrase_is_synthesized_after_an_interruption(voice: Voice) -> None:
    said: list[str] = []

    class Counting(Voice):
        async def say(self, sentence: str, sample_rate_hz: int = 24_000) -> SpokenSentence:
            said.append(sentence)
            return await voice.say(sentence, sample_rate_hz)

    session = Session(Counting(None), speed=1)

    async def interrupt(s: Session) -> None:
        audio = s.listener.expect(a(TTSAudioRawFrame))
        await s.worker.queue_frame(TTSSpeakFrame(LONG * 5))
        await audio
        await s.worker.queue_frame(InterruptionFrame())
        await asyncio.sleep(1)

    await session.run(interrupt)
    assert 1 <= len(said) <= 3
    assert len(said) < len(list(phrases(LONG * 5)))


async def test_symbols_alone_neither_fail_nor_end_the_voice(voice: Voice) -> None:
    session = Session(voice, speed=20)

    async def act(s: Session) -> None:
        for text in ("...", "-", "?!", "..."):
            await speak(s, [text])
        await speak(s, ["Now it speaks."])

    await session.run(act)
    assert session.said[-1].endswith("Now it speaks.")
    assert not session.listener.of(ErrorFrame)


async def test_a_voice_that_fails_is_reported_and_the_session_goes_on() -> None:
    class Broken(Voice):
        async def say(self, sentence: str, sample_rate_hz: int = 24_000) -> SpokenSentence:
            raise RuntimeError("out of memory")

    session = Session(Broken(None), speed=20)

    async def act(s: Session) -> None:
        failed = s.listener.expect(a(ErrorFrame))
        await s.worker.queue_frame(TTSSpeakFrame("Hello."))
        await failed

    await session.run(act)
    assert "the voice failed: out of memory" in [
        frame.error for frame in session.listener.of(ErrorFrame) if isinstance(frame, ErrorFrame)
    ]
    assert session.said == []


async def test_time_to_first_byte_and_characters_are_measured(voice: Voice) -> None:
    session = Session(voice, speed=20, virtual=False)
    await session.run(lambda s: speak(s, ["Good morning."]))
    measured = [
        item
        for frame in session.listener.of(MetricsFrame)
        if isinstance(frame, MetricsFrame)
        for item in frame.data
    ]
    assert any(isinstance(item, TTFBMetricsData) and item.value > 0 for item in measured)
    assert [item.value for item in measured if isinstance(item, TTSUsageMetricsData)] == [13]


async def test_sessions_share_one_voice(voice: Voice) -> None:
    sessions = [Session(voice, speed=20) for _ in range(4)]
    texts = [f"This is session number {number}." for number in ("one", "two", "three", "four")]
    await asyncio.gather(
        *(
            session.run(lambda s, text=text: speak(s, [text]))  # type: ignore[misc]
            for session, text in zip(sessions, texts, strict=True)
        )
    )
    assert [session.said for session in sessions] == [[text] for text in texts]
    for session in sessions:
        assert np.abs(np.concatenate([s for _, s in session.loudspeaker.played])).max() > 3000


def test_phrases_lose_no_word_and_are_neither_tiny_nor_long() -> None:
    for text in (LONG, "Hello.", "", "No comma in this sentence although it is rather long, no."):
        assert " ".join(phrases(text)).split() == text.split()
    assert list(phrases("Hi. I am Joe. What is new?")) == ["Hi.", "I am Joe.", "What is new?"]
    cut = list(
        phrases("When the rain had stopped, we walked to the sea, and then, at last, slept.")
    )
    assert cut == [
        "When the rain had stopped,",
        "we walked to the sea,",
        "and then, at last, slept.",
    ]


@given(st.text("ab ,.!A\n", max_size=200))
def test_phrases_of_any_text_hold_all_its_words(text: str) -> None:
    assert " ".join(phrases(text)).split() == text.split()
    for phrase in phrases(text):
        assert phrase.strip() or not text.strip()
