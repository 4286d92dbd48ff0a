"""Clients that send recordings, unmodified but for URL and key, against the real server."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types.audio import Transcription, TranscriptionVerbose
from pipecat.frames.frames import ErrorFrame, TranscriptionFrame
from pipecat.services.openai.stt import OpenAISTTService, OpenAISTTSettings

from talkpath.processors.speech_detector import SpeechDetector
from tests.agent.server.serving import serving
from tests.agent.whisper.helpers import vad
from tests.processors.caller import call
from tests.speech import clip, silence, speech_wav, word_error_rate

KEY = "a-key-for-tests"
NAMES = ("librivox-0930", "librivox-0870")


@pytest.fixture
async def url() -> AsyncIterator[str]:
    async with serving({"serve.api_keys": (KEY,)}) as address:
        yield f"{address}/v1"


@pytest.fixture
async def client(url: str) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(api_key=KEY, base_url=url, max_retries=0) as connected:
        yield connected


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    return speech_wav(tmp_path / "speech.wav", NAMES, gap_s=2.5)


def right(text: str) -> bool:
    said = " ".join(clip(name).text for name in NAMES)
    return word_error_rate([said], [text]) <= 0.25


# -- the openai package ----------------------------------------------------------------------


async def test_json(client: AsyncOpenAI, recording: Path) -> None:
    answer = await client.audio.transcriptions.create(file=recording, model="gpt-4o-transcribe")
    length_s = sum(clip(name).duration_s for name in NAMES) + 4.0
    assert right(answer.text)
    assert answer.usage is not None and answer.usage.type == "duration"
    assert answer.usage.seconds == pytest.approx(length_s, abs=0.1)
    assert [item.code for item in answer.languages or []] == ["en"]


async def test_logprobs(client: AsyncOpenAI, recording: Path) -> None:
    answer = await client.audio.transcriptions.create(
        file=recording, model="gpt-4o-transcribe", include=["logprobs"], language="en"
    )
    assert answer.logprobs
    assert "".join(item.token or "" for item in answer.logprobs) == answer.text
    assert all(item.logprob is not None and item.logprob <= 0 for item in answer.logprobs)


async def test_verbose_json_with_words(client: AsyncOpenAI, recording: Path) -> None:
    answer = await client.audio.transcriptions.create(
        file=recording,
        model="whisper-1",
        response_format="verbose_json",
        timestamp_granularities=["word", "segment"],
        temperature=0,
        prompt="Sense and Sensibility",
    )
    assert right(answer.text)
    assert answer.language == "english"
    assert answer.segments and answer.words
    assert right(" ".join(word.word for word in answer.words))
    assert 0 < answer.words[0].start < answer.words[-1].end <= answer.duration
    assert answer.segments[-1].end == pytest.approx(answer.words[-1].end, abs=0.5)


async def test_text_and_subtitles(client: AsyncOpenAI, recording: Path) -> None:
    text = await client.audio.transcriptions.create(
        file=recording, model="whisper-1", response_format="text"
    )
    assert right(text) and text.endswith("\n")
    srt = await client.audio.transcriptions.create(
        file=recording, model="whisper-1", response_format="srt"
    )
    assert srt.startswith("1\n00:00:00,") and "\n\n2\n" in srt
    vtt = await client.audio.transcriptions.create(
        file=recording, model="whisper-1", response_format="vtt"
    )
    assert vtt.startswith("WEBVTT\n\n00:00:00.")


async def test_a_stream_of_events(client: AsyncOpenAI, recording: Path) -> None:
    stream = await client.audio.transcriptions.create(
        file=recording, model="gpt-4o-transcribe", stream=True
    )
    deltas, done = [], ""
    async for event in stream:
        assert not done
        if event.type == "transcript.text.delta":
            deltas.append(event.delta)
        elif event.type == "transcript.text.done":
            done = event.text
    assert len(deltas) >= len(NAMES)
    assert "".join(deltas) == done
    assert right(done)


async def test_the_client_that_waits(url: str, recording: Path) -> None:
    """It blocks, so it has a thread."""

    def use() -> None:
        with OpenAI(api_key=KEY, base_url=url, max_retries=0) as client:
            assert [model.id for model in client.models.list()] == ["tiny.en"]
            assert client.models.retrieve("tiny.en").owned_by == "talkpath"
            with recording.open("rb") as file:
                answer = client.audio.transcriptions.create(file=file, model="whisper-1")
            assert right(answer.text)
            with client.audio.transcriptions.create(
                file=recording, model="whisper-1", stream=True
            ) as stream:
                assert next(stream).type == "transcript.text.delta"
                # Leaving early is no error.

    await asyncio.to_thread(use)


# The package calls its translations deprecated, because OpenAI will end them.
@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")
async def test_errors_are_the_packages_own(
    url: str, client: AsyncOpenAI, recording: Path, tmp_path: Path
) -> None:
    with pytest.raises(openai.BadRequestError, match="English only and cannot translate"):
        await client.audio.translations.create(file=recording, model="whisper-1")
    text = tmp_path / "a.wav"
    text.write_text("nobody speaks")
    with pytest.raises(openai.BadRequestError, match=r"a\.wav is not an audio file") as caught:
        await client.audio.transcriptions.create(file=text, model="whisper-1")
    assert (caught.value.param, caught.value.code) == ("file", "invalid_audio")
    assert caught.value.type == "invalid_request_error"
    with pytest.raises(openai.BadRequestError, match="speakers"):
        await client.audio.transcriptions.create(
            file=recording, model="whisper-1", extra_body={"diarize": True}
        )
    with pytest.raises(openai.NotFoundError):
        await client.models.retrieve("openai/whisper-large-v3")
    stranger = AsyncOpenAI(api_key="wrong", base_url=url, max_retries=0)
    async with stranger:
        with pytest.raises(openai.AuthenticationError):
            await stranger.models.list()


# -- Pipecat ---------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["gpt-transcribe", "whisper-1"])
async def test_pipecats_service_transcribes_a_call(url: str, model: str) -> None:
    """With probabilities it asks these models for different answers."""
    settings = OpenAISTTSettings(
        model=model, prompt="Sense and Sensibility", temperature=0.0, keywords=["Dashwood"]
    )
    # The service never closes a connection of its own.
    async with openai.DefaultAsyncHttpxClient() as http:
        service = OpenAISTTService(
            api_key=KEY,
            base_url=url,
            settings=settings,
            include_prob_metrics=True,
            http_client=http,
        )
        await transcribe(service, model)


async def transcribe(service: OpenAISTTService, model: str) -> None:
    async with call([SpeechDetector(vad()), service]) as line:
        for name in NAMES:
            await line.say(clip(name).samples())
            await line.say(silence(1.0))
        await line.until(
            lambda: (
                right(" ".join(frame.text for frame in line.frames(TranscriptionFrame)))
                or line.frames(ErrorFrame)
            )
        )
        assert not line.frames(ErrorFrame)
        for frame in line.frames(TranscriptionFrame):
            result = frame.result
            if model == "whisper-1":
                assert isinstance(result, TranscriptionVerbose) and result.segments
                assert result.segments[0].avg_logprob < 0
            else:
                assert isinstance(result, Transcription) and result.logprobs
