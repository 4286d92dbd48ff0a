"""The first phrase of a reply that is held back: it has its sound when the turn is over."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from pipecat.frames.frames import (
    EagerTranscriptionFrame,
    Frame,
    ProposedUserStartedSpeakingFrame,
    ProposedUserStoppedSpeakingFrame,
    TranscriptionFrame,
)
from pipecat.observers.base_observer import BaseObserver, FramePushed
from pipecat.processors.aggregators.llm_response_universal import LLMUserAggregatorParams
from pipecat.turns.user_turn_strategies import EagerUserTurnStrategies

from talkpath.agent.reply import ReplyEndpoint
from talkpath.agent.voice import SpokenSentence, Voice
from talkpath.processors.frames import SpeakAheadFrame
from talkpath.processors.reply import Reply
from talkpath.processors.spoken_ahead import SpokenAhead
from tests.llm_server import llm_server, script
from tests.local_models import voice_model
from tests.processors.replying import PATIENT, talking

PHRASE = "The capital of France"


class Noted(Voice):
    """The voice, and what it was asked for."""

    asked: list[str]

    async def pieces(
        self, sentence: str, sample_rate_hz: int = 24_000
    ) -> AsyncIterator[SpokenSentence]:
        self.asked.append(sentence)
        if sentence == "broken":
            raise RuntimeError("out of memory")
        async for piece in super().pieces(sentence, sample_rate_hz):
            yield piece


async def cancel(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.wait({task})


async def test_what_was_made_ahead_is_made_once_and_the_rest_only_when_it_is_wanted() -> None:
    voice = (await Noted.load(voice_model(), threads=1)).steady()
    assert isinstance(voice, Noted)
    try:
        voice.asked = []
        wanted = [piece async for piece in voice.pieces(PHRASE, 16_000)]
        voice.asked = []
        ahead = SpokenAhead(voice, lambda work, name: asyncio.create_task(work), cancel)

        async def said(phrase: str) -> list[SpokenSentence]:
            return [piece async for piece in ahead.pieces(phrase, 16_000)]

        await ahead.begin(PHRASE, 16_000)
        assert await said(PHRASE) == wanted
        assert voice.asked == [PHRASE]
        # It is used up, and another phrase or rate is no use.
        assert await said(PHRASE) == wanted
        await ahead.begin("Something else.", 16_000)
        assert await said(PHRASE) == wanted
        await ahead.begin(PHRASE, 24_000)
        assert await said(PHRASE) == wanted
        await ahead.begin(PHRASE, 16_000)
        await ahead.drop()
        assert await said(PHRASE) == wanted
        # What fails ahead of its time fails when it is due.
        await ahead.begin("broken", 16_000)
        with pytest.raises(RuntimeError, match="out of memory"):
            await said("broken")
    finally:
        voice.close()


class Begun(BaseObserver):
    """What the voice may begin with, and the moment of it."""

    def __init__(self) -> None:
        super().__init__(observe_every_push=False)
        self.frames: list[Frame] = []

    async def on_push_frame(self, data: FramePushed) -> None:
        if isinstance(data.frame, SpeakAheadFrame):
            self.frames.append(data.frame)

    @property
    def texts(self) -> list[str]:
        return [frame.text for frame in self.frames if isinstance(frame, SpeakAheadFrame)]


@pytest.mark.parametrize(
    ("reply_text", "phrase"),
    [("The capital of France is Paris. It is old.", PHRASE), ("Paris.", "Paris.")],
)
async def test_the_voice_is_told_how_a_reply_begins_while_the_turn_may_go_on(
    reply_text: str, phrase: str
) -> None:
    params = LLMUserAggregatorParams(user_turn_strategies=EagerUserTurnStrategies())
    async with llm_server(script(reply_text)) as server:
        reply = Reply(ReplyEndpoint(base_url=server.url, model="any"), PATIENT)
        async with talking(reply, params=params) as talk:
            begun = Begun()
            talk.worker.add_observer(begun)
            await talk.worker.queue_frame(ProposedUserStartedSpeakingFrame())
            words = ("The capital of France?", "caller", "now")
            await talk.worker.queue_frame(EagerTranscriptionFrame(*words))
            await talk.until(lambda: bool(begun.frames))
            assert begun.texts == [phrase]
            assert talk.spoken == []
            await talk.worker.queue_frame(TranscriptionFrame(*words))
            await talk.worker.queue_frame(ProposedUserStoppedSpeakingFrame())
            await talk.hear(phrase)
            # A reply to a turn that is over goes to the voice as it comes.
            await talk.ask("And of Spain?")
            assert begun.texts == [phrase]
