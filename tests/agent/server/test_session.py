"""A session between its codec and the engine: real speech, a real model, no socket."""

import asyncio
import itertools

import numpy as np
import pytest

from talkpath.agent.audio import FloatArray
from talkpath.agent.server.intake import SampleReader
from talkpath.agent.server.protocols.codec import Encoding
from tests.agent.server.serving import the_service as service
from tests.agent.server.talker import baseten, realtime
from tests.agent.whisper.helpers import Gate, Spoiled, backend, marked, until
from tests.speech import clip, silence, word_error_rate

SHORT, LONG = "librivox-0880", "librivox-0870"
PARTIALS = {"streaming_params": {"enable_partial_transcripts": True}}


def audio(name: str) -> FloatArray:
    return clip(name).samples()


def wrong_words(name: str, text: str) -> float:
    return word_error_rate([clip(name).text], [text])


# -- samples ---------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 3, 7, 4096])
def test_half_a_sample_waits_for_its_other_half(size: int) -> None:
    pcm = np.arange(-300, 300, dtype="<i2").tobytes()
    reader = SampleReader(Encoding.PCM_S16LE, 16_000)
    parts = [reader.read(pcm[at : at + size]) for at in range(0, len(pcm), size)]
    assert np.array_equal(np.concatenate(parts) * 32768, np.arange(-300, 300))


async def test_audio_in_odd_pieces_says_the_same() -> None:
    said = []
    async with service() as shared:
        for frame_bytes in (1024, 333):
            async with baseten(shared) as talker:
                await talker.speak(audio(SHORT), silence(0.5), frame_bytes=frame_bytes)
                await talker.end()
                said.append(talker.transcripts)
    assert said[0] == said[1]
    assert wrong_words(SHORT, " ".join(said[0])) <= 0.3


# -- utterances ------------------------------------------------------------------------------


async def test_each_utterance_has_a_number_partials_and_one_final_in_its_place() -> None:
    async with service() as shared, baseten(shared, **PARTIALS) as talker:
        for name in (SHORT, LONG):
            await talker.speak(silence(0.7), audio(name))
        await talker.end()
        messages = talker.of("transcription")
        finals = [message for message in messages if message["is_final"]]
        assert [final["transcription_num"] for final in finals] == [1, 2]
        for name, text in zip((SHORT, LONG), talker.transcripts, strict=True):
            assert wrong_words(name, text) <= 0.3
        lengths = [len(audio(SHORT)) / 16_000, len(audio(LONG)) / 16_000]
        begins = [final["segments"][0]["start_time"] for final in finals]
        assert begins == pytest.approx([0.7, 1.4 + lengths[0]], abs=0.5)
        for number in (1, 2):
            of_it = [item["is_final"] for item in messages if item["transcription_num"] == number]
            assert of_it[-1]
            assert not any(of_it[:-1])


async def test_the_end_of_the_audio_ends_speech_in_the_middle() -> None:
    async with service() as shared, baseten(shared) as talker:
        await talker.speak(audio(LONG)[: 3 * 16_000])
        await talker.end()
        assert len(talker.transcripts) == 1
        assert "dashwood" in talker.transcripts[0].lower()
        statuses = [message["body"]["status"] for message in talker.of("end_audio")]
        assert statuses == ["acknowledged", "finished"]


async def test_silence_says_nothing() -> None:
    async with service() as shared, baseten(shared) as talker:
        await talker.speak(silence(3))
        await talker.end()
        assert not talker.of("transcription")


async def test_a_longest_utterance_is_kept() -> None:
    limits = {"streaming_params": {"final_transcript_max_duration_s": 3}}
    async with service() as shared, baseten(shared, **limits) as talker:
        await talker.speak(audio(LONG), silence(0.5))
        await talker.end()
        finals = [message["audio_length_sec"] for message in talker.of("transcription")]
        assert len(finals) > 1
        assert max(finals) <= 3.5


