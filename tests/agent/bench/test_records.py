"""What was heard of a stream is counted by Pipecat's definitions, and nothing is left out."""

import pytest

from talkpath.agent.bench.plan import Play, StreamPlan
from talkpath.agent.bench.records import StreamRecord

PLAN = StreamPlan(0.0, (Play(0, 25, 100, 50), Play(1, 175, 50, 50)))
BEGAN_S = 1000.0


def heard(blocks: int) -> StreamRecord:
    """A record of a stream that began at 1000 s and has played so many blocks of 20 ms."""
    record = StreamRecord(PLAN, BEGAN_S)
    for _ in range(blocks):
        record.block()
    return record


def spoken(record: StreamRecord | None = None, *, at_s: float = 1003.0) -> StreamRecord:
    """With speech from 1 to 3 s."""
    record = record or heard(60)
    record.started(0.2)
    for _ in range(90):
        record.block()
    record.stopped(at_s, 0.2)
    return record


def test_the_time_to_the_final_counts_from_the_end_of_speech() -> None:
    record = spoken()
    assert not record.settled
    record.final(1003.05, "good morning", speculative=True)
    assert record.settled
    answer = record.answers[0]
    assert answer.ttfs_s == pytest.approx(0.25)
    assert (answer.kind, answer.speculative, answer.text) == ("final", True, "good morning")
    assert record.speech_s == pytest.approx(1.8)


def test_a_stop_noticed_late_shortens_the_callers_wait_by_nothing() -> None:
    record = spoken(at_s=1005.0)  # a busy process: it was due at 1002.98
    record.final(1005.1, "good morning")
    assert record.answers[0].ttfs_s == pytest.approx(0.3)
    assert record.answers[0].wait_s == pytest.approx(2.32)


def test_finals_answer_the_stops_in_order_and_go_to_the_clip_that_was_played() -> None:
    record = spoken()
    for _ in range(60):
        record.block()
    spoken(record, at_s=1006.0)
    record.final(1006.1, "first")
    record.nothing(1006.2)
    assert [answer.kind for answer in record.answers] == ["final", "nothing"]
    assert record.texts() == ["first", ""]
    assert [answer.play for answer in record.answers] == [0, 1]


def test_what_is_never_answered_counts_with_the_time_until_the_end() -> None:
    record = spoken()
    record.end(1030.0)
    assert record.answers[0].kind == "unanswered"
    assert record.answers[0].ttfs_s == pytest.approx(27.2)


def test_an_error_answers_the_stop_that_waits_or_is_kept() -> None:
    record = heard(10)
    record.failed(1000.1, "the engine is full")
    assert record.errors == ["the engine is full"]
    spoken(record)
    record.failed(1003.1, "the model failed")
    assert record.answers[0].kind == "failed"
    record.final(1003.2, "who asked?")
    assert record.errors[1:] == ["a final came without a stop"]


def test_long_speech_comes_in_pieces_and_counts_once() -> None:
    record = heard(60)
    record.started(0.2)
    record.final(1010.0, "one two", ends_speech=False, duration_s=28.0)
    for _ in range(90):
        record.block()
    record.stopped(1040.0, 0.2)
    record.nothing(1040.1)  # silence only after the cut: the words were in the first piece
    assert len(record.answers) == 1
    assert (record.answers[0].kind, record.answers[0].text) == ("final", "one two")


def test_a_piece_without_known_beginning_is_text_all_the_same() -> None:
    record = heard(1)
    record.final(1000.1, "one", ends_speech=False)
    spoken(record)
    record.final(1003.1, "two")
    assert record.texts()[0] == "one two"


def test_a_partials_lag_is_that_of_the_newest_audio_in_it() -> None:
    record = heard(60)  # 1.2 s
    record.partial(1001.0, 1, "", "too early", 0.5)
    assert record.partial_lags_s == []
    record.started(0.2)  # speech since 1.0 s, so the utterance begins at 0.7 s
    record.partial(1001.5, 1, "", "good", 0.5)  # up to 1.2 s, due at 1001.18
    assert record.partial_lags_s == [pytest.approx(0.32)]
    assert record.partials == 2


def test_an_utterance_does_not_begin_before_the_last_one_ended() -> None:
    record = spoken()  # stopped at 3.0 s after 0.2 s of silence
    record.final(1003.0, "good")
    record.block()
    record.started(0.02)
    record.partial(1003.5, 2, "", "morning", 0.2)  # from 2.8 s to 3.0 s, due at 1002.98
    assert record.partial_lags_s == [pytest.approx(0.52)]


def test_changed_words_are_flicker_and_changed_stable_words_a_retraction() -> None:
    record = heard(60)
    record.started(0.2)
    record.partial(1001.0, 1, "", "good mourning", 0.5)
    record.partial(1001.5, 1, "good", "morning to", 1.0)
    assert (record.stability.shown, record.stability.withdrawn) == (2, 1)
    assert record.stability.retractions == 0
    record.partial(1002.0, 1, "Good", "morning to you", 1.5)
    assert record.stability.retractions == 1
    assert (record.stability.shown, record.stability.withdrawn) == (5, 4)
    record.partial(1003.0, 2, "", "next", 0.5)
    assert record.stability.shown == 5  # another utterance has no predecessor


@pytest.mark.parametrize(
    ("final", "contradicted"), [("Good, morning to you", 0), ("a good morning", 1)]
)
def test_a_final_is_held_to_the_stable_words_but_not_to_their_punctuation(
    final: str, contradicted: int
) -> None:
    record = heard(60)
    record.started(0.2)
    record.partial(1001.5, 1, "good morning", "to", 1.0)
    record.stopped(1002.0, 0.2)
    record.final(1002.1, final, utterance=1)
    assert record.stability.contradicted == contradicted
