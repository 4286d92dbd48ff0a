"""The engine with real models and real speech."""

import asyncio
import gc
import logging
import weakref
from pathlib import Path

import numpy as np
import pytest
from blockbuster import blockbuster_ctx

from talkpath.agent.audio import float_to_pcm16
from talkpath.agent.config import WhisperConfig
from talkpath.agent.errors import (
    AudioError,
    ConfigError,
    DecodeFailed,
    EngineClosed,
    EngineOverloaded,
    ModelError,
)
from talkpath.agent.models import ModelStore
from talkpath.agent.whisper import (
    DecodeOptions,
    Final,
    Partial,
    StreamFailure,
    StreamResult,
    WhisperEngine,
)
from talkpath.agent.whisper.windows import WindowPolicy
from tests.agent.whisper.helpers import (
    Gate,
    Looping,
    Results,
    Speaker,
    Spoiled,
    Wrapper,
    backend,
    engine,
    marked,
    threads,
    until,
)
from tests.speech import clip, clips, join, resample, silence, word_error_rate

SENTENCES = [item for item in clips() if item.id.startswith("librivox")]


# Decoding a piece


async def test_real_sentences_come_out_right() -> None:
    async with engine("base") as running:
        transcripts = await asyncio.gather(
            *(running.decode(item.samples(), language="en") for item in SENTENCES)
        )
    texts = [transcript.text for transcript in transcripts]
    assert word_error_rate([item.text for item in SENTENCES], texts) < 0.1
    for item, transcript in zip(SENTENCES, transcripts, strict=True):
        assert transcript.language == "en"
        assert transcript.language_probability == 1.0
        assert transcript.duration_s == pytest.approx(item.duration_s)
        assert -1 < transcript.avg_logprob < 0
        assert 0 <= transcript.no_speech_probability < 0.6
        assert 0.5 < transcript.compression_ratio < 2
        assert transcript.cost_s > 0
        assert not transcript.possible_hallucination
        times = [(part.start_s, part.end_s) for part in transcript.segments]
        assert times == sorted(times)
        assert all(0 <= start <= end <= item.duration_s for start, end in times)
        assert transcript.text == " ".join(part.text for part in transcript.segments)


async def test_noise_has_no_words() -> None:
    noise = np.random.default_rng(1).normal(0, 0.02, 48_000).astype(np.float32)
    async with engine("base") as running:
        transcript = await running.decode(noise)
    assert transcript.text == ""
    assert transcript.segments == ()
    assert transcript.compression_ratio == 0.0
    assert transcript.no_speech_probability > 0.6


async def test_a_real_loop_of_a_short_window_is_put_right() -> None:
    speech = clip("librivox-0880")
    model = Wrapper(backend("tiny.en"))
    model.windows = WindowPolicy(floor_frames=512)  # too short for this model
    async with engine(model) as running:
        transcript = await running.decode(speech.samples())
    assert transcript.longer_window
    assert not transcript.possible_hallucination
    assert word_error_rate([speech.text], [transcript.text]) <= 0.25


@pytest.mark.parametrize(
    ("audio", "message"),
    [
        (silence(0), r"0\.00 s of audio"),
        (silence(28.6), r"28\.60 s of audio; one piece has up to 28\.5 s"),
        (np.full(16_000, np.nan, dtype=np.float32), "not finite"),
        (np.array([0.0, np.inf] * 8_000, dtype=np.float32), "not finite"),
    ],
)
async def test_audio_that_cannot_be_decoded_is_refused(audio: np.ndarray, message: str) -> None:
    async with engine() as running:
        with pytest.raises(AudioError, match=message):
            await running.decode(audio)


async def test_the_longest_piece_is_decoded() -> None:
    audio = join([item.id for item in SENTENCES], gap_s=0.3)[: round(28.5 * 16_000)]
    async with engine() as running:
        transcript = await running.decode(audio)
    assert len(transcript.text.split()) > 30


async def test_numbers_that_are_none_fail_alone_in_their_batch() -> None:
    gate = Gate(backend("tiny.en"))
    async with engine(gate) as running:
        first = asyncio.create_task(running.decode(clip("cards-001").samples()))
        await until(lambda: gate.batches)
        audio = [clip(name).samples() for name in ("cards-001", "cards-003")]
        audio.insert(1, np.full(16_000, np.nan, dtype=np.float32))
        others = [asyncio.create_task(running.decode(item)) for item in audio]
        await until(lambda: running.waiting == 3)
        gate.open()
        await first
        good, bad, also_good = await asyncio.gather(*others, return_exceptions=True)
    assert isinstance(bad, AudioError)
    assert not isinstance(good, BaseException)
    assert not isinstance(also_good, BaseException)
    assert "spades" in good.text.lower() or good.text
    assert "seven" in also_good.text.lower() or "7" in also_good.text


