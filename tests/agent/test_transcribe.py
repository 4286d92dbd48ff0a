"""Files become text: the right words at the right times, whatever the length."""

import asyncio
import sys
import threading
import wave
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from talkpath.agent.audio import FloatArray
from talkpath.agent.errors import AudioError, ConfigError, EngineClosed
from talkpath.agent.speech import SileroVad
from talkpath.agent.transcribe import FileTranscription
from talkpath.agent.whisper import Segment, WhisperEngine
from talkpath.agent.whisper.backend import Decoded, Item, TimedText
from talkpath.agent.whisper.requests import DecodeOptions
from tests.agent.whisper.helpers import Wrapper, backend, until
from tests.agent.whisper.helpers import engine as an_engine
from tests.speech import clip, clips, join, silence, speech_wav, word_error_rate, write_wav

RATE_HZ = 16_000


@pytest.fixture
async def engine() -> AsyncIterator[WhisperEngine]:
    async with an_engine("base") as running:
        yield running


@pytest.fixture(scope="module")
def vad() -> SileroVad:
    return SileroVad()


async def transcribe(
    path: Path, engine: WhisperEngine, vad: SileroVad, language: str | None = None
) -> tuple[FileTranscription, list[Segment]]:
    transcription = FileTranscription(path, engine, vad, language=language)
    return transcription, [segment async for segment in transcription.segments()]


def words(segments: list[Segment]) -> str:
    return " ".join(segment.text for segment in segments)


async def test_sentences_are_understood(
    engine: WhisperEngine, vad: SileroVad, tmp_path: Path
) -> None:
    sentences = [item for item in clips() if item.id.startswith("librivox")]
    path = speech_wav(tmp_path / "all.wav", [item.id for item in sentences], gap_s=1.0)
    transcription, segments = await transcribe(path, engine, vad)
    assert transcription.language == "en"
    assert transcription.problem is None
    said = " ".join(item.text for item in sentences)
    assert word_error_rate([said], [words(segments)]) < 0.1


async def test_times_are_those_of_the_file(
    engine: WhisperEngine, vad: SileroVad, tmp_path: Path
) -> None:
    """Three sentences with long silences between them, each in its place."""
    names = ["librivox-0880", "librivox-0890", "librivox-0930"]
    path = speech_wav(tmp_path / "a.wav", names, lead_s=5, gap_s=6, tail_s=4)
    _, segments = await transcribe(path, engine, vad)
    start_s, last_end_s = 5.0, 0.0
    for name in names:
        end_s = start_s + clip(name).duration_s
        inside = [item for item in segments if item.start_s < end_s and item.end_s > start_s]
        assert word_error_rate([clip(name).text], [words(inside)]) <= 0.35
        assert inside[0].start_s == pytest.approx(start_s, abs=0.5)
        assert inside[-1].end_s == pytest.approx(end_s, abs=0.7)
        start_s = end_s + 6
    for segment in segments:
        assert last_end_s <= segment.start_s < segment.end_s
        last_end_s = segment.end_s


async def test_words_are_timed_on_the_files_clock(
    engine: WhisperEngine, vad: SileroVad, tmp_path: Path
) -> None:
    names = ["librivox-0880", "librivox-0930"]
    path = speech_wav(tmp_path / "a.wav", names, lead_s=5, gap_s=6, tail_s=4)
    options = DecodeOptions(word_timestamps=True)
    transcription = FileTranscription(path, engine, vad, options=options)
    segments = [segment async for segment in transcription.segments()]
    last_s = 5.0
    for segment in segments:
        assert " ".join(word.text for word in segment.words) == segment.text
        for word in segment.words:
            assert last_s - 0.01 <= word.start_s <= word.end_s <= segment.end_s
            assert word.start_s >= segment.start_s
            last_s = word.end_s
    second_s = 5.0 + clip(names[0]).duration_s + 6.0
    assert any(word.start_s == pytest.approx(second_s, abs=0.6) for word in segments[-1].words)