async def test_a_final_that_cannot_be_decoded_is_an_error_and_the_next_one_comes() -> None:
    spoiled = Spoiled(backend("tiny.en"))
    spoiled.open()
    async with service(model=spoiled) as shared, baseten(shared) as talker:
        await talker.speak(marked(audio(SHORT)))
        await talker.say({"type": "health_check"})
        await talker.speak(silence(0.5), audio(SHORT))
        await talker.end()
        assert len(talker.of("health_check")) == 1
        assert talker.transcripts


# -- whoever ends utterances -----------------------------------------------------------------


async def test_a_commit_ends_what_was_said_since_the_last_one_silence_included() -> None:
    async with service() as shared, realtime(shared, None) as talker:
        await talker.speak(audio(SHORT), silence(2.5), audio("librivox-0930"))
        await talker.commit()
        await talker.speak(silence(0.5))
        await talker.commit()
        await talker.speak(audio(LONG))
        await talker.commit()
        await talker.wait_for(".completed", 3)
        first, second, third = talker.transcripts
        both = f"{clip(SHORT).text} {clip('librivox-0930').text}"
        assert word_error_rate([both], [first]) <= 0.3
        assert second == ""
        assert wrong_words(LONG, third) <= 0.3
        items = [message["item_id"] for message in talker.of(".committed")]
        assert [message["item_id"] for message in talker.of(".completed")] == items


@pytest.mark.parametrize("kind", ["server_vad", "semantic_vad"])
async def test_a_commit_in_the_middle_of_speech_makes_one_item_of_what_was_said(kind: str) -> None:
    async with service() as shared, realtime(shared, {"type": kind}) as talker:
        await talker.speak(audio(LONG)[: 3 * 16_000])
        await talker.commit()
        await talker.speak(silence(9), audio(SHORT), silence(9))
        await talker.wait_for(".completed", 2)
        first, second = talker.transcripts
        assert "dashwood" in first.lower()
        assert wrong_words(SHORT, second) <= 0.3
        items = [message["item_id"] for message in talker.of(".committed")]
        assert [message["item_id"] for message in talker.of("speech_started")] == items
        assert [message["item_id"] for message in talker.of(".completed")] == items


async def test_a_pause_in_the_middle_of_what_is_committed_does_not_part_it() -> None:
    async with service() as shared, realtime(shared, None) as talker:
        samples = audio(LONG)
        middle = round(2.6 * 16_000)
        await talker.speak(samples[:middle], silence(1.2), samples[middle:])
        await talker.commit()
        await talker.wait_for(".completed")
        assert shared.metrics.final_s.distribution().count == 1
        assert wrong_words(LONG, talker.transcripts[0]) <= 0.3


async def test_what_is_cleared_is_heard_of_no_more_and_what_was_committed_is() -> None:
    async with service() as shared, realtime(shared, None) as talker:
        await talker.speak(audio("cards-003"))
        await talker.commit()
        await talker.speak(audio(LONG), silence(2.5), audio(LONG)[:32_000])
        await talker.clear()
        await talker.speak(audio(SHORT))
        await talker.commit()
        await talker.wait_for(".completed", 2)
        first, second = talker.transcripts
        assert wrong_words("cards-003", first) <= 0.4
        assert wrong_words(SHORT, second) <= 0.3


async def test_what_is_cleared_counts_for_the_times_of_what_follows() -> None:
    async with service() as shared, realtime(shared, {"type": "server_vad"}) as talker:
        # 30 ms are no whole window of voice activity detection.
        for _ in range(100):
            await talker.speak(silence(0.03), frame_bytes=1440)
            await talker.clear()
        await talker.speak(silence(1), audio(SHORT), silence(1))
        (started,) = await talker.wait_for("speech_started")
        assert started["audio_start_ms"] == pytest.approx(3700, abs=400)


async def test_a_clear_forgets_the_half_of_a_sample_too() -> None:
    async with service() as shared, realtime(shared, None) as talker:
        await talker.say({"type": "input_audio_buffer.append", "audio": "AAAA"})
        await talker.clear()
        await talker.speak(audio(SHORT))
        await talker.commit()
        await talker.wait_for(".completed")
        assert wrong_words(SHORT, talker.transcripts[0]) <= 0.3