async def test_a_model_that_fails_on_one_item_fails_that_one_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    spoiled = Spoiled(backend("tiny.en"))
    speech = clip("librivox-0930")
    async with engine(spoiled) as running:
        first = asyncio.create_task(running.decode(silence(1)))
        await until(lambda: spoiled.batches)
        tasks = [
            asyncio.create_task(running.decode(audio))
            for audio in (speech.samples(), marked(speech.samples()), speech.samples())
        ]
        await until(lambda: running.waiting == 3)
        spoiled.open()
        await first
        good, bad, also_good = await asyncio.gather(*tasks, return_exceptions=True)
        assert running.statistics.failed == 1
        assert running.statistics.decoded == 3
    assert isinstance(bad, DecodeFailed)
    assert str(bad) == "Whisper failed: out of memory, or so"
    assert isinstance(bad.__cause__, RuntimeError)
    for outcome in (good, also_good):
        assert not isinstance(outcome, BaseException)
        assert word_error_rate([speech.text], [outcome.text]) < 0.2
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


@pytest.mark.parametrize("always", [False, True])
async def test_a_loop_is_decoded_again_in_the_full_window(always: bool) -> None:
    speech = clip("librivox-0930")
    async with engine(Looping(backend("tiny.en"), always=always)) as running:
        looped, sound = await asyncio.gather(
            running.decode(marked(speech.samples())), running.decode(speech.samples())
        )
        assert running.statistics.longer_windows == 1
    assert looped.longer_window
    assert looped.possible_hallucination is always
    if not always:
        assert word_error_rate([speech.text], [looped.text]) < 0.2
    assert not sound.longer_window
    assert not sound.possible_hallucination


# Order, cancellation, the end


async def test_speech_that_waits_goes_before_files_that_wait() -> None:
    gate = Gate(backend("tiny.en"))
    results = Results()
    order: list[str] = []

    async with engine(gate) as running:

        async def decode_file(name: str) -> None:
            await running.decode(clip("cards-001").samples())
            order.append(name)

        def take(result: StreamResult) -> None:
            results(result)
            order.append("speech")

        first = asyncio.create_task(decode_file("first"))
        await until(lambda: gate.batches)
        files = [asyncio.create_task(decode_file(f"file {number}")) for number in range(6)]
        await until(lambda: running.waiting == 6)
        stream = running.open_stream(take, partials=False)
        stream.speech_started(0.0)
        stream.feed(float_to_pcm16(clip("librivox-0870").samples()))  # another window size
        stream.speech_stopped(0.0)
        gate.open()
        await asyncio.gather(first, *files, stream.drain())
        stream.close()
    assert gate.batches[1] == [len(clip("librivox-0870").samples())]
    assert order[:2] == ["first", "speech"]
    assert results.finals


async def test_a_cancelled_request_is_never_decoded() -> None:
    gate = Gate(backend("tiny.en"))
    async with engine(gate) as running:
        first = asyncio.create_task(running.decode(silence(1)))
        await until(lambda: gate.batches)
        # Seven wait for the worker, the others for a place in the queue.
        tasks = [asyncio.create_task(running.decode(silence(2))) for _ in range(12)]
        await until(lambda: running.waiting == 7)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert all(task.cancelled() for task in tasks)
        assert not running.waiting
        assert running.statistics.cancelled == 7
        first.cancel()  # the worker has it already: its outcome is dropped
        await asyncio.gather(first, return_exceptions=True)
        gate.open()
        again = await running.decode(clip("cards-003").samples())
        assert again.text
    lengths = [length for batch in gate.batches for length in batch]
    assert lengths[0] == 16_000
    assert set(lengths[1:]) == {len(clip("cards-003").samples())}