async def test_pieces_carry_the_figures_of_their_decoding(
    engine: WhisperEngine, vad: SileroVad, tmp_path: Path
) -> None:
    path = speech_wav(tmp_path / "a.wav", ["librivox-0880", "librivox-0930"], gap_s=6)
    pieces = [piece async for piece in FileTranscription(path, engine, vad).pieces()]
    _, segments = await transcribe(path, engine, vad)
    assert [segment for piece in pieces for segment in piece.segments] == segments
    assert len({piece.transcript.avg_logprob for piece in pieces}) == len(pieces) > 1
    for piece in pieces:
        assert piece.start_s <= piece.segments[0].start_s
        assert all(segment.tokens for segment in piece.segments)
        # Other than the segments, the transcript is on its own clock.
        assert piece.transcript.segments[0].start_s < piece.segments[0].start_s
        assert piece.transcript.text == words(list(piece.segments))


async def test_a_piece_that_was_decoded_in_halves_is_two(vad: SileroVad, tmp_path: Path) -> None:
    """The model goes round in circles on the whole, not on the halves."""
    sound = join(["librivox-0880", "librivox-0930"], gap_s=0.5, tail_s=0.3)
    path = write_wav(tmp_path / "a.wav", sound)
    longest = len(sound) * 3 // 4

    class Circling(Wrapper):
        def generate(
            self, encoded: Any, items: Sequence[Item], *, max_tokens: int, **options: Any
        ) -> list[Decoded]:
            decoded = super().generate(encoded, items, max_tokens=max_tokens, **options)
            return [
                replace(answer, segments=(TimedText(0.0, 1.0, "and again " * 20),))
                if item.samples > longest
                else answer
                for item, answer in zip(items, decoded, strict=True)
            ]

    async with an_engine(Circling(backend("tiny.en"))) as engine:
        pieces = [piece async for piece in FileTranscription(path, engine, vad).pieces()]
    first, second = pieces
    assert word_error_rate([clip("librivox-0880").text], [words(list(first.segments))]) <= 0.35
    assert word_error_rate([clip("librivox-0930").text], [words(list(second.segments))]) <= 0.35
    assert first.start_s == second.start_s
    assert first.segments[-1].end_s <= second.segments[0].start_s
    assert not first.transcript.possible_hallucination
    assert first.transcript.avg_logprob != second.transcript.avg_logprob


async def test_options_take_effect_and_the_language_is_detected_all_the_same(
    engine: WhisperEngine, vad: SileroVad, tmp_path: Path
) -> None:
    path = speech_wav(tmp_path / "a.wav", ["librivox-0870"])
    options = DecodeOptions(language="fr", hotwords="Jon Dashwoode")
    transcription = FileTranscription(path, engine, vad, options=options)
    segments = [segment async for segment in transcription.segments()]
    assert transcription.language == "en"
    assert "Dashwoode" in words(segments)


async def test_progress_rises_to_the_end(
    engine: WhisperEngine, vad: SileroVad, tmp_path: Path
) -> None:
    path = speech_wav(tmp_path / "a.wav", gap_s=2.5)
    calls: list[tuple[float, float | None]] = []
    transcription = FileTranscription(
        path, engine, vad, language="en", progress=lambda done, total: calls.append((done, total))
    )
    async for _ in transcription.segments():
        pass
    done = [call[0] for call in calls]
    assert len(done) > 5 and done == sorted(done)
    assert calls[-1] == (transcription.duration_s, transcription.duration_s)


@pytest.mark.parametrize("sound", ["silence", "noise", "tone"])
async def test_no_speech_is_no_text(
    sound: str, engine: WhisperEngine, vad: SileroVad, tmp_path: Path
) -> None:
    samples = silence(20)
    if sound == "noise":
        noise = np.random.default_rng(4).standard_normal(len(samples)) * 0.05
        samples = noise.astype(np.float32)
    elif sound == "tone":
        samples = 0.3 * np.sin(np.arange(len(samples), dtype=np.float32) * 0.17)
    transcription, segments = await transcribe(write_wav(tmp_path / "a.wav", samples), engine, vad)
    assert segments == []
    assert transcription.duration_s == pytest.approx(20.0)