async def test_many_commits_in_a_row_each_have_their_end() -> None:
    gate = Gate(backend("tiny.en"), workers=2)
    async with service(model=gate) as shared, realtime(shared, None) as talker:
        for _ in range(2):
            await talker.speak(audio("cards-003"))
            await talker.commit()
            await talker.speak(silence(0.2))
            await talker.commit()
        await talker.speak(audio("cards-003"))
        gate.open()
        await talker.commit()
        await talker.wait_for(".completed", 5)
        assert [bool(text) for text in talker.transcripts] == [True, False, True, False, True]


# -- turns that a model ends -----------------------------------------------------------------


async def test_what_sounds_complete_ends_at_a_short_pause_and_nothing_later_than_the_wait() -> None:
    async with service() as shared:
        ends = {}
        for eagerness in ("high", "low"):
            turns = {"type": "semantic_vad", "eagerness": eagerness}
            async with realtime(shared, turns) as talker:
                # The first half of a sentence, and one that is whole.
                await talker.speak(audio(LONG)[: round(2.6 * 16_000)], silence(9), audio(SHORT))
                await talker.speak(silence(9))
                await talker.wait_for(".completed", 2)
                ends[eagerness] = [item["audio_end_ms"] for item in talker.of("speech_stopped")]
    for high, low in zip(ends["high"], ends["low"], strict=True):
        assert high <= low


async def test_a_pause_that_was_cleared_ends_nothing() -> None:
    turns = {"type": "semantic_vad", "eagerness": "high"}
    async with service() as shared, realtime(shared, turns) as talker:
        await talker.speak(audio("cards-003"))
        semantic = talker.session._semantic
        assert semantic is not None
        while not semantic._silence:
            await talker.speak(silence(0.032))
        semantic.threshold = -1.0  # whatever it is asked about sounds complete
        await talker.clear()
        await talker.speak(silence(0.5))
        await talker.commit()
        await talker.wait_for(".completed")
        assert not talker.of("speech_stopped")


async def test_a_late_early_pause_is_no_reason_not_to_ask_whether_the_turn_is_over() -> None:
    pauses = {"speech.early_pause_s": 0.3, "speech.stop_s": 0.4}
    async with service(pauses) as shared:
        async with realtime(shared, {"type": "semantic_vad", "eagerness": "low"}) as talker:
            await talker.speak(audio(SHORT), silence(9))
            await talker.wait_for(".completed")
            (stopped,) = talker.of("speech_stopped")
    # The longest wait is 8 s.
    assert stopped["audio_end_ms"] < (len(audio(SHORT)) / 16 + 4000)


# -- how fast, how long ----------------------------------------------------------------------


async def test_who_is_far_ahead_of_real_time_is_held_back_and_loses_nothing() -> None:
    async with service({"serve.ahead_s": 1.0}) as shared, baseten(shared) as talker:
        await talker.speak(audio(SHORT), silence(0.5), frame_bytes=1 << 20)
        await talker.end()
        assert shared.metrics.held_back.value
        assert wrong_words(SHORT, " ".join(talker.transcripts)) <= 0.3


async def test_a_stop_waits_for_the_speaker_to_pause_and_delivers_the_final() -> None:
    async with service() as shared, baseten(shared) as talker:
        await talker.speak(audio(SHORT)[:16_000])
        stopping = asyncio.create_task(talker.session.drain("we stop", 1012, within_s=60))
        await talker.speak(audio(SHORT)[16_000:], silence(0.5))
        await stopping
        assert talker.close is not None
        assert (talker.close.code, talker.close.reason) == (1012, "we stop")
        assert wrong_words(SHORT, " ".join(talker.transcripts)) <= 0.3