async def test_closing_ends_what_waits_and_refuses_what_comes() -> None:
    gate = Gate(backend("tiny.en"))
    results = Results()
    async with engine(gate) as running:
        worked_on = asyncio.create_task(running.decode(clip("cards-003").samples()))
        await until(lambda: gate.batches)
        waiting = [asyncio.create_task(running.decode(silence(1))) for _ in range(10)]
        stream = running.open_stream(results)
        stream.speech_started(0.0)
        stream.feed(bytes(32_000))
        stream.speech_stopped(0.0)
        closing = asyncio.create_task(asyncio.to_thread(running.close))
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        assert all(isinstance(outcome, EngineClosed) for outcome in outcomes)
        await stream.drain()
        gate.open()
        await closing
        assert (await worked_on).text  # the batch under way was finished
        assert not threads()
        with pytest.raises(EngineClosed):
            await running.decode(silence(1))
        with pytest.raises(EngineClosed):
            running.open_stream(results)
        # A session that goes on gets an answer, too.
        stream.speech_started(0.0)
        stream.feed(bytes(64_000))
        stream.early_pause()
        stream.speech_stopped(0.0)
        await stream.drain()
        stream.close()
        running.close()
    assert [failure.utterance for failure in results.failures] == [1, 2]
    assert all(isinstance(failure.error, EngineClosed) for failure in results.failures)
    assert len(results.all) == 2


def test_an_event_loop_that_is_gone_does_not_hold_the_engine_up() -> None:
    gate = Gate(backend("tiny.en"))

    async def ask_and_leave() -> WhisperEngine:
        running = WhisperEngine(gate)
        task = asyncio.create_task(running.decode(silence(1)))
        await until(lambda: gate.batches)
        task.cancel()
        return running

    async def ask(running: WhisperEngine) -> str:
        return (await running.decode(clip("cards-003").samples())).text

    running = asyncio.run(ask_and_leave())
    gate.open()
    assert asyncio.run(ask(running))
    running.close()


# Streams


async def test_a_stream_gives_partials_and_then_the_words() -> None:
    speech = clip("librivox-0870")
    results = Results()
    async with engine("base", WhisperConfig(language="en")) as running:
        stream = running.open_stream(results)
        speaker = Speaker(stream)
        audio = join([speech.id])
        await speaker.say(audio[:48_000])
        await until(lambda: results.partials)
        assert not results.finals
        await speaker.say(audio[48_000:], paced=True)
        await stream.drain()
        stream.close()
    assert word_error_rate([speech.text], [results.text]) < 0.15
    by_utterance: dict[int, str] = {}
    for result in results.all:
        assert not isinstance(result, StreamFailure)
        if isinstance(result, Final):
            by_utterance[result.utterance] = "ended"
        elif isinstance(result, Partial):
            before = by_utterance.get(result.utterance, "")
            assert result.stable.startswith(before)
            by_utterance[result.utterance] = result.stable
    assert [final.utterance for final in results.finals] == sorted(by_utterance)


async def test_many_speakers_at_once_each_get_their_own_words() -> None:
    results = [Results() for _ in range(20)]
    speech = [SENTENCES[index % len(SENTENCES)] for index in range(20)]
    async with engine("base", WhisperConfig(language="en")) as running:
        streams = [running.open_stream(item) for item in results]
        assert running.streams == 20
        await asyncio.gather(
            *(
                Speaker(stream).say(join([item.id], tail_s=0.8))
                for stream, item in zip(streams, speech, strict=True)
            )
        )
        await asyncio.gather(*(stream.drain() for stream in streams))
        for stream in streams:
            stream.close()
        assert running.streams == 0
        assert running.statistics.batches < running.statistics.decoded
    rate = word_error_rate([item.text for item in speech], [item.text for item in results])
    assert rate < 0.2
    for item, result in zip(speech, results, strict=True):
        assert not result.failures
        mine = word_error_rate([item.text], [result.text])
        assert all(
            mine < word_error_rate([other.text], [result.text])
            for other in SENTENCES
            if other is not item
        )


@pytest.mark.parametrize("rate_hz", [8_000, 48_000])
async def test_other_sample_rates_are_resampled(rate_hz: int) -> None:
    speech = clip("librivox-0930")
    results = Results()
    async with engine() as running:
        stream = running.open_stream(results, sample_rate_hz=rate_hz, partials=False)
        stream.speech_started(0.0)
        audio = resample(speech.samples(), 16_000, rate_hz)
        for at in range(0, len(audio), 999):
            stream.feed(float_to_pcm16(audio[at : at + 999]))
        stream.speech_stopped(0.0)
        await stream.drain()
        stream.close()
    assert word_error_rate([speech.text], [results.text]) < 0.25


async def test_half_a_sample_is_refused_and_nothing_is_lost() -> None:
    speech = clip("librivox-0930")
    results = Results()
    async with engine() as running:
        with pytest.raises(AudioError, match="1000000 Hz"):
            running.open_stream(results, sample_rate_hz=1_000_000)
        assert running.streams == 0
        stream = running.open_stream(results, partials=False)
        stream.speech_started(0.0)
        pcm = float_to_pcm16(speech.samples())
        stream.feed(pcm[:32_000])
        with pytest.raises(AudioError, match="even number of bytes"):
            stream.feed(pcm[32_000:32_641])
        stream.feed(pcm[32_000:])
        stream.speech_stopped(0.0)
        await stream.drain()
        stream.close()
    assert word_error_rate([speech.text], [results.text]) < 0.2