async def test_a_truncated_file_gives_its_beginning_and_a_problem(
    engine: WhisperEngine, vad: SileroVad, tmp_path: Path
) -> None:
    path = speech_wav(tmp_path / "a.wav", ["librivox-0880", "librivox-0890"])
    path.write_bytes(path.read_bytes()[: 44 + 2 * round(4.2 * RATE_HZ)])
    transcription, segments = await transcribe(path, engine, vad)
    assert word_error_rate([clip("librivox-0880").text], [words(segments)]) <= 0.25
    assert transcription.problem is not None and "a.wav is incomplete" in transcription.problem


async def test_errors_come_out_as_they_are(
    engine: WhisperEngine, vad: SileroVad, tmp_path: Path
) -> None:
    with pytest.raises(AudioError, match="nowhere"):
        await transcribe(tmp_path / "nowhere.wav", engine, vad)
    with pytest.raises(ConfigError, match="xx"):
        FileTranscription(tmp_path / "a.wav", engine, vad, language="xx")


async def test_leaving_early_lets_go_of_everything(
    engine: WhisperEngine, vad: SileroVad, tmp_path: Path
) -> None:
    path = speech_wav(tmp_path / "a.wav", gap_s=2.5)
    transcription = FileTranscription(path, engine, vad, language="en")
    async with aclosing(transcription.segments()) as segments:
        async for _ in segments:
            break
    others = asyncio.all_tasks() - {asyncio.current_task()}
    assert not others
    if sys.platform == "linux":
        assert str(path) not in [file.path for file in psutil.Process().open_files()]


async def test_leaving_in_a_long_silence_does_not_wait_for_its_end(
    engine: WhisperEngine, vad: SileroVad, tmp_path: Path
) -> None:
    """Two hours of it, of which almost nothing is read."""
    path = tmp_path / "a.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, RATE_HZ, 0, "NONE", ""))
        for _ in range(120):
            file.writeframes(bytes(2 * 60 * RATE_HZ))
    with path.open("rb") as content:
        transcription = FileTranscription(path, engine, vad, content=content)
        segments = transcription.segments()
        waiting = asyncio.ensure_future(anext(segments))
        await until(lambda: content.tell() > RATE_HZ)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert waiting.cancelled()
        assert content.tell() < path.stat().st_size / 4


async def test_content_is_read_instead_of_the_path(
    engine: WhisperEngine, vad: SileroVad, tmp_path: Path
) -> None:
    path = speech_wav(tmp_path / "a.wav", ["librivox-0880"])
    with path.open("rb") as content:
        transcription = FileTranscription(
            Path("nowhere.wav"), engine, vad, content=content, language="en"
        )
        segments = [segment async for segment in transcription.segments()]
        assert not content.closed
    assert word_error_rate([clip("librivox-0880").text], [words(segments)]) <= 0.25


async def test_a_closed_engine_ends_the_work_with_an_error(
    engine: WhisperEngine, vad: SileroVad, tmp_path: Path
) -> None:
    path = speech_wav(tmp_path / "a.wav", gap_s=2.5)
    transcription = FileTranscription(path, engine, vad, language="en")
    with pytest.raises(EngineClosed):
        async for _ in transcription.segments():
            engine.close()


async def test_memory_does_not_grow_with_the_file(
    engine: WhisperEngine, vad: SileroVad, tmp_path: Path
) -> None:
    """Fifteen minutes with speech at both ends: as samples they would take 58 MB."""
    path = tmp_path / "long.wav"
    speech = join(["librivox-0880"], tail_s=3)
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, RATE_HZ, 0, "NONE", ""))
        file.writeframes(_pcm(speech))
        for _ in range(90):
            file.writeframes(bytes(2 * 10 * RATE_HZ))
        file.writeframes(_pcm(speech))
    await transcribe(write_wav(tmp_path / "warm.wav", speech), engine, vad)
    process = psutil.Process()
    before = process.memory_info().rss
    highest, done = before, threading.Event()

    def watch() -> None:
        nonlocal highest
        while not done.wait(0.05):
            highest = max(highest, process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        transcription, segments = await transcribe(path, engine, vad)
    finally:
        done.set()
        watcher.join()
    assert highest - before < 25e6
    assert transcription.duration_s == pytest.approx(900 + 2 * len(speech) / RATE_HZ)
    assert segments[0].start_s < 1 and segments[-1].start_s > 900


def _pcm(samples: FloatArray) -> bytes:
    return (samples * 32767).astype("<i2").tobytes()