async def test_a_stop_waits_for_a_message_that_is_worked_on() -> None:
    async with service() as shared, baseten(shared) as talker:
        speaking = asyncio.create_task(talker.speak(audio(SHORT), silence(0.5), frame_bytes=2**20))
        await asyncio.sleep(0)
        await talker.session.drain("we stop", 1012, within_s=60)
        await speaking
        assert wrong_words(SHORT, " ".join(talker.transcripts)) <= 0.3


async def test_a_stop_in_the_middle_of_a_message_keeps_its_audio_in_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with service() as shared, baseten(shared) as talker:
        fed: list[FloatArray] = []
        stream = talker.session._stream
        assert stream is not None
        feed = stream.feed_samples

        def keep(audio: FloatArray) -> None:
            fed.append(audio)
            feed(audio)

        monkeypatch.setattr(stream, "feed_samples", keep)
        speech = audio(LONG)[: 3 * 16_000 + 100]
        speaking = asyncio.create_task(talker.speak(speech, frame_bytes=2**20))
        await until(lambda: len(fed) > 50)
        await talker.session.drain("we stop", 1012, within_s=0)
        await speaking
        heard = np.concatenate(fed)
        assert np.allclose(heard, speech[: len(heard)], atol=1e-4)


async def test_a_stop_outlives_a_client_that_leaves_before_its_last_final() -> None:
    gate = Gate(backend("tiny.en"))
    async with service(model=gate) as shared, baseten(shared) as talker:
        await talker.speak(audio("cards-003"))
        await talker.say({"type": "end_audio"})
        stopping = asyncio.create_task(talker.session.drain("we stop", 1012, within_s=60))
        await until(lambda: gate.batches)
        talker.session.close()
        gate.open()
        await stopping


async def test_a_stop_does_not_wait_for_ever() -> None:
    async with service() as shared, baseten(shared) as talker:
        await talker.speak(audio(LONG)[: 3 * 16_000])
        await talker.session.drain("we stop", 1012, within_s=0)
        assert talker.close is not None
        assert "dashwood" in " ".join(talker.transcripts).lower()


# -- refusals --------------------------------------------------------------------------------


async def test_a_full_engine_and_a_wish_that_cannot_be_met_close_with_their_own_codes() -> None:
    async with service({"whisper.max_streams": 1}) as shared, baseten(shared) as first:
        async with baseten(shared) as second:
            assert second.close is not None
            assert second.close.code == 1013
        await first.speak(audio("cards-003"), silence(0.5))
        await first.end()
        assert first.transcripts
    async with service() as shared:
        threshold = {"streaming_vad_config": {"threshold": 1.0}}
        async with baseten(shared, **threshold) as talker:
            assert talker.close is not None
            assert talker.close.code == 1008
            assert "threshold" in str(talker.of("error"))
        assert shared.engine.streams == 0


async def test_settings_may_change_between_two_utterances() -> None:
    async with service() as shared, realtime(shared, {"type": "server_vad"}) as talker:
        await talker.speak(audio(SHORT), silence(0.8))
        source = {"format": {"type": "audio/pcmu"}, "turn_detection": None}
        session = {"type": "transcription", "audio": {"input": source}}
        await talker.say({"type": "session.update", "session": session})
        await talker.say({"type": "input_audio_buffer.append", "audio": "/////w" * 2000})
        await talker.commit()
        await talker.wait_for(".completed", 2)
        assert wrong_words(SHORT, talker.transcripts[0]) <= 0.3
        assert talker.transcripts[1] == ""


async def test_streams_of_one_server_do_not_hear_each_other() -> None:
    names = [SHORT, LONG, "librivox-0890", "librivox-0930"]
    async with service() as shared:

        async def one(name: str) -> float:
            async with baseten(shared, **PARTIALS) as talker:
                await talker.speak(audio(name), silence(0.5))
                await talker.end()
                return wrong_words(name, " ".join(talker.transcripts))

        wrong = await asyncio.gather(*map(one, itertools.chain(names, names)))
    assert max(wrong) <= 0.25