async def test_an_utterance_without_audio_has_no_words() -> None:
    results = Results()
    async with engine() as running:
        stream = running.open_stream(results)
        stream.speech_started(0.2)
        stream.speech_stopped(0.0)
        await stream.drain()
        stream.close()
    (final,) = results.finals
    assert final.transcript.duration_s == 0


async def test_a_closed_stream_says_nothing_more_and_asks_for_nothing() -> None:
    gate = Gate(backend("tiny.en"))
    results = Results()
    async with engine(gate) as running:
        stream = running.open_stream(results)
        stream.speech_started(0.0)
        stream.feed(bytes(32_000))
        await until(lambda: gate.batches)  # a partial is with the worker
        stream.speech_stopped(0.0)
        stream.close()
        stream.close()
        assert not running.waiting
        stream.speech_started(0.0)
        stream.feed(bytes(32_000))
        stream.speech_stopped(0.0)
        assert not running.waiting
        await stream.drain()
        gate.open()
        await running.decode(silence(1))
    assert results.all == []


async def test_one_stream_too_many_is_refused_until_another_ends() -> None:
    async with engine(config=WhisperConfig(max_streams=2)) as running:
        one, two = (running.open_stream(Results()) for _ in range(2))
        with pytest.raises(EngineOverloaded, match="all 2 speech-to-text streams are in use"):
            running.open_stream(Results())
        assert running.statistics.refused == 1
        one.close()
        running.open_stream(Results()).close()
        two.close()
        assert running.streams == 0


async def test_two_hundred_streams_leave_nothing_behind() -> None:
    async with engine() as running:
        names = threads()
        ghosts = []
        for number in range(200):
            results = Results()
            stream = running.open_stream(results)
            stream.speech_started(0.0)
            stream.feed(bytes(32_000))
            stream.early_pause()
            if number % 2:
                stream.speech_stopped(0.2)
            stream.close()
            ghosts.append(weakref.ref(stream))
        del stream
        assert running.streams == 0
        assert not running.waiting
        assert threads() == names
        await running.decode(silence(1))  # what the workers had is done
        gc.collect()
        assert sum(ghost() is not None for ghost in ghosts) <= 2 * 4  # one batch a worker
        await running.decode(silence(1))
    assert not threads()


async def test_the_event_loop_runs_while_whisper_works() -> None:
    gate = Gate(backend("tiny.en"), workers=2)
    ticks = 0
    done = False

    async def tick() -> None:
        nonlocal ticks
        while not done:
            ticks += 1
            await asyncio.sleep(0)

    audio = float_to_pcm16(clip("librivox-0930").samples())
    async with engine(gate) as running:
        with blockbuster_ctx():
            ticking = asyncio.create_task(tick())
            streams = [running.open_stream(Results()) for _ in range(8)]
            for stream in streams:
                stream.speech_started(0.0)
            for at in range(0, len(audio), 640):
                for stream in streams:
                    stream.feed(audio[at : at + 640])
                await asyncio.sleep(0)
            for stream in streams:
                stream.early_pause()
                stream.speech_stopped(0.0)
            # All has been fed and asked for while the workers stood still.
            assert ticks >= len(audio) // 640
            assert running.statistics.decoded == 0
            gate.open()
            await asyncio.gather(*(stream.drain() for stream in streams))
            for stream in streams:
                stream.close()
            done = True
            await ticking


# Languages


async def test_languages_are_given_detected_or_refused() -> None:
    speech = clip("librivox-0870").samples()
    async with engine("base") as running:
        assert {"en", "de", "ja"} <= running.languages
        detected = await running.decode(speech)
        assert detected.language == "en"
        assert 0.5 < detected.language_probability < 1
        # Three words: in a wrong language a model goes astray on more, for many seconds.
        german, english, automatic = await asyncio.gather(
            running.decode(clip("cards-001").samples(), language="de"),
            running.decode(speech, language="en-GB"),
            running.decode(speech, language="auto"),
        )
        assert (german.language, english.language) == ("de", "en")
        assert german.language_probability == 1.0
        assert automatic == detected or automatic.language == "en"
        with pytest.raises(ConfigError, match="does not know the language 'xx'"):
            await running.decode(speech, language="xx")
        with pytest.raises(ConfigError, match="does not know the language 'klingon'"):
            running.open_stream(Results(), language="klingon")
        assert running.streams == 0
        stream = running.open_stream(Results(), language="fr")
        with pytest.raises(ConfigError):
            stream.set_language("xx")
        stream.set_language("auto")
        stream.close()


async def test_the_settings_language_holds_unless_another_is_asked_for() -> None:
    speech = clip("cards-001").samples()
    async with engine("base", WhisperConfig(language="nl")) as running:
        assert (await running.decode(speech)).language == "nl"
        assert (await running.decode(speech, language="auto")).language == "en"


@pytest.mark.parametrize("mode", ["stream", "utterance"])
async def test_a_language_is_detected_once_or_in_each_utterance(mode: str) -> None:
    async with engine("base", WhisperConfig(language_mode=mode)) as running:
        results = Results()
        stream = running.open_stream(results)
        for _ in range(2):
            await Speaker(stream).say(clip("librivox-0870").samples())
            stream.speech_stopped(0.0)
            await stream.drain()
        stream.close()
    assert {final.transcript.language for final in results.finals} == {"en"}
    # Where it is kept, nothing is detected in the second utterance: it is given.
    given = results.finals[-1].transcript.language_probability == 1.0
    assert given is (mode == "stream")


async def test_a_model_for_english_knows_english_only() -> None:
    async with engine("tiny.en") as running:
        for language in (None, "auto", "en", "en-US", "EN"):
            assert running.check_language(language) == "en"
        with pytest.raises(ConfigError, match="knows English only, not 'de'"):
            running.check_language("de")
    with pytest.raises(ConfigError, match="English only"):
        WhisperEngine(backend("tiny.en"), WhisperConfig(language="de"))
    assert not threads()


async def test_options_reach_the_decoder_and_impossible_ones_are_refused_at_once() -> None:
    speech = clip("librivox-0870")
    async with engine("base", WhisperConfig(language="nl")) as running:
        timed = DecodeOptions(word_timestamps=True, language="en-GB", temperatures=(0.0,))
        transcript = await running.decode(speech.samples(), options=timed)
        assert transcript.language == "en"
        assert len(transcript.words) == len(transcript.text.split())
        chosen = DecodeOptions(languages=("de", "fr-CA"), temperatures=(0.0,))
        limited = await running.decode(speech.samples(), options=chosen)
        assert limited.language in ("de", "fr")
        # A language beside the options counts more than the one in them.
        assert (await running.decode(speech.samples(), options=timed, language="de")).language == (
            "de"
        )
        results = Results()
        stream = running.open_stream(results, options=timed, partials=False)
        stream.speech_started(0.0)
        stream.feed(float_to_pcm16(speech.samples()))
        stream.speech_stopped(0.0)
        await stream.drain()
        stream.close()
        assert results.finals[0].transcript.words
        for languages, message in ((("de", "xx"), "the language 'xx'"), (("auto",), "'auto'")):
            with pytest.raises(ConfigError, match=message):
                running.open_stream(results, options=DecodeOptions(languages=languages))
        assert running.streams == 0
    async with engine("tiny.en") as running:
        with pytest.raises(ConfigError, match="cannot translate"):
            running.open_stream(results, options=DecodeOptions(task="translate"))
        with pytest.raises(ConfigError, match="English only"):
            await running.decode(speech.samples(), options=DecodeOptions(languages=("de",)))
    with pytest.raises(ConfigError, match="cannot translate"):
        WhisperEngine(backend("tiny.en"), WhisperConfig(task="translate"))


# Start


async def test_it_starts_from_a_folder_and_warms_up() -> None:
    running = await WhisperEngine.start(
        ModelStore().pull("tiny.en"), WhisperConfig(device="cpu", workers=1)
    )
    assert len(threads()) == 1
    assert gc.get_freeze_count() > 0
    assert (await running.decode(clip("cards-003").samples())).text
    await asyncio.to_thread(running.close)
    assert not threads()


async def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"has no model\.bin"):
        await WhisperEngine.start(tmp_path)
    (tmp_path / "model.bin").write_bytes(b"no model")
    with pytest.raises(ModelError, match="cannot load the Whisper model"):
        await WhisperEngine.start(tmp_path, WhisperConfig(device="cpu"))


async def test_a_type_of_weights_that_does_not_exist_is_named() -> None:
    with pytest.raises(ConfigError, match=r"cannot load Whisper on cpu.*int7"):
        await WhisperEngine.start(
            ModelStore().pull("tiny.en"), WhisperConfig(device="cpu", compute_type="int7")
        )
